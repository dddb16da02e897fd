"""A venue's file: rows in SQLite, of which each save writes those that changed.

In: rows. Out: the same rows after any crash: all of each save that returned, nothing of one that did not.
Never: two venues in one file; a file of anything else taken over or overwritten.
"""

import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from services.sandbox_exchange.core.changes import Changes, Row
from services.sandbox_exchange.files import move_over, new_file_beside
from shared.errors import ConfigError, InputError
from shared.full_disk import is_full_disk

MAGIC = b"SQLite format 3\0"
_TABLE = """
CREATE TABLE rows (section TEXT, name TEXT, number INTEGER, value BLOB NOT NULL, PRIMARY KEY (section, name, number))
WITHOUT ROWID
"""
_EVERY = "SELECT section, name, number, value FROM rows ORDER BY section, name, number"
_PUT = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)"


class StateFile:
    """Own a venue's file. Every method raises OSError when the disk, or another owner, does not let it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None
        self._is_behind = False

    def create(self, rows: Iterable[Row]) -> None:
        """Put these rows in the place of whatever the file holds, and keep it open."""
        beside = new_file_beside(self.path)
        with _telling(self.path):
            with closing(_connect(beside)) as database:
                database.execute("PRAGMA journal_mode=OFF")  # a crash leaves a file that nobody looks at
                database.execute("BEGIN")
                database.execute(_TABLE)
                database.executemany(_PUT, rows)
                database.execute("COMMIT")
            # A log whose file somebody removed would be taken for this one's.
            log_of(self.path).unlink(missing_ok=True)
            move_over(beside, self.path)
            self._database = _connect(self.path)
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._is_behind = False

    def write(self, changes: Changes) -> None:
        """Bring the changes to the disk, all of them or none.

        After a failure nothing but a whole set is taken, since what it lost is in no later one.
        """
        database = self._database
        if database is None or (self._is_behind and not changes.is_whole):
            raise OSError(errno.EIO, "what could not be written before is missing there", str(self.path))
        self._is_behind = True
        with _telling(self.path):
            database.execute("BEGIN IMMEDIATE")
            try:
                if changes.is_whole:
                    database.execute("DELETE FROM rows")
                database.executemany(_PUT, changes.puts)
                database.executemany("DELETE FROM rows WHERE (section, name, number) = (?, ?, ?)", changes.drops)
                database.executemany(
                    "DELETE FROM rows WHERE section = ? AND name = ? AND number < ?", changes.drops_below
                )
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
        self._is_behind = False

    def read(self) -> list[Row]:
        """Return the rows, by section, name and number."""
        if self._database is None:
            return []
        with _telling(self.path):
            return self._database.execute(_EVERY).fetchall()

    def close(self) -> None:
        """Let go of the file, whole in itself from then on; closing twice is no error."""
        database, self._database = self._database, None
        if database is not None:
            with _telling(self.path):
                database.close()


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file that no venue has open, by section, name and number.

    What was being written when its venue died is undone first. Raises ConfigError for a file that another venue has,
    InputError for one that cannot be read as rows.
    """
    try:
        with closing(_connect(path)) as database:
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            rows = database.execute(_EVERY).fetchall()
            # The file is replaced next, and its log belongs to this one.
            database.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise ConfigError(
                f"state file {path} is in use: stop the venue that has it, or name another file"
            ) from None
        if is_full_disk(error, path.parent):
            raise ConfigError(f"state file {path}: the disk is full ({error}): make space there") from error
        raise InputError(
            f"state file {path} is no state of a sandbox venue, or damaged ({error}): name another file, or remove it"
        ) from None
    return rows


def log_of(path: Path) -> Path:
    """Return where SQLite keeps what it has not yet put into the file itself."""
    return path.with_name(f"{path.name}-wal")


def _connect(path: Path) -> sqlite3.Connection:
    # Used by one thread at a time, not always the same one.
    return sqlite3.connect(path, isolation_level=None, timeout=1.0, check_same_thread=False)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, str(error), str(path)) from error

"""What the gate must still know after a kill: verdicts by intent, and small facts by kind and key. SQLite, one file.

WAL with synchronous=NORMAL: a killed process loses nothing that was committed. A power cut may lose the last commits,
never the file's consistency, and that suffices: verdicts follow from messages that are durable themselves, so recovery
reads them back from the stream ORDERS. An fsync for each verdict would buy nothing.
Never: a verdict published before it is here; two processes on one file.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shared.errors import DecodeError, IntegrityError, UnavailableError
from shared.full_disk import is_full_disk
from shared.messages import DecisionRecord, Message, OrderApproved, OrderRefused, decode, encode

SCHEMA_VERSION = 1
VERDICTS_KEPT = 200_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY, intent_id TEXT NOT NULL UNIQUE, message BLOB NOT NULL, record BLOB
);
"""


class StoredVerdict(msgspec.Struct, frozen=True):
    """Hold the one answer to an intent, and for a refusal the journal's entry."""

    message: OrderApproved | OrderRefused
    record: DecisionRecord | None


class RiskStore:
    """Keep verdicts and facts in the file `path`.

    Raises IntegrityError when the file cannot be read as such a store, UnavailableError when another process has it.
    """

    def __init__(self, path: Path, *, lock_timeout_s: float = 5.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=lock_timeout_s)
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self._db.close()
            why = "the disk is full" if is_full_disk(error, path.parent) else "is another risk service running?"
            raise UnavailableError(f"{path} cannot be opened: {error}; {why}") from error
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise IntegrityError(f"{path} is damaged: {error}") from error
        except IntegrityError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; what was not committed is gone."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything of the block or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Keep a fact in place of the one before."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (kind, key, value))

    def drop(self, kind: str, key: str) -> None:
        """Forget a fact."""
        self._db.execute("DELETE FROM facts WHERE kind = ? AND key = ?", (kind, key))

    def facts(self, kind: str) -> dict[str, bytes]:
        """Return the facts of a kind by key."""
        return dict(self._db.execute("SELECT key, value FROM facts WHERE kind = ? ORDER BY key", (kind,)))

    def fact(self, kind: str, key: str) -> bytes | None:
        """Return one fact, or None."""
        row = self._db.execute("SELECT value FROM facts WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return None if row is None else row[0]

    def verdict(self, intent_id: str) -> StoredVerdict | None:
        """Return the answer that was given to an intent, or None."""
        row = self._db.execute("SELECT message, record FROM verdicts WHERE intent_id = ?", (intent_id,)).fetchone()
        if row is None:
            return None
        message = _decoded(row[0])
        record = None if row[1] is None else _decoded(row[1])
        if not isinstance(message, OrderApproved | OrderRefused) or not isinstance(record, DecisionRecord | None):
            raise IntegrityError(f"the stored verdict on {intent_id} is none")
        return StoredVerdict(message, record)

    def save_verdict(self, intent_id: str, verdict: StoredVerdict) -> None:
        """Keep the answer to an intent; the first one stays for good."""
        self._db.execute(
            "INSERT OR IGNORE INTO verdicts (intent_id, message, record) VALUES (?, ?, ?)",
            (intent_id, encode(verdict.message), None if verdict.record is None else encode(verdict.record)),
        )

    def forget_verdicts(self, keep: int = VERDICTS_KEPT) -> None:
        """Forget the oldest verdicts beyond `keep`; a delivery that old is not repeated."""
        self._db.execute("DELETE FROM verdicts WHERE number <= (SELECT max(number) FROM verdicts) - ?", (keep,))

    def _prepare(self) -> None:
        # The lock is held until the process ends: a second gate would give second verdicts.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise IntegrityError(f"the database has schema {version}, this build needs {SCHEMA_VERSION}")
        check = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if check != "ok":
            raise IntegrityError(f"the database is damaged: {check}")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _decoded(value: bytes) -> Message:
    try:
        return decode(value)
    except DecodeError as error:
        raise IntegrityError(f"a stored message cannot be read: {error}") from error

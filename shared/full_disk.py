"""A disk without space, as the things that hit it name it.

In: an error, a directory. Out: whether it is a full disk. Never: a full disk taken for a damaged file, or for a
configuration that no restart helps.
"""

import errno
import shutil
import sqlite3
from pathlib import Path

# With less than this nothing useful can be written: SQLite's index of its log alone takes 32 kB.
SPACE_MIN_BYTES = 256 * 1024
_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT})
# SQLite says so of a page that does not fit, and these of a file that cannot be made or grown, for whatever reason.
_DOUBTFUL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


def is_full_disk(error: BaseException | None, directory: Path) -> bool:
    """Tell whether a full disk, that of `directory`, is what the error or what led to it says."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _NUMBERS:
            return True
        if isinstance(error, sqlite3.Error):
            # The lowest byte is the kind of error. An error of the module itself has none.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL or (code in _DOUBTFUL and has_no_space(directory)):
                return True
        error = error.__cause__ or error.__context__
    return False


def has_no_space(directory: Path) -> bool:
    """Tell whether the disk of `directory` is full; False when it cannot be asked."""
    try:
        return shutil.disk_usage(directory).free < SPACE_MIN_BYTES
    except OSError:
        return False

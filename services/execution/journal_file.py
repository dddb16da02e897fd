"""The journal's file: its tables, its one owner, and whether it can be trusted.

In: a path. Out: the owner's lock and an open database. Never: two owners, a damaged file taken for whole.
"""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import TextIO

from shared.errors import ConfigError

SCHEMA_VERSION = "1"
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE orders (
    intent_id TEXT PRIMARY KEY, client_order_id TEXT NOT NULL UNIQUE, venue_order_id TEXT, instrument TEXT NOT NULL,
    state TEXT NOT NULL, is_open INTEGER NOT NULL, filled_quantity TEXT NOT NULL, filled_quote TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX orders_open ON orders (is_open) WHERE is_open = 1;
CREATE INDEX orders_venue_id ON orders (venue_order_id);
CREATE TABLE approvals (approval_id TEXT PRIMARY KEY, intent_id TEXT NOT NULL) STRICT;
CREATE TABLE order_events (
    seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, intent_id TEXT NOT NULL, payload BLOB NOT NULL,
    published INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX order_events_unpublished ON order_events (seq) WHERE published = 0;
CREATE INDEX order_events_intent ON order_events (intent_id, seq);
CREATE TABLE ledger_entries (
    sequence INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, asset TEXT NOT NULL, side TEXT,
    price TEXT NOT NULL, quantity TEXT NOT NULL, fee TEXT NOT NULL, fee_asset TEXT NOT NULL,
    ts_event_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE marks (instrument TEXT PRIMARY KEY, price TEXT NOT NULL, close_time_ns INTEGER NOT NULL) STRICT;
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, detail TEXT NOT NULL, at_ns INTEGER NOT NULL,
    resolved INTEGER NOT NULL DEFAULT 0
) STRICT;
"""


def lock_journal(path: Path) -> TextIO:
    """Take the journal for this process until the file is closed; raises ConfigError when another one has it."""
    lock = path.with_suffix(path.suffix + ".lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read(20).strip() or "unknown"
        lock.close()
        raise ConfigError(
            f"journal {path} belongs to another execution process (pid {owner}): "
            "stop that one first, or give this one another state directory"
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def open_journal(path: Path) -> sqlite3.Connection:
    """Open or create the database; raises ConfigError or sqlite3.DatabaseError when it cannot be trusted."""
    is_new = not path.exists() or path.stat().st_size == 0
    database = sqlite3.connect(path, isolation_level=None, timeout=1.0)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        findings = [str(row[0]) for row in database.execute("PRAGMA quick_check(5)")]
        if findings != ["ok"]:
            raise ConfigError(damaged(path, "; ".join(findings)))
        has_tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]
        if not has_tables:
            if not is_new and database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise ConfigError(f"{path} is no journal of execution: give another state directory")
            database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
    except BaseException:
        database.close()
        raise
    return database


def damaged(path: Path, finding: str) -> str:
    """Return what to tell a person about a journal that cannot be trusted."""
    return (
        f"journal {path} is damaged ({finding}): nothing is sent. Restore the file from a backup, "
        "or move it away together with the venue's file to begin a new account"
    )

"""Execution's own record: every order, event and ledger entry, on the disk before anybody acts on it.

In: one step at a time, all of it or nothing. Out: the same records after any crash. Never: two owners, a torn or
damaged file taken for whole, an amount as a float.
SQLite in WAL mode with synchronous=FULL; a lock file names the one process that may write.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec

from services.execution.core.orders import Order
from services.execution.core.transitions import OPEN_STATES
from services.execution.journal_file import SCHEMA_VERSION, damaged, lock_journal, open_journal
from shared.domain.ledger import LedgerEntry
from shared.domain.money import plain
from shared.errors import ConfigError, StoreUnavailableError
from shared.full_disk import is_full_disk
from shared.messages import OrderEvent

_encode_event = msgspec.msgpack.Encoder().encode
_decode_event = msgspec.msgpack.Decoder(OrderEvent).decode


class Journal:
    """Own one journal file; raises ConfigError when another process has it or when it cannot be trusted.

    Raises StoreUnavailableError while the disk is full.
    """

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = lock_journal(path)
        self._database: sqlite3.Connection | None = None
        self._is_full = True
        try:
            self._database = open_journal(path)
            self._adopt(identity)
        except sqlite3.DatabaseError as error:
            self.close()
            if is_full_disk(error, path.parent):
                # Nothing is wrong with the file, and nothing must be done about it but to make space.
                raise StoreUnavailableError(f"journal {path}: the disk is full") from error
            raise ConfigError(damaged(path, str(error))) from error
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and give up the lock; closing twice is no error."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._lock.close()

    @contextmanager
    def step(self, *, durable: bool = True) -> Iterator[None]:
        """Make everything inside one transaction: on the disk when it ends, or undone.

        With `durable` False a power cut (never a crash of the process) may lose the step, in order with others.
        """
        database = self._open
        if durable is not self._is_full:
            database.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._is_full = durable
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def save_order(self, order: Order) -> None:
        """Insert or replace an order."""
        self._open.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (intent_id) DO UPDATE SET"
            " venue_order_id = excluded.venue_order_id, state = excluded.state, is_open = excluded.is_open,"
            " filled_quantity = excluded.filled_quantity, filled_quote = excluded.filled_quote,"
            " record = excluded.record",
            (
                order.intent.intent_id,
                order.client_order_id,
                order.venue_order_id,
                order.intent.instrument,
                order.state.value,
                int(order.state in OPEN_STATES),
                plain(order.filled_quantity),
                plain(order.filled_quote),
                msgspec.json.encode(order).decode(),
            ),
        )

    def use_approval(self, approval_id: str, intent_id: str) -> None:
        """Note that an approval served; a second use fails in the database."""
        self._open.execute("INSERT INTO approvals VALUES (?, ?)", (approval_id, intent_id))

    def add_event(self, event: OrderEvent) -> None:
        """Put an event into the outbox."""
        self._open.execute(
            "INSERT INTO order_events (event_id, intent_id, payload) VALUES (?, ?, ?)",
            (event.event_id, event.intent_id, _encode_event(event)),
        )

    def mark_published(self, up_to_seq: int) -> None:
        """Note that the outbox is published up to and including `up_to_seq`."""
        self._open.execute("UPDATE order_events SET published = 1 WHERE published = 0 AND seq <= ?", (up_to_seq,))

    def add_entry(self, entry: LedgerEntry) -> None:
        """Append a ledger entry."""
        self._open.execute(
            "INSERT INTO ledger_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.sequence,
                entry.reference,
                entry.kind.value,
                entry.asset,
                None if entry.side is None else entry.side.value,
                plain(entry.price),
                plain(entry.quantity),
                plain(entry.fee),
                entry.fee_asset,
                entry.ts_event_ns,
            ),
        )

    def save_mark(self, instrument: str, price: Decimal, close_time_ns: int) -> None:
        """Keep an instrument's last close."""
        self._open.execute(
            "INSERT INTO marks VALUES (?, ?, ?) ON CONFLICT (instrument) DO UPDATE SET"
            " price = excluded.price, close_time_ns = excluded.close_time_ns",
            (instrument, plain(price), close_time_ns),
        )

    def forget_mark(self, instrument: str) -> None:
        """Forget an instrument's last close."""
        self._open.execute("DELETE FROM marks WHERE instrument = ?", (instrument,))

    def set_number(self, key: str, value: int) -> None:
        """Keep a number under `key`."""
        self._open.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"number.{key}", str(value)))

    def add_incident(self, key: str, detail: str, at_ns: int) -> None:
        """Note a contradiction once per `key`; it is open until a person resolves it, and again when it comes back."""
        self._open.execute(
            "INSERT INTO incidents (key, detail, at_ns) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET resolved = 0",
            (key, detail, at_ns),
        )

    def knows_incident(self, key: str) -> bool:
        """Tell whether a contradiction was noted before, settled or not."""
        return self._open.execute("SELECT 1 FROM incidents WHERE key = ?", (key,)).fetchone() is not None

    def resolve_incidents(self) -> int:
        """Close all open incidents and return how many there were."""
        return self._open.execute("UPDATE incidents SET resolved = 1 WHERE resolved = 0").rowcount

    def order(self, intent_id: str) -> Order | None:
        """Return the order of an intent, or None."""
        return self._order("intent_id", intent_id)

    def order_by_client_id(self, client_order_id: str) -> Order | None:
        """Return the order with that client order id, or None."""
        return self._order("client_order_id", client_order_id)

    def order_by_venue_id(self, venue_order_id: str) -> Order | None:
        """Return the order with that venue order id, or None."""
        return self._order("venue_order_id", venue_order_id)

    def open_orders(self) -> list[Order]:
        """Return the orders that may be at the venue now, in the order they came."""
        return self._orders("WHERE is_open = 1 ORDER BY rowid")

    def newest_orders(self, limit: int) -> list[Order]:
        """Return the newest `limit` orders, newest first."""
        return self._orders("ORDER BY rowid DESC LIMIT ?", limit)

    def approval_used_by(self, approval_id: str) -> str | None:
        """Return the intent that an approval served, or None."""
        row = self._open.execute("SELECT intent_id FROM approvals WHERE approval_id = ?", (approval_id,)).fetchone()
        return None if row is None else str(row[0])

    def unpublished(self, limit: int) -> list[tuple[int, OrderEvent]]:
        """Return the oldest events that wait in the outbox, with their numbers."""
        rows = self._open.execute(
            "SELECT seq, payload FROM order_events WHERE published = 0 ORDER BY seq LIMIT ?", (limit,)
        )
        return [(seq, _decode_event(payload)) for seq, payload in rows]

    def events_of(self, intent_id: str) -> list[OrderEvent]:
        """Return everything that was told of an intent, oldest first."""
        rows = self._open.execute("SELECT payload FROM order_events WHERE intent_id = ? ORDER BY seq", (intent_id,))
        return [_decode_event(payload) for (payload,) in rows]

    def event_count(self) -> int:
        """Return the number of the newest event; 0 before the first."""
        return int(self._open.execute("SELECT coalesce(max(seq), 0) FROM order_events").fetchone()[0])

    def entries(self) -> list[LedgerEntry]:
        """Return the whole ledger, oldest entry first."""
        names = LedgerEntry.__struct_fields__
        rows = self._open.execute(f"SELECT {', '.join(names)} FROM ledger_entries ORDER BY sequence")  # noqa: S608 - the names are ours
        return [msgspec.convert(dict(zip(names, row, strict=True)), LedgerEntry) for row in rows]

    def marks(self) -> dict[str, tuple[Decimal, int]]:
        """Return each instrument's last close and its time."""
        rows = self._open.execute("SELECT instrument, price, close_time_ns FROM marks")
        return {instrument: (Decimal(price), close_time_ns) for instrument, price, close_time_ns in rows}

    def number(self, key: str) -> int:
        """Return the number kept under `key`; 0 before the first."""
        row = self._open.execute("SELECT value FROM meta WHERE key = ?", (f"number.{key}",)).fetchone()
        return 0 if row is None else int(row[0])

    def numbers(self, prefix: str) -> dict[str, int]:
        """Return the numbers whose keys begin with `prefix`, by key."""
        rows = self._open.execute("SELECT key, value FROM meta WHERE key GLOB ?", (f"number.{prefix}*",))
        return {key.removeprefix("number."): int(value) for key, value in rows}

    def open_incidents(self) -> list[str]:
        """Return what is noted and not resolved, oldest first."""
        rows = self._open.execute("SELECT detail FROM incidents WHERE resolved = 0 ORDER BY id")
        return [detail for (detail,) in rows]

    @property
    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError(f"the journal {self._path} is closed")
        return self._database

    def _order(self, column: str, value: str) -> Order | None:
        found = self._orders(f"WHERE {column} = ?", value)
        return found[0] if found else None

    def _orders(self, clause: str, *values: str | int) -> list[Order]:
        rows = self._open.execute(f"SELECT record FROM orders {clause}", values)  # noqa: S608 - the clauses are ours
        return [msgspec.json.decode(record, type=Order) for (record,) in rows]

    def _adopt(self, identity: dict[str, str]) -> None:
        # What the file belongs to is written into it, so that another account's journal is never mistaken for this one.
        with self.step():
            for key, value in {"schema_version": SCHEMA_VERSION, **identity}.items():
                self._open.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
                stored = self._open.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0]
                if stored != value:
                    raise ConfigError(
                        f"journal {self._path} has {key} {stored!r}, this configuration wants {value!r}: "
                        "give the other configuration, or another state directory"
                    )

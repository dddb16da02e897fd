"""The paper venue's file: one SQLite database, every order, fill and balance on the disk before it is answered.

In: records. Out: the same records, after any crash. Never: half of a change; a float where there is money.
Records are JSON text, in which a Decimal is a string with every digit. The file is the only truth: nothing is cached.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec

from shared.errors import ConfigError, StoreUnavailableError, UnknownOutcomeError
from shared.exchange.paper_market import Market
from shared.exchange.paper_records import PaperOrder
from shared.exchange.port import VenueTrade
from shared.messages import Balance, Fill, Instrument

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0
SCHEMA = """
CREATE TABLE account (asset TEXT PRIMARY KEY, free TEXT NOT NULL, locked TEXT NOT NULL) STRICT;
CREATE TABLE deposit (deposit_id TEXT NOT NULL, asset TEXT NOT NULL, amount TEXT NOT NULL,
    PRIMARY KEY (deposit_id, asset)) STRICT;
CREATE TABLE instrument (symbol TEXT PRIMARY KEY, definition TEXT NOT NULL, market TEXT NOT NULL) STRICT;
CREATE TABLE orders (sequence INTEGER PRIMARY KEY, client_order_id TEXT NOT NULL UNIQUE, instrument TEXT NOT NULL,
    is_open INTEGER NOT NULL, record TEXT NOT NULL) STRICT;
CREATE INDEX orders_open ON orders (instrument, sequence) WHERE is_open = 1;
CREATE TABLE trade (sequence INTEGER PRIMARY KEY, fill_id TEXT NOT NULL UNIQUE, client_order_id TEXT NOT NULL,
    record TEXT NOT NULL) STRICT;
CREATE INDEX trade_order ON trade (client_order_id, sequence);
CREATE TABLE venue_time (id INTEGER PRIMARY KEY CHECK (id = 1), closed_time_ns INTEGER NOT NULL) STRICT;
INSERT INTO venue_time VALUES (1, 0);
"""


class PaperStore:
    """Read and write the records; every write happens inside `transaction`."""

    def __init__(self, path: Path, fault_point: Callable[[str], None]) -> None:
        self._fault_point = fault_point
        self._is_full = True
        self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._create(path)
        except sqlite3.Error as error:
            self._db.close()
            raise ConfigError(f"paper venue file {path} cannot be used: {error}; move it away or repair it") from error
        except ConfigError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        self._db.close()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """Make everything inside one durable change, or none of it when the block raises.

        With `durable` False a power cut (never a crash of the process) may lose the change until the next durable one,
        in order with others.
        Raises StoreUnavailableError when nothing was written, UnknownOutcomeError when the commit itself failed.
        """
        try:
            if durable is not self._is_full:
                self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._is_full = durable
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise StoreUnavailableError(f"paper venue: {error}") from error
        try:
            yield
            self._fault_point("before_commit")
        except sqlite3.OperationalError as error:
            self._rollback()
            raise StoreUnavailableError(f"paper venue: {error}") from error
        except BaseException:
            self._rollback()
            raise
        try:
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._rollback()
            raise UnknownOutcomeError(f"paper venue: commit failed: {error}") from error
        self._fault_point("after_commit")

    def balances(self) -> dict[str, Balance]:
        """Return every asset's balance."""
        rows = self._db.execute("SELECT asset, free, locked FROM account ORDER BY asset")
        return {asset: Balance(asset, Decimal(free), Decimal(held)) for asset, free, held in rows}

    def save_balances(self, before: Mapping[str, Balance], after: Mapping[str, Balance]) -> None:
        """Write the balances that differ."""
        self._db.executemany(
            "INSERT INTO account VALUES (?, ?, ?) "
            "ON CONFLICT (asset) DO UPDATE SET free = excluded.free, locked = excluded.locked",
            [
                (asset, str(balance.free), str(balance.locked))
                for asset, balance in after.items()
                if before.get(asset) != balance
            ],
        )

    def deposits(self, deposit_id: str | None = None) -> list[tuple[str, str, Decimal]]:
        """Return `(deposit id, asset, amount)` of one deposit or of all."""
        rows = self._db.execute(
            "SELECT deposit_id, asset, amount FROM deposit "
            "WHERE :wanted IS NULL OR deposit_id = :wanted ORDER BY rowid",
            {"wanted": deposit_id},
        )
        return [(name, asset, Decimal(amount)) for name, asset, amount in rows]

    def add_deposit(self, deposit_id: str, asset: str, amount: Decimal) -> None:
        """Record a deposit."""
        self._db.execute("INSERT INTO deposit VALUES (?, ?, ?)", (deposit_id, asset, str(amount)))

    def instrument(self, symbol: str) -> tuple[Instrument, Market] | None:
        """Return an instrument and its market, or None when it is not defined."""
        row = self._db.execute("SELECT definition, market FROM instrument WHERE symbol = ?", (symbol,)).fetchone()
        if row is None:
            return None
        return msgspec.json.decode(row[0], type=Instrument), msgspec.json.decode(row[1], type=Market)

    def save_instrument(self, instrument: Instrument, market: Market) -> None:
        """Write an instrument and its market."""
        self._db.execute(
            "INSERT INTO instrument VALUES (?, ?, ?) "
            "ON CONFLICT (symbol) DO UPDATE SET definition = excluded.definition, market = excluded.market",
            (instrument.symbol, _text(instrument), _text(market)),
        )

    def closed_time_ns(self) -> int:
        """Return the newest market time of which every bar was handed in."""
        row = self._db.execute("SELECT closed_time_ns FROM venue_time").fetchone()
        return int(row[0])

    def save_closed_time_ns(self, time_ns: int) -> None:
        """Write the newest market time of which every bar was handed in."""
        self._db.execute("UPDATE venue_time SET closed_time_ns = ?", (time_ns,))

    def next_order_sequence(self) -> int:
        """Return the sequence that the next order gets."""
        return int(self._db.execute("SELECT coalesce(max(sequence), 0) + 1 FROM orders").fetchone()[0])

    def order(self, client_order_id: str) -> PaperOrder | None:
        """Return an order, or None when there is none."""
        row = self._db.execute("SELECT record FROM orders WHERE client_order_id = ?", (client_order_id,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=PaperOrder)

    def open_orders(self, instrument: str | None = None) -> list[PaperOrder]:
        """Return the resting orders of one instrument or of all, oldest first."""
        rows = self._db.execute(
            "SELECT record FROM orders "
            "WHERE is_open = 1 AND (:wanted IS NULL OR instrument = :wanted) ORDER BY sequence",
            {"wanted": instrument},
        )
        return [msgspec.json.decode(record, type=PaperOrder) for (record,) in rows]

    def save_order(self, order: PaperOrder) -> None:
        """Write an order."""
        self._db.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (sequence) DO UPDATE SET is_open = excluded.is_open, record = excluded.record",
            (
                order.sequence,
                order.request.client_order_id,
                order.request.instrument,
                int(order.is_open),
                _text(order),
            ),
        )

    def add_trade(self, order: PaperOrder, fill: Fill) -> VenueTrade:
        """Record a fill and return it with its place in the account's sequence."""
        row = self._db.execute("SELECT coalesce(max(sequence), 0) + 1 FROM trade").fetchone()
        request = order.request
        trade = VenueTrade(
            int(row[0]), request.client_order_id, order.venue_order_id, request.instrument, request.side, fill
        )
        self._db.execute(
            "INSERT INTO trade VALUES (?, ?, ?, ?)",
            (trade.sequence, fill.fill_id, request.client_order_id, _text(trade)),
        )
        return trade

    def trades_since(self, sequence: int, limit: int) -> list[VenueTrade]:
        """Return up to `limit` trades above `sequence`, oldest first."""
        rows = self._db.execute(
            "SELECT record FROM trade WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, limit)
        )
        return [msgspec.json.decode(record, type=VenueTrade) for (record,) in rows]

    def fills_of(self, client_order_id: str) -> tuple[Fill, ...]:
        """Return an order's fills, oldest first."""
        rows = self._db.execute(
            "SELECT record FROM trade WHERE client_order_id = ? ORDER BY sequence", (client_order_id,)
        )
        return tuple(msgspec.json.decode(record, type=VenueTrade).fill for (record,) in rows)

    def _create(self, path: Path) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == SCHEMA_VERSION:
            return
        if version:
            raise ConfigError(
                f"paper venue file {path} has schema {version}, this build {SCHEMA_VERSION}: move it away"
            )
        self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _text(record: msgspec.Struct) -> str:
    return msgspec.json.encode(record).decode()

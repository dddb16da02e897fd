"""Reads over Postgres wire: typed rows, every value a parameter.

In: names, times, limits. Out: messages and bars. Never: a value inside a statement, a read without a limit or a
time-out, more connections than the pool's few.
"""

import asyncio
import base64
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import InputError, StoreUnavailableError
from shared.messages import Message
from shared.store.columns import Column, Kind, Value, message_of
from shared.store.questdb.frame import TIME_MAX_NS
from shared.store.questdb.schema import BOOK_SIDES, TIME, VIEW_TIMEFRAMES, stored_columns, view_name
from shared.store.tables import TABLE_BY_NAME, Table

if TYPE_CHECKING:
    import asyncpg

LIMIT_MAX = 100_000
CONNECTIONS_MAX = 4
TIMEOUT_S = 15.0


class TradeBar(msgspec.Struct, frozen=True):
    """Hold one bar that QuestDB made of trades; `open_time_ns` UTC, `trades` is how many."""

    open_time_ns: int
    venue: str
    instrument: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int


class QuestdbReader:
    """Read from the server's Postgres port; use it as an async context manager."""

    def __init__(self, host: str, port: int, user: str, password_file: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._host, self._port, self._user, self._password_file = host, port, user, password_file
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect; raises StoreUnavailableError."""
        import asyncpg  # noqa: PLC0415 - an extra

        try:
            password = self._password_file.read_text(encoding="utf-8").strip()
            self._pool = await asyncpg.create_pool(
                host=self._host, port=self._port, user=self._user, password=password, database="qdb",
                min_size=1, max_size=CONNECTIONS_MAX, timeout=self._timeout_s, command_timeout=self._timeout_s,
                reset=_nothing_to_reset,
            )  # fmt: skip
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StoreUnavailableError(f"QuestDB does not answer on {self._host}:{self._port}: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    async def messages(
        self,
        table: str,
        *,
        since_ns: int = 0,
        until_ns: int | None = None,
        venue: str | None = None,
        instrument: str | None = None,
        limit: int = 10_000,
    ) -> tuple[Message, ...]:
        """Return the newest `limit` messages of a table with `since_ns` <= event time < `until_ns`, oldest first.

        Raises InputError for an unknown table, a filter that the table has no column for, or a limit out of range.
        """
        described = TABLE_BY_NAME.get(table)
        if described is None:
            raise InputError(f"no table {table!r}: choose one of {', '.join(TABLE_BY_NAME)}")
        present = {column.name for column in stored_columns(described)}
        conditions, values = [f"{TIME} >= {_time(1)}"], list[object]([_iso(since_ns)])
        if until_ns is not None:
            values.append(_iso(until_ns))
            conditions.append(f"{TIME} < {_time(len(values))}")
        for name, value in (("venue", venue), ("instrument", instrument)):
            if value is None:
                continue
            if name not in present:
                raise InputError(f"table {table} has no {name}")
            values.append(value)
            conditions.append(f"{name} = ${len(values)}")
        values.append(_limit(limit))
        sql = (
            f'SELECT {_selected(described)} FROM "{described.name}" WHERE {" AND ".join(conditions)} '  # noqa: S608 - own names, values as parameters
            f"ORDER BY {TIME} DESC{_tie_breaker(present)} LIMIT ${len(values)}"
        )
        rows = await self._fetch(sql, values)
        return tuple(_message(described, row) for row in reversed(rows))

    async def trade_bars(
        self, timeframe: str, *, venue: str, instrument: str, since_ns: int = 0, limit: int = 10_000
    ) -> tuple[TradeBar, ...]:
        """Return the newest `limit` bars made of trades that open at or after `since_ns`, oldest first."""
        if timeframe not in VIEW_TIMEFRAMES:
            raise InputError(f"no bars of {timeframe!r} are made: choose one of {', '.join(VIEW_TIMEFRAMES)}")
        sql = (
            f"SELECT CAST({TIME} AS LONG) AS open_time_ns, venue, instrument, open, high, low, close, volume, "  # noqa: S608 - as above
            f'quote_volume, trades FROM "{view_name(timeframe)}" '
            f"WHERE {TIME} >= {_time(1)} AND venue = $2 AND instrument = $3 ORDER BY {TIME} DESC LIMIT $4"
        )
        rows = await self._fetch(sql, [_iso(since_ns), venue, instrument, _limit(limit)])
        names = TradeBar.__struct_fields__
        return tuple(msgspec.convert(dict(zip(names, row, strict=True)), TradeBar) for row in reversed(rows))

    async def count(self, table: str) -> int:
        """Return how many rows of a table are visible."""
        if table not in TABLE_BY_NAME and table not in map(view_name, VIEW_TIMEFRAMES):
            raise InputError(f"no table {table!r}: choose one of {', '.join(TABLE_BY_NAME)}")
        (row,) = await self._fetch(f'SELECT count() FROM "{table}"', [])  # noqa: S608 - one of our own names
        return int(str(row[0]))

    async def _fetch(self, sql: str, values: Sequence[object]) -> Sequence[Sequence[object]]:
        import asyncpg  # noqa: PLC0415 - an extra

        if self._pool is None:
            raise StoreUnavailableError("the reader is not open")
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.acquire() as connection:
                rows: Sequence[Sequence[object]] = await connection.fetch(sql, *values)
                return rows
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StoreUnavailableError(f"QuestDB did not answer: {error}") from error


def _time(place: int) -> str:
    # As text: for a number the server asks the client for a DOUBLE, which rounds a time to 256 ns.
    return f"${place}::VARCHAR::TIMESTAMP_NS"


def _iso(time_ns: int) -> str:
    if not 0 <= time_ns < TIME_MAX_NS:
        raise InputError(f"{time_ns} is no time in nanoseconds UTC between 1970 and 2099")
    seconds, nanoseconds = divmod(time_ns, NANOSECONDS_PER_SECOND)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def _tie_breaker(present: set[str]) -> str:
    # Rows of one time lie in the order of their keys, which is not the order that they came in.
    name = next((name for name in ("sequence", "stream_sequence") if name in present), None)
    return f', "{name}" DESC' if name is not None else ""


def _selected(table: Table) -> str:
    return ", ".join(_select(table, column) for column in stored_columns(table))


def _select(table: Table, column: Column) -> str:
    if column.name == table.event_time:
        return f"CAST({TIME} AS LONG)"
    # Postgres wire has no arrays of DOUBLE[][] that the client knows; as text they are JSON, every digit kept.
    return f'CAST("{column.name}" AS STRING)' if column.name in BOOK_SIDES else f'"{column.name}"'


def _message(table: Table, row: Sequence[object]) -> Message:
    values = {column.name: _value(column, value) for column, value in zip(stored_columns(table), row, strict=True)}
    return message_of(table.message, values)


def _value(column: Column, value: object) -> Value:
    if value is None:
        # QuestDB knows no empty array: a side without a level is NULL.
        return [] if column.name in BOOK_SIDES else None
    if column.name in BOOK_SIDES:
        sides = json.loads(str(value))
        return [list(level) for level in zip(*sides, strict=True)]
    if isinstance(column.type, Kind):
        if column.type is Kind.BYTES:
            return base64.b64decode(str(value))
        return value  # type: ignore[return-value] # what the column's type gives
    restored: Value = json.loads(str(value))
    return restored


def _limit(n: int) -> int:
    if not 1 <= n <= LIMIT_MAX:
        raise InputError(f"a limit must lie between 1 and {LIMIT_MAX}, got {n}")
    return n


async def _nothing_to_reset(_connection: object) -> None:
    """Keep the client from asking for what QuestDB does not know (RESET ALL, UNLISTEN)."""

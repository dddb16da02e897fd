"""Read models: what pages, reports and commands ask the store for.

In: a reader and parameters. Out: typed rows, money as Decimal from its exact text. All text in a query is a parameter.
"""

from decimal import Decimal
from itertools import chain

import msgspec

from shared.errors import InputError
from shared.messages import AccountSnapshot, Bar, CommandAudit, DecisionRecord, Liquidity, OrderEvent, Side
from shared.store.arrow import messages_of
from shared.store.columns import Value, columns_of
from shared.store.duck import StoreReader
from shared.store.tables import TABLE_BY_NAME
from shared.store.views import UNIQUE, quoted

LIMIT_MAX = 100_000
NEWEST_FIRST = "recorded_at_ns DESC, stream_sequence DESC"


class EquityPoint(msgspec.Struct, frozen=True):
    """State an account's equity at a market time."""

    as_of_ns: int
    equity_usdt: Decimal


class FillRow(msgspec.Struct, frozen=True):
    """Record one execution together with its order; `fee` in `fee_asset`."""

    ts_event_ns: int
    strategy: str
    venue: str
    instrument: str
    side: Side
    fill_id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: Liquidity
    client_order_id: str
    intent_id: str
    reason: str
    correlation_id: str
    ledger_sequence: int


def equity_curve(
    reader: StoreReader, *, since_ns: int = 0, points_max: int = 1_000, venue: str | None = None
) -> tuple[EquityPoint, ...]:
    """Return equity over market time, oldest first, thinned evenly to `points_max`; the newest point always stays.

    Of several snapshots of one time the last counts; those without a price for every holding are left out.
    """
    sql = """
    WITH points AS (
        SELECT as_of_ns, arg_max(equity_usdt, (ledger_sequence, stream_sequence)) AS equity_usdt
        FROM raw.accounts
        WHERE as_of_ns >= $since_ns AND equity_usdt IS NOT NULL AND ($venue IS NULL OR venue = $venue)
        GROUP BY as_of_ns
    ), placed AS (
        SELECT *, row_number() OVER (ORDER BY as_of_ns DESC) - 1 AS place, count(*) OVER () AS total FROM points
    )
    SELECT as_of_ns, equity_usdt FROM placed WHERE place % greatest(1, ceil(total / $points_max)) = 0 ORDER BY as_of_ns
    """
    rows = reader.query(sql, {"since_ns": since_ns, "points_max": _limit(points_max), "venue": venue}).rows
    return tuple(EquityPoint(*msgspec.convert(row, tuple[int, Decimal])) for row in rows)


def last_fills(reader: StoreReader, n: int = 100, *, instrument: str | None = None) -> tuple[FillRow, ...]:
    """Return the newest `n` fills, newest first."""
    names = ", ".join(FillRow.__struct_fields__)
    sql = (
        f"SELECT {names} FROM fills WHERE $instrument IS NULL OR instrument = $instrument "  # noqa: S608 - own names
        "ORDER BY ledger_sequence DESC, ts_event_ns DESC LIMIT $n"
    )
    rows = reader.query(sql, {"instrument": instrument, "n": _limit(n)}).rows
    return tuple(msgspec.convert(dict(zip(FillRow.__struct_fields__, row, strict=True)), FillRow) for row in rows)


def last_decisions(
    reader: StoreReader, n: int = 50, *, strategy: str | None = None, with_idle: bool = True
) -> tuple[DecisionRecord, ...]:
    """Return the newest `n` decisions, newest first; `with_idle` False leaves out those that did nothing."""
    where = "($strategy IS NULL OR strategy = $strategy) AND ($with_idle OR action NOT IN ('none', 'wait'))"
    return _messages(
        reader, "decisions", DecisionRecord, where, order="decided_at_ns DESC, stream_sequence DESC",
        parameters={"strategy": strategy, "with_idle": with_idle, "n": _limit(n)},
    )  # fmt: skip


def bars(
    reader: StoreReader, instrument: str, *, timeframe: str, since_ns: int = 0, n: int = 10_000
) -> tuple[Bar, ...]:
    """Return the newest `n` bars of an instrument that close at or after `since_ns`, oldest first."""
    where = "instrument = $instrument AND timeframe = $timeframe AND close_time_ns >= $since_ns"
    found = _messages(
        reader, "bars", Bar, where, order="close_time_ns DESC, stream_sequence DESC",
        parameters={"instrument": instrument, "timeframe": timeframe, "since_ns": since_ns, "n": _limit(n)},
    )  # fmt: skip
    return found[::-1]


def last_order_events(reader: StoreReader, n: int = 100) -> tuple[OrderEvent, ...]:
    """Return the newest `n` order events, newest first."""
    return _messages(reader, "order_events", OrderEvent, "true", order=NEWEST_FIRST, parameters={"n": _limit(n)})


def orders(reader: StoreReader, n: int = 100) -> tuple[OrderEvent, ...]:
    """Return the newest state of each of the last `n` orders, newest first."""
    where = (
        "(client_order_id, stream_sequence) IN "
        "(SELECT client_order_id, max(stream_sequence) FROM raw.order_events GROUP BY client_order_id)"
    )
    return _messages(reader, "order_events", OrderEvent, where, order=NEWEST_FIRST, parameters={"n": _limit(n)})


def last_account(reader: StoreReader, *, venue: str) -> AccountSnapshot | None:
    """Return the newest account snapshot of a venue, or None."""
    found = _messages(
        reader, "accounts", AccountSnapshot, "venue = $venue", order=NEWEST_FIRST, parameters={"venue": venue, "n": 1}
    )
    return found[0] if found else None


def last_commands(reader: StoreReader, n: int = 100) -> tuple[CommandAudit, ...]:
    """Return the newest `n` audited commands, newest first."""
    return _messages(reader, "command_audits", CommandAudit, "true", order=NEWEST_FIRST, parameters={"n": _limit(n)})


def _messages[M: msgspec.Struct](
    reader: StoreReader, table: str, kind: type[M], where: str, *, order: str, parameters: dict[str, Value]
) -> tuple[M, ...]:
    described = TABLE_BY_NAME[table]
    names = ", ".join(quoted(column.name) for column in columns_of(described.message))
    sql = (
        f"SELECT {names} FROM raw.{quoted(table)} WHERE {where} "  # noqa: S608 - own names, values as parameters
        f"QUALIFY {UNIQUE} ORDER BY {order} LIMIT $n"
    )
    found = chain.from_iterable(messages_of(described, batch) for batch in reader.arrow(sql, parameters))
    return tuple(message for message in found if isinstance(message, kind))


def _limit(n: int) -> int:
    if not 1 <= n <= LIMIT_MAX:
        raise InputError(f"a limit must lie between 1 and {LIMIT_MAX}, got {n}")
    return n

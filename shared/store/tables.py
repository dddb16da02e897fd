"""One table for each message type, in the field's terms.

Every table has the message's columns (see `columns.py`), then the envelope: `subject`, `stream` and `stream_sequence`
(NULL for what came without a stream), `message_hash` (tells a redelivery from a new message under an old sequence,
after a stream was made anew) and `recorded_at_ns`. Views add `time` (the event time as a timestamp, UTC) and `date`.
"""

import datetime
import functools
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from shared import messages as m
from shared.messages import Message
from shared.store.columns import Column, Kind, columns_of

NANOSECONDS_PER_DAY = 86_400 * 1_000_000_000
_EPOCH_ORDINAL = datetime.date(1970, 1, 1).toordinal()
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class TableClass(StrEnum):
    """Name how long a table's rows are worth keeping."""

    TICKS = "ticks"
    BARS = "bars"
    TRADING = "trading"
    SYSTEM = "system"


class Table(msgspec.Struct, frozen=True):
    """Describe a table. `event_time` names the column that gives a row's day; `durable` rows come from a stream."""

    name: str
    message: type[Message]
    event_time: str
    kind: TableClass
    durable: bool

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return all columns, envelope last."""
        return columns_of(self.message) + ENVELOPE


ENVELOPE = (
    Column("subject", Kind.TEXT, ()),
    Column("stream", Kind.TEXT, ()),
    Column("stream_sequence", Kind.INTEGER, ()),
    Column("message_hash", Kind.INTEGER, ()),
    Column("recorded_at_ns", Kind.INTEGER, ()),
)

_TICKS, _BARS, _TRADING, _SYSTEM = TableClass.TICKS, TableClass.BARS, TableClass.TRADING, TableClass.SYSTEM

TABLES = (
    Table("trades", m.Trade, "ts_event_ns", _TICKS, durable=False),
    Table("bbo", m.Bbo, "ts_event_ns", _TICKS, durable=False),
    Table("books", m.BookSnapshot, "ts_event_ns", _TICKS, durable=False),
    Table("bars", m.Bar, "close_time_ns", _BARS, durable=True),
    Table("bars_closed", m.BarsClosed, "close_time_ns", _BARS, durable=True),
    Table("instruments", m.InstrumentDefinition, "ts_event_ns", _BARS, durable=True),
    Table("market_status", m.MarketStatus, "ts_event_ns", _BARS, durable=False),
    Table("signals", m.Signal, "ts_event_ns", _TRADING, durable=False),
    Table("order_intents", m.OrderIntent, "decided_at_ns", _TRADING, durable=True),
    Table("order_approvals", m.OrderApproved, "approved_at_ns", _TRADING, durable=True),
    Table("order_refusals", m.OrderRefused, "refused_at_ns", _TRADING, durable=True),
    Table("order_events", m.OrderEvent, "ts_event_ns", _TRADING, durable=True),
    Table("risk_states", m.RiskState, "changed_at_ns", _TRADING, durable=True),
    Table("risk_halts", m.RiskHalt, "demanded_at_ns", _TRADING, durable=True),
    Table("accounts", m.AccountSnapshot, "as_of_ns", _TRADING, durable=True),
    Table("decisions", m.DecisionRecord, "decided_at_ns", _TRADING, durable=True),
    Table("commands", m.Command, "sent_at_ns", _TRADING, durable=False),
    Table("command_replies", m.CommandReply, "recorded_at_ns", _TRADING, durable=False),
    Table("command_audits", m.CommandAudit, "received_at_ns", _TRADING, durable=True),
    Table("heartbeats", m.Heartbeat, "sent_at_ns", _SYSTEM, durable=False),
    Table("progress", m.Progress, "close_time_ns", _SYSTEM, durable=False),
    Table("dead_letters", m.DeadLetter, "received_at_ns", _SYSTEM, durable=True),
)

TABLE_BY_NAME = {table.name: table for table in TABLES}
# Transport alone: a batch of trades is recorded as its trades.
ENVELOPES: tuple[type[Message], ...] = (m.TradeBatch,)
_TABLE_BY_MESSAGE: dict[type[Message], Table] = {
    **{table.message: table for table in TABLES},
    m.TradeBatch: TABLE_BY_NAME["trades"],
}


def table_of(message: Message) -> Table:
    """Return the table that keeps messages of this type, or those in it."""
    return _TABLE_BY_MESSAGE[type(message)]


def unpacked(message: Message) -> Sequence[Message] | m.TradeBatch:
    """Return the messages that are recorded for one that was received."""
    return message if isinstance(message, m.TradeBatch) else (message,)


def event_time_ns(table: Table, message: Message, recorded_at_ns: int) -> int:
    """Return the time that a row belongs to, in nanoseconds UTC."""
    if table.event_time == "recorded_at_ns":
        return recorded_at_ns
    value: int = getattr(message, table.event_time)
    return value


def day_of(time_ns: int) -> str:
    """Return the UTC day `YYYY-MM-DD` of a time within int64 nanoseconds."""
    return _day(time_ns // NANOSECONDS_PER_DAY)


@functools.lru_cache(maxsize=4_096)
def _day(number: int) -> str:
    return datetime.date.fromordinal(_EPOCH_ORDINAL + number).isoformat()

"""QuestDB's tables: the same tables as the Parquet store, with types, keys and partitions of their own.

In: the store's tables. Out: DDL. Never: a table that QuestDB makes up itself from the first row (it would have no
dedup keys), a row that a retry doubles: every table has the designated timestamp and a business key to upsert by.

`ts` (TIMESTAMP_NS) is the table's event time; other times stay LONG nanoseconds. Names and words are SYMBOL, ids and
decimals VARCHAR (exact text), `bids` and `asks` DOUBLE[][] (prices, then sizes), other lists and maps JSON text.
"""

from collections.abc import Iterator, Mapping

import msgspec

from shared.store.columns import Column, Kind
from shared.store.tables import ENVELOPE, TABLE_BY_NAME, TABLES, Table, TableClass

TIME = "ts"
BOOK_SIDES = frozenset({"bids", "asks"})
VIEW_TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")

FIRST_VIEW = f"trades_{VIEW_TIMEFRAMES[0]}"
# At each commit the server would read the minute's trades again: that halves the rate of a flood.
FIRST_VIEW_REFRESH = "EVERY 1m"

# fmt: off
_SYMBOLS = frozenset((
    "account", "action", "base", "build", "changed_by", "code", "demanded_by", "direction", "fill_fee_asset",
    "fill_liquidity", "instance", "instrument", "quote", "schema_hash", "service", "side", "state", "strategy",
    "stream", "subject", "time_in_force", "timeframe", "type", "user", "venue", "verb",
))
# fmt: on
_TYPES = {
    Kind.TEXT: "VARCHAR",
    Kind.DECIMAL: "VARCHAR",
    Kind.INTEGER: "LONG",
    Kind.REAL: "DOUBLE",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.BYTES: "VARCHAR",  # base64: line protocol has no bytes
}

# The venue's order within a minute. Rows of one time lie in the order of their keys, so `first` and `last` would take
# any of them: nanoseconds within the minute (36 bits), then the sequence number's last 27 bits.
_ORDER = f"(CAST({TIME} AS LONG) % 60000000000) * 134217728 + sequence % 134217728"


class Layout(msgspec.Struct, frozen=True):
    """Say how a table lies on disk; `keys` tell a row from another beside its time, `ttl` None keeps for good."""

    partition: str
    keys: tuple[str, ...]
    ttl: str | None = None


LAYOUTS: Mapping[str, Layout] = {
    "trades": Layout("DAY", ("venue", "instrument", "trade_id"), "90 DAYS"),
    "bbo": Layout("DAY", ("venue", "instrument", "sequence"), "30 DAYS"),
    "books": Layout("HOUR", ("venue", "instrument", "sequence"), "7 DAYS"),
    "bars": Layout("MONTH", ("venue", "instrument", "timeframe")),
    "bars_closed": Layout("MONTH", ("venue", "timeframe")),
    "instruments": Layout("MONTH", ("venue", "instrument")),
    "market_status": Layout("MONTH", ("venue", "instrument", "state")),
    "signals": Layout("MONTH", ("strategy", "venue", "instrument")),
    "order_intents": Layout("MONTH", ("intent_id",)),
    "order_approvals": Layout("MONTH", ("intent_id", "approval_id")),
    "order_refusals": Layout("MONTH", ("intent_id",)),
    "order_events": Layout("MONTH", ("event_id",)),
    "risk_states": Layout("MONTH", ("state", "correlation_id")),
    "risk_halts": Layout("MONTH", ("demanded_by", "correlation_id")),
    "accounts": Layout("MONTH", ("venue", "account", "ledger_sequence")),
    "decisions": Layout("MONTH", ("decision_id",)),
    "commands": Layout("MONTH", ("verb", "correlation_id")),
    "command_replies": Layout("MONTH", ("correlation_id",)),
    "command_audits": Layout("MONTH", ("service", "verb", "correlation_id")),
    "heartbeats": Layout("DAY", ("service", "instance"), "7 DAYS"),
    "progress": Layout("MONTH", ("service", "venue"), "12 MONTHS"),
    "dead_letters": Layout("MONTH", ("service", "dead_subject", "stream_sequence")),
}


def stored_columns(table: Table) -> tuple[Column, ...]:
    """Return the columns that QuestDB keeps, event time included under its own name.

    What came without a stream has no stream columns. A tick's subject and time of recording say nothing that its
    columns and its time of reception do not, and cost a fifth of the rate.
    """
    left_out = set() if table.durable else {"stream", "stream_sequence", "message_hash"}
    if table.kind is TableClass.TICKS:
        left_out |= {"subject", "recorded_at_ns"}
    return tuple(column for column in table.columns if column.name not in left_out)


def stored_envelope(table: Table) -> tuple[Column, ...]:
    """Return the columns that QuestDB keeps beside the message's own."""
    return tuple(column for column in stored_columns(table) if column in ENVELOPE)


def is_symbol(column: Column) -> bool:
    """Tell whether a column holds one of a few words."""
    return column.type is Kind.TEXT and column.name in _SYMBOLS


def column_type(column: Column) -> str:
    """Return QuestDB's type of a column other than the event time."""
    if is_symbol(column):
        return "SYMBOL"
    if column.name in BOOK_SIDES:
        return "DOUBLE[][]"
    return _TYPES[column.type] if isinstance(column.type, Kind) else "VARCHAR"


def columns_ddl(table: Table) -> dict[str, str]:
    """Return name and type of each column in the table's order, `ts` first."""
    others = {column.name: column_type(column) for column in stored_columns(table) if column.name != table.event_time}
    return {TIME: "TIMESTAMP_NS", **others}


def table_ddl(table: Table) -> str:
    """Return the statement that creates a table unless it exists."""
    layout = LAYOUTS[table.name]
    columns = ",\n".join(f'    "{name}" {kind}' for name, kind in columns_ddl(table).items())
    ttl = f" TTL {layout.ttl}" if layout.ttl else ""
    keys = ", ".join(f'"{name}"' for name in (TIME, *layout.keys))
    return (
        f'CREATE TABLE IF NOT EXISTS "{table.name}" (\n{columns}\n) TIMESTAMP("{TIME}") '
        f"PARTITION BY {layout.partition}{ttl} WAL DEDUP UPSERT KEYS({keys})"
    )


def add_column_ddl(table: Table, name: str) -> str:
    """Return the statement that adds a column which a newer build has."""
    return f'ALTER TABLE "{table.name}" ADD COLUMN IF NOT EXISTS "{name}" {columns_ddl(table)[name]}'


def view_name(timeframe: str) -> str:
    """Return the name of the bars that QuestDB makes from trades."""
    return f"trades_{timeframe}"


def views_ddl() -> Iterator[str]:
    """Yield the bars from trades, each timeframe from the one before it: `ts` is the open time.

    Prices and volumes as in `Bar`; `trades` counts. Of several trades at one time `sequence` tells first and last.
    The first view is brought up to date when a writer asks for it, and each minute; the others follow it at once.
    """
    base = "trades"
    for timeframe in VIEW_TIMEFRAMES:
        refresh = FIRST_VIEW_REFRESH if base == "trades" else "IMMEDIATE"
        source = (
            f"arg_min(price, {_ORDER}) AS open, max(price) AS high, min(price) AS low, "
            f"arg_max(price, {_ORDER}) AS close, "
            "sum(quantity) AS volume, sum(price * quantity) AS quote_volume, count() AS trades"
            if base == "trades"
            else "first(open) AS open, max(high) AS high, min(low) AS low, last(close) AS close, "
            "sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades) AS trades"
        )
        yield (
            f'CREATE MATERIALIZED VIEW IF NOT EXISTS "{view_name(timeframe)}" WITH BASE "{base}" REFRESH {refresh} AS '  # noqa: S608 - own names
            f'(SELECT {TIME}, venue, instrument, {source} FROM "{base}" SAMPLE BY {timeframe} ALIGN TO CALENDAR) '
            "PARTITION BY MONTH"
        )
        base = view_name(timeframe)


def refresh_ddl() -> str:
    """Return the statement that brings the bars from trades up to date."""
    return f'REFRESH MATERIALIZED VIEW "{FIRST_VIEW}" INCREMENTAL'


def defer_ddl() -> str:
    """Return the statement that keeps the first view of an earlier build from being made anew at each commit."""
    return f'ALTER MATERIALIZED VIEW "{FIRST_VIEW}" SET REFRESH {FIRST_VIEW_REFRESH}'


def schema_sql() -> str:
    """Return the whole schema as one script, as `deploy/questdb/schema.sql` keeps it."""
    statements = [*(table_ddl(table) for table in TABLES), *views_ddl()]
    head = "-- Written by `python -m shared.store.questdb.schema`; the recorder creates all of it by itself.\n\n"
    return head + ";\n\n".join(statements) + ";\n"


def _check() -> None:
    if LAYOUTS.keys() != TABLE_BY_NAME.keys():
        raise TypeError(f"every table needs a layout: {LAYOUTS.keys() ^ TABLE_BY_NAME.keys()}")
    for name, layout in LAYOUTS.items():
        missing = [key for key in layout.keys if key not in columns_ddl(TABLE_BY_NAME[name])]
        if missing:
            raise TypeError(f"{name} has no column {missing}")


_check()

if __name__ == "__main__":
    import sys

    sys.stdout.write(schema_sql())

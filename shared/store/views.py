"""The SQL behind the views: nothing but our own names, and file names quoted."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from shared.store.arrow import fingerprint
from shared.store.columns import ColumnType, Kind, ListOf, MapOf, RecordOf
from shared.store.files import Part
from shared.store.tables import Table

UNIQUE = "(stream IS NULL OR row_number() OVER (PARTITION BY date, stream, stream_sequence, message_hash) = 1)"

FILLS_FROM = "order_events"
FILLS = """
CREATE OR REPLACE VIEW fills AS
SELECT
    make_timestamp_ns(fill_ts_event_ns) AS time, date, fill_ts_event_ns AS ts_event_ns, strategy, venue, instrument,
    side,
    fill_id, fill_price AS price, fill_quantity AS quantity, fill_fee AS fee, fill_fee_asset AS fee_asset,
    fill_liquidity AS liquidity, client_order_id, venue_order_id, intent_id, reason, correlation_id, ledger_sequence
FROM raw.order_events
WHERE fill_id IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY date, venue, client_order_id, fill_id ORDER BY recorded_at_ns) = 1
"""

_SIMPLE = {
    Kind.TEXT: "VARCHAR",
    Kind.DECIMAL: "VARCHAR",
    Kind.INTEGER: "BIGINT",
    Kind.REAL: "DOUBLE",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.BYTES: "BLOB",
}


def quoted(name: str) -> str:
    """Return a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text for SQL."""
    return "'" + text.replace("'", "''") + "'"


def sandbox(root: Path, spill: Path) -> Iterator[str]:
    """Yield the settings that keep a connection inside the store, for good."""
    yield f"SET allowed_directories = [{literal(str(root))}]"
    yield f"SET temp_directory = {literal(str(spill))}"
    yield "SET autoinstall_known_extensions = false"
    yield "SET autoload_known_extensions = false"
    yield "SET enable_external_access = false"
    yield "SET lock_configuration = true"
    yield "CREATE SCHEMA raw"


def definitions(table: Table, parts: Sequence[Part]) -> Iterator[str]:
    """Yield the statements that make a table's two views over exactly these files."""
    name = quoted(table.name)
    by_columns = sorted(parts, key=lambda part: part.fingerprint)
    sources = [
        _source(table, key, list(group)) for key, group in groupby(by_columns, key=lambda part: part.fingerprint)
    ]
    body = " UNION ALL ".join(sources) if sources else _nothing(table)
    time = f"make_timestamp_ns({quoted(table.event_time)}) AS time"
    yield f"CREATE OR REPLACE VIEW raw.{name} AS SELECT {time}, date, {_names(table)} FROM ({body})"  # noqa: S608 - own names
    unique = f" QUALIFY {UNIQUE}" if table.durable else ""
    yield f"CREATE OR REPLACE VIEW main.{name} AS SELECT * FROM raw.{name}{unique}"  # noqa: S608 - own names


def sql_type(column: ColumnType) -> str:
    """Return the SQL type of a column."""
    match column:
        case ListOf(item):
            return f"{sql_type(item)}[]"
        case MapOf(value):
            return f"MAP(VARCHAR, {sql_type(value)})"
        case RecordOf(fields):
            return "STRUCT(" + ", ".join(f"{quoted(name)} {sql_type(of)}" for name, of in fields) + ")"
        case Kind():
            return _SIMPLE[column]


def _names(table: Table) -> str:
    return ", ".join(quoted(column.name) for column in table.columns)


def _source(table: Table, columns: str, parts: Sequence[Part]) -> str:
    paths = ", ".join(literal(str(part.path)) for part in sorted(parts, key=lambda part: str(part.path)))
    read = f"read_parquet([{paths}], hive_partitioning = true, hive_types = {{'date': DATE}})"
    if columns == fingerprint(table):
        return f"SELECT date, {_names(table)} FROM {read}"  # noqa: S608 - own names, quoted file names
    # Files of an earlier build: columns that they lack are NULL, columns that are gone stay unread.
    present = set(pq.read_schema(parts[0].path).names)
    chosen = ", ".join(
        f"CAST({quoted(column.name) if column.name in present else 'NULL'} AS {sql_type(column.type)})"
        f" AS {quoted(column.name)}"
        for column in table.columns
    )
    return f"SELECT date, {chosen} FROM {read}"  # noqa: S608 - own names, quoted file names


def _nothing(table: Table) -> str:
    columns = ", ".join(f"CAST(NULL AS {sql_type(column.type)}) AS {quoted(column.name)}" for column in table.columns)
    return f"SELECT CAST(NULL AS DATE) AS date, {columns} WHERE false"

"""The schema: every table upserts by its time and a key, and the script in deploy/ is the one that runs."""

from pathlib import Path

import pytest

from shared.store.columns import Kind
from shared.store.questdb.schema import LAYOUTS, column_type, columns_ddl, schema_sql, stored_columns, table_ddl
from shared.store.tables import TABLES, Table

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_is_wal_and_upserts_by_time_and_key(table: Table) -> None:
    statement = table_ddl(table)
    keys = ", ".join(f'"{key}"' for key in ("ts", *LAYOUTS[table.name].keys))
    assert statement.endswith(f"WAL DEDUP UPSERT KEYS({keys})")
    assert LAYOUTS[table.name].keys
    assert 'TIMESTAMP("ts")' in statement


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_money_is_never_a_float(table: Table) -> None:
    for column in stored_columns(table):
        if column.type is Kind.DECIMAL:
            assert column_type(column) == "VARCHAR"


def test_venue_and_instrument_are_symbols_and_books_are_arrays() -> None:
    for table in TABLES:
        types = columns_ddl(table)
        for name in ("venue", "instrument"):
            assert types.get(name, "SYMBOL") == "SYMBOL"
    books = columns_ddl(next(table for table in TABLES if table.name == "books"))
    assert (books["bids"], books["asks"]) == ("DOUBLE[][]", "DOUBLE[][]")


def test_the_script_in_deploy_is_the_schema_that_runs() -> None:
    assert (ROOT / "deploy" / "questdb" / "schema.sql").read_text(encoding="utf-8") == schema_sql()

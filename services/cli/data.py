"""`cascade data list | query | export | verify`: what the recorder kept, or (`--catalogue`) the research history.

In: the store's directory, a table's name or one SELECT. Out: tables, JSON, or a file that appears whole.
Never: a change to the store.
"""

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from services.cli import catalogue as research
from services.cli.commands.options import AsJson, console, print_json
from services.cli.data_export import export_rows, jsonable
from services.cli.data_synthetic import synthetic
from services.cli.errors import EXIT_FAILED
from services.cli.summary import iso_time
from shared.errors import InputError
from shared.store.columns import Value
from shared.store.duck import StoreReader, TableInfo, open_store
from shared.store.tables import TABLE_BY_NAME
from shared.store.views import FILLS_FROM, quoted

ROWS_SHOWN_MAX = 1_000

Store = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", help="The store to read (default: store in CASCADE_STATE_DIR, var/sandbox-mexc)"
    ),
]


Catalogue = Annotated[
    Path | None, typer.Option("--catalogue", metavar="DIR", help="Take the research catalogue in DIR instead.")
]


class Format(StrEnum):
    """Name what `export` writes."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


class ListedTable(msgspec.Struct, frozen=True):
    """Show what a table holds; times are ISO 8601 UTC, None when it is empty."""

    table: str
    rows: int
    first: str | None
    last: str | None
    files: int
    bytes: int


app = typer.Typer(no_args_is_help=True, help="Read what was recorded; bring in and check history.")
research.register(app)
app.command()(synthetic)


@app.command("list")
def list_tables(*, store: Store = None, catalogue: Catalogue = None, as_json: AsJson = False) -> None:
    """List the tables: rows, first and last event time, size."""
    if catalogue is not None:
        research.list_series(catalogue, as_json=as_json)
        return
    with _open(store) as reader:
        found = [_listed(info) for info in reader.tables()]
        damaged = reader.damaged
    if as_json:
        print_json(found)
        return
    table = Table("table", *(_right(name) for name in ("rows", "size")), "first", "last")
    for one in found:
        if one.rows:
            table.add_row(one.table, f"{one.rows:,}", _size(one.bytes), one.first, one.last)
    console.print(table)
    _tell_damage(damaged)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over the tables, for example: SELECT * FROM fills LIMIT 5")],
    *,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Answer one SELECT. Prices and amounts are exact texts: CAST(price AS DOUBLE) to calculate."""
    with _open(store) as reader:
        result = reader.query(sql)
        damaged = reader.damaged
    if len(set(result.columns)) < len(result.columns):
        raise InputError(f"SQL: two columns have one name ({', '.join(result.columns)}): name them with AS")
    if as_json:
        print_json([_jsonable(result.columns, row) for row in result.rows])
        return
    table = Table(*result.columns)
    for row in result.rows[:ROWS_SHOWN_MAX]:
        table.add_row(*(Text(_text(value)) for value in row))
    console.print(table)
    if len(result.rows) > ROWS_SHOWN_MAX:
        console.print(f"{ROWS_SHOWN_MAX:,} of {len(result.rows):,} rows; --json prints all")
    _tell_damage(damaged)


@app.command()
def export(
    table: Annotated[str, typer.Argument(help="A table's name, as `cascade data list` shows it, or fills.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write; replaced when it exists.")],
    *,
    kind: Annotated[Format, typer.Option("--format", help="json writes one object a line.")] = Format.CSV,
    store: Store = None,
    catalogue: Catalogue = None,
    venue: research.Venue = None,
    symbols: research.Symbols = None,
    timeframe: research.Timeframe = None,
    as_json: AsJson = False,
) -> None:
    """Write a table to a file, lists and maps as JSON text in CSV; of the catalogue also some series alone."""
    chosen = research.Chosen(venue, symbols, timeframe)
    if catalogue is not None:
        research.export_series(catalogue, table, out, kind.value, chosen, as_json=as_json)
        return
    if chosen != research.Chosen():
        raise InputError("--venue, --symbols and --timeframe choose series of a catalogue: say --catalogue as well")
    known = (*TABLE_BY_NAME, "fills")
    if table not in known:
        raise InputError(f"no table {table!r}; there are: {', '.join(known)}")
    described = TABLE_BY_NAME.get(table, TABLE_BY_NAME[FILLS_FROM])
    order = "" if not described.durable else f" ORDER BY {'ledger_sequence' if table == 'fills' else 'recorded_at_ns'}"
    with _open(store) as reader, Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        ((total,),) = reader.query(f"SELECT count(*) FROM {quoted(table)}").rows  # noqa: S608 - one of our own names
        task = progress.add_task(f"export {table}", total=total if isinstance(total, int) else None)
        empty, batches = reader.stream(f"SELECT * FROM {quoted(table)}{order}")  # noqa: S608 - as above
        rows = export_rows(empty, batches, out, kind.value, on_rows=lambda count: progress.advance(task, count))
        damaged = reader.damaged
    if as_json:
        print_json({"table": table, "rows": rows, "file": str(out), "bytes": out.stat().st_size})
        return
    console.print(f"{rows:,} rows of {table} in {out} ({_size(out.stat().st_size)})")
    _tell_damage(damaged)


@app.command()
def verify(*, store: Store = None, catalogue: Catalogue = None, as_json: AsJson = False) -> None:
    """Read every file to the end and compare checksums; exit code 1 when one is damaged."""
    if catalogue is not None:
        research.verify_series(catalogue, as_json=as_json)
        return
    with _open(store) as reader:
        files = sum(info.files for info in reader.tables())
        damaged = reader.verify()
    if as_json:
        print_json({"files": files, "damaged": damaged})
    else:
        console.print(f"{files} files read, {len(damaged)} damaged")
        _tell_damage(damaged)
    if damaged:
        raise typer.Exit(EXIT_FAILED)


def _open(store: Path | None) -> StoreReader:
    root = store or Path(os.environ.get("CASCADE_STATE_DIR", "var/sandbox-mexc")) / "store"
    if not root.is_dir():
        history = f"; history that was downloaded or imported: --catalogue {research.ROOT_DEFAULT}"
        raise InputError(
            f"no store at {root}: name its directory with --store (the state directory's `store`){history}"
        )
    return open_store(root)


def _listed(info: TableInfo) -> ListedTable:
    first, last = (None if at_ns is None else iso_time(at_ns) for at_ns in (info.first_ns, info.last_ns))
    return ListedTable(info.name, info.rows, first, last, info.files, info.bytes)


def _jsonable(columns: tuple[str, ...], row: tuple[Value, ...]) -> Mapping[str, object]:
    return {name: jsonable(value) for name, value in zip(columns, row, strict=True)}


def _text(value: Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict | tuple | bytes):
        return msgspec.json.encode(jsonable(value)).decode()
    return str(value)


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1_024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_024
    return f"{size:.1f} GiB"


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _tell_damage(damaged: tuple[str, ...]) -> None:
    for line in damaged:
        sys.stderr.write(f"left out, damaged: {line}\n")

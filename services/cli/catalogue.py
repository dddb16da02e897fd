"""`cascade data download | import | bars | gaps`, and the catalogue's side of `list`, `verify` and `export`.

In: a person's words for venues, markets and dates. Out: the catalogue changed or shown; exit code 1 when something in
it is wrong. Never: a series that is half changed; a different answer without saying what differs.
"""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, track

from services.cli.catalogue_fetch import Fetched, FetchOptions, Order, fetch
from services.cli.catalogue_view import (
    bad_rows_text,
    downloads_table,
    findings_table,
    gaps_table,
    imports_table,
    listed,
    series_table,
    shown_findings,
    shown_gaps,
)
from services.cli.commands.options import AsJson, console, print_json
from services.cli.data_export import export_rows
from services.cli.errors import EXIT_FAILED
from shared.clock import NANOSECONDS_PER_MILLISECOND, wall_ns
from shared.domain.instruments import bus_symbol
from shared.errors import InputError
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import SeriesKey, check_timeframe
from shared.store.catalogue.importer import Imported, ImportOptions, import_file
from shared.store.catalogue.read import connect
from shared.store.catalogue.rows import SCHEMAS
from shared.store.catalogue.trade_bars import make_bars
from shared.store.catalogue.verify import Gap, verify
from shared.store.catalogue.verify import gaps as find_gaps

ROOT_DEFAULT = Path("var/catalogue")
EXIT_INTERRUPTED = 130

Root = Annotated[
    Path, typer.Option("--catalogue", envvar="CASCADE_CATALOGUE", metavar="DIR", help="Where the history is kept.")
]
Venue = Annotated[str | None, typer.Option("--venue", help="Only this venue.")]
Symbols = Annotated[str | None, typer.Option("--symbols", help="Only these markets: BTC/USDT,ETH/USDT.")]
Timeframe = Annotated[str | None, typer.Option("--timeframe", help="Only bars of this length.")]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="CASCADE_VENUE_URL", help="Ask this host instead of the venue's: a sandbox."),
]
Rate = Annotated[float | None, typer.Option("--rate", min=0.01, help="Requests a second (default: half the venue's)")]
Again = Annotated[bool, typer.Option("--again", help="Also ask for what the venue has already answered.")]
Replace = Annotated[bool, typer.Option("--replace", help="New values win over stored ones that differ.")]


class Chosen(msgspec.Struct, frozen=True):
    """Say which series are meant; None means all."""

    venue: str | None = None
    symbols: str | None = None
    timeframe: str | None = None


class Kind(StrEnum):
    """Name what `download` brings."""

    CANDLES = "candles"
    TRADES = "trades"


def download(
    *,
    venue: Annotated[str, typer.Option("--venue", help="A venue that ccxt knows: mexc, binance, …")],
    symbols: Annotated[str, typer.Option("--symbols", help="Markets: BTC/USDT,ETH/USDT.")],
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="2025-01-31, 2025-01-31T08:00Z, 90d or 12h.")],
    kind: Annotated[
        Kind, typer.Option("--kind", help="Candles, or every trade (binance; mexc: recent ones).")
    ] = Kind.CANDLES,
    timeframe: Annotated[str | None, typer.Option("--timeframe", help="The bars' length: 1m, 15m, 4h, 1d.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Up to, not included (default: now)")] = None,
    catalogue: Root = ROOT_DEFAULT,
    url: Url = None,
    rate: Rate = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=32, help="Markets at once.")] = 4,
    again: Again = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Download closed bars or trades. What is there is not asked for again, so an interrupted download just goes on.

    Exit code 1 says that the venue did not give all of it: MEXC serves trades of the last hours or days alone.
    """
    now_ns = wall_ns()
    start_ns, end_ns = instant_ns("--from", start, now_ns), now_ns if end is None else instant_ns("--to", end, now_ns)
    if start_ns >= end_ns:
        raise InputError(f"--from {start} is not before --to {end or 'now'}: nothing to download")
    if (kind is Kind.CANDLES) != (timeframe is not None):
        raise InputError("--timeframe is the length of candles: say --timeframe 4h, or --kind trades without it")
    table, length = ("trades", "") if timeframe is None else ("bars", check_timeframe(timeframe))
    orders = [Order(SeriesKey(table, venue, name, length), start_ns, end_ns) for name in _instruments(symbols)]
    options = FetchOptions(url=url, rate_per_s=rate, jobs=jobs, again=again, replace=replace)
    try:
        fetched = fetch(Catalogue(catalogue), orders, options, quiet=as_json)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; what has come is kept: the same command goes on from there")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _tell_fetched(fetched, as_json=as_json)


def import_(
    files: Annotated[list[Path], typer.Argument(help="CSV, JSON, Feather, Parquet, zip; also .gz.")],
    *,
    venue: Annotated[str, typer.Option("--venue", help="Where the bars are from: mexc, binance, …")],
    symbol: Annotated[str | None, typer.Option("--symbol", help="The market, when the file does not say it.")] = None,
    timeframe: Annotated[str | None, typer.Option("--timeframe", help="The bars' length, when it is unclear.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad-rows", help="Leave bad rows out, import the rest.")] = False,
    keep_noise: Annotated[bool, typer.Option("--keep-noise", help="Keep digits that are rounding errors.")] = False,
    replace: Replace = False,
    catalogue: Root = ROOT_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Import files. A market with bad rows stays out, unless they may be skipped; exit code 1 says that some did."""
    options = ImportOptions(
        venue=venue, symbol=symbol, timeframe=timeframe, skip_bad=skip_bad, replace=replace, quantise=not keep_noise
    )
    target = Catalogue(catalogue)
    reports: list[Imported] = []
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        task = progress.add_task("import", total=len(files))
        for path in files:
            for report in import_file(target, path, options):
                reports.append(report)
                progress.update(task, description=f"{report.file} {report.series.instrument}")
            progress.advance(task)
    if as_json:
        print_json(reports)
    else:
        console.print(imports_table(reports))
        for report in reports:
            for line in bad_rows_text(report):
                console.print(line, markup=False, highlight=False)
    left_out = sum(not report.written for report in reports)
    if left_out:
        if not as_json:
            console.print(
                f"{left_out} of {len(reports)} markets were not imported: correct the rows, or --skip-bad-rows"
            )
        raise typer.Exit(EXIT_FAILED)


def bars(
    *,
    timeframe: Annotated[str, typer.Option("--timeframe", help="The bars' length: 1m, 15m, 4h, 1d.")],
    venue: Venue = None,
    symbols: Symbols = None,
    replace: Replace = False,
    catalogue: Root = ROOT_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Make bars of trades and keep them beside those; none for a time without trades, none that lacks some."""
    target = Catalogue(catalogue)
    check_timeframe(timeframe)
    keys = catalogue_keys(target, "trades", venue, symbols, None)
    made = {}
    for key in track(keys, "bars", console=Console(stderr=True), transient=True, disable=as_json):
        made[key] = make_bars(target, key, timeframe, replace=replace)
    if as_json:
        print_json([{"series": key, "timeframe": timeframe, "written": written} for key, written in made.items()])
        return
    for key, written in made.items():
        counts = f"{written.added:,} bars added, {written.same:,} were there"
        differ = f", {written.conflicts:,} differ from stored ones (--replace takes these)" if written.conflicts else ""
        console.print(f"{key.venue} {key.instrument} {timeframe}: {counts}{differ}", markup=False, highlight=False)


def gaps(
    *,
    catalogue: Root = ROOT_DEFAULT,
    venue: Venue = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    fill: Annotated[bool, typer.Option("--fill", help="Download what is missing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Fill also what the venue said it has not.")] = False,
    url: Url = None,
    rate: Rate = None,
    as_json: AsJson = False,
) -> None:
    """Show missing bars and trades, or fill them; with --fill, exit code 1 says that some are still missing."""
    target = Catalogue(catalogue)
    keys = catalogue_keys(target, None, venue, symbols, timeframe)
    found = {key: find_gaps(target, key) for key in keys}
    if fill:
        orders = [
            # Trades of the very moments beside the gap may be missing as well.
            Order(key, gap.start_ns, gap.end_ns + (NANOSECONDS_PER_MILLISECOND if key.table == "trades" else 0))
            for key, holes in found.items()
            for gap in holes
            if again or not gap.known
        ]
        if orders:
            # One after another: the gaps of one series share its files.
            options = FetchOptions(url=url, rate_per_s=rate, jobs=1, again=again)
            fetched = fetch(target, orders, options, quiet=as_json)
            for line in fetched.failures:
                Console(stderr=True).print(line, markup=False, highlight=False)
            found = {key: find_gaps(target, key) for key in keys}
    _tell_gaps(found, as_json=as_json)
    if fill and any(not gap.known for holes in found.values() for gap in holes):
        raise typer.Exit(EXIT_FAILED)


def list_series(root: Path, *, as_json: bool) -> None:
    """Print the catalogue's series."""
    catalogue = Catalogue(root)
    rows = listed(catalogue, catalogue.series())
    if as_json:
        print_json(rows)
        return
    console.print(series_table(rows))
    console.print(f"{len(rows)} series, {sum(one.rows for one in rows):,} rows in {root}")


def verify_series(root: Path, *, as_json: bool) -> None:
    """Read every series to its end; exit code 1 when something is wrong."""
    catalogue = Catalogue(root)
    keys = catalogue_keys(catalogue, None, None, None, None)
    progress = track(keys, "verify", console=Console(stderr=True), transient=True, disable=as_json)
    findings = [finding for key in progress for finding in verify(catalogue, key)]
    wrong = sum(one.is_wrong for one in findings)
    if as_json:
        print_json({"series": len(keys), "wrong": wrong, "findings": shown_findings(findings)})
    else:
        if findings:
            console.print(findings_table(shown_findings(findings)))
        console.print(f"{len(keys)} series read: {wrong} findings are wrong, {len(findings) - wrong} are notes")
    if wrong:
        raise typer.Exit(EXIT_FAILED)


def export_series(root: Path, table: str, out: Path, kind: str, chosen: Chosen, *, as_json: bool) -> None:
    """Write bars or trades to one file, ordered by venue, instrument, length and time."""
    if table not in SCHEMAS:
        raise InputError(f"the catalogue has no table {table!r}; it has {' and '.join(SCHEMAS)}")
    catalogue = Catalogue(root)
    keys = catalogue_keys(catalogue, table, chosen.venue, chosen.symbols, chosen.timeframe)
    order = "timeframe, close_time_ns" if table == "bars" else "ts_event_ns"
    connection = connect(catalogue, keys)
    try:
        query = f"SELECT * FROM {table} ORDER BY venue, instrument, {order}"  # noqa: S608 - one of our own names
        reader = connection.sql(query).to_arrow_reader(10_000)
        rows = export_rows(reader.schema, reader, out, kind, on_rows=lambda _: None)
    finally:
        connection.close()
    if as_json:
        print_json({"table": table, "rows": rows, "file": str(out), "bytes": out.stat().st_size})
        return
    console.print(f"{rows:,} rows of {table} in {out}")


def instant_ns(name: str, text: str, now_ns: int) -> int:
    """Return `2025-01-31`, `2025-01-31T08:00Z`, `90d` or `12h` (before now) in nanoseconds UTC; raises InputError."""
    if match := re.fullmatch(r"([1-9][0-9]{0,5})([dh])", text):
        return now_ns - int(match[1]) * (86_400_000_000_000 if match[2] == "d" else 3_600_000_000_000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{name} {text}: write a date such as 2025-01-31, 2025-01-31T08:00Z, 90d or 12h") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def _instruments(symbols: str) -> list[str]:
    names = [bus_symbol(text.strip()) for text in symbols.split(",") if text.strip()]
    if not names:
        raise InputError("--symbols names no market: write BTC/USDT,ETH/USDT")
    return list(dict.fromkeys(names))


def catalogue_keys(
    catalogue: Catalogue, table: str | None, venue: str | None, symbols: str | None, timeframe: str | None
) -> list[SeriesKey]:
    """Return the series that a person's words name; raises InputError when there is none."""
    names = None if symbols is None else _instruments(symbols)
    keys = catalogue.series(table=table, venue=venue, timeframe=timeframe, instruments=names)
    if not keys:
        raise InputError(
            f"{catalogue.root} has no such series: see `cascade data list --catalogue {catalogue.root}`, "
            "bring some in with `cascade data download` or `import`"
        )
    return keys


def _tell_fetched(fetched: Fetched, *, as_json: bool) -> None:
    if as_json:
        print_json({"series": fetched.results, "failures": fetched.failures})
    else:
        console.print(downloads_table(fetched.results))
        for one in fetched.results:
            what = "trades" if one.series.table == "trades" else "bars"
            if not one.added + one.same and one.requests and not fetched.failures:
                nothing = "trades" if what == "trades" else "closed bars"
                console.print(f"{one.series}: the venue has no {nothing} in that range", markup=False)
            if one.conflicts:
                console.print(
                    f"{one.series}: {one.conflicts} stored {what} differ from the venue's; --replace takes the venue's",
                    markup=False, highlight=False,
                )  # fmt: skip
        for line in fetched.failures:
            console.print(line, markup=False, highlight=False)
    if fetched.failures:
        raise typer.Exit(EXIT_FAILED)


def _tell_gaps(found: dict[SeriesKey, list[Gap]], *, as_json: bool) -> None:
    rows = [row for key, holes in found.items() for row in shown_gaps(key, holes)]
    if as_json:
        print_json(rows)
        return
    if rows:
        console.print(gaps_table(rows))
    bars, trades = (
        sum(gap.missing for key, holes in found.items() for gap in holes if key.table == table)
        for table in ("bars", "trades")
    )
    missing = f"{bars:,} bars missing" + (f", {trades:,} trades missing" if trades else "")
    console.print(f"{len(found)} series: {len(rows)} gaps, {missing}")


def register(app: typer.Typer) -> None:
    """Mount the commands beside those over the recorder's store."""
    app.command()(download)
    app.command("import")(import_)
    app.command()(gaps)
    app.command()(bars)

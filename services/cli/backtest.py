"""`cascade backtest`: what the rules would have done with recorded candles.

In: assets, candles, a range, settings. Out: a summary, or one JSON object; on request CSVs and a report.
Never: a run before every option and every candle is checked; half an answer on standard output.
"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.backtest.api import run_rebalancer
from services.backtest.config import BacktestSettings
from services.backtest.core import FillTiming
from services.backtest.data import LoadedMarket, bus_names, data_path, load_market
from services.backtest.report import write_report
from services.backtest.result import BacktestResult
from services.backtest.summary import summary_view
from services.cli.backtest_input import read_settings
from shared.errors import ConfigError, InputError

EXIT_INPUT = 2
# A shorter run is over before a progress bar could be read.
CANDLES_MIN = 20_000

app = typer.Typer(no_args_is_help=True, help="Run strategies over recorded candles.")


@app.callback()
def backtest() -> None:
    """Run strategies over recorded candles."""


Assets = Annotated[str, typer.Option(help="The basket, for example HANA,AIA,XAN; a quote is not needed.")]
Data = Annotated[
    Path | None, typer.Option(metavar="PATH", help="A CSV or Parquet file of candles, or a folder [CASCADE_DATA].")
]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Bars open at this time (UTC) or later.")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Bars close at this time (UTC) or earlier.")]
Interval = Annotated[str | None, typer.Option(help="The candles' interval, for example 4h; it is checked.")]
Capital = Annotated[str, typer.Option(help="The money to start with, in the quote asset.")]
Fee = Annotated[
    str | None, typer.Option(help="The fee of every fill as a share, for example 0.001; plans reckon with it.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A rule (position_limit=1), or execution.half_spread_bps=0, risk.position_limit=1. May repeat.",
    ),
]
Fills = Annotated[FillTiming, typer.Option(help="Fill at the deciding bar's close, or at the next open.")]
Gaps = Annotated[str, typer.Option(help="A missing bar: hold the last price, or refuse the data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Report = Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML report.")]
CsvDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Write positions.csv, pnl.csv and fills.csv.")]


@app.command()
def rebalancer(
    *,
    assets: Assets,
    data: Data = None,
    start: From = None,
    end: To = None,
    interval: Interval = None,
    capital: Capital = "10000",
    fee: Fee = None,
    settings: Set = None,
    fills: Fills = FillTiming.CLOSE,
    gaps: Gaps = "hold",
    as_json: AsJson = False,
    report: Report = None,
    csv_dir: CsvDir = None,
) -> None:
    """Say what the cascade rules would have done: the live rules, risk limits and fills over recorded candles.

    Defaults are those of the services. `win_rate` is the share of sells that brought more, after their fee, than what
    was sold had cost on average.
    """
    try:
        if gaps not in ("hold", "refuse"):
            raise ConfigError(f"--gaps must be hold or refuse, got {gaps!r}")
        if report is not None and not report.resolve().parent.is_dir():
            raise ConfigError(f"--report {report}: there is no such folder: make it, or choose another")
        names, quote = bus_names(assets.split(","))
        chosen = read_settings(
            settings or [], assets=tuple(names), quote_asset=quote, capital=capital, fee=fee, fills=fills
        )
        market = load_market(data_path(data), names, quote, interval=interval, start=start, end=end, gaps=gaps)
        result = _run(market, chosen, as_json=as_json)
        written = result.write_csv(csv_dir) if csv_dir is not None else []
        if report is not None:
            _write_report(result, report)
            written.append(report)
    except (ConfigError, InputError) as error:
        sys.stderr.write(f"cascade backtest: {error}\n")
        raise typer.Exit(EXIT_INPUT) from error
    _show(result, written, as_json=as_json)


def _run(market: LoadedMarket, settings: BacktestSettings, *, as_json: bool) -> BacktestResult:
    console = Console(stderr=True)
    info = market.info
    if as_json or info.bars < CANDLES_MIN or not console.is_terminal:
        return asyncio.run(run_rebalancer(market, settings))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("backtest", total=info.steps)
        progress = run_rebalancer(market, settings, on_progress=lambda done, _: bar.update(task, completed=done))
        return asyncio.run(progress)


def _show(result: BacktestResult, written: list[Path], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(result.to_json().decode() + "\n")
        return
    console = Console()
    console.print(summary_view(result))
    for path in written:
        console.print(f"written: {path}", soft_wrap=True)


def _write_report(result: BacktestResult, path: Path) -> None:
    try:
        write_report(result, path)
    except OSError as error:
        raise ConfigError(f"--report {path}: {error.strerror}: choose a file that can be written") from error

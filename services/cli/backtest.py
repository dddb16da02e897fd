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
from services.backtest.data import LoadedMarket
from services.backtest.report import write_report
from services.backtest.result import BacktestResult
from services.backtest.summary import summary_view
from services.cli.backtest_options import (
    CAPITAL,
    EXIT_INPUT,
    AsJson,
    Asked,
    Assets,
    Capital,
    Data,
    Fee,
    Fills,
    From,
    Gaps,
    Interval,
    Report,
    Set,
    To,
    check_report,
)
from shared.errors import ConfigError, InputError

# A shorter run is over before a progress bar could be read.
CANDLES_MIN = 20_000

app = typer.Typer(no_args_is_help=True, help="Run strategies over recorded candles.")


@app.callback()
def backtest() -> None:
    """Run strategies over recorded candles."""


CsvDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Write positions.csv, pnl.csv and fills.csv.")]
Journal = Annotated[
    bool,
    typer.Option("--journal", help="Also digest the decisions of more than 100,000 bars on which nothing was done."),
]


@app.command()
def rebalancer(
    *,
    assets: Assets,
    data: Data = None,
    start: From = None,
    end: To = None,
    interval: Interval = None,
    capital: Capital = CAPITAL,
    fee: Fee = None,
    settings: Set = None,
    fills: Fills = FillTiming.CLOSE,
    gaps: Gaps = "hold",
    as_json: AsJson = False,
    report: Report = None,
    csv_dir: CsvDir = None,
    journal: Journal = False,
) -> None:
    """Say what the cascade rules would have done: the live rules, risk limits and fills over recorded candles.

    Defaults are those of the services. `win_rate` is the share of sells that brought more, after their fee, than what
    was sold had cost on average.
    """
    asked = Asked(assets, data, start, end, interval, capital, fee, settings or [], fills, gaps)
    try:
        check_report(report)
        chosen = asked.read_settings()
        result = _run(asyncio.run(asked.open_market()), chosen, as_json=as_json)
        if journal:
            _ = result.decisions
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

"""`cascade optimise`: search for rules on recorded candles, and say how far the finding can be trusted.

In: assets, candles, what to vary, how to search. Out: a table, or one JSON object; on request a CSV and a page.
Never: a winner without what walk-forward says about it, and without a warning where luck explains it.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from services.backtest.config import BacktestSettings, check_capital
from services.backtest.core import FillTiming
from services.backtest.core.scan_market import MarketArrays, arrays_of
from services.backtest.data import LoadedMarket
from services.backtest.optimise import output
from services.backtest.optimise.search import Finding, Sampler, Search
from services.backtest.optimise.search import optimise as run_search
from services.backtest.optimise.space import read_space
from services.backtest.optimise.splits import Objective
from services.backtest.report.page import Fact
from services.backtest.report.write import digest_of, version
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
    To,
    check_report,
)
from services.cli.backtest_options import Set as SetOption
from shared.errors import CascadeError, ConfigError, InputError

TRIALS_SHOWN = 10

app = typer.Typer(no_args_is_help=True, help="Search for rules over recorded candles.")


@app.callback()
def optimise() -> None:
    """Search for rules over recorded candles."""


Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="KEY=LOW:HIGH:STEP",
        help="What to vary; or KEY=one,two. May repeat [both thresholds, sales].",
    ),
]
SamplerOption = Annotated[Sampler, typer.Option(help="Guided by the scores so far (tpe), random, or the whole grid.")]
Trials = Annotated[int, typer.Option(help="How many trials; with tpe in each fold, and over the whole range.")]
ObjectiveOption = Annotated[Objective, typer.Option(help="What to maximise, of daily returns.")]
Folds = Annotated[int, typer.Option(help="Walk-forward folds.")]
Embargo = Annotated[int, typer.Option(help="Days between training and validation that count for neither.")]
Rolling = Annotated[bool, typer.Option("--rolling", help="Train on windows of one length instead of all days before.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same trials, on any number of cores.")]
Processes = Annotated[int, typer.Option(help="Cores to use; 0 for all.")]
RayOption = Annotated[str | None, typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster (auto, local).")]
Storage = Annotated[Path | None, typer.Option(metavar="FILE", help="Keep trials here, and go on from those in it.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the trial table.")]


@app.command()
def rebalancer(
    *,
    assets: Assets,
    data: Data = None,
    start: From = None,
    end: To = None,
    interval: Interval = None,
    params: Params = None,
    sampler: SamplerOption = Sampler.RANDOM,
    trials: Trials = 100,
    objective: ObjectiveOption = Objective.SHARPE,
    folds: Folds = 4,
    embargo: Embargo = 1,
    rolling: Rolling = False,
    seed: Seed = 0,
    processes: Processes = 1,
    ray: RayOption = None,
    storage: Storage = None,
    capital: Capital = CAPITAL,
    fee: Fee = None,
    settings: SetOption = None,
    fills: Fills = FillTiming.CLOSE,
    gaps: Gaps = "hold",
    as_json: AsJson = False,
    csv: Csv = None,
    report: Report = None,
) -> None:
    """Search for the rebalancer's rules, with walk-forward and a warning when the finding may be luck.

    What is not varied is as in `cascade backtest rebalancer`. With --storage the same command goes on after a Ctrl-C.
    """
    asked = Asked(assets, data, start, end, interval, capital, fee, settings or [], fills, gaps)
    with _exit_codes(storage):
        search = _search(
            space=read_space(params or []),
            sampler=sampler,
            trials=trials,
            objective=objective,
            folds=folds,
            embargo_days=embargo,
            is_rolling=rolling,
            seed=seed,
            processes=processes or os.cpu_count() or 1,
            ray_address=ray,
            storage=storage,
        )
        check_report(report)
        chosen = asked.read_settings()
        market = asyncio.run(asked.open_market())
        check_capital(chosen, market.feed.instruments)
        assert market.path is not None
        digest, _ = digest_of(market.path)
        span = f"{market.timeframe} {market.feed.first_open_ns} {market.info.last_close_ns}"
        asked_for = f"{digest} {span} {','.join(chosen.rebalancer.assets)}"
        found = _run(arrays_of(market.feed), chosen, search, candles=asked_for, is_quiet=as_json)
        _write(found, csv, report, title=_title(chosen, market), facts=_facts(digest, market, search))
    if as_json:
        sys.stdout.write(output.to_json(found) + "\n")
        return
    _show(found, [one for one in (csv, report) if one is not None])


@contextmanager
def _exit_codes(storage: Path | None) -> Iterator[None]:
    try:
        yield
    except (ConfigError, InputError) as error:
        sys.stderr.write(f"cascade optimise: {error}\n")
        raise typer.Exit(EXIT_INPUT) from error
    except KeyboardInterrupt:
        kept = f"; its trials are in {storage}, the same command goes on" if storage is not None else ""
        sys.stderr.write(f"cascade optimise: stopped{kept}\n")
        raise typer.Exit(130) from None


def _title(chosen: BacktestSettings, market: LoadedMarket) -> str:
    return f"{chosen.rebalancer.strategy} on {', '.join(market.names.values())}"


def _facts(digest: str, market: LoadedMarket, search: Search) -> tuple[Fact, ...]:
    windows = "rolling" if search.is_rolling else "expanding"
    is_file = market.path is not None and market.path.is_file()
    source = market.path.name if market.path is not None and is_file else market.source or market.feed.description
    return (
        Fact("Source", source),
        Fact("SHA-256 of the source", digest),
        Fact("Assets", ", ".join(market.names.values())),
        Fact("Interval", market.timeframe),
        Fact("Search", f"{search.sampler.value}, {search.trials} trials, seed {search.seed}"),
        Fact("Folds", f"{search.folds}, embargo {search.embargo_days} days, {windows}"),
        Fact("Version", version()),
    )


def _search(**given: object) -> Search:
    try:
        return Search(**given)  # type: ignore[arg-type]  # the one caller names every field
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _run(market: MarketArrays, settings: BacktestSettings, search: Search, *, candles: str, is_quiet: bool) -> Finding:
    console = Console(stderr=True)
    if is_quiet or not console.is_terminal:
        return run_search(market, settings, search, candles=candles)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("trials", total=None)
        return run_search(
            market,
            settings,
            search,
            candles=candles,
            on_progress=lambda done, most: bar.update(task, completed=done, total=most),
        )


def _write(found: Finding, csv: Path | None, report: Path | None, *, title: str, facts: tuple[Fact, ...]) -> None:
    for option, path in (("--csv", csv), ("--report", report)):
        try:
            if path is not None and option == "--csv":
                path.write_text(output.trials_csv(found), encoding="utf-8", newline="")
            elif path is not None:
                output.write_page(found, path, title=title, facts=facts)
        except OSError as error:
            raise ConfigError(f"{option} {path}: {error.strerror}: choose a file that can be written") from error
        except CascadeError as error:
            raise ConfigError(f"{option} {path}: {error}") from error


def _show(found: Finding, written: list[Path]) -> None:
    console = Console()
    table = Table(show_header=False, box=None, pad_edge=False)
    for fact in output.headline(found):
        table.add_row(fact.name, f"[bold]{fact.value}[/bold]", fact.hint)
    console.print(table)
    console.print(f"\nBest: {output.rules_text(found, found.best.point)}\n", highlight=False)
    rows = Table(title="Walk-forward", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for name in ("Judged on", "Chosen on the days before"):
        rows.add_column(name)
    for name in ("Trained", "Judged", "No search"):
        rows.add_column(name, justify="right", no_wrap=True)
    for row in found.folds:
        scores = (row.train_score, row.validate_score, row.default_score)
        shown = ("-" if one is None else f"{one:.2f}" for one in scores)
        rows.add_row(output.window_text(found, row.fold.validate), output.rules_text(found, row.point), *shown)
    console.print(rows)
    best = Table(title="\nBest trials", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for dimension in found.search.space:
        best.add_column(dimension.key, justify="right")
    for name in (found.search.objective.value, "return", "drawdown", "rebalances"):
        best.add_column(name, justify="right", no_wrap=True)
    for trial, score in list(zip(found.trials, found.scores, strict=True))[:TRIALS_SHOWN]:
        best.add_row(
            *trial.point,
            "-" if score is None else f"{score:.2f}",
            f"{trial.total_return * 100:+.1f} %",
            f"{-trial.max_drawdown * 100:.1f} %",
            str(trial.rebalance_count),
        )
    console.print(best)
    for warning in found.warnings:
        console.print(f"[yellow]Warning:[/yellow] {escape(warning)}", highlight=False)
    for path in written:
        console.print(f"written: {path}", soft_wrap=True)

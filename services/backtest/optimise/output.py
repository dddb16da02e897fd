"""A search's outcome for machines and people: one JSON object, a table of trials as CSV, a page.

In: a finding. Out: texts. Never: a trial left out of JSON and CSV.
"""

import csv
import io
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import msgspec

from services.backtest.optimise.search import Finding
from services.backtest.optimise.space import Point
from services.backtest.optimise.trial import Trial
from services.backtest.report import words
from services.backtest.report.heat import heat_map
from services.backtest.report.html import markup, page_html, save
from services.backtest.report.page import Fact

DAY_NS = 86_400_000_000_000
TRIALS_MAX = 500
MAPS_MAX = 6
MAP_VALUES_MAX = 40


class FoldRow(msgspec.Struct, frozen=True):
    """Show a fold."""

    train: str
    validate: str
    rules: str
    train_score: str
    validate_score: str
    default_score: str
    tone: str


class SearchPage(msgspec.Struct, frozen=True):
    """Hold what the template shows."""

    title: str
    subtitle: str
    objective: str
    headline: tuple[Fact, ...]
    warnings: tuple[str, ...]
    best: tuple[Fact, ...]
    folds: tuple[FoldRow, ...]
    keys: tuple[str, ...]
    trials: tuple[tuple[str, ...], ...]
    trial_count: int
    trials_left_out: int
    facts: tuple[Fact, ...]


def as_dict(found: Finding) -> dict[str, object]:
    """Return what `--json` prints; shares are shares of one, times are the ends of days in ISO 8601."""
    search = found.search
    luck = found.overfitting
    return {
        "objective": search.objective.value,
        "sampler": search.sampler.value,
        "seed": search.seed,
        "trials_made": len(found.trials),
        "best": {"rules": found.rules(found.best.point), "score": found.scores[0]} | _figures(found.best),
        "default": {"score": found.default_score} | _figures(found.default),
        "walk_forward": {
            "score": found.out_of_sample,
            "default_score": found.out_of_sample_default,
            "total_return": found.out_of_sample_return,
            "folds": [
                {
                    "train": _window(found, row.fold.train),
                    "validate": _window(found, row.fold.validate),
                    "rules": found.rules(row.point),
                    "train_score": row.train_score,
                    "validate_score": row.validate_score,
                    "default_score": row.default_score,
                }
                for row in found.folds
            ],
        },
        "deflated_sharpe": found.deflated_sharpe,
        "probability_of_overfitting": None if luck is None else luck.probability,
        "overfitting": None if luck is None else msgspec.to_builtins(luck),
        "warnings": list(found.warnings),
        "trials": [
            {"rules": found.rules(trial.point), "score": score} | _figures(trial)
            for trial, score in zip(found.trials, found.scores, strict=True)
        ],
    }


def to_json(found: Finding) -> str:
    """Return one JSON object."""
    return json.dumps(as_dict(found))


def trials_csv(found: Finding) -> str:
    """Return the trials as CSV, best first."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    keys = [one.key for one in found.search.space]
    columns = ("score", "total_return", "max_drawdown", "sharpe", "rebalance_count", "fees_paid", "refused")
    writer.writerow([*keys, *columns])
    for trial, score in zip(found.trials, found.scores, strict=True):
        figures = {"score": score} | _figures(trial)
        writer.writerow([*trial.point, *("" if figures[name] is None else figures[name] for name in columns)])
    return file.getvalue()


def write_page(found: Finding, path: Path, *, title: str, facts: Sequence[Fact]) -> None:
    """Write a self-contained HTML page; raises OSError, or ConfigError without Jinja2."""
    save(render(found, title=title, facts=facts), path)


def render(found: Finding, *, title: str, facts: Sequence[Fact]) -> str:
    """Return the page; `facts` say what was run on."""
    return page_html("optimise.html", page=_page(found, title, facts), maps=[markup(svg) for svg in maps(found)])


def maps(found: Finding) -> list[str]:
    """Return a map for each pair of rules, at most `MAPS_MAX`; rules with too many values for cells are left out."""
    drawn = []
    space = [(index, one) for index, one in enumerate(found.search.space) if 1 < len(one.values) <= MAP_VALUES_MAX]
    for (first, across), (second, down) in list(combinations(space, 2))[:MAPS_MAX]:
        scores: dict[tuple[str, str], list[float]] = {}
        for trial, score in zip(found.trials, found.scores, strict=True):
            if score is not None:
                scores.setdefault((trial.point[first], trial.point[second]), []).append(score)
        drawn.append(heat_map((across.key, down.key), across.values, down.values, scores))
    return drawn


def rules_text(found: Finding, point: Point) -> str:
    """Return rules in a line."""
    return ", ".join(f"{key} {value}" for key, value in found.rules(point).items())


def window_text(found: Finding, window: tuple[int, int]) -> str:
    """Return a window's first and last day."""
    start, stop = _window(found, window)
    return f"{start} to {stop}"


def headline(found: Finding) -> tuple[Fact, ...]:
    """Return the figures that matter most."""
    luck, name = found.overfitting, found.search.objective.value
    chance, deflated = None if luck is None else luck.probability, found.deflated_sharpe
    return (
        Fact(f"Best {name}", words.number(found.scores[0]), hint="over the whole range, with hindsight"),
        Fact(
            f"Walk-forward {name}",
            words.number(found.out_of_sample),
            words.tone(found.out_of_sample),
            f"on unseen days, return {words.signed(found.out_of_sample_return)}",
        ),
        Fact("Without search", words.number(found.out_of_sample_default), hint="on the same unseen days"),
        Fact(
            "Probability of overfitting",
            words.percent(chance, 0),
            "" if chance is None else "down" if chance > 0.2 else "up",
            "should be 20 % at most",
        ),
        Fact(
            "Deflated Sharpe",
            words.number(deflated),
            "" if deflated is None else "up" if deflated >= 0.95 else "down",
            "should be 0.95 at least",
        ),
        Fact("Trials", f"{len(found.trials):,}", hint=f"{found.search.sampler.value}, seed {found.search.seed}"),
    )


def _page(found: Finding, title: str, facts: Sequence[Fact]) -> SearchPage:
    search = found.search
    rows = list(zip(found.trials, found.scores, strict=True))
    return SearchPage(
        title=title,
        subtitle=f"{window_text(found, (0, len(found.day_ends_ns)))}, {len(found.trials):,} trials",
        objective=search.objective.value,
        headline=headline(found),
        warnings=found.warnings,
        best=(
            *(Fact(key, value) for key, value in found.rules(found.best.point).items()),
            Fact("total return", words.signed(found.best.total_return)),
            Fact("max drawdown", words.percent(-found.best.max_drawdown)),
            Fact("rebalances", f"{found.best.rebalance_count:,}"),
            Fact("return without search", words.signed(found.default.total_return)),
        ),
        folds=tuple(
            FoldRow(
                window_text(found, row.fold.train),
                window_text(found, row.fold.validate),
                rules_text(found, row.point),
                words.number(row.train_score),
                words.number(row.validate_score),
                words.number(row.default_score),
                words.tone(row.validate_score),
            )
            for row in found.folds
        ),
        keys=tuple(one.key for one in search.space),
        trials=tuple(_trial_row(trial, score) for trial, score in rows[:TRIALS_MAX]),
        trial_count=len(rows),
        trials_left_out=max(0, len(rows) - TRIALS_MAX),
        facts=tuple(facts),
    )


def _trial_row(trial: Trial, score: float | None) -> tuple[str, ...]:
    if trial.refused:
        return (*trial.point, "refused", *[words.DASH] * 4)
    return (
        *trial.point,
        words.number(score),
        words.signed(trial.total_return),
        words.percent(-trial.max_drawdown),
        f"{trial.rebalance_count:,}",
        words.money(trial.fees_paid),
    )


def _figures(trial: Trial) -> dict[str, object]:
    names = ("total_return", "max_drawdown", "sharpe", "rebalance_count", "fees_paid")
    shown: dict[str, object] = {name: None if trial.refused else getattr(trial, name) for name in names}
    return shown | {"refused": trial.refused or None}


def _window(found: Finding, window: tuple[int, int]) -> tuple[str, str]:
    """Return the first and the last day of a window; a day's end at midnight belongs to the day before."""
    start, stop = window
    first_ns = found.day_ends_ns[start] - 1
    return words.when(first_ns)[:10], words.when(found.day_ends_ns[stop - 1] - 1)[:10]

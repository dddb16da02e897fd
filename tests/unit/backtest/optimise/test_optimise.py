"""The search: honest about the future, the same for the same seed, resumable, and suspicious of itself."""

import base64
import csv
import hashlib
import io
import json
import re
from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from services.backtest.config import BacktestSettings
from services.backtest.core.outcome import daily_curve
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.core.scan_engine import run_scanning
from services.backtest.core.scan_market import MarketArrays
from services.backtest.optimise.output import as_dict, maps, render, to_json, trials_csv
from services.backtest.optimise.search import Finding, Sampler, Search, optimise
from services.backtest.optimise.space import grid, read_space
from services.backtest.optimise.splits import Objective, score
from services.backtest.optimise.trial import Job, Runner, daily_returns, day_ends, evaluator
from services.backtest.report.heat import cell_class, heat_map
from services.backtest.report.page import Fact
from services.rebalancer.config import RebalanceConfig
from shared.domain import performance
from shared.domain.overfitting import backtest_overfitting
from shared.errors import ConfigError
from shared.messages import Instrument

STEP_NS = 4 * 3_600_000_000_000
START_NS = 1_700_006_400_000_000_000
NAMES = ("A-USDT", "B-USDT", "C-USDT")
SETTINGS = BacktestSettings(rebalancer=RebalanceConfig(assets=NAMES))
SPACE = read_space(["upside_threshold=0.1:0.4:0.1", "sell_percentage=0.1:0.3:0.1"])
SMALL = Search(space=SPACE, sampler=Sampler.GRID, folds=3)


def market(seed: int, *, bars: int = 480, changed_from: int | None = None) -> MarketArrays:
    closes = np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.04, (bars, 3)), axis=0))
    if changed_from is not None:
        other = np.exp(np.cumsum(np.random.default_rng(99).normal(0, 0.04, (bars - changed_from, 3)), axis=0))
        closes[changed_from:] = closes[changed_from - 1] * other
    closes = np.round(100 * closes, 4)
    times = START_NS + STEP_NS * np.arange(bars, dtype=np.int64)
    grid_size = Decimal("0.0001")
    return MarketArrays(
        instruments=tuple(
            Instrument(one, one[0], "USDT", grid_size, grid_size, Decimal(0), Decimal(5)) for one in NAMES
        ),
        timeframe="4h",
        open_ns=times,
        close_ns=times + STEP_NS,
        opens=closes,
        highs=closes,
        lows=closes,
        closes=closes,
        volumes=np.full(closes.shape, 1e9),
    )


@cache
def found(search: Search = SMALL, seed: int = 1) -> Finding:
    return optimise(market(seed), SETTINGS, search, candles="test")


def of(search: Search, **changes: object) -> Search:
    return msgspec.structs.replace(search, **changes)


def test_the_daily_returns_of_a_trial_are_those_of_the_run() -> None:
    arrays = market(3)
    trial = Runner(arrays, SETTINGS).run(Job((), {}))
    run = run_scanning(SETTINGS.engine("4h", STEP_NS), Rebalancing(SETTINGS.rebalancer), arrays)
    log = run.full_log()
    _, worth = daily_curve(log.times_ns, log.equity, arrays.first_open_ns, log.initial_equity, STEP_NS)
    expected = performance.returns_of([float(value) for value in worth])
    assert trial.returns == pytest.approx(expected.tolist())
    assert trial.sharpe == pytest.approx(performance.sharpe(expected))
    assert len(day_ends(arrays, STEP_NS)) == len(trial.returns)


def test_a_step_without_a_worth_keeps_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = market(3, bars=24)
    run = run_scanning(SETTINGS.engine("4h", STEP_NS), Rebalancing(SETTINGS.rebalancer), arrays)
    curve = np.linspace(10_000, 11_000, 24)
    curve[day_ends(arrays, STEP_NS)[1]] = np.nan
    monkeypatch.setattr(run, "equity", lambda: curve)
    returns = daily_returns(run, 10_000.0, STEP_NS)
    assert np.isfinite(returns).all()
    assert np.prod(1 + returns) == pytest.approx(1.1)


def test_the_grid_finds_what_a_plain_loop_over_all_points_finds() -> None:
    finding = found()
    runner = Runner(market(1), SETTINGS)
    keys = [one.key for one in SPACE]
    plain = {point: runner.run(Job(point, dict(zip(keys, point, strict=True)))) for point in grid(SPACE)}
    assert {trial.point: trial for trial in finding.trials} == plain
    assert finding.scores[0] == max(trial.sharpe or 0 for trial in plain.values())
    for row in finding.folds:
        train = {point: performance.sharpe(np.array(one.returns[: row.fold.train[1]])) for point, one in plain.items()}
        assert row.train_score == pytest.approx(max(train.values()))
        later = np.array(plain[row.point].returns[slice(*row.fold.validate)])
        assert row.validate_score == pytest.approx(performance.sharpe(later))
    matrix = np.array([trial.returns for trial in finding.trials]).T
    assert finding.overfitting == backtest_overfitting(matrix)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sampler", Sampler)
def test_what_is_tried_and_chosen_does_not_depend_on_later_days(sampler: Sampler, tmp_path: Path) -> None:
    if sampler is Sampler.TPE:
        pytest.importorskip("optuna", reason="Optuna is in the research extra")
    # Enough trials that the guided search leaves its random start behind.
    search = of(SMALL, space=read_space([]), trials=24) if sampler is Sampler.TPE else of(SMALL, trials=10)
    stop = found(SMALL).folds[1].fold.train[1]
    findings, tried = [], []
    for arrays in (market(1), market(1, changed_from=stop * 6)):
        path = tmp_path / f"{len(tried)}.jsonl"
        findings.append(optimise(arrays, SETTINGS, of(search, sampler=sampler, storage=path), candles="test"))
        tried.append([json.loads(line)["point"] for line in path.read_text().splitlines()[1:]])
    honest, changed = findings
    assert honest.default.returns[stop:] != changed.default.returns[stop:]
    # The trials of the first two folds come first, and at least 24 of them differ.
    assert tried[0][:25] == tried[1][:25]
    for ours, theirs in list(zip(honest.folds, changed.folds, strict=True))[:2]:
        assert ours.point == theirs.point
        assert ours.train_score == theirs.train_score


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("sampler", [Sampler.RANDOM, Sampler.TPE])
def test_a_seed_gives_the_same_on_one_core_and_on_two(sampler: Sampler) -> None:
    if sampler is Sampler.TPE:
        pytest.importorskip("optuna", reason="Optuna is in the research extra")
    search = of(SMALL, sampler=sampler, trials=6, seed=5)
    one, two = found(search), found(of(search, processes=2))
    assert as_dict(one) == as_dict(two)
    assert one.trials == two.trials


def test_a_guided_search_counts_every_trial_of_every_fold() -> None:
    pytest.importorskip("optuna", reason="Optuna is in the research extra")
    finding = found(of(SMALL, sampler=Sampler.TPE, trials=4))
    assert 4 <= len(finding.trials) <= 12
    assert len(set(finding.trials)) == len(finding.trials)


def test_a_stopped_search_goes_on_where_it_was(tmp_path: Path) -> None:
    search = of(SMALL, storage=tmp_path / "trials.jsonl")
    whole = found(search)
    lines = (tmp_path / "trials.jsonl").read_bytes().split(b"\n")
    # Stopped while the seventh trial was written.
    (tmp_path / "trials.jsonl").write_bytes(b"\n".join(lines[:7]) + b"\n" + lines[7][:40])
    made: list[int] = []
    again = optimise(market(1), SETTINGS, search, candles="test", on_progress=lambda done, _: made.append(done))
    assert as_dict(again) == as_dict(whole)
    assert made[-1] == 12
    assert (tmp_path / "trials.jsonl").read_bytes() == b"\n".join(lines)


@pytest.mark.parametrize("changed", ["candles", "settings", "space"])
def test_trials_of_another_question_are_refused(tmp_path: Path, changed: str) -> None:
    search = of(SMALL, storage=tmp_path / "trials.jsonl")
    found(search)
    settings = msgspec.structs.replace(SETTINGS, capital=Decimal(5000)) if changed == "settings" else SETTINGS
    if changed == "space":
        search = of(search, space=SPACE[:1])
    with pytest.raises(ConfigError, match=f"other {changed}"):
        optimise(market(1), settings, search, candles="other" if changed == "candles" else "test")


@pytest.mark.parametrize("content", [b"something else", b"something\nelse\n", b'{"a":1}\n'])
def test_another_file_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="holds something else"):
        found(of(SMALL, storage=path))
    assert path.read_bytes() == content


def test_rules_that_do_not_fit_each_other_are_trials_that_say_why() -> None:
    space = read_space(["position_limit=0.2:0.4:0.2", "usdt_reserve=0.1:0.3:0.2"])
    finding = found(of(SMALL, space=space))
    refused = [trial for trial in finding.trials if trial.refused]
    assert {trial.point for trial in refused} == {("0.2", "0.1"), ("0.2", "0.3")}
    assert "position_limit" in refused[0].refused
    assert any("2 trials were refused" in warning for warning in finding.warnings)
    assert [bool(trial.refused) for trial in finding.trials] == [False, False, True, True]
    assert "refused" in render(finding, title="t", facts=())


def test_when_nothing_can_run_the_reason_is_said() -> None:
    with pytest.raises(ConfigError, match="no trial has a score: position_limit"):
        found(of(SMALL, space=read_space(["position_limit=0.1,0.2"])))


def test_noise_is_called_noise() -> None:
    finding = found(of(SMALL, objective=Objective.RETURN))
    assert finding.overfitting is not None
    assert finding.overfitting.splits == 12_870
    assert any("deflated" in warning or "overfitting" in warning for warning in finding.warnings)


def test_a_single_trial_is_not_trusted() -> None:
    finding = found(of(SMALL, sampler=Sampler.RANDOM, trials=1))
    assert finding.overfitting is None
    assert finding.deflated_sharpe is None
    assert finding.warnings[0].startswith("Too few trials")


@pytest.mark.parametrize(("key", "value"), [("trials", 0), ("seed", -1), ("processes", 0)])
def test_a_search_that_cannot_be_is_refused(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=key):
        Search(**{"space": SPACE, key: value})  # type: ignore[arg-type]


def test_ray_is_said_to_be_missing_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        pytest.raises(ConfigError, match="--ray needs Ray"),
        evaluator(market(1), SETTINGS, processes=1, ray_address="auto"),
    ):
        raise AssertionError("nothing may run")


def test_json_and_csv_hold_every_trial() -> None:
    finding = found()
    shown = json.loads(to_json(finding))
    rows = list(csv.DictReader(io.StringIO(trials_csv(finding))))
    assert len(shown["trials"]) == len(rows) == shown["trials_made"] == 12
    assert shown["best"]["rules"] == {key: rows[0][key] for key in ("upside_threshold", "sell_percentage")}
    assert float(rows[0]["score"]) == shown["best"]["score"] == max(float(row["score"]) for row in rows)
    assert shown["walk_forward"]["folds"][0]["train"][0] == "2023-11-15"


def test_the_page_loads_nothing_and_escapes() -> None:
    page = render(found(), title="<script>alert(1)</script>", facts=(Fact("Source", "<b>"),))
    assert "<script" not in page
    assert "<b>" not in page
    assert not re.search(r"""\s(style|on\w+|src)=["']|https?://|url\(""", page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"sha256-{digest}" in page
    assert page.count('<svg class="chart map"') == len(maps(found())) == 1


def test_a_map_shows_the_mean_of_each_cell_and_nothing_where_no_trial_was() -> None:
    drawn = heat_map(("up", "<sell>"), ["1", "2"], ["x"], {("1", "x"): [1.0, 3.0]})
    assert ">2.00<" in drawn
    assert "up 1, &lt;sell&gt; x: 2.000 on average of 2, best 3.000" in drawn
    assert drawn.count('class="cell"') == 1
    assert [cell_class(value, 0.0, 1.0) for value in (0.0, 0.55, 1.0)] == ["heat0", "heat5", "heat9"]
    assert cell_class(1.0, 1.0, 1.0) == "heat5"


def test_a_guided_search_is_told_scores_of_its_own_training_days_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason="Optuna is in the research extra")
    lengths: dict[int, None] = {}

    def spy(returns: performance.Series, objective: Objective, year: float) -> float | None:
        lengths.setdefault(len(returns))
        return score(returns, objective, year)

    monkeypatch.setattr("services.backtest.optimise.search.score", spy)
    finding = optimise(market(1), SETTINGS, of(SMALL, sampler=Sampler.TPE, trials=2), candles="test")
    trained = [row.fold.train[1] - row.fold.train[0] for row in finding.folds]
    assert list(lengths)[:4] == [*trained, len(finding.day_ends_ns)]

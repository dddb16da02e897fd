"""The engine that scans against the engine that steps: the very same run, on any market."""

from collections.abc import Callable
from decimal import Decimal
from importlib.util import find_spec

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.backtest.config import BacktestSettings, risk_for
from services.backtest.core import Engine
from services.backtest.core.log import RunLog
from services.backtest.core.outcome import fill_rows, rebalances
from services.backtest.core.rebalancing import Rebalancing
from services.backtest.core.scan_engine import KNOWN_RULES, is_scannable, run_scanning
from services.backtest.core.scan_kernel import Scan, numba_scan, numpy_scan
from services.backtest.core.scan_market import MarketArrays, arrays_of
from services.backtest.core.scan_run import ScanRun
from services.backtest.data import bus_names, load_market
from services.execution.config import ExecutionConfig
from services.rebalancer.config import RebalanceConfig
from services.risk.config import RiskConfig
from shared.domain.digests import fills_digest, unique_fills
from shared.errors import CascadeError, InputError
from shared.messages import Instrument
from shared.testing.data import data_file

STEP_NS = 15 * 60 * 1_000_000_000
START_NS = 1_700_000_000_000_000_000
SCANS: list[Scan] = [numpy_scan, *([numba_scan] if find_spec("numba") is not None else [])]


class Case(msgspec.Struct, frozen=True):
    """Say how to make a market and a run."""

    seed: int
    count: int
    bars: int
    wildness: float
    scale: float
    gaps: float
    upside: str = "0.4"
    downside: str = "0.35"
    limit: str = "0.4"
    cooldown: str = "30"
    least: str = "15"
    buffer: str = "0.05"
    fills: str = "close"
    volume: float = 1e12


def market_of(case: Case) -> MarketArrays:
    """Return a random market: a walk for each asset, put onto its grid, with jumps and missing bars."""
    source = np.random.default_rng(case.seed)
    shape = (case.bars, case.count)
    jumps = (source.random(shape) < 0.01) * source.normal(0, min(1.0, 10 * case.wildness), shape)
    moves = source.normal(0, case.wildness, shape) + jumps
    first = 10.0 ** source.uniform(-case.scale, case.scale, case.count)
    places = [max(0, 6 - int(np.floor(np.log10(one)))) for one in first]
    raw = np.clip(first * np.exp(np.cumsum(moves, axis=0)), 10.0 ** -np.array(places), 1e13)
    closes = np.column_stack([[float(f"{x:.{places[c]}f}") for x in raw[:, c]] for c in range(case.count)])
    opens = np.vstack([closes[:1], closes[:-1]])
    gone = source.random(shape) < case.gaps
    if case.gaps:
        # One asset lists late, another is delisted early.
        gone[: case.bars // 5, 0] |= source.random() < 0.3
        gone[-case.bars // 4 :, -1] |= source.random() < 0.3
        gone[source.integers(0, case.bars), :] = True
    return arrays(np.where(gone, np.nan, closes), opens=opens, places=places, volume=case.volume)


def arrays(
    closes: np.ndarray, *, opens: np.ndarray | None = None, places: list[int] | None = None, volume: float = 1e12
) -> MarketArrays:
    opens = closes if opens is None else np.where(np.isnan(closes), np.nan, opens)
    grids = places or [8] * closes.shape[1]
    times = START_NS + STEP_NS * np.arange(len(closes), dtype=np.int64)
    return MarketArrays(
        instruments=tuple(
            Instrument(
                f"A{c}-USDT",
                f"A{c}",
                "USDT",
                Decimal(1).scaleb(-grids[c]),
                Decimal(1).scaleb(min(0, grids[c] - 8)),
                Decimal(0),
                Decimal(5),
            )
            for c in range(closes.shape[1])
        ),
        timeframe="15m",
        open_ns=times,
        close_ns=times + STEP_NS,
        opens=opens,
        highs=np.fmax(opens, closes),
        lows=np.fmin(opens, closes),
        closes=closes,
        volumes=np.full(closes.shape, volume),
    )


def settings_of(case: Case) -> BacktestSettings:
    rules = RebalanceConfig(
        assets=tuple(f"A{c}-USDT" for c in range(case.count)),
        upside_threshold=Decimal(case.upside),
        downside_threshold=Decimal(case.downside),
        position_limit=Decimal(case.limit if case.count > 2 else "1"),
        cooldown_minutes=Decimal(case.cooldown),
        min_order_value=Decimal(case.least),
        usdt_buffer=Decimal(case.buffer),
    )
    return BacktestSettings(
        rebalancer=rules,
        fills=case.fills,
        risk=risk_for(rules, Decimal(10_000), RiskConfig(), frozenset()),
        execution=ExecutionConfig(taker_fee_rate=Decimal("0.001")),
    )


def stepped(settings: BacktestSettings, market: MarketArrays) -> tuple[RunLog, object]:
    engine = Engine(settings.engine("15m", STEP_NS), Rebalancing(settings.rebalancer), market)
    return engine.run(), engine.state


def scanned(settings: BacktestSettings, market: MarketArrays, scan: Scan = numpy_scan) -> ScanRun:
    return run_scanning(settings.engine("15m", STEP_NS), Rebalancing(settings.rebalancer), market, scan=scan)


def require_same(settings: BacktestSettings, market: MarketArrays, *scans: Scan) -> ScanRun | None:
    """Require that both engines end in the same run, or in the same error; returns the last scanned run."""
    try:
        log, state = stepped(settings, market)
    except CascadeError as error:
        for scan in scans:
            with pytest.raises(type(error)) as raised:
                scanned(settings, market, scan)
            assert str(raised.value) == str(error)
        return None
    runs = [scanned(settings, market, scan) for scan in scans]
    for run in runs:
        require_same_run(run, log, state)
    assert all(np.array_equal(run.handled, runs[0].handled) for run in runs)
    return runs[-1]


def require_same_run(run: ScanRun, log: RunLog, state: object) -> None:
    market, full = run.market, run.full_log()
    for field in RunLog.__struct_fields__:
        if field != "decisions":
            assert getattr(full, field) == getattr(log, field), field
    assert run.state == state
    assert fills_digest(unique_fills(full.events)) == fills_digest(unique_fills(log.events))
    # What the journal lacks are bars on which nothing was done, and the core writes them on request.
    kept = {record.decision_id for record in run.log.decisions}
    assert {record.action for record in log.decisions if record.decision_id not in kept} <= {"none"}
    assert run.journal() == log.decisions
    fills = fill_rows(log, "USDT")
    assert fill_rows(run.log, "USDT") == fills
    assert rebalances(run.log, fills) == rebalances(log, fills)
    exact = np.array([np.nan if value is None else float(value) for value in log.equity])
    np.testing.assert_allclose(run.equity(), exact, rtol=(len(market.instruments) + 4) * 2.0**-53, atol=0)
    assert np.array_equal(run.equity()[run.handled], exact[run.handled], equal_nan=True)


cases = st.builds(
    Case,
    seed=st.integers(0, 2**32 - 1),
    count=st.one_of(st.integers(2, 5), st.integers(2, 40)),
    bars=st.integers(2, 90),
    wildness=st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.3]),
    scale=st.sampled_from([0.0, 2.0, 4.0]),
    gaps=st.sampled_from([0.0, 0.0, 0.01, 0.3]),
    upside=st.sampled_from(["0.4", "0.1", "0.01", "3"]),
    downside=st.sampled_from(["0.35", "0.1", "0.01", "0.9"]),
    limit=st.sampled_from(["0.4", "1", "0.36"]),
    cooldown=st.sampled_from(["30", "0", "15", "14.99999", "600", "1000000000"]),
    least=st.sampled_from(["15", "1", "400", "3000"]),
    buffer=st.sampled_from(["0.05", "0", "0.5"]),
    fills=st.sampled_from(["close", "next_open"]),
    volume=st.sampled_from([1e12, 1e12, 50.0, 0.0]),
)


@pytest.mark.timeout(240)
@settings(max_examples=50, deadline=None)
@given(case=cases)
def test_scanning_gives_the_run_that_stepping_gives(case: Case) -> None:
    require_same(settings_of(case), market_of(case), *SCANS)


@pytest.mark.timeout(120)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([9.0, 12.0]), count=st.integers(2, 6))
def test_extreme_prices_change_nothing(seed: int, scale: float, count: int) -> None:
    case = Case(seed, count, 60, 0.15, scale, 0.02)
    require_same(settings_of(case), market_of(case), SCANS[-1])


@pytest.mark.parametrize(
    ("downside", "before", "close", "is_handled", "plans"),
    [
        ("0.9", 300.0, 699.99, False, 1),
        ("0.9", 300.0, 700.0, True, 1),
        ("0.9", 300.0, 700.00000001, True, 2),
        ("0.35", 270.0, 130.01, False, 1),
        ("0.35", 270.0, 130.0, True, 1),
        ("0.35", 270.0, 129.99999999, True, 2),
    ],
)
@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.__name__)
def test_a_threshold_hit_exactly_is_left_to_the_exact_core(
    *, scan: Scan, downside: str, before: float, close: float, is_handled: bool, plans: int
) -> None:
    # Two equal holdings: one is 40 % above the mean where its price is 7/3 of the other's, 35 % below at 13/27 of it.
    closes = np.full((20, 2), before)
    closes[10, 0] = close
    run = require_same(settings_of(Case(0, 2, 20, 0, 0, 0, downside=downside)), arrays(closes), scan)
    assert run is not None
    assert len(run.log.plans) == plans
    assert (10 in run.handled.tolist()) == is_handled


def test_the_random_markets_make_it_trade() -> None:
    runs = [
        require_same(settings_of(case), market_of(case), SCANS[-1])
        for case in (Case(seed, 2 + seed % 7, 80, 0.1, 2, 0.01) for seed in range(20))
    ]
    fills = [0 if run is None else len(unique_fills(run.log.events)) for run in runs]
    assert sum(one > 10 for one in fills) > 15
    assert sum(len(run.handled) for run in runs if run is not None) < 80 * 20 / 2


def test_a_scan_handles_few_bars_of_a_quiet_market() -> None:
    case = Case(3, 4, 2_000, 0.001, 1, 0)
    run = require_same(settings_of(case), market_of(case), SCANS[-1])
    assert run is not None
    assert len(run.handled) < 200


def test_a_bar_that_the_venue_refuses_is_refused_where_it_stands() -> None:
    closes = np.full((50, 3), 100.0)
    closes[30, 1] = -1.0
    with pytest.raises(InputError, match="positive number, got -1"):
        scanned(settings_of(Case(0, 3, 50, 0, 0, 0)), arrays(closes))


def test_no_bar_but_that_of_a_plan_is_handled() -> None:
    closes = np.full((60, 4), 100.0)
    closes[20:, 0], closes[40:, 1] = 180.0, 40.0
    run = require_same(settings_of(Case(0, 4, 60, 0, 0, 0)), arrays(closes), *SCANS)
    assert run is not None
    assert run.handled.tolist() == [0, 20, 40, 59]
    assert [plan.opened.direction for plan in run.log.plans] == ["allocate", "upside", "downside"]


@pytest.mark.parametrize("fills", ["close", "next_open"])
def test_a_switched_off_strategy_does_nothing_quickly(fills: str) -> None:
    case = Case(1, 3, 200, 0.1, 1, 0, fills=fills)
    base = settings_of(case)
    off = msgspec.structs.replace(base, rebalancer=msgspec.structs.replace(base.rebalancer, enabled=False))
    run = require_same(off, market_of(case), SCANS[-1])
    assert run is not None
    assert run.handled.tolist() == [0, 199]


def test_a_basket_may_be_a_part_of_the_market_in_another_order() -> None:
    case = Case(5, 5, 120, 0.1, 2, 0.02)
    base = settings_of(case)
    rules = msgspec.structs.replace(base.rebalancer, assets=("A3-USDT", "A0-USDT", "A4-USDT"))
    require_same(msgspec.structs.replace(base, rebalancer=rules), market_of(case), SCANS[-1])


def test_every_rule_is_known_or_at_its_default() -> None:
    assert set(RebalanceConfig.__struct_fields__) >= KNOWN_RULES
    assert is_scannable(settings_of(Case(0, 3, 2, 0, 0, 0)).rebalancer)


def test_an_unknown_rule_makes_every_bar_be_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(2, 3, 40, 0.01, 0, 0)
    monkeypatch.setattr("services.backtest.core.scan_engine.KNOWN_RULES", KNOWN_RULES - {"sell_percentage"})
    base = settings_of(case)
    rules = msgspec.structs.replace(base.rebalancer, sell_percentage=Decimal("0.5"))
    assert not is_scannable(rules)
    run = require_same(msgspec.structs.replace(base, rebalancer=rules), market_of(case), SCANS[-1])
    assert run is not None
    assert run.handled.tolist() == list(range(40))


def test_recorded_candles_give_the_same_run() -> None:
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    names, quote = bus_names(["RIVERUSDT", "HUSDT", "PENGUUSDT", "TAOUSDT"])
    loaded = load_market(path, names, quote)
    market = arrays_of(loaded.feed)
    for number in range(1, len(market) + 2):
        assert market.step(number) == loaded.feed.step(number)
    rules = BacktestSettings(rebalancer=RebalanceConfig(assets=tuple(names)))
    run = require_same(rules, market, SCANS[-1])
    assert run is not None
    assert len(run.log.plans) > 5
    assert len(run.handled) < len(market) / 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a | {"opens": np.ones((3, 2))}, "opens must be float64"),
        (lambda a: a | {"closes": np.ones((4, 2), dtype=np.float32)}, "closes must be float64"),
        (lambda a: a | {"close_ns": a["close_ns"][::-1].copy()}, "sort the bars"),
        (lambda a: a | {"open_ns": a["close_ns"]}, "open before it closes"),
        (lambda a: a | {"open_ns": a["open_ns"][:2]}, "as many open as close"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(change: Callable[[dict], dict], words: str) -> None:
    times = START_NS + STEP_NS * np.arange(4, dtype=np.int64)
    instruments = arrays(np.ones((4, 2))).instruments
    columns = {name: np.ones((4, 2)) for name in ("opens", "highs", "lows", "closes", "volumes")}
    given_ = {"instruments": instruments, "timeframe": "15m", "open_ns": times, "close_ns": times + STEP_NS} | columns
    with pytest.raises(InputError, match=words):
        MarketArrays(**change(given_))


@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.__name__)
def test_bars_on_which_an_asset_fires_in_vain_are_passed_over_too(scan: Scan) -> None:
    # Each part sold or bought would be below the least order, so the breach stands and fires after every cooldown.
    closes = np.full((400, 3), 100.0)
    closes[5:, 0], closes[9:, 1] = 145.0, 60.0
    closes[300:302, 2] = 2000.0
    case = Case(0, 3, 400, 0, 0, 0, upside="0.2", downside="0.2", limit="1", least="2000", cooldown="45")
    run = require_same(settings_of(case), arrays(closes), scan)
    assert run is not None
    assert run.state.fired_at_ns.keys() >= {"A0-USDT", "A1-USDT"}
    assert [(plan.at_ns - START_NS) // STEP_NS for plan in run.log.plans] == [1, 301, 302, 304, 305]
    assert not set(run.handled.tolist()) & set(range(1, 300))


@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.__name__)
def test_without_a_cooldown_only_the_most_urgent_asset_fires_in_vain(scan: Scan) -> None:
    closes = np.full((60, 3), 100.0)
    closes[5:, 0], closes[5:, 1] = 145.0, 60.0
    case = Case(0, 3, 60, 0, 0, 0, upside="0.2", downside="0.2", limit="1", least="2000", cooldown="0")
    run = require_same(settings_of(case), arrays(closes), scan)
    assert run is not None
    assert run.state.fired_at_ns.keys() == {"*", "A0-USDT"}

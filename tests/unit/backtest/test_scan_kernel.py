"""The scans against the exact core: no bar on which `decide` acts may be passed over, whatever the numbers."""

from collections.abc import Callable
from decimal import Decimal
from importlib.util import find_spec

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.backtest.core.scan_engine import watch_of
from services.backtest.core.scan_kernel import (
    BLOCK,
    Columns,
    Scan,
    Watch,
    columns_of,
    fastest_scan,
    fill_worth,
    has_numba,
    numba_scan,
    numpy_scan,
)
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import BarsArrived, Holdings, Params, RebalancerState, decide
from services.rebalancer.core.model import NANOSECONDS_PER_MINUTE
from shared.messages import Instrument

HAS_NUMBA = find_spec("numba") is not None
SCANS: list[Scan] = [numpy_scan, *([numba_scan] if HAS_NUMBA else [])]
each_scan = pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.__name__)
STEP_NS = 15 * NANOSECONDS_PER_MINUTE
START_NS = 1_700_000_000_000_000_000


def first(  # noqa: PLR0917 - a scan with closes that nobody has looked at before
    scan: Scan, closes: np.ndarray, times: np.ndarray, watch: Watch, start: int, stop: int
) -> int:
    return scan(columns_of(closes), times, watch, start, stop)


def instrument(symbol: str) -> Instrument:
    base, _, quote = symbol.partition("-")
    return Instrument(symbol, base, quote, Decimal("1e-12"), Decimal("1e-12"), Decimal(0), Decimal(0))


def acts(
    rules: RebalanceConfig, closes: list[float | None], quantities: list[Decimal], quote: Decimal, fired: dict[str, int]
) -> bool:
    """Tell whether the core does anything but look at this one bar."""
    names = rules.assets
    there = {name: Decimal(repr(close)) for name, close in zip(names, closes, strict=True) if close is not None}
    held = dict(zip(names, quantities, strict=True))
    state = RebalancerState(fired_at_ns=fired)
    event = BarsArrived(START_NS, there, Holdings(1, held, quote))
    params = Params(rules, "sandbox", {name: instrument(name) for name in names})
    after, decision = decide(state, event, params, START_NS)
    return bool(decision.intents) or after.plan is not None or after.fired_at_ns != fired


numbers = st.integers(0, 12).flatmap(lambda places: st.integers(1, 10**6).map(lambda whole: whole / 10**places))
prices = st.one_of(
    st.floats(1e-12, 1e12, allow_nan=False),
    numbers,
    st.sampled_from([1e-12, 1e12, 1.0, 0.1, 0.35, 1.4, 0.65, 2.0, 3.0]),
)
amounts = st.one_of(
    st.just(Decimal(0)),
    st.decimals(Decimal("1e-12"), Decimal("1e12"), allow_nan=False, allow_infinity=False, places=12),
    st.sampled_from([Decimal(1), Decimal("0.1"), Decimal("0.65"), Decimal("1.4"), Decimal(100)]),
)
shares = st.one_of(st.sampled_from(["0.4", "0.35", "0.1", "0.000000000001", "0.5"]), numbers.map(repr)).map(Decimal)


@st.composite
def situations(draw: Callable) -> tuple:
    count = draw(st.one_of(st.integers(2, 5), st.integers(2, 40)))
    rules = RebalanceConfig(
        assets=tuple(f"A{number}-USDT" for number in range(count)),
        upside_threshold=draw(shares.filter(lambda share: 0 < share <= 10)),
        downside_threshold=draw(shares.filter(lambda share: 0 < share < 1)),
        position_limit=Decimal(draw(st.sampled_from(["1", "0.9", "0.5", "0.6666666666666666"]))),
        usdt_reserve=Decimal(draw(st.sampled_from(["0.3", "0", "0.5"]))),
        min_order_value=Decimal(draw(st.sampled_from(["15", "0", "0.000001"]))),
        cooldown_minutes=Decimal(draw(st.sampled_from(["30", "0", "0.5", "1000000000000"]))),
    )
    if draw(st.booleans()):
        # Everything alike but one: where thresholds are hit exactly.
        price, quantity = draw(prices), draw(amounts)
        closes, held = [price] * count, [quantity] * count
        odd = draw(st.integers(0, count - 1))
        value = draw(st.sampled_from(["up", "down", "free"]))
        if value == "free":
            closes[odd] = draw(prices)
        else:
            held[odd] = quantity * exact_ratio(rules, count, value)
    else:
        closes = draw(st.lists(prices, min_size=count, max_size=count))
        held = draw(st.lists(amounts, min_size=count, max_size=count))
    if draw(st.integers(0, 9)) == 0:
        closes[draw(st.integers(0, count - 1))] = None
    fired = {
        name: START_NS
        - draw(st.sampled_from([0, 1, 29, 30, 31, 45])) * NANOSECONDS_PER_MINUTE
        + draw(st.integers(-1, 1))
        for name in rules.assets
        if draw(st.integers(0, 3)) == 0
    }
    return rules, closes, held, draw(amounts), fired


def exact_ratio(rules: RebalanceConfig, count: int, side: str) -> Decimal:
    """Return x with count * x = (1 +/- threshold) * (count - 1 + x): exactly at the threshold when it ends."""
    bound = 1 + rules.upside_threshold if side == "up" else 1 - rules.downside_threshold
    if bound >= count:
        return Decimal(2)
    return (bound * (count - 1) / (count - bound)).quantize(Decimal("1e-15"))


@pytest.mark.timeout(120)
@settings(max_examples=400, deadline=None)
@given(situations())
def test_no_bar_on_which_the_core_acts_is_passed_over(situation: tuple) -> None:
    rules, closes, held, quote, fired = situation
    rows = np.array([[np.nan if close is None else close for close in closes]])
    watch = watch_of(rules, held, quote, fired)
    times = np.array([START_NS], dtype=np.int64)
    found = [first(scan, rows, times, watch, 0, 1) for scan in SCANS]
    assert len(set(found)) == 1
    if acts(rules, closes, held, quote, fired):
        assert found[0] == 0


def plain_watch(count: int, **changes: object) -> Watch:
    rules = RebalanceConfig(assets=tuple(f"A{number}-USDT" for number in range(count)))
    watch = watch_of(rules, [Decimal(1)] * count, Decimal(1_000), {})
    return msgspec.structs.replace(watch, **changes)


@each_scan
def test_quiet_bars_are_passed_over(scan: Scan) -> None:
    closes, times = np.full((100_000, 3), 100.0), np.arange(100_000, dtype=np.int64)
    assert first(scan, closes, times, plain_watch(3), 0, 100_000) == 100_000
    assert first(scan, closes, times, plain_watch(3), 5, 5) == 5


@each_scan
@pytest.mark.parametrize("row", [0, 1, 255, 256, 767, 768, 99_999])
def test_the_first_breach_is_found_wherever_it_is(scan: Scan, row: int) -> None:
    closes, times = np.full((100_000, 3), 100.0), np.arange(100_000, dtype=np.int64)
    closes[row:, 1] = 250.0
    assert first(scan, closes, times, plain_watch(3), 0, 100_000) == row
    assert first(scan, closes, times, plain_watch(3), row, 100_000) == row


@each_scan
@pytest.mark.parametrize("close", [139.9999, 63.6365])
def test_a_bar_inside_the_band_is_passed_over(scan: Scan, close: float) -> None:
    # 2 x 100 and one more: +40 % of the mean is at 175, -35 % at about 55.3; the limit of 40 % at 800.
    closes = np.array([[100.0, 100.0, close]])
    assert first(scan, closes, np.array([1]), plain_watch(3), 0, 1) == 1


@each_scan
def test_a_breach_waits_for_the_end_of_its_cooldown(scan: Scan) -> None:
    closes, times = np.full((10, 3), 100.0), np.arange(10, dtype=np.int64)
    closes[2:, 1] = 250.0
    watch = plain_watch(3, ready_ns=np.array([0, 7, 0], dtype=np.int64))
    assert first(scan, closes, times, watch, 0, 10) == 7


@each_scan
def test_a_bar_with_a_missing_close_is_never_a_candidate(scan: Scan) -> None:
    closes, times = np.full((4, 3), 100.0), np.arange(4, dtype=np.int64)
    closes[:, 1], closes[:3, 2] = 250.0, np.nan
    assert first(scan, closes, times, plain_watch(3), 0, 4) == 3
    assert first(scan, closes, times, plain_watch(3, quantities=np.zeros(3)), 0, 4) == 3


@each_scan
def test_a_position_over_the_limit_is_a_candidate(scan: Scan) -> None:
    closes = np.array([[100.0, 100.0, 139.0]])
    assert first(scan, closes, np.array([1]), plain_watch(3, quote=0.0), 0, 1) == 0
    assert first(scan, closes, np.array([1]), plain_watch(3, quote=0.0, limit=np.inf), 0, 1) == 1


@pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed: pip install cascade-trader[research]")
@pytest.mark.timeout(120)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 40))
def test_both_scans_name_the_same_bars(seed: int, count: int) -> None:
    source = np.random.default_rng(seed)
    closes = np.exp(np.cumsum(source.normal(0, 0.03, (1_500, count)), axis=0) + source.uniform(-25, 25, count))
    closes[source.random(closes.shape) < 0.01 / count] = np.nan
    times = np.arange(1_500, dtype=np.int64)
    quantities = 1_000 / np.nan_to_num(closes[0], nan=1.0)
    ready = source.integers(0, 1_500, count)
    watch = plain_watch(count, quantities=quantities, ready_ns=ready, limit=source.choice([0.2, 0.4, np.inf]))
    start, found, columns = 0, 0, columns_of(closes)
    while start < 1_500:
        row = numpy_scan(columns, times, watch, start, 1_500)
        assert row == numba_scan(columns, times, watch, start, 1_500)
        start, found = row + 1, found + 1
    assert found >= 1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 12),
    bars=st.integers(1, 700),
    wildness=st.sampled_from([1e-5, 0.002, 0.02]),
    gaps=st.sampled_from([0.0, 0.0, 0.02, 0.6]),
    limit=st.sampled_from([0.2, 0.4, np.inf]),
)
def test_blocks_pass_over_no_bar_that_a_look_at_every_bar_names(
    *, seed: int, count: int, bars: int, wildness: float, gaps: float, limit: float
) -> None:
    source = np.random.default_rng(seed)
    closes = np.exp(np.cumsum(source.normal(0, wildness, (bars, count)), axis=0) + source.uniform(-9, 9, count))
    closes[source.random(closes.shape) < gaps / count] = np.nan
    closes[bars // 2 :, 0] = closes[bars // 2 :, 0] if seed % 3 else np.nan
    times = np.arange(bars, dtype=np.int64)
    quantities = source.choice([0.0, 1.0, 1.3], count, p=[0.1, 0.6, 0.3]) * 1_000 / np.nan_to_num(closes[0], nan=1.0)
    watch = plain_watch(count, quantities=quantities, ready_ns=source.integers(0, bars, count), limit=limit)
    # Bounds that can never be passed over: every bar is looked at.
    blocks = -(-bars // BLOCK)
    bare = Columns(closes, np.full((blocks, count), -1e290), np.full((blocks, count), 1e290))
    start = int(source.integers(0, bars))
    for scan in SCANS:
        assert scan(columns_of(closes), times, watch, start, bars) == scan(bare, times, watch, start, bars)


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.backtest.core.scan_kernel.has_numba", lambda: False)


@pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed: pip install cascade-trader[research]")
def test_without_numba_bounds_and_worth_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba  # noqa: F401 - so that small arrays are compiled for, too

    assert has_numba()
    source = np.random.default_rng(4)
    closes = source.uniform(1, 2, (3 * BLOCK + 7, 5))
    closes[source.random(closes.shape) < 0.3], closes[:, 4] = np.nan, np.nan
    quantities, curves = np.array([1.5, 0.0, 2.5, 3.0, 0.0]), []
    there = columns_of(closes)
    for _ in range(2):
        curves.append(np.zeros(len(closes)))
        fill_worth(curves[-1], closes, quantities, 10.0, range(3, 100))
        without_numba(monkeypatch)
    here = columns_of(closes)
    assert np.array_equal(there.lows, here.lows)
    assert np.array_equal(there.highs, here.highs)
    assert np.array_equal(curves[0], curves[1], equal_nan=True)
    assert not curves[0][:3].any()


def test_without_numba_numpy_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    without_numba(monkeypatch)
    assert fastest_scan() is numpy_scan

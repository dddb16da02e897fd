"""Longer bars out of shorter ones: exact, on the UTC grid, and never made of a part."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.backtest.resample import resampled
from services.market_data.config import MissingBars
from services.market_data.core.candles import RawSeries
from services.market_data.core.feed import MarketStep
from services.market_data.core.replay import ReplayFeed, ReplayRules, build_replay
from shared.errors import InputError

HOUR_MS = 3_600_000
HOUR_NS = HOUR_MS * 1_000_000
DAY_NS = 24 * HOUR_NS
# Midnight of a Sunday.
START_MS = 1_767_484_800_000
RULES = ReplayRules(None, None, None, MissingBars.HOLD, Decimal(5))


def feed(hours: dict[str, list[int]], *, quoted: bool = True) -> ReplayFeed:
    """Return hourly candles of each market at these hours since START; every number follows from market and hour."""
    series = []
    for number, (asset, at) in enumerate(hours.items(), start=1):
        columns = {
            "open": [f"{number}.{hour % 7 + 1}" for hour in at],
            "high": [f"{number}.{9 if hour % 5 else 95}" for hour in at],
            "low": [f"0.{9 - hour % 4}" for hour in at],
            "close": [f"{number}.{hour % 8}" for hour in at],
            "volume": ["0.1"] * len(at),
        }
        if quoted:
            columns["quote_volume"] = [f"{hour}.25" for hour in at]
        series.append(RawSeries(asset, "made.csv", at, [START_MS + hour * HOUR_MS for hour in at], columns))
    return build_replay("made.csv", series, RULES)


def steps_of(replay: ReplayFeed, hours: int) -> list[MarketStep]:
    made, info = resampled(replay, replay.info, hours * HOUR_NS, f"{hours}h")
    found = []
    while (step := made.step(len(found) + 1)) is not None:
        found.append(step)
    assert (info.steps, info.first_open_ns, info.last_close_ns) == (
        len(found),
        found[0].open_time_ns,
        found[-1].close_time_ns,
    )
    assert info.bars == sum(len(step.candles) for step in found)
    assert info.missing == sum(len(step.missing) for step in found)
    assert made.timeframe == f"{hours}h"
    assert made.first_open_ns == found[0].open_time_ns
    return found


def test_a_longer_bar_is_what_its_hours_say() -> None:
    (first, second) = steps_of(feed({"A-USDT": list(range(8)), "B-USDT": list(range(8))}), 4)
    one = first.candles[0]
    assert (one.instrument, one.open, one.high, one.low, one.close) == ("A-USDT", 1.1, 1.95, 0.6, 1.3)
    assert one.volume == 0.4, "a sum of floats would be 0.4 only by luck"
    assert one.quote_volume == 0.25 + 1.25 + 2.25 + 3.25
    assert first.close_time_ns == second.open_time_ns == (START_MS + 4 * HOUR_MS) * 1_000_000
    assert [step.final for step in (first, second)] == [False, True]


def test_ends_that_are_no_whole_bar_are_left_out() -> None:
    hours = list(range(2, 15))
    steps = steps_of(feed({"A-USDT": hours, "B-USDT": hours}), 4)
    assert [(step.open_time_ns // 1_000_000 - START_MS) // HOUR_MS for step in steps] == [4, 8]
    assert [step.number for step in steps] == [1, 2]


def test_a_market_that_lacks_an_hour_has_no_bar_there() -> None:
    whole = list(range(12))
    steps = steps_of(feed({"A-USDT": whole, "B-USDT": [hour for hour in whole if hour != 6]}), 4)
    assert [step.missing for step in steps] == [(), ("B-USDT",), ()]
    assert [len(step.candles) for step in steps] == [2, 1, 2]


def test_unknown_quote_volumes_stay_unknown() -> None:
    (step,) = steps_of(feed({"A-USDT": [0, 1], "B-USDT": [0, 1]}, quoted=False), 2)
    assert step.candles[0].quote_volume is None


def test_too_few_bars_and_another_grid_are_refused() -> None:
    replay = feed({"A-USDT": [1, 2], "B-USDT": [1, 2]})
    with pytest.raises(InputError, match="2 bars of 1h make no bar of 1d: give more"):
        resampled(replay, replay.info, DAY_NS, "1d")
    columns = {name: ["1.5"] * 4 for name in ("open", "high", "low", "close", "volume")}
    times = [START_MS + HOUR_MS // 2 + hour * HOUR_MS for hour in range(4)]
    shifted = build_replay("made.csv", [RawSeries("A-USDT", "made.csv", [1] * 4, times, columns)], RULES)
    with pytest.raises(InputError, match="bars of 1h lie off the UTC grid"):
        resampled(shifted, shifted.info, 2 * HOUR_NS, "2h")


@settings(max_examples=60, deadline=None)
@given(
    hours=st.sets(st.integers(0, 60), min_size=24).map(sorted),
    size=st.sampled_from([2, 3, 4, 6, 12]),
)
def test_every_bar_holds_exactly_its_hours(hours: list[int], size: int) -> None:
    replay = feed({"A-USDT": hours, "B-USDT": list(range(61))})
    fine = {step.open_time_ns: step for number in range(1, replay.info.steps + 1) if (step := replay.step(number))}
    for step in steps_of(replay, size):
        assert step.open_time_ns % (size * HOUR_NS) == 0
        parts = [fine[step.open_time_ns + at * HOUR_NS] for at in range(size)]
        for asset in ("A-USDT", "B-USDT"):
            rows = [one for part in parts for one in part.candles if one.instrument == asset]
            (whole,) = [one for one in step.candles if one.instrument == asset] or [None]
            assert (whole is None) == (len(rows) < size) == (asset in step.missing)
            if whole is not None:
                assert (whole.open, whole.close) == (rows[0].open, rows[-1].close)
                assert (whole.high, whole.low) == (max(one.high for one in rows), min(one.low for one in rows))
                assert Decimal(repr(whole.volume)) == sum(Decimal(repr(one.volume)) for one in rows)

"""Scales, ticks, paths and escaping of the report's drawings."""

import math
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.backtest.report.draw import (
    DAY_NS,
    Frame,
    axes,
    band,
    element,
    line,
    log_ticks,
    runs,
    text,
    thin,
    time_ticks,
    value_ticks,
)

START_NS = 1_767_225_600_000_000_000
BOX = Frame(0, 100, 0.0, 10.0, width=120, height=60, top=0, bottom=10, left=10, right=10)


def test_a_frame_maps_its_corners() -> None:
    assert (BOX.x(0), BOX.x(100)) == (10, 110)
    assert (BOX.y(10.0), BOX.y(0.0), BOX.y(5.0)) == (0, 50, 25)
    assert BOX.y(99.0) == 0


def test_a_logarithmic_frame_puts_equal_factors_equally_far_apart() -> None:
    frame = Frame(0, 1, 1.0, 100.0, height=120, top=0, bottom=20, is_log=True)
    assert frame.y(10.0) == pytest.approx(50)
    assert frame.y(100.0) == 0
    assert frame.y(1.0) == 100


def test_text_and_attributes_are_escaped() -> None:
    assert text((1, 2), "<script>&") == '<text class="label" x="1" y="2">&lt;script&gt;&amp;</text>'
    assert element("a", href='"><script>') == '<a href="&quot;&gt;&lt;script&gt;"/>'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_has_no_place_in_a_drawing(value: float) -> None:
    with pytest.raises(ValueError, match="no place"):
        element("line", x1=value)


def test_a_line_has_a_hole_where_nothing_is_known() -> None:
    drawn = line(BOX, [0, 25, 50, 75, 100], [0.0, 10.0, None, 5.0, 0.0], "own")
    assert re.findall(r'd="([^"]*)"', drawn) == ["M10.0 50.0L35.0 0.0 M85.0 25.0L110.0 50.0"]


def test_a_band_goes_there_and_back() -> None:
    drawn = band(BOX, [0, 100], [0.0, 0.0], [10.0, 5.0], "band")
    assert 'd="M10.0 0.0L110.0 25.0L110.0 50.0L10.0 50.0Z"' in drawn


def test_nothing_known_draws_nothing() -> None:
    assert line(BOX, [0, 1], [None, None], "own") == ""
    assert band(BOX, [0, 1], [None, 1.0], [1.0, None], "band") == ""
    assert runs([]) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=900))
def test_thinning_keeps_the_extremes_and_the_ends(values: list[float]) -> None:
    kept = thin(values, columns=20)
    assert kept == sorted(set(kept))
    assert len(kept) <= 80
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    assert {min(values), max(values)} <= {values[index] for index in kept}


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_value_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    ticks = value_ticks(low, low + span)
    assert 1 <= len(ticks) <= 7
    slack = span * 1e-6 + abs(low) * 1e-9
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


def test_ticks_are_the_ones_that_a_person_would_choose() -> None:
    assert value_ticks(0.0, 10.0) == [0, 2, 4, 6, 8, 10]
    assert log_ticks(900, 60_000) == [1000, 2000, 5000, 10_000, 20_000, 50_000]


@given(st.integers(0, 40 * 365 * DAY_NS), st.integers(60_000_000_000, 30 * 365 * DAY_NS))
def test_time_ticks_are_few_and_inside(first_ns: int, span_ns: int) -> None:
    ticks = time_ticks(first_ns, first_ns + span_ns)
    assert len(ticks) <= 8
    assert all(first_ns - 1_000_000_000 <= at_ns <= first_ns + span_ns for at_ns, _ in ticks)


def test_time_ticks_stand_at_the_first_of_months() -> None:
    ticks = time_ticks(START_NS, START_NS + 120 * DAY_NS)
    assert [label for _, label in ticks] == ["Jan 2026", "Feb 2026", "Mar 2026", "Apr 2026", "May 2026"]
    assert all(datetime.fromtimestamp(at_ns / 1e9, tz=UTC).day == 1 for at_ns, _ in ticks)


def test_every_grid_line_has_its_label() -> None:
    drawn = axes(Frame(START_NS, START_NS + DAY_NS, 0.0, 10.0), {0.0: "zero", 5.0: "five"})
    assert drawn.count("<line") == 2
    assert ">zero<" in drawn
    assert ">five<" in drawn

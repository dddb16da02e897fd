"""Start and stop order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.supervisor.order import Phase, may_start, start_order, stop_order

STACK = {"nats": (), "market_data": ("risk", "execution"), "risk": ("nats",), "execution": ("nats",)}


def test_each_starts_after_what_it_needs() -> None:
    assert start_order(STACK) == ("nats", "risk", "execution", "market_data")


def test_stop_is_the_reverse() -> None:
    assert stop_order(STACK) == ("market_data", "execution", "risk", "nats")


def test_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="wait for each other: a, b"):
        start_order({"a": ("b",), "b": ("a",)})


def test_unknown_need_is_refused() -> None:
    with pytest.raises(ValueError, match="a needs x"):
        start_order({"a": ("x",)})


@pytest.mark.parametrize(
    ("phase", "starting_for_s", "expected"),
    [
        (Phase.READY, 1.0, True),
        (Phase.FAILED, 1.0, True),
        (Phase.STARTING, 1.0, False),
        (Phase.RESTARTING, 29.9, False),
        (Phase.STARTING, 30.0, True),
        (Phase.WAITING, 0.0, False),
    ],
)
def test_start_waits_for_readiness_but_not_for_ever(phase: Phase, starting_for_s: float, expected: bool) -> None:
    answer = may_start(("a",), {"a": phase}, starting_for_s={"a": starting_for_s}, patience_s=30.0)
    assert answer is expected


@given(st.lists(st.lists(st.integers(0, 8), max_size=4), min_size=1, max_size=9))
def test_any_stack_without_circles_is_ordered(needs: list[list[int]]) -> None:
    # Needs point to smaller numbers only, so there is no circle; they are declared from the last to the first.
    after = {str(n): tuple({str(need) for need in needs[n] if need < n}) for n in reversed(range(len(needs)))}
    order = start_order(after)
    assert sorted(order) == sorted(after)
    assert all(order.index(need) < order.index(name) for name in order for need in after[name])

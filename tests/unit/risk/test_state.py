"""Who may change the trading state: anybody may halt, only an operator with a reason may do anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.risk.core.state import Demand, change, first_state, unreadable_state
from shared.messages import RiskState, TradingState

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED


def state(name: TradingState) -> RiskState:
    return RiskState(name, "before", "because", "c-0", 1)


def demand(target: TradingState, by: str = "ann", reason: str = "checked", *, by_operator: bool = True) -> Demand:
    return Demand(target, by, reason, "c-1", at_ns=2, by_operator=by_operator)


@pytest.mark.parametrize("before", TradingState)
@pytest.mark.parametrize(("by", "reason", "by_operator"), [("", "", False), ("x", " ", True), ("watchdog", "r", False)])
def test_anybody_may_halt_at_any_time_for_any_reason(
    before: TradingState, by: str, reason: str, by_operator: bool
) -> None:
    after = change(state(before), demand(HALTED, by, reason, by_operator=by_operator))
    assert isinstance(after, RiskState)
    assert after.state is HALTED


@pytest.mark.parametrize("before", TradingState)
@pytest.mark.parametrize("target", [ACTIVE, REDUCING])
@pytest.mark.parametrize(
    ("by", "reason", "by_operator"), [("ann", "", True), ("ann", " \t", True), ("", "why", True), ("ann", "why", False)]
)
def test_nothing_else_goes_without_an_operator_and_a_reason(
    before: TradingState, target: TradingState, by: str, reason: str, by_operator: bool
) -> None:
    assert isinstance(change(state(before), demand(target, by, reason, by_operator=by_operator)), str)


def test_an_operator_with_a_reason_resumes_and_is_named() -> None:
    assert change(state(HALTED), demand(ACTIVE)) == RiskState(ACTIVE, "ann", "checked", "c-1", 2)


def test_who_halted_first_and_why_is_kept_and_every_other_reason_is_added_once() -> None:
    halted = change(state(HALTED), demand(HALTED, "execution", "balances differ"))
    assert halted == RiskState(HALTED, "before", "because; also execution: balances differ", "c-0", 1)
    assert change(halted, demand(HALTED, "execution", "balances differ")) == halted
    again = change(halted, demand(HALTED, " ", "drill"))
    assert isinstance(again, RiskState)
    assert again.reason == "because; also execution: balances differ; also unknown: drill"
    assert change(again, demand(HALTED, "ann", " ")) == again
    assert change(again, demand(HALTED, "ann", "x" * 1_000)) == again, "there is no room for it"


@given(st.lists(st.tuples(st.sampled_from(TradingState), st.text(max_size=3), st.text(max_size=3), st.booleans())))
def test_a_halt_ends_only_by_an_operator_with_a_name_and_a_reason(
    demands: list[tuple[TradingState, str, str, bool]],
) -> None:
    now = state(HALTED)
    for target, by, reason, by_operator in demands:
        after = change(now, demand(target, by, reason, by_operator=by_operator))
        if isinstance(after, str):
            continue
        if now.state is HALTED and after.state is not HALTED:
            assert by_operator
            assert by.strip()
            assert reason.strip()
        now = after


def test_a_first_start_with_real_money_waits_for_a_person() -> None:
    assert first_state(start_active=True, at_ns=1).state is ACTIVE
    assert first_state(start_active=True, at_ns=1).reason == "first start"
    assert first_state(start_active=False, at_ns=1).state is HALTED
    assert unreadable_state("torn", at_ns=1).state is HALTED

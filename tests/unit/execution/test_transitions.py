from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.execution.core.transitions import LATE_FILL_STATES, OPEN_STATES, TRANSITIONS, can_move, move
from shared.errors import IntegrityError
from shared.messages import TERMINAL_STATES, OrderState

STATES = st.sampled_from(OrderState)


def test_the_table_speaks_of_every_state() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    assert set().union(*TRANSITIONS.values()) | {OrderState.INITIALIZED} == set(OrderState)


def test_only_a_late_fill_leaves_a_terminal_state() -> None:
    for state in TERMINAL_STATES:
        assert TRANSITIONS[state] == ({OrderState.FILLED} if state in LATE_FILL_STATES else set())


def test_open_states_are_all_that_were_sent_and_have_not_ended() -> None:
    assert {OrderState.INITIALIZED} | OPEN_STATES | TERMINAL_STATES == set(OrderState)
    assert not OPEN_STATES & TERMINAL_STATES


@given(STATES, STATES)
def test_a_move_is_listed_or_changes_nothing_or_is_a_contradiction(before: OrderState, reported: OrderState) -> None:
    try:
        after = move(before, reported)
    except IntegrityError:
        assert not can_move(before, reported)
        assert before not in TERMINAL_STATES
    else:
        assert after is (reported if can_move(before, reported) else before)


@given(STATES, st.lists(STATES, max_size=8))
def test_no_sequence_of_reports_reaches_what_the_table_does_not(start: OrderState, reports: list[OrderState]) -> None:
    state = start
    for reported in reports:
        try:
            after = move(state, reported)
        except IntegrityError:
            continue
        assert after is state or after in TRANSITIONS[state]
        state = after


@pytest.mark.parametrize(
    ("before", "reported"),
    [
        (OrderState.ACCEPTED, OrderState.REJECTED),
        (OrderState.ACCEPTED, OrderState.DENIED),
        (OrderState.SUBMITTED, OrderState.DENIED),
        (OrderState.SUBMITTED, OrderState.PENDING_CANCEL),
        (OrderState.SUBMITTED, OrderState.REJECTED_UNCONFIRMED),
        (OrderState.INITIALIZED, OrderState.FILLED),
        (OrderState.PARTIALLY_FILLED, OrderState.REJECTED),
    ],
)
def test_a_contradiction_is_an_integrity_error(before: OrderState, reported: OrderState) -> None:
    with pytest.raises(IntegrityError):
        move(before, reported)


def test_nothing_that_was_accepted_is_ever_called_rejected_unconfirmed() -> None:
    for before, after in product(OrderState, OrderState):
        if after is OrderState.REJECTED_UNCONFIRMED and can_move(before, after):
            assert before is OrderState.UNKNOWN

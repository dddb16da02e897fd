from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.execution.core.booking import Booked, book_report, book_state, book_trade
from services.execution.core.orders import CLIENT_ORDER_ID_LENGTH, Order, client_order_id, new_order, request_of
from services.execution.core.transitions import TRANSITIONS
from shared.domain.ledger import Ledger
from shared.messages import Fill, OrderApproved, OrderState, OrderType, Side
from tests.unit.execution.samples import approve, fill, intent, report, submitted

STATES = OrderState


def new_ledger() -> Ledger:
    ledger = Ledger("USDT")
    ledger.book_deposit("start", Decimal(100_000), 0)
    return ledger


# A fact is what the venue tells once: an acknowledgement, one execution, its last word.
Fact = tuple[str, Fill | None]


def facts_of(fills: list[Fill], closing: str | None) -> list[Fact]:
    facts: list[Fact] = [("ack", None), *(("trade", part) for part in fills)]
    return [*facts, (closing, None)] if closing else facts


def told(order: Order, fact: Fact, fills: list[Fill], ledger: Ledger) -> Booked:
    name, part = fact
    approval = order.approval
    if part is not None:
        return book_trade(order, f"venue-{approval.intent.intent_id}", part, ledger, 5)
    state = {"ack": STATES.ACCEPTED, "canceled": STATES.CANCELED, "expired": STATES.EXPIRED, "filled": STATES.FILLED}
    filled = "0" if name == "ack" else str(sum((each.quantity for each in fills), Decimal(0)))
    return book_report(order, report(approval, state[name], filled=filled), ledger, 5)


@st.composite
def stories(draw: st.DrawFn) -> tuple[OrderApproved, list[Fill], list[Fact], list[Fact], OrderState]:
    """Draw an order, what happened to it, and two tellings of that: any order, any fact any number of times."""
    by_quote = draw(st.booleans())
    approval = approve(intent(quote="100") if by_quote else intent(quantity="1"))
    count = draw(st.integers(0, 4))
    fills = [fill(number, "0.25") for number in range(count)]
    if count == 4:
        closing, final = draw(st.sampled_from(["filled"] if by_quote else ["filled", "canceled", None])), STATES.FILLED
    else:
        closing = draw(st.sampled_from(["canceled", "expired", None]))
        final = {"canceled": STATES.CANCELED, "expired": STATES.EXPIRED}.get(
            closing or "", STATES.PARTIALLY_FILLED if count else STATES.ACCEPTED
        )
    facts = facts_of(fills, closing)
    one = draw(st.permutations(facts))
    other = draw(st.permutations(facts + draw(st.lists(st.sampled_from(facts), max_size=6))))
    return approval, fills, one, other, final


@given(stories(), st.sampled_from([STATES.SUBMITTED, STATES.UNKNOWN]))
def test_any_order_and_repetition_of_the_facts_gives_one_final_order(
    story: tuple[OrderApproved, list[Fill], list[Fact], list[Fact], OrderState], start: OrderState
) -> None:
    approval, fills, one, other, final = story
    ends = []
    for telling in (one, other):
        ledger = new_ledger()
        order = msgspec.structs.replace(submitted(approval), state=start)
        for fact in telling:
            booked = told(order, fact, fills, ledger)
            assert booked.problem is None
            after = booked.order
            assert after.state is order.state or after.state in TRANSITIONS[order.state]
            assert order.filled_quantity <= after.filled_quantity <= 1
            order = after
        assert order.state is final
        assert ledger.balance("BTC") == order.filled_quantity == Decimal("0.25") * len(fills)
        ends.append((msgspec.structs.replace(order, events=0, reason=""), ledger.balances(), ledger.fees_quote))
    assert ends[0] == ends[1]


@given(stories())
def test_each_fill_is_told_once_and_each_state_change_is_told(
    story: tuple[OrderApproved, list[Fill], list[Fact], list[Fact], OrderState],
) -> None:
    approval, fills, _, telling, final = story
    ledger, order, events = new_ledger(), submitted(approval), []
    for fact in telling:
        booked = told(order, fact, fills, ledger)
        order = booked.order
        events += booked.events
    assert sorted(event.fill.fill_id for event in events if event.fill) == [part.fill_id for part in fills]
    assert len({event.event_id for event in events}) == len(events) == order.events
    assert events[-1].state is final
    assert [event.filled_quantity for event in events] == sorted(event.filled_quantity for event in events)
    for event in events:
        assert event.fill is None or ledger.entries[event.ledger_sequence - 1].reference == f"fill:{event.fill.fill_id}"


def test_a_cancel_report_before_the_last_fill_waits_for_it() -> None:
    approval, ledger = approve(intent(quantity="1")), new_ledger()
    order = book_report(submitted(approval), report(approval, STATES.CANCELED, filled="0.5"), ledger, 5).order
    assert order.state is STATES.ACCEPTED
    order = book_trade(order, "v", fill(1), ledger, 5).order
    assert order.state is STATES.PARTIALLY_FILLED
    assert not order.is_settled
    booked = book_trade(order, "v", fill(2), ledger, 5)
    assert booked.order.state is STATES.CANCELED
    assert booked.order.is_settled
    assert [(event.state, event.fill is not None) for event in booked.events] == [
        (STATES.PARTIALLY_FILLED, True),
        (STATES.CANCELED, False),
    ]


def test_the_closing_word_that_knows_of_more_fills_counts() -> None:
    approval = approve(intent(quantity="1"))
    words = [report(approval, STATES.CANCELED, filled=filled) for filled in ("0.25", "0.5", "0.25")]
    for telling in (words, list(reversed(words))):
        ledger, order = new_ledger(), submitted(approval)
        for word in telling:
            order = book_report(order, word, ledger, 5).order
        order = book_trade(order, "v", fill(1), ledger, 5).order
        assert order.state is STATES.PARTIALLY_FILLED
        assert book_trade(order, "v", fill(2), ledger, 5).order.state is STATES.CANCELED


@pytest.mark.parametrize("state", [STATES.CANCELED, STATES.EXPIRED, STATES.REJECTED, STATES.REJECTED_UNCONFIRMED])
def test_a_late_fill_is_booked_in_every_terminal_state_and_may_complete_the_order(state: OrderState) -> None:
    approval, ledger = approve(intent(quantity="0.5")), new_ledger()
    order = msgspec.structs.replace(submitted(approval), state=state)
    booked = book_trade(order, "v", fill(1), ledger, 5)
    assert (booked.order.state, booked.order.filled_quantity, booked.problem) == (state, Decimal("0.25"), None)
    assert [event.state for event in booked.events] == [state]
    assert book_trade(booked.order, "v", fill(2), ledger, 5).order.state is STATES.FILLED
    assert ledger.balance("BTC") == Decimal("0.5")


@pytest.mark.parametrize(
    ("approval", "fills"),
    [
        (approve(intent(quantity="0.3")), [fill(1), fill(2)]),
        (approve(intent(quote="30")), [fill(1), fill(2)]),
    ],
)
def test_more_than_was_ordered_is_a_problem_and_books_nothing_of_it(approval: OrderApproved, fills: list[Fill]) -> None:
    ledger = new_ledger()
    booked = book_report(submitted(approval), report(approval, STATES.FILLED, *fills), ledger, 5)
    assert booked.problem is not None
    assert "over" in booked.problem
    assert booked.order.filled_quantity == ledger.balance("BTC") == Decimal("0.25")
    assert len(booked.entries) == len(booked.events) == 1


def test_a_fill_after_the_venue_said_filled_for_less_is_a_problem() -> None:
    approval, ledger = approve(intent(quote="100")), new_ledger()
    order = book_report(submitted(approval), report(approval, STATES.FILLED, fill(1)), ledger, 5).order
    assert order.state is STATES.FILLED
    booked = book_trade(order, "v", fill(2), ledger, 5)
    assert booked.problem is not None
    assert ledger.balance("BTC") == Decimal("0.25")


def test_the_same_fill_id_with_other_content_is_a_problem() -> None:
    approval, ledger = approve(intent(quantity="1")), new_ledger()
    order = book_trade(submitted(approval), "v", fill(1), ledger, 5).order
    booked = book_trade(order, "v", fill(1, price="101"), ledger, 5)
    assert booked.problem is not None
    other = book_trade(submitted(approve(intent(2, quantity="1"))), "w", fill(1), ledger, 5)
    assert other.problem is not None
    assert other.order.filled_quantity == 0


def test_a_fill_of_an_order_that_was_never_sent_is_a_problem() -> None:
    order = msgspec.structs.replace(new_order(approve(intent())), state=STATES.DENIED)
    assert book_trade(order, "v", fill(1), new_ledger(), 5).problem is not None


@pytest.mark.parametrize(
    "changes",
    [{"side": Side.SELL}, {"instrument": "ETH-USDT"}, {"type": OrderType.LIMIT}, {"client_order_id": "other"}],
)
def test_a_report_about_another_order_is_not_believed(changes: dict[str, object]) -> None:
    approval = approve(intent())
    other = msgspec.structs.replace(report(approval, STATES.FILLED, fill(1)), **changes)
    booked = book_report(submitted(approval), other, new_ledger(), 5)
    assert booked.problem is not None
    assert (booked.entries, booked.events, booked.order) == ((), (), submitted(approval))


def test_an_older_answer_never_overwrites_a_newer_state() -> None:
    approval, ledger = approve(intent(quantity="0.5")), new_ledger()
    order = book_report(submitted(approval), report(approval, STATES.FILLED, fill(1), fill(2)), ledger, 5).order
    for stale in (report(approval, STATES.ACCEPTED), report(approval, STATES.PARTIALLY_FILLED, fill(1))):
        booked = book_report(order, stale, ledger, 5)
        assert (booked.order, booked.events, booked.entries) == (order, (), ())


def test_a_pending_cancel_stays_until_the_venue_says_more() -> None:
    approval, ledger = approve(intent(quantity="1")), new_ledger()
    order = book_report(submitted(approval), report(approval, STATES.ACCEPTED), ledger, 5).order
    order = book_state(order, STATES.PENDING_CANCEL, "asked", 1, 5).order
    order = book_report(order, report(approval, STATES.ACCEPTED), ledger, 5).order
    assert order.state is STATES.PENDING_CANCEL
    order = book_trade(order, order.venue_order_id or "", fill(1), ledger, 5).order
    assert order.state is STATES.PENDING_CANCEL
    order = book_report(order, report(approval, STATES.CANCELED, fill(1)), ledger, 5).order
    assert (order.state, order.reason) == (STATES.CANCELED, "requested")


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_client_order_ids_fit_every_venue_and_follow_from_the_intent(one: str, other: str) -> None:
    known = client_order_id(one)
    assert len(known) <= CLIENT_ORDER_ID_LENGTH
    assert known.isascii()
    assert known.isalnum()
    assert (known == client_order_id(other)) == (one == other)


@pytest.mark.parametrize(
    ("side", "wanted", "approved", "binding"),
    [
        (Side.BUY, "110", "105", "105"),
        (Side.BUY, "103", "105", "103"),
        (Side.BUY, None, "105", "105"),
        (Side.SELL, "90", "95", "95"),
        (Side.SELL, "97", "95", "97"),
    ],
)
def test_the_tighter_price_bound_is_sent(side: Side, wanted: str | None, approved: str, binding: str) -> None:
    approval = approve(intent(side=side, bound=wanted), price_bound=Decimal(approved))
    assert request_of(new_order(approval)).price_bound == Decimal(binding)


def test_no_fee_is_the_same_in_whatever_asset_it_was_not_charged() -> None:
    order, ledger = submitted(approve(intent(quantity="1"))), new_ledger()
    one = fill(1)
    first = book_trade(order, "venue-1", one, ledger, 5)
    again = book_trade(first.order, "venue-1", msgspec.structs.replace(one, fee_asset="USDT"), ledger, 6)
    assert (again.order, again.entries, again.problem) == (first.order, (), None)


def test_a_fee_in_another_asset_is_another_execution() -> None:
    order, ledger = submitted(approve(intent(quantity="1"))), new_ledger()
    one = fill(1, fee="0.001")
    first = book_trade(order, "venue-1", one, ledger, 5)
    again = book_trade(first.order, "venue-1", msgspec.structs.replace(one, fee_asset="USDT"), ledger, 6)
    assert again.problem is not None
    assert again.entries == ()

"""The account between two streams: nothing is counted twice, nothing spent looks free, whichever is ahead."""

from services.risk.core.book import AccountBook
from shared.messages import OrderState
from tests.unit.risk.worlds import NOW_NS, STEP_NS, D, event, order, snapshot


def sequence_of(book: AccountBook) -> int | None:
    found = book.snapshot()
    return None if found is None else found.ledger_sequence


def test_without_open_orders_the_newest_snapshot_is_right() -> None:
    book = AccountBook()
    assert book.snapshot() is None
    for sequence in (1, 3, 2):
        book.on_snapshot(snapshot(sequence))
    assert sequence_of(book) == 3


def test_a_snapshot_older_than_the_events_seen_is_never_used() -> None:
    book = AccountBook()
    book.on_snapshot(snapshot(1))
    book.on_event(event("unknown", OrderState.FILLED, 2))
    assert book.snapshot() is None
    book.on_snapshot(snapshot(2))
    assert sequence_of(book) == 2


def test_while_an_order_is_open_a_snapshot_with_its_unseen_fill_is_not_used_yet() -> None:
    book = AccountBook()
    book.on_snapshot(snapshot(1))
    book.approve(order("buy", quantity=None, quote_amount=D(600)), used_sequence=1)
    book.on_snapshot(snapshot(2, usdt="400"))
    assert sequence_of(book) == 1
    book.on_event(event("buy", OrderState.FILLED, 2, quantity="6", quote="600"))
    assert sequence_of(book) == 2
    assert not book.has_open_orders


def test_a_deposit_before_the_first_order_is_seen() -> None:
    book = AccountBook()
    book.on_snapshot(snapshot(0, usdt="0"))
    book.on_snapshot(snapshot(1))
    assert sequence_of(book) == 1


def test_of_two_snapshots_of_one_entry_the_later_marked_counts() -> None:
    book = AccountBook()
    assert book.on_snapshot(snapshot(1, as_of_ns=NOW_NS + STEP_NS))
    assert not book.on_snapshot(snapshot(1, as_of_ns=NOW_NS))
    assert not book.on_snapshot(snapshot(1, as_of_ns=NOW_NS + STEP_NS))
    assert book.snapshots[1].as_of_ns == NOW_NS + STEP_NS


def test_a_snapshot_with_an_impossible_amount_is_not_taken() -> None:
    book = AccountBook()
    for amount in ("NaN", "-1", "Infinity", "1e9999"):
        assert not book.on_snapshot(snapshot(1, usdt=amount))
    assert book.snapshot() is None


def test_events_in_any_order_and_number_give_the_same_order() -> None:
    part = event("buy", OrderState.PARTIALLY_FILLED, 2, quantity="1", quote="100")
    done = event("buy", OrderState.FILLED, 3, quantity="2", quote="200")
    results = []
    for events in ((part, done), (done, part), (part, part, done, done, part)):
        book = AccountBook()
        book.approve(order("buy"), used_sequence=1)
        for one in events:
            book.on_event(one)
        results.append((book.orders["buy"], book.seen_sequence))
    assert results[0] == results[1] == results[2]
    assert not results[0][0].is_open


def test_a_known_event_changes_nothing() -> None:
    book = AccountBook()
    book.approve(order("buy"), used_sequence=1)
    done = event("buy", OrderState.CANCELED, 3)
    assert book.on_event(done) is not None
    assert book.on_event(done) is None


def test_an_unknown_outcome_stays_reserved() -> None:
    book = AccountBook()
    book.approve(order("buy"), used_sequence=1)
    book.on_event(event("buy", OrderState.UNKNOWN, 0))
    assert book.orders["buy"].reserved_quote == D(202)


def test_only_ended_and_old_orders_are_forgotten() -> None:
    book = AccountBook()
    for name, is_open, at_ns in (("a", True, 1), ("b", False, 1), ("c", False, 3)):
        book.approve(order(name, is_open=is_open, approved_at_ns=at_ns), used_sequence=1)
    assert book.forget(before_ns=2) == ["b"]
    assert set(book.orders) == {"a", "c"}


def test_snapshots_that_no_verdict_needs_are_forgotten() -> None:
    book = AccountBook()
    for sequence in (1, 2):
        book.on_snapshot(snapshot(sequence))
    book.approve(order("buy"), used_sequence=2)
    book.on_snapshot(snapshot(3))
    assert book.forget_snapshots() == [1]
    assert set(book.snapshots) == {2, 3}
    book.on_event(event("buy", OrderState.FILLED, 9))
    assert book.forget_snapshots() == [2]
    assert set(book.snapshots) == {3}

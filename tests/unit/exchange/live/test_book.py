"""The book builder: what a served book may be, whatever happens to the frames on their way."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.exchange.live.book import Applied, BookBuilder, Levels

NAN, INFINITY = float("nan"), float("inf")
Change = tuple[str, int, int]
Frame = tuple[int, int, list[tuple[float, float]], list[tuple[float, float]]]


class TrueBook:
    """Know a venue's book at every version; it is never crossed."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.changes: list[Change] = []
        self.history: list[tuple[Levels, Levels]] = [((), ())]

    def set(self, side: str, price: int, quantity: int) -> None:
        """Set a level; what it would cross is taken away first."""
        if quantity and side == "bid":
            for crossed in [ask for ask in self.asks if ask <= price]:
                self._note("ask", crossed, 0)
        elif quantity:
            for crossed in [bid for bid in self.bids if bid >= price]:
                self._note("bid", crossed, 0)
        self._note(side, price, quantity)

    def frame(self, first: int, last: int) -> Frame:
        """Return the diff of the versions `first` to `last`: the newest quantity of each level that changed."""
        sides: dict[str, dict[float, float]] = {"bid": {}, "ask": {}}
        for side, price, quantity in self.changes[first - 1 : last]:
            sides[side][price / 100] = quantity / 8
        return first, last, list(sides["bid"].items()), list(sides["ask"].items())

    @property
    def version(self) -> int:
        return len(self.changes)

    def _note(self, side: str, price: int, quantity: int) -> None:
        levels = self.bids if side == "bid" else self.asks
        levels.pop(price, None)
        if quantity:
            levels[price] = quantity
        self.changes.append((side, price, quantity))
        bids = tuple((price / 100, self.bids[price] / 8) for price in sorted(self.bids, reverse=True))
        asks = tuple((price / 100, self.asks[price] / 8) for price in sorted(self.asks))
        self.history.append((bids, asks))


def whole(
    version: int = 10, bids: Sequence[float] = (99.0, 98.0), asks: Sequence[float] = (101.0, 102.0)
) -> BookBuilder:
    builder = BookBuilder()
    assert builder.snapshot(version, [(one, 1.0) for one in bids], [(one, 1.0) for one in asks]) is Applied.DONE
    return builder


def test_diffs_before_the_snapshot_are_kept_and_those_it_knows_are_dropped() -> None:
    builder = BookBuilder()
    assert builder.apply(1, 5, [(99.0, 5.0)], []) is Applied.BUFFERED
    assert builder.apply(6, 12, [(99.0, 6.0)], []) is Applied.BUFFERED
    assert builder.apply(13, 13, [(98.5, 1.0)], []) is Applied.BUFFERED
    assert builder.top(5) is None
    assert builder.snapshot(10, [(99.0, 9.0)], [(101.0, 1.0)]) is Applied.DONE
    assert builder.version == 13
    assert builder.top(5) == (((99.0, 6.0), (98.5, 1.0)), ((101.0, 1.0),))


def test_snapshot_older_than_the_kept_diffs_is_refused_and_they_stay() -> None:
    builder = BookBuilder()
    builder.apply(6, 8, [(99.0, 6.0)], [])
    assert builder.snapshot(4, [(99.0, 4.0)], [(101.0, 1.0)]) is Applied.TOO_OLD
    assert not builder.is_whole
    assert builder.snapshot(5, [(99.0, 5.0)], [(101.0, 1.0)]) is Applied.DONE
    assert builder.top(1) == (((99.0, 6.0),), ((101.0, 1.0),))


def test_gap_makes_the_book_unservable_until_a_snapshot_meets_the_diff_after_it() -> None:
    builder = whole()
    assert builder.apply(12, 14, [(99.0, 2.0)], []) is Applied.GAP
    assert builder.top(5) is None and builder.best() is None
    assert builder.apply(15, 15, [(97.0, 3.0)], []) is Applied.BUFFERED
    assert builder.snapshot(13, [(99.0, 7.0)], [(101.0, 1.0)]) is Applied.DONE
    assert builder.top(5) == (((99.0, 2.0), (97.0, 3.0)), ((101.0, 1.0),))


def test_old_diff_changes_nothing() -> None:
    builder = whole()
    assert builder.apply(8, 10, [(99.0, 50.0)], []) is Applied.OLD
    assert builder.top(1) == (((99.0, 1.0),), ((101.0, 1.0),))


def test_diff_that_straddles_the_version_applies() -> None:
    builder = whole()
    assert builder.apply(9, 11, [(99.0, 4.0)], [(101.0, 0.0)]) is Applied.DONE
    assert builder.top(5) == (((99.0, 4.0), (98.0, 1.0)), ((102.0, 1.0),))


@pytest.mark.parametrize("price", [101.0, 101.5])
def test_locked_or_crossed_book_is_not_served(price: float) -> None:
    builder = whole()
    assert builder.apply(11, 11, [(price, 1.0)], []) is Applied.CROSSED
    assert builder.top(5) is None


@pytest.mark.parametrize(
    ("price", "quantity"),
    [(0.0, 1.0), (-1.0, 1.0), (NAN, 1.0), (INFINITY, 1.0), (99.0, NAN), (99.0, -1.0), (99.0, INFINITY)],
)
def test_impossible_level_makes_the_book_unservable(price: float, quantity: float) -> None:
    builder = whole()
    assert builder.apply(11, 11, [(price, quantity)], []) is Applied.MALFORMED
    assert builder.top(5) is None
    fresh = BookBuilder()
    assert fresh.snapshot(1, [(price, quantity)], []) is Applied.MALFORMED
    assert not fresh.is_whole


def test_diff_that_counts_backwards_is_a_gap() -> None:
    builder = whole()
    assert builder.apply(14, 11, [], []) is Applied.GAP
    assert not builder.is_whole


def test_levels_beyond_the_snapshots_depth_are_not_served() -> None:
    builder = BookBuilder()
    assert builder.snapshot(1, [(99.0, 1.0), (98.0, 1.0)], [(101.0, 1.0), (102.0, 1.0)], depth=2) is Applied.DONE
    # Below 98 there may be levels that have not changed since: the one that has is no proof.
    assert builder.apply(2, 2, [(90.0, 5.0)], [(103.0, 5.0)]) is Applied.DONE
    assert builder.top(5) == (((99.0, 1.0), (98.0, 1.0)), ((101.0, 1.0), (102.0, 1.0)))
    assert builder.level_counts == (3, 3)
    assert builder.apply(3, 3, [(99.0, 0.0), (98.0, 0.0)], []) is Applied.EXHAUSTED
    assert builder.top(5) is None


def test_snapshot_with_fewer_levels_than_asked_for_knows_the_whole_book() -> None:
    builder = BookBuilder()
    builder.snapshot(1, [(99.0, 1.0)], [(101.0, 1.0)], depth=2)
    assert builder.apply(2, 2, [(99.0, 0.0), (90.0, 5.0)], []) is Applied.DONE
    assert builder.top(5) == (((90.0, 5.0),), ((101.0, 1.0),))


def test_one_sided_book_has_no_best_prices() -> None:
    builder = whole(asks=())
    assert builder.best() is None
    assert builder.top(1) == (((99.0, 1.0),), ())


def test_reset_forgets_what_was_kept() -> None:
    builder = BookBuilder()
    builder.apply(6, 8, [(99.0, 6.0)], [])
    builder.reset()
    assert builder.snapshot(4, [(99.0, 4.0)], [(101.0, 1.0)]) is Applied.DONE
    assert builder.top(1) == (((99.0, 4.0),), ((101.0, 1.0),))


def test_full_buffer_forgets_the_oldest_diff_and_asks_for_a_newer_snapshot() -> None:
    builder = BookBuilder(buffer_max=3)
    for version in range(1, 6):
        builder.apply(version, version, [(99.0, float(version))], [])
    assert builder.snapshot(1, [(98.0, 1.0)], [(101.0, 1.0)]) is Applied.TOO_OLD
    assert builder.snapshot(2, [(98.0, 1.0)], [(101.0, 1.0)]) is Applied.DONE
    assert builder.version == 5


changes = st.tuples(st.sampled_from(["bid", "ask"]), st.integers(1, 30), st.integers(0, 9))
fates = st.sampled_from(["deliver"] * 8 + ["drop", "duplicate", "delay", "reconnect", "old again"])
snapshots = st.one_of(st.none(), st.tuples(st.integers(0, 4), st.sampled_from([None, None, 2, 4, 50])))
steps = st.tuples(st.lists(changes, min_size=1, max_size=2), fates, st.integers(0, 2), snapshots)


@settings(deadline=None, max_examples=300)
@given(st.lists(steps, min_size=5, max_size=40))
def test_served_book_is_always_the_venues_at_its_version(
    plan: list[tuple[list[Change], str, int, tuple[int, int | None] | None]],
) -> None:
    truth, builder = TrueBook(), BookBuilder()
    delayed: Frame | None = None
    sent: list[Frame] = []
    floor = 0
    for batch, fate, overlap, snapshot in plan:
        first = truth.version + 1
        for change in batch:
            truth.set(*change)
        # Diffs may also repeat versions that were told before.
        frame = truth.frame(max(1, first - overlap), truth.version)
        arriving = [frame]
        if fate == "drop":
            arriving = []
        elif fate == "duplicate":
            arriving = [frame, frame]
        elif fate == "delay":
            arriving, delayed = ([], frame) if delayed is None else ([frame, delayed], None)
        elif fate == "reconnect":
            builder.reset()
            floor = 0
        elif fate == "old again" and sent:
            arriving = [sent[len(sent) // 2], frame]
        for one in arriving:
            sent.append(one)
            builder.apply(*one)
            floor = check(builder, truth, floor)
        if snapshot is not None and not builder.is_whole:
            behind, depth = snapshot
            version = max(0, truth.version - behind)
            bids, asks = truth.history[version]
            builder.snapshot(version, bids[:depth], asks[:depth], depth=depth)
            floor = check(builder, truth, 0)


def check(builder: BookBuilder, truth: TrueBook, floor: int) -> int:
    top = builder.top(5)
    if top is None:
        return 0
    assert builder.version >= floor, "a served book never goes back"
    bids, asks = truth.history[builder.version]
    assert top[0] == bids[: len(top[0])] and top[1] == asks[: len(top[1])]
    assert bool(top[0]) == bool(bids) and bool(top[1]) == bool(asks)
    assert not (bids and asks) or builder.best() == (*top[0][0], *top[1][0])
    return builder.version


@settings(deadline=None)
@given(batches=st.lists(st.lists(changes, min_size=1, max_size=6), min_size=1, max_size=40), at=st.integers(0, 39))
def test_without_a_fault_the_book_is_complete_after_every_frame(batches: list[list[Change]], at: int) -> None:
    truth, builder = TrueBook(), BookBuilder()
    for place, batch in enumerate(batches):
        first = truth.version + 1
        for change in batch:
            truth.set(*change)
        outcome = builder.apply(*truth.frame(first, truth.version))
        if place == min(at, len(batches) - 1):
            assert outcome is Applied.BUFFERED
            assert builder.snapshot(truth.version, *truth.history[truth.version]) is Applied.DONE
        if builder.is_whole:
            assert builder.top(100) == truth.history[truth.version]
            assert builder.level_counts == (len(truth.bids), len(truth.asks))
    assert builder.is_whole

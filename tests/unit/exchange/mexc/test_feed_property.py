"""Whatever is lost, doubled, swapped or cut off, a book that is served is the venue's at that version."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.exchange.mexc.feed import MarketFeed
from shared.exchange.mexc.frames import PublicWire
from shared.exchange.mexc.words import DEALS, DEPTH
from shared.messages import FeedState, Side
from tests.unit.exchange.mexc.frames_of import MARKET, START_MS, TOKEN, Sink, deals, depth

LEVELS = 5
BIDS, ASKS = range(90, 100), range(100, 110)
CHANGE = st.tuples(st.sampled_from([*BIDS, *ASKS]), st.integers(0, 3))
MISHAPS = ["lose", "twice", "swap", "break", "answer", "answer", "old answer", "garbage"]
STEP = st.one_of(
    st.tuples(st.just("change"), st.lists(CHANGE, min_size=1, max_size=4)),
    st.tuples(st.sampled_from(MISHAPS), st.none()),
)


class Venue:
    """Be the true book: every change counts a version; frames hold the changes of one step."""

    def __init__(self) -> None:
        self.version = 1
        self.book: dict[int, int] = dict.fromkeys((*BIDS, *ASKS), 1)
        self.history: dict[int, dict[int, int]] = {1: dict(self.book)}

    def change(self, changes: list[tuple[int, int]]) -> bytes:
        first, sides = self.version + 1, ([], [])
        for price, quantity in changes:
            self.version += 1
            self.book[price] = quantity
            self.history[self.version] = dict(self.book)
        for price in dict.fromkeys(price for price, _ in changes):
            sides[price >= ASKS[0]].append((str(price), str(self.book[price])))
        return depth(first, self.version, *sides)

    def levels(self, version: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        book = {float(price): float(quantity) for price, quantity in self.history[version].items() if quantity}
        bids = sorted(((price, book[price]) for price in book if price < ASKS[0]), reverse=True)
        return bids, sorted((price, book[price]) for price in book if price >= ASKS[0])


class World:
    """Hold a venue, the wire in between, and what was served."""

    def __init__(self) -> None:
        self.venue, self.sink = Venue(), Sink()
        self.wanted = 0
        self.feed = MarketFeed(TOKEN, MARKET, self.sink, levels=LEVELS, has_book=True, want_snapshot=self._want)
        self.wire = PublicWire([DEPTH + MARKET], {MARKET: self.feed}, on_state=lambda *_: None, on_no=lambda *_: None)
        self.held: bytes | None = None
        self.wire.on_up()

    def _want(self, feed: MarketFeed) -> None:
        self.wanted += 1

    def send(self, frame: bytes) -> None:
        self.wire.on_frame(frame)
        if self.held is not None:
            held, self.held = self.held, None
            self.wire.on_frame(held)

    def answer(self, behind: int = 0) -> None:
        version = max(1, self.venue.version - behind)
        bids, asks = self.venue.levels(version)
        if self.feed.needs_snapshot:
            self.feed.on_snapshot(
                version, bids, asks, levels=1_000, event_ms=0, recv_ns=0
            )  # fmt: skip

    def check(self) -> None:
        newest = self.feed.newest
        if newest is None:
            return
        bids, asks = self.venue.levels(self.feed.version)
        assert newest.bids == tuple(bids[:LEVELS])
        assert newest.asks == tuple(asks[:LEVELS])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, max_size=60))
def test_a_served_book_is_the_venues_whatever_happens_to_the_frames(
    steps: list[tuple[str, list[tuple[int, int]] | None]],
) -> None:
    world = World()
    pending = "send"
    for what, changes in steps:
        if what == "change" and changes is not None:
            frame = world.venue.change(changes)
            if pending == "twice":
                world.send(frame)
            if pending in ("send", "twice"):
                world.send(frame)
            elif pending == "swap":
                world.held = frame
            pending = "send"
        elif what in ("lose", "twice", "swap"):
            pending = what
        elif what == "break":
            world.held = None
            world.wire.on_down("cut")
            assert world.feed.newest is None
            world.wire.on_up()
        elif what == "garbage":
            world.wire.on_frame(depth("x", "y", [("nonsense", "1")]))
            assert world.feed.newest is None
        else:
            world.answer(behind=3 if what == "old answer" else 0)
        world.check()
    # When nothing goes wrong any more, the book comes back and is the newest.
    world.held = None
    for _ in range(3):
        world.send(world.venue.change([(95, 2)]))
        world.answer()
        world.check()
    assert world.feed.newest is not None
    assert world.feed.version == world.venue.version
    assert world.sink.states()[-1] is FeedState.LIVE


TRADE = st.tuples(st.sampled_from(["1.5", "2", "0.0001"]), st.sampled_from(["1", "0.5"]), st.sampled_from([1, 2]))


@settings(deadline=None)
@given(frames=st.lists(st.tuples(st.integers(0, 2), st.lists(TRADE, max_size=5), st.booleans()), max_size=30))
def test_every_trade_arrives_once_with_an_id_of_its_own(
    frames: list[tuple[int, list[tuple[str, str, int]], bool]],
) -> None:
    sink, at_ms = Sink(), START_MS
    feed = MarketFeed(TOKEN, MARKET, sink, levels=LEVELS, has_book=False, want_snapshot=lambda _: None)
    wire = PublicWire([DEALS + MARKET], {MARKET: feed}, on_state=lambda *_: None, on_no=lambda *_: None)
    wire.on_up()
    sent: Counter[tuple[float, float, Side]] = Counter()
    seen: set[bytes] = set()
    for later_ms, trades, is_repeated in frames:
        at_ms += later_ms
        frame = deals(trades, at_ms)
        if frame not in seen:
            # MEXC never sends the same trades of the same millisecond in two frames: they would be one.
            sent.update(
                (float(price), float(size), Side.BUY if side == 1 else Side.SELL) for price, size, side in trades
            )
        seen.add(frame)
        wire.on_frame(frame)
        if is_repeated:
            wire.on_frame(frame)
    assert Counter((one.price, one.quantity, one.side) for one in sink.trades) == sent
    assert len({one.trade_id for one in sink.trades}) == len(sink.trades)
    assert [one.sequence for one in sink.trades] == list(range(len(sink.trades)))


def test_a_burst_of_40000_trades_is_complete_and_in_order() -> None:
    sink = Sink()
    feed = MarketFeed(TOKEN, MARKET, sink, levels=LEVELS, has_book=False, want_snapshot=lambda _: None)
    wire = PublicWire([DEALS + MARKET], {MARKET: feed}, on_state=lambda *_: None, on_no=lambda *_: None)
    wire.on_up()
    prices = [f"{1 + number / 100_000:.5f}" for number in range(40_000)]
    for start in range(0, 40_000, 400):
        wire.on_frame(deals([(price, "1", 1) for price in prices[start : start + 400]], START_MS + start // 4_000))
    assert [one.price for one in sink.trades] == [float(price) for price in prices]
    assert len({one.trade_id for one in sink.trades}) == 40_000

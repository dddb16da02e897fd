"""One market's public data: frames in, our messages out.

In: MEXC's protobuf bodies, snapshots, and whether the stream is there. Out: calls of a sink. Never: a level of a book
that has a gap, a trade twice, a number that no market can have.

A text becomes a float once. Where a frame carries no trade ids (those that ccxt's classes know do not), an id is made
of the frame's time and the trade's place, so that a frame which comes twice has the same ids.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Protocol

import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND
from shared.exchange.live.book import Applied, BookBuilder, Level
from shared.exchange.mexc.tape import Listed, Tape
from shared.exchange.mexc.words import SIDE_NUMBERS, VENUE
from shared.exchange.port import MarketSink, Recovered
from shared.messages import Bbo, BookSnapshot, FeedState, Trade

# So many frames back one that comes again is recognised.
FRAMES_REMEMBERED = 256
SNAPSHOT_LEVELS, SNAPSHOT_LEVELS_MAX = 1_000, 5_000


class DepthItem(Protocol):
    """Be a level of a frame."""

    price: str
    quantity: str


class DepthBody(Protocol):
    """Be a frame of changes."""

    asks: Iterable[DepthItem]
    bids: Iterable[DepthItem]
    fromVersion: str  # noqa: N815 - the field's name
    toVersion: str  # noqa: N815 - the field's name


class DealItem(Protocol):
    """Be a trade of a frame."""

    price: str
    quantity: str
    tradeType: int  # noqa: N815 - the field's name
    time: int


class DealsBody(Protocol):
    """Be a frame of trades."""

    deals: Iterable[DealItem]


class TickerBody(Protocol):
    """Be a frame of best prices."""

    bidPrice: str  # noqa: N815 - the field's name
    bidQuantity: str  # noqa: N815 - the field's name
    askPrice: str  # noqa: N815 - the field's name
    askQuantity: str  # noqa: N815 - the field's name


class MarketFeed:
    """Keep one market. `want_snapshot` is called when the book needs one; it must not answer at once."""

    def __init__(
        self, instrument: str, market_id: str, sink: MarketSink, *, levels: int, has_book: bool,
        want_snapshot: Callable[["MarketFeed"], None],
    ) -> None:  # fmt: skip
        self.instrument, self.market_id, self.has_book = instrument, market_id, has_book
        self._sink, self._levels, self._want_snapshot = sink, levels, want_snapshot
        self._builder = BookBuilder()
        self._tape = Tape()
        self._frames: deque[int] = deque(maxlen=FRAMES_REMEMBERED)
        self._known: set[int] = set()
        self._trades_sent = self._bbos_sent = self._books_sent = 0
        self._last_sent_ms = self._same_ms = 0
        self._is_up, self._is_fresh = False, True
        self._state: FeedState | None = None
        self._problem = self._halt = ""
        self.newest: BookSnapshot | None = None
        self.epoch = 0
        self.snapshot_levels = SNAPSHOT_LEVELS
        self.heard_ns = 0
        self.rejected = self.trades_lost = 0

    @property
    def needs_snapshot(self) -> bool:
        """Tell whether the stream is there and the book is not whole."""
        return self.has_book and self._is_up and not self._builder.is_whole

    def book(self, now_ns: int, stale_after_ns: int) -> BookSnapshot | None:
        """Return the best levels, or None unless the market is live; its age is looked at now."""
        self.on_age(now_ns, stale_after_ns)
        return self.newest if self._state is FeedState.LIVE else None

    @property
    def version(self) -> int:
        """Return the venue's version of the newest book; it means nothing while there is none."""
        return self._builder.version

    def on_depth(self, body: DepthBody, event_ms: int, recv_ns: int) -> None:
        """Take changes of the book."""
        try:
            first, last = int(body.fromVersion), int(body.toVersion)
            bids = [(float(one.price), float(one.quantity)) for one in body.bids]
            asks = [(float(one.price), float(one.quantity)) for one in body.asks]
        except ValueError:
            self.rejected += 1
            self._lose_book("a change of the book could not be read")
            return
        self._take(self._builder.apply(first, last, bids, asks), event_ms, recv_ns)

    def on_snapshot(
        self, version: int, bids: list[Level], asks: list[Level], *, levels: int, event_ms: int, recv_ns: int
    ) -> Applied:
        """Take a snapshot that was asked for since the stream is there."""
        outcome = self._builder.snapshot(version, bids, asks, depth=levels)
        if outcome is Applied.DONE:
            self._take(outcome, event_ms, recv_ns)
        elif outcome is Applied.EXHAUSTED:
            self.snapshot_levels = SNAPSHOT_LEVELS_MAX
        return outcome

    def on_deals(self, body: DealsBody, frame: bytes, event_ms: int, recv_ns: int) -> None:
        """Take trades; those of a frame that came already are left out."""
        if self._is_repeated(hash(frame)):
            return
        if event_ms != self._last_sent_ms:
            self._last_sent_ms, self._same_ms = event_ms, 0
        instrument, prefix, place, sequence = self.instrument, f"{event_ms:x}-", self._same_ms, self._trades_sent
        trades: list[Trade] = []
        for deal in body.deals:
            try:
                price, quantity, side = float(deal.price), float(deal.quantity), SIDE_NUMBERS[deal.tradeType]
            except (ValueError, KeyError):
                self.rejected += 1
                continue
            if not (0.0 < price < inf and 0.0 < quantity < inf):
                self.rejected += 1
                continue
            if self._tape.owes:
                quantity = self._tape.fresh(deal.time, price, side, quantity)
                if not quantity:
                    continue
            place += 1
            time_ns = deal.time * NANOSECONDS_PER_MILLISECOND
            trade_id, number = f"{prefix}{place}", sequence + len(trades)
            trades.append(Trade(VENUE, instrument, trade_id, side, price, quantity, time_ns, recv_ns, number))
        self._same_ms, self._trades_sent = place, sequence + len(trades)
        if trades:
            self._tape.add(trades)
            self._sink.on_trades(trades)

    def recover(self, listed: Sequence[Listed], start_ns: int, end_ns: int, recv_ns: int) -> Recovered:
        """Hold the venue's list of all trades in [start, end) next to those handed on; the lost ones are that now."""
        try:
            lacking = dict(self._tape.lacking(listed, start_ns, end_ns))
        except ValueError as error:
            return Recovered(problem=str(error))
        trades: list[Trade] = []
        lost: list[Trade] = []
        for place, one in enumerate(listed):
            # Not the stream's spelling of an id: these are of another account.
            trade_id = f"{one.time_ms:x}r{self.trades_lost + len(lost)}.{place}"
            time_ns = one.time_ms * NANOSECONDS_PER_MILLISECOND
            trade = Trade(
                VENUE, self.instrument, trade_id, one.side, one.price, one.quantity, time_ns, recv_ns, self._trades_sent
            )
            trades.append(trade)
            if (quantity := lacking.get(place)) is not None:
                lost.append(msgspec.structs.replace(trade, quantity=quantity))
                self._tape.owe(one.time_ms, one.price, one.side, quantity)
                self._trades_sent += 1
        if lost:
            self._tape.add(lost)
            self.trades_lost += len(lost)
        return Recovered(trades=tuple(trades), lost=tuple(lost), whole_from_ns=start_ns)

    def on_ticker(self, body: TickerBody, event_ms: int, recv_ns: int) -> None:
        """Take the best prices; a quote with one side, or crossed, is left out."""
        try:
            bid, bid_quantity = float(body.bidPrice), float(body.bidQuantity)
            ask, ask_quantity = float(body.askPrice), float(body.askQuantity)
        except ValueError:
            self.rejected += 1
            return
        if not (0.0 < bid < ask < inf and 0.0 < bid_quantity < inf and 0.0 < ask_quantity < inf):
            self.rejected += 1
            return
        time_ns, sequence = event_ms * NANOSECONDS_PER_MILLISECOND, self._bbos_sent
        self._bbos_sent = sequence + 1
        self._sink.on_bbo(Bbo(VENUE, self.instrument, bid, bid_quantity, ask, ask_quantity, time_ns, recv_ns, sequence))

    def on_stream(self, is_up: bool, reason: str, venue_ns: int = 0) -> None:
        """Learn that the market's subscriptions are there, or lost: the book then begins anew."""
        self.epoch += 1
        self._is_up = is_up
        if is_up:
            self._tape.begin(venue_ns)
        self._builder.reset()
        self.newest = None
        self._problem = reason if not is_up else "the book is being fetched"
        if not is_up and self._halt and self._state is not FeedState.STALE:
            # A halt hides what else is wrong, but whoever counts trades must know that the stream has a hole.
            self._show(FeedState.STALE, reason)
        self._tell()
        if self.needs_snapshot:
            self._want_snapshot(self)

    def on_halt(self, reason: str) -> None:
        """Learn why nothing trades in the market, or (empty) that it trades."""
        self._halt = reason
        self._state = None if self._state is FeedState.FROZEN else self._state
        self._tell()

    def on_age(self, now_ns: int, stale_after_ns: int) -> None:
        """Look at the age of the newest data, whatever the connection says."""
        is_fresh = now_ns - self.heard_ns <= stale_after_ns
        if is_fresh is not self._is_fresh:
            self._is_fresh = is_fresh
            self._tell()

    def _take(self, outcome: Applied, event_ms: int, recv_ns: int) -> None:
        if outcome is Applied.DONE:
            top = self._builder.top(self._levels)
            assert top is not None
            time_ns, sequence = event_ms * NANOSECONDS_PER_MILLISECOND, self._books_sent
            self._books_sent = sequence + 1
            self.newest = BookSnapshot(VENUE, self.instrument, top[0], top[1], time_ns, recv_ns, sequence)
            if self._state is not FeedState.LIVE:
                self._tell()
            self._sink.on_book(self.newest)
        elif outcome is not Applied.OLD and outcome is not Applied.BUFFERED:
            if outcome is Applied.EXHAUSTED:
                self.snapshot_levels = SNAPSHOT_LEVELS_MAX
            self._lose_book(f"the book has to be fetched again: {outcome.name.lower()}")

    def _lose_book(self, problem: str) -> None:
        if self._builder.is_whole:
            self._builder.reset()
        self.newest, self._problem = None, problem
        self._tell()
        if self.needs_snapshot:
            self._want_snapshot(self)

    def _is_repeated(self, mark: int) -> bool:
        if mark in self._known:
            return True
        if len(self._frames) == FRAMES_REMEMBERED:
            self._known.discard(self._frames[0])
        self._frames.append(mark)
        self._known.add(mark)
        return False

    def _tell(self) -> None:
        if self._halt:
            state, reason = FeedState.FROZEN, self._halt
        elif not self._is_up:
            state, reason = FeedState.STALE, self._problem
        elif self.has_book and not self._builder.is_whole:
            state, reason = FeedState.FROZEN, self._problem
        elif not self._is_fresh:
            state, reason = FeedState.STALE, "no data came for too long"
        else:
            state, reason = FeedState.LIVE, ""
        if state is not self._state:
            self._show(state, reason)

    def _show(self, state: FeedState, reason: str) -> None:
        self._state = state
        self._sink.on_status(self.instrument, state, reason)

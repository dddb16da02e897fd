"""One market's public data, from frames to messages.

In: frames of one symbol, snapshots, and whether the socket is up. Out: trades once each, best prices, books, closed
candles, and the market's state, through a sink. Never: a book after a gap, a trade twice, data of an older update
after a newer one.
"""

from collections.abc import Callable

import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, monotonic_ns, wall_ns
from shared.exchange.binance.frames import BookTickerFrame, DepthFrame, FloatLevel, KlineFrame, TradeFrame, is_sane
from shared.exchange.live.book import Applied, BookBuilder
from shared.exchange.port import MarketSink, Streams
from shared.messages import Bar, Bbo, BookSnapshot, FeedState, Side, Trade

# Trades that are late by so much are taken for lost; the venue counts them without gaps.
LATE_TRADES_MAX = 1_000
TICKERS_MAX = 2_000
CONTRADICTED = "the book differs from the venue's best prices"
Best = tuple[float, float, float, float]
_NEEDS_SNAPSHOT = frozenset({Applied.GAP, Applied.CROSSED, Applied.EXHAUSTED, Applied.MALFORMED})


class DepthAnswer(msgspec.Struct, rename="camel"):
    """Hold a book's snapshot."""

    last_update_id: int
    bids: list[FloatLevel]
    asks: list[FloatLevel]


class MarketFeed:
    """Keep one market. `want_snapshot` is called, with the reason, whenever the book needs one."""

    def __init__(
        self, venue: str, instrument: str, streams: Streams, sink: MarketSink, *, stale_after_s: float,
        want_snapshot: Callable[["MarketFeed", str], None], offset_ns: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        self.venue, self.instrument = venue, instrument
        self._streams, self._sink, self._offset_ns = streams, sink, offset_ns
        self._want_snapshot, self._stale_after_ns = want_snapshot, int(stale_after_s * NANOSECONDS_PER_SECOND)
        self.builder = BookBuilder()
        self.epoch = 0  # rises with each loss of the connection: a snapshot asked for before it is worthless
        self.state: FeedState | None = None
        self.trades_lost = self.proofs = self.contradictions = 0
        self._is_up, self._heard_ns, self._halt = False, 0, ""
        self._missing_trades: set[int] = set()
        self._trade_id = self._ticker_update = self._bar_ms = 0
        self._tickers: dict[int, Best] = {}  # by update, ascending: those that the book has yet to reach
        self._book_event_ns = self._book_recv_ns = 0
        self._bbos = self._books = self._bars = 0

    @property
    def needs_snapshot(self) -> bool:
        """Tell whether diffs come in that no snapshot has met yet."""
        return self._is_up and self._streams.book and not self.builder.is_whole

    def on_up(self) -> None:
        """Learn that every stream was acknowledged."""
        self._is_up, self._heard_ns = True, monotonic_ns()
        if self._streams.book:
            self._want_snapshot(self, "subscribed")
        self._show("waiting for the book's snapshot")

    def on_down(self, reason: str) -> None:
        """Learn that the connection is lost: nothing is known of the book any more."""
        self._is_up = False
        self.epoch += 1
        self.builder.reset()
        self._tickers.clear()
        if self._halt and self.state is not FeedState.STALE:
            # A halt hides what else is wrong, but whoever counts trades must know that the stream has a hole.
            self._tell(FeedState.STALE, reason)
        self._show(reason)

    def on_halt(self, reason: str) -> None:
        """Learn why nothing trades in the market, or (empty) that it trades."""
        self._halt = reason
        self.state = None if self.state is FeedState.FROZEN else self.state
        self._show("")

    def on_trade(self, frame: TradeFrame) -> None:
        """Take a trade."""
        self._heard_ns = monotonic_ns()
        if frame.t != self._trade_id + 1 and self._trade_id and not self._is_new(frame.t):
            return
        self._trade_id = max(self._trade_id, frame.t)
        side = Side.SELL if frame.m else Side.BUY
        event_ns = frame.T * NANOSECONDS_PER_MILLISECOND
        # The venue's own count, so that whoever builds bars sees which trades are missing.
        trade = Trade(self.venue, self.instrument, str(frame.t), side, frame.p, frame.q, event_ns, wall_ns(), frame.t)
        self._sink.on_trades((trade,))
        if self.state is not FeedState.LIVE:
            self._show("")

    def on_depth(self, frame: DepthFrame) -> None:
        """Take what changed in the book."""
        outcome = self.builder.apply(frame.U, frame.u, frame.b, frame.a)
        if outcome is Applied.DONE:
            self._heard_ns = monotonic_ns()
            if self._tickers and not self._agrees():
                self._lose(CONTRADICTED)
                return
            self._tell_book(frame.E * NANOSECONDS_PER_MILLISECOND)
        elif outcome in _NEEDS_SNAPSHOT:
            self._lose(f"{outcome.name.lower()} at update {frame.U}")

    def on_ticker(self, frame: BookTickerFrame) -> None:
        """Take the best bid and ask; what cannot be is dropped, and the last good one ages."""
        if frame.u <= self._ticker_update or not is_sane(frame):
            return
        self._heard_ns = recv = monotonic_ns()
        self._ticker_update = frame.u
        if self._streams.book:
            if len(self._tickers) >= TICKERS_MAX:
                self._tickers.clear()
            self._tickers[frame.u] = (frame.b, frame.B, frame.a, frame.A)
            if self.builder.version == frame.u and not self._agrees():
                self._lose(CONTRADICTED)
        if self._streams.bbo:
            recv = wall_ns()
            self._bbos += 1
            # The venue gives no time of it: ours, on its clock.
            event_ns = recv + self._offset_ns()
            self._sink.on_bbo(
                Bbo(self.venue, self.instrument, frame.b, frame.B, frame.a, frame.A, event_ns, recv, self._bbos)
            )
        if self.state is not FeedState.LIVE:
            self._show("")

    def on_kline(self, frame: KlineFrame) -> None:
        """Take a candle; open ones, and those known already, change nothing."""
        self._heard_ns = monotonic_ns()
        candle = frame.k
        if candle.x and candle.t > self._bar_ms:
            self._bar_ms = candle.t
            self._bars += 1
            bar = Bar(
                venue=self.venue, instrument=self.instrument, timeframe=candle.i,
                open_time_ns=candle.t * NANOSECONDS_PER_MILLISECOND,
                close_time_ns=(candle.T + 1) * NANOSECONDS_PER_MILLISECOND,
                open=candle.o, high=candle.h, low=candle.l, close=candle.c, volume=candle.v, quote_volume=candle.q,
                ts_recv_ns=wall_ns(), sequence=self._bars,
            )  # fmt: skip
            self._sink.on_venue_bar(bar)
        if self.state is not FeedState.LIVE:
            self._show("")

    def on_snapshot(self, answer: DepthAnswer, depth: int, epoch: int) -> Applied:
        """Take a snapshot of `depth` levels that was asked for in `epoch`."""
        if epoch != self.epoch or not self._is_up:
            return Applied.TOO_OLD
        if self.builder.is_whole:
            return Applied.DONE
        outcome = self.builder.snapshot(answer.last_update_id, answer.bids, answer.asks, depth=depth)
        if outcome is Applied.DONE:
            self._heard_ns = monotonic_ns()
            if not self._agrees():
                self.builder.reset()
                return Applied.CROSSED
            self._tell_book(wall_ns() + self._offset_ns())
        return outcome

    def check_age(self) -> None:
        """Notice a market that has been silent for too long."""
        self._show("")

    def book(self) -> BookSnapshot | None:
        """Return the best levels, or None unless the market is live; its age is looked at now."""
        self.check_age()
        top = self.builder.top(self._streams.book_levels) if self.state is FeedState.LIVE else None
        if top is None:
            return None
        return BookSnapshot(self.venue, self.instrument, *top, self._book_event_ns, self._book_recv_ns, self._books)

    def _tell_book(self, event_ns: int) -> None:
        top = self.builder.top(self._streams.book_levels)
        if top is None:
            return
        self._books += 1
        self._book_event_ns, self._book_recv_ns = event_ns, wall_ns()
        if self.state is not FeedState.LIVE:
            self._show("")
        self._sink.on_book(BookSnapshot(self.venue, self.instrument, *top, event_ns, self._book_recv_ns, self._books))

    def _agrees(self) -> bool:
        """Compare the book with the venue's best prices of the same update; those of older ones are done with."""
        version, told = self.builder.version, None
        while self._tickers and (first := next(iter(self._tickers))) <= version:
            ticker = self._tickers.pop(first)
            told = ticker if first == version else None
        best = self.builder.best()
        if told is None or best is None:
            return True
        self.proofs += best == told
        self.contradictions += best != told
        return best == told

    def _lose(self, reason: str) -> None:
        if self.builder.is_whole:
            # After a gap the builder has begun anew by itself, with the diff that showed it.
            self.builder.reset()
        self._show(reason)
        if self._is_up and self._streams.book:
            self._want_snapshot(self, reason)

    def _is_new(self, trade_id: int) -> bool:
        if trade_id > self._trade_id:
            gap = range(max(self._trade_id + 1, trade_id - LATE_TRADES_MAX), trade_id)
            self.trades_lost += trade_id - self._trade_id - 1
            self._missing_trades.update(gap)
            while len(self._missing_trades) > LATE_TRADES_MAX:
                self._missing_trades.remove(min(self._missing_trades))
            return True
        if trade_id not in self._missing_trades:
            return False
        # One frame overtook another; nothing was lost.
        self._missing_trades.remove(trade_id)
        self.trades_lost -= 1
        return True

    def _show(self, reason: str) -> None:
        state = FeedState.LIVE
        if self._halt:
            state, reason = FeedState.FROZEN, self._halt
        elif not self._is_up:
            state, reason = FeedState.STALE, reason or "not connected"
        elif self._streams.book and not self.builder.is_whole:
            state, reason = FeedState.FROZEN, reason or "the book is not whole"
        elif monotonic_ns() - self._heard_ns > self._stale_after_ns:
            state, reason = FeedState.STALE, f"silent for {self._stale_after_ns / NANOSECONDS_PER_SECOND:g} s"
        if state is not self.state:
            self._tell(state, reason if state is not FeedState.LIVE else "live")

    def _tell(self, state: FeedState, reason: str) -> None:
        self.state = state
        self._sink.on_status(self.instrument, state, reason)

"""What a live venue says, tick by tick: judged, counted into bars, published; and how far each market is trusted.

In: an adapter's calls (`MarketSink`). Out: `md.trade` batches (50 trades or 2 ms), `md.bbo` one by one, `md.book` at
most once per interval and market; trades for the step builder; gaps, freezes, states. Never: a tick that is not usable,
a gap that no bar knows of, an exception into the adapter.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from services.market_data.core.live_steps import StepBuilder
from services.market_data.core.quality import QualityState, assess, assess_late, release, silence
from services.market_data.core.quality_words import Action, Finding, Limits, Verdict
from services.market_data.proof import Proof
from shared.bus import subjects
from shared.bus.port import Bus
from shared.clock import NANOSECONDS_PER_SECOND
from shared.logs import Log
from shared.messages import Bar, Bbo, BookSnapshot, FeedState, Instrument, Trade, TradeBatch
from shared.metrics import Metrics

BATCH_MAX, BATCH_S = 50, 0.002
TRADES_LAG_NS = NANOSECONDS_PER_SECOND
# A trade that was dropped for one of these is missing in its bar; a bad print is not.
_MISSED = frozenset({Finding.OUT_OF_ORDER, Finding.STALE, Finding.CLOCK_SKEW, Finding.TIME_UNIT, Finding.SEQUENCE_GAP})
_BAD_PRINT = frozenset({Finding.JUMP, Finding.JUMP_SUSPECTED})

OnFreeze = Callable[[str, str], None]
OnVenueBar = Callable[[Bar], None]
OnInstrument = Callable[[Instrument], None]


class Trust(msgspec.Struct, frozen=True):
    """Say how far a market's feed is trusted, and why."""

    state: FeedState = FeedState.LIVE
    reason: str = ""


class Ticks:
    """Be the sink of one venue's market; `builder` is set when steps begin, `proof` before if trades need it."""

    def __init__(
        self,
        bus: Bus,
        venue: str,
        states: dict[str, QualityState],
        limits: Limits,
        *,
        now_ns: Callable[[], int],
        book_interval_s: float,
        on_freeze: OnFreeze,
        on_venue_bar: OnVenueBar,
        on_instrument: OnInstrument = lambda _: None,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._bus, self._venue, self._states, self._limits = bus, venue, states, limits
        self._now_ns, self._book_interval_s = now_ns, book_interval_s
        self._on_freeze, self._on_bar, self._log = on_freeze, on_venue_bar, log
        self._on_instrument = on_instrument
        self.builder: StepBuilder | None = None
        self.proof: Proof | None = None
        self._waiting: dict[str, list[Trade]] = {}
        self._flushing: set[str] = set()
        self._books: dict[str, BookSnapshot] = {}
        self._throttled: set[str] = set()
        self._told: dict[str, Trust] = {}
        self._connection = Trust()
        self._seen_ns: dict[str, int] = {}
        ticks = metrics.counter("ticks", "Ticks by kind and by what was done with them", ["kind", "action"])
        self._counts = {
            (kind, action): ticks.labels(kind, action.value) for kind in ("trade", "bbo", "book") for action in Action
        }
        findings = metrics.counter("tick_findings", "What was wrong with ticks, by kind", ["kind"])
        self._findings = {finding: findings.labels(finding.value) for finding in Finding}
        self._gaps = metrics.counter("feed_gaps", "Times that trades of a market may have been lost")

    def on_trades(self, trades: Sequence[Trade]) -> None:
        """Take trades of one instrument, in the venue's order."""
        if not trades or trades[0].instrument not in self._states:
            return
        now_ns, waiting = self._now_ns(), self._waiting.setdefault(trades[0].instrument, [])
        for trade in trades:
            before_ns = self._states[trade.instrument].trade.event_ns
            verdict = self._judge("trade", trade, now_ns)
            if _MISSED.intersection(verdict.findings):
                # What is missing before a number that is too high was traded at the time of the one before, or later.
                is_gap = before_ns and Finding.SEQUENCE_GAP in verdict.findings
                since_ns = min(before_ns if is_gap else now_ns, trade.ts_event_ns, now_ns)
                self._gap(trade.instrument, since_ns, f"trades: {verdict.findings[0]}")
                self._whole(trade.instrument, now_ns)
            if not verdict.is_usable:
                if self.proof is not None and _BAD_PRINT.intersection(verdict.findings):
                    self.proof.refuse(trade)
                continue
            waiting.append(trade)
            self._build(trade)
        self._send_trades(trades[0].instrument, waiting)

    def on_lost(self, trades: Sequence[Trade]) -> None:
        """Take trades of one instrument that the stream lost and the venue's list had: late, and to be published."""
        waiting = self._waiting.setdefault(trades[0].instrument, [])
        for trade in trades:
            state, verdict = assess_late(self._states[trade.instrument], trade, self._limits)
            self._states[trade.instrument] = state
            self._counts["trade", verdict.action].inc()
            if verdict.is_usable:
                waiting.append(trade)
            elif self.proof is not None:
                self.proof.refuse(trade)
        self._send_trades(trades[0].instrument, waiting)

    def on_bbo(self, bbo: Bbo) -> None:
        """Take the best bid and ask."""
        if bbo.instrument in self._states and self._judge("bbo", bbo, self._now_ns()).is_usable:
            self._bus.publish_lossy(subjects.bbo(self._venue, bbo.instrument), bbo)

    def on_book(self, book: BookSnapshot) -> None:
        """Take the best levels of a book without a gap."""
        if book.instrument not in self._states or not self._judge("book", book, self._now_ns()).is_usable:
            return
        self._books[book.instrument] = book
        if book.instrument not in self._throttled:
            self._send_book(book.instrument)

    def on_venue_bar(self, bar: Bar) -> None:
        """Take a closed candle as the venue itself computed it."""
        if bar.instrument in self._states:
            self._on_bar(bar)

    def on_instrument(self, instrument: Instrument) -> None:
        """Take a market's grid, which is another one than before."""
        if instrument.symbol in self._states:
            self._on_instrument(instrument)

    def on_status(self, instrument: str | None, state: FeedState, reason: str) -> None:
        """Take the state of a market or (None) of the connection."""
        # A market that is not trading, or a book with a gap, is frozen as long as the adapter says so.
        known = (FeedState.LIVE, FeedState.FROZEN)
        trust = Trust(state if state in known else FeedState.STALE, reason)
        if instrument is None:
            self._connection = trust
        elif instrument in self._states:
            self._told[instrument] = trust
        if state is FeedState.FROZEN:
            # Neither a gap in a book nor a market that is closed is one in the trades.
            return
        for name in self._states if instrument is None else (instrument,):
            if name not in self._states:
                continue
            if state is FeedState.LIVE:
                self._whole(name, self._now_ns())
            else:
                # A venue sends its trades a moment after its quotes: those of that moment may be lost as well.
                self._gap(name, self._seen_ns.get(name, 0) - TRADES_LAG_NS, reason or state.value)

    def on_hole(self, from_ns: int, until_ns: int, reason: str) -> None:
        """Learn that trades of any market may be missing between two times of the venue."""
        if self.builder is not None:
            for name in self._states:
                self.builder.on_hole(name, from_ns - TRADES_LAG_NS, until_ns, reason)

    @property
    def untradable(self) -> dict[str, str]:
        """Return why markets cannot be traded now: closed by the venue, or without a whole book."""
        return {name: told.reason for name, told in self._told.items() if told.state is FeedState.FROZEN}

    def trust(self, instrument: str) -> Trust:
        """Return how far a market is trusted; what is frozen is not asked here."""
        told = self._told.get(instrument, Trust())
        if self._connection.state is not FeedState.LIVE:
            return self._connection
        if told.state is not FeedState.LIVE:
            return told
        verdict = silence(self._states[instrument], self._limits, self._now_ns())
        return Trust() if verdict.is_usable else Trust(FeedState.STALE, verdict.detail)

    def freeze(self, instrument: str, reason: str) -> None:
        """Use no tick of the instrument any more."""
        self._states[instrument] = msgspec.structs.replace(self._states[instrument], frozen=reason)

    def release(self, instrument: str) -> None:
        """Trust an instrument again, whatever its price."""
        self._states[instrument] = release(self._states[instrument])

    def _judge(self, kind: str, message: Trade | Bbo | BookSnapshot, now_ns: int) -> Verdict:
        before = self._states[message.instrument]
        state, verdict = assess(before, message, self._limits, now_ns)
        self._states[message.instrument] = state
        self._counts[kind, verdict.action].inc()
        for finding in verdict.findings:
            self._findings[finding].inc()
        if verdict.is_usable:
            self._seen_ns[message.instrument] = now_ns
        if state.frozen is not None and before.frozen is None:
            self._on_freeze(message.instrument, state.frozen)
        return verdict

    def _build(self, trade: Trade) -> None:
        if self.proof is not None:
            self.proof.hold(trade)
        elif self.builder is not None:
            self.builder.on_trade(trade.instrument, trade.trade_id, trade.ts_event_ns, trade.price, trade.quantity)

    def _send_trades(self, instrument: str, waiting: Sequence[Trade]) -> None:
        if len(waiting) >= BATCH_MAX:
            self._flush(instrument)
        elif waiting and instrument not in self._flushing:
            self._flushing.add(instrument)
            asyncio.get_running_loop().call_later(BATCH_S, self._flush, instrument)

    def _gap(self, instrument: str, from_ns: int, reason: str) -> None:
        self._gaps.inc()
        if self.builder is not None:
            self.builder.on_gap(instrument, from_ns, reason)

    def _whole(self, instrument: str, at_ns: int) -> None:
        if self.builder is not None:
            self.builder.on_whole(instrument, at_ns)

    def _flush(self, instrument: str) -> None:
        self._flushing.discard(instrument)
        waiting = self._waiting.pop(instrument, [])
        subject = subjects.trade(self._venue, instrument)
        for start in range(0, len(waiting), BATCH_MAX):
            self._bus.publish_lossy(subject, TradeBatch.of(waiting[start : start + BATCH_MAX]))

    def _send_book(self, instrument: str) -> None:
        self._throttled.discard(instrument)
        book = self._books.pop(instrument, None)
        if book is None:
            return
        self._bus.publish_lossy(subjects.book(self._venue, instrument), book)
        self._throttled.add(instrument)
        asyncio.get_running_loop().call_later(self._book_interval_s, self._send_book, instrument)

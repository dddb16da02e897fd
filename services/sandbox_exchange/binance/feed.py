"""The venue's changes on their way to the market streams.

In: the venue's events, subscriptions. Out: frames at each stream's pace, encoded once, to whoever subscribed.
Never: work for a stream that nobody listens to; a frame of a market that the stream does not name.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from services.sandbox_exchange.binance import frames
from services.sandbox_exchange.binance.frames import Frame, Window
from services.sandbox_exchange.binance.periodic import Periodic
from services.sandbox_exchange.binance.recording import RecordedStreams
from services.sandbox_exchange.binance.stream_names import Kind, StreamName
from services.sandbox_exchange.binance.tape import BookTape
from services.sandbox_exchange.binance.words import Payload, milliseconds
from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import Depth, Event, LevelChanged, PublicTrade, TradePrinted
from services.sandbox_exchange.wire.context import Venue

TICK_S = 0.1


class Listener(Protocol):
    """Take frames."""

    def take(self, frame: Frame, stream: StreamName) -> None:
        """Take one frame of a stream that was subscribed."""
        ...


class Feed:
    """Serve the market streams of one venue. `recorded` holds the markets whose frames were recorded, by symbol."""

    def __init__(self, venue: Venue, recorded: Mapping[str, RecordedStreams]) -> None:
        self.recorded = recorded
        self._venue = venue
        self._listeners: dict[StreamName, set[Listener]] = {}
        self._windows: dict[str, list[tuple[StreamName, Window]]] = {}
        self._tapes: dict[str, BookTape] = {}
        self._last_range: dict[str, tuple[int, int]] = {}
        self._at_once: dict[tuple[Kind, str], StreamName] = {}
        self._best_due: set[str] = set()
        self._best_told: dict[str, Payload] = {}
        self._periodic = Periodic(venue)
        self._task: asyncio.Task[None] | None = None
        for symbol in venue.exchange.markets:
            self._tape(symbol)
        venue.exchange.listen(self._on_event)

    def subscribe(self, stream: StreamName, listener: Listener) -> None:
        """Send a stream's frames to a listener from now on; twice is once."""
        is_new = stream not in self._listeners
        self._listeners.setdefault(stream, set()).add(listener)
        symbol = stream.symbol
        if symbol is not None and symbol in self.recorded:
            self.recorded[symbol].start(self._send_recorded)
            return
        if not is_new or (symbol is not None and symbol not in self._venue.exchange.markets):
            return
        if stream.kind is Kind.DIFF and symbol is not None:
            self._windows.setdefault(symbol, []).append((stream, Window()))
        elif not stream.every_ticks and symbol is not None:
            self._at_once[stream.kind, symbol] = stream
            self._best_told.pop(symbol, None)
            self._mark_best(symbol)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._tick_forever())

    def unsubscribe(self, stream: StreamName, listener: Listener) -> None:
        """Send a listener nothing more of a stream."""
        listeners = self._listeners.get(stream, set())
        listeners.discard(listener)
        if listeners or stream not in self._listeners:
            return
        del self._listeners[stream]
        self._periodic.forget(stream)
        if stream.symbol is None:
            return
        self._at_once.pop((stream.kind, stream.symbol), None)
        kept = [one for one in self._windows.get(stream.symbol, []) if one[0] != stream]
        self._windows[stream.symbol] = kept
        if stream.symbol in self.recorded and not any(one.symbol == stream.symbol for one in self._listeners):
            self.recorded[stream.symbol].stop()

    def book(self, symbol: str, limit: int) -> Depth:
        """Return a book as REST answers it: now, or as far back as a fault says."""
        venue, tape = self._venue, self._tape(symbol)
        if fault := venue.take(FaultName.SNAPSHOT_STALE, route="GET /api/v3/depth", symbol=symbol):
            behind = 1 if fault.parameter is None else int(fault.parameter)
            if stale := tape.at(max(0, tape.version - behind), limit):
                return stale
        if venue.standing(FaultName.SNAPSHOT_STRADDLE, route="GET /api/v3/depth", symbol=symbol):
            inside = self._inside(symbol)
            straddling = tape.at(inside, limit) if inside is not None else None
            if straddling and venue.take(FaultName.SNAPSHOT_STRADDLE, route="GET /api/v3/depth", symbol=symbol):
                return straddling
        return venue.exchange.depth(symbol, limit)

    def _inside(self, symbol: str) -> int | None:
        """Return a version inside the newest diff's range: neither before its first change nor its last one."""
        ranges = [(window.first, window.last) for _, window in self._windows.get(symbol, [])]
        for first, last in [*ranges, self._last_range.get(symbol, (0, 0))]:
            if first and last > first:
                return first + (last - first) // 2 if last - first > 1 else first
        return None

    def _tape(self, symbol: str) -> BookTape:
        tape = self._tapes.get(symbol)
        if tape is None:
            tape = self._tapes[symbol] = BookTape(self._venue.exchange.depth(symbol))
        return tape

    def _on_event(self, event: Event) -> None:
        if type(event) is LevelChanged:
            self._on_level(event)
        elif type(event) is TradePrinted:
            self._on_trade(event.trade)

    def _on_level(self, change: LevelChanged) -> None:
        symbol = change.symbol
        tape = self._tapes.get(symbol)
        if tape is None or change.version != tape.version + 1:
            # A market that was listed or restored since: what it held before is not known, so nothing looks back on it.
            tape = self._tapes[symbol] = BookTape(self._venue.exchange.depth(symbol))
            tape.version = change.version
        else:
            tape.take(change)
        for _, window in self._windows.get(symbol, ()):
            window.take(change)
        if (Kind.BOOK_TICKER, symbol) in self._at_once:
            self._mark_best(symbol)

    def _on_trade(self, trade: PublicTrade) -> None:
        for kind, frame_of in _TRADE_FRAMES:
            stream = self._at_once.get((kind, trade.symbol))
            if stream is not None:
                self._publish(stream, frame_of(trade, milliseconds(self._venue.now_ns())))

    def _mark_best(self, symbol: str) -> None:
        """Tell the best prices when the call that changed them is over."""
        if not self._best_due:
            asyncio.get_running_loop().call_soon(self._tell_best)
        self._best_due.add(symbol)

    def _tell_best(self) -> None:
        due, self._best_due = self._best_due, set()
        for symbol in due:
            stream = self._at_once.get((Kind.BOOK_TICKER, symbol))
            frame = frames.book_ticker(self._venue.exchange.depth(symbol, 1)) if stream else None
            if stream is None or frame is None:
                continue
            quotes = {name: value for name, value in frame.items() if name != "u"}
            if self._best_told.get(symbol) != quotes:
                self._best_told[symbol] = quotes
                self._publish(stream, frame)

    async def _tick_forever(self) -> None:
        tick = 0
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._listeners:
            # A stall is not caught up: one frame then carries what was gathered meanwhile.
            due = max(due + TICK_S, loop.time())
            await asyncio.sleep(due - loop.time())
            tick += 1
            self._on_tick(tick)

    def _on_tick(self, tick: int) -> None:
        now_ms = milliseconds(self._venue.now_ns())
        for symbol, windows in self._windows.items():
            for stream, window in windows:
                if tick % stream.every_ticks:
                    continue
                span = (window.first, window.last)
                frame = window.empty(symbol, now_ms)
                if frame is not None:
                    self._last_range[symbol] = span
                    self._publish(stream, frame)
        for stream in list(self._listeners):
            if stream.every_ticks and not tick % stream.every_ticks and stream.symbol not in self.recorded:
                for payload in self._periodic.frames_of(stream):
                    self._publish(stream, payload)

    def _publish(self, stream: StreamName, payload: object) -> None:
        frame = Frame(stream.text, frames.encode(payload).decode())
        for listener in tuple(self._listeners.get(stream, ())):
            listener.take(frame, stream)

    def _send_recorded(self, stream: StreamName, frame: Frame) -> None:
        for listener in tuple(self._listeners.get(stream, ())):
            listener.take(frame, stream)


_TRADE_FRAMES: tuple[tuple[Kind, Callable[[PublicTrade, int], Payload]], ...] = (
    (Kind.TRADE, frames.trade),
    (Kind.AGGREGATE, frames.aggregate),
)

"""The words of one market-data socket: raw streams, subscribed in few messages.

In: stream names and the feeds that take their frames. Out: frames to feeds, acknowledgements counted.
Never: an error acknowledgement overlooked, more than the venue's five messages a second.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from shared.exchange.binance.feed import MarketFeed
from shared.exchange.binance.frames import (
    BookTickerFrame,
    DepthFrame,
    Frame,
    KlineFrame,
    ReplyFrame,
    ShutdownFrame,
    TradeFrame,
    decode,
)
from shared.exchange.live.socket import LiveSocket
from shared.exchange.port import Streams

# The venue allows 1024 streams a socket and five messages a second: four messages subscribe to all.
STREAMS_MAX = 800
STREAMS_PER_MESSAGE = 200


def stream_names(symbol: str, streams: Streams) -> list[str]:
    """Return the names of what is wanted of a market; `symbol` is the venue's."""
    name = symbol.lower()
    wanted = [f"{name}@trade"] if streams.trades else []
    if streams.bbo or streams.book:
        # The best prices also prove the book.
        wanted.append(f"{name}@bookTicker")
    if streams.book:
        wanted.append(f"{name}@depth@100ms")
    if streams.bar_timeframe is not None:
        wanted.append(f"{name}@kline_{streams.bar_timeframe}")
    return wanted


class MarketWire:
    """Speak on one socket; `socket` is set by whoever makes both."""

    def __init__(self, names: Sequence[str], feeds: Mapping[str, MarketFeed], on_change: Callable[[str], None]) -> None:
        self.names, self._feeds, self._on_change = tuple(names), feeds, on_change
        symbols = {name.partition("@")[0].upper() for name in names}
        self._own = [feeds[symbol] for symbol in sorted(symbols)]
        self.socket: LiveSocket | None = None
        self.is_up = False
        self._waiting: set[int] = set()
        self._is_greeted = False
        self._next_id = 1
        self._ping_id = 0

    @property
    def is_settled(self) -> bool:
        """Tell whether every subscription was acknowledged."""
        return self._is_greeted and not self._waiting

    def greet(self) -> Sequence[str]:
        """Subscribe to everything."""
        self._waiting.clear()
        texts = []
        for start in range(0, len(self.names), STREAMS_PER_MESSAGE):
            texts.append(self._request("SUBSCRIBE", self.names[start : start + STREAMS_PER_MESSAGE]))
            self._waiting.add(self._next_id - 1)
        self._is_greeted = True
        return texts

    def ping(self) -> str:
        """Ask what is subscribed: the answer proves that the socket lives, and that nothing was forgotten."""
        text = self._request("LIST_SUBSCRIPTIONS", None)
        self._ping_id = self._next_id - 1
        return text

    def on_frame(self, frame: bytes | str) -> None:
        """Take a frame. Raises ValueError for one that cannot be read."""
        message, feeds = decode(frame), self._feeds
        # Frames of markets that are not ours are none of ours.
        if isinstance(message, TradeFrame):
            if message.s in feeds:
                feeds[message.s].on_trade(message)
        elif isinstance(message, DepthFrame):
            if message.s in feeds:
                feeds[message.s].on_depth(message)
        elif isinstance(message, BookTickerFrame):
            if message.s in feeds:
                feeds[message.s].on_ticker(message)
        elif isinstance(message, KlineFrame):
            if message.k.s in feeds:
                feeds[message.k.s].on_kline(message)
        else:
            self._on_control(message)

    def on_up(self) -> None:
        """Tell the feeds."""
        self.is_up = True
        for feed in self._own:
            feed.on_up()
        self._on_change("")

    def on_down(self, reason: str) -> None:
        """Tell the feeds."""
        self.is_up = self._is_greeted = False
        for feed in self._own:
            feed.on_down(reason)
        self._on_change(reason)

    def _on_control(self, message: Frame) -> None:
        if isinstance(message, ShutdownFrame):
            self._fail("the venue is about to close the connection")
        elif isinstance(message, ReplyFrame):
            refused = message.error.msg if message.error is not None else message.msg if message.code else None
            if refused is not None:
                self._fail(f"a subscription was refused: {refused[:100]}")
            elif message.id == self._ping_id:
                self._on_pong(message)
            elif isinstance(message.id, int):
                self._waiting.discard(message.id)

    def _on_pong(self, message: ReplyFrame) -> None:
        if self.socket is not None:
            self.socket.pong()
        known = msgspec.json.decode(message.result, type=set[str])
        forgotten = [name for name in self.names if name not in known]
        if forgotten:
            self._fail(f"the venue has forgotten {forgotten[0]} and {len(forgotten) - 1} more")

    def _fail(self, reason: str) -> None:
        if self.socket is not None:
            self.socket.fail(reason)

    def _request(self, method: str, names: Sequence[str] | None) -> str:
        request: dict[str, object] = {"method": method, "id": self._next_id}
        if names is not None:
            request["params"] = names
        self._next_id += 1
        return msgspec.json.encode(request).decode()

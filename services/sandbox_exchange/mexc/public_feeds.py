"""Public streams: what changes is gathered for a channel's period, encoded once, and posted to everybody who listens.

In: level changes and trades. Out: frames. Never: a version left out between a channel's frames; a trade left out.
"""

import asyncio
from collections.abc import Sequence
from decimal import Decimal

from services.sandbox_exchange.core.model import Kline, LevelChanged, PublicTrade, TradePrinted
from services.sandbox_exchange.mexc import frames
from services.sandbox_exchange.mexc.channels import Channel, ChannelKind
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.socket import ClientSocket
from shared.clock import NANOSECONDS_PER_SECOND
from shared.messages import Side

DEALS_PER_FRAME = 1_000
ROLL_MARGIN_NS = 5_000_000


class Feed:
    """Be one channel with its listeners. A change starts the period at whose end the frames go out."""

    def __init__(self, venue: Venue, channel: Channel) -> None:
        assert channel.symbol is not None
        self.channel, self.symbol = channel, channel.symbol
        self.sockets: dict[ClientSocket, None] = {}
        self._venue = venue
        self._timer: asyncio.TimerHandle | None = None

    def add(self, socket: ClientSocket) -> None:
        """Let a socket listen; it gets the current state at once where the channel has one."""
        self.sockets[socket] = None
        self._post((socket,), self._state())

    def remove(self, socket: ClientSocket) -> bool:
        """Let a socket listen no more; returns whether nobody does."""
        self.sockets.pop(socket, None)
        if not self.sockets and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return not self.sockets

    def on_level(self, _event: LevelChanged, /) -> None:
        """Take a level's change."""

    def on_trade(self, _trade: PublicTrade, /) -> None:
        """Take a public trade."""

    def _state(self) -> Sequence[bytes]:
        return ()

    def _frames(self) -> Sequence[bytes]:
        raise NotImplementedError

    def _start_period(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.channel.period_s, self._end_period)

    def _end_period(self) -> None:
        self._timer = None
        self._post(tuple(self.sockets), self._frames())

    def _post(self, sockets: Sequence[ClientSocket], payloads: Sequence[bytes]) -> None:
        name, symbol = self.channel.name, self.symbol
        for payload in payloads:
            for socket in sockets:
                socket.post(payload, route=name, symbol=symbol)


class DepthFeed(Feed):
    """Stream level changes with the versions that they span."""

    def __init__(self, venue: Venue, channel: Channel) -> None:
        super().__init__(venue, channel)
        self._levels: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}
        self.pending: tuple[int, int] | None = None
        self.last_sent: tuple[int, int] | None = None

    def on_level(self, event: LevelChanged, /) -> None:
        """Note a level's newest quantity."""
        self._levels[event.side][event.price] = event.quantity
        if self.pending is None:
            self.pending = (event.version, event.version)
            self._start_period()
        else:
            self.pending = (self.pending[0], event.version)

    def _frames(self) -> Sequence[bytes]:
        if self.pending is None:
            return ()
        levels, (first, last) = self._levels, self.pending
        self._levels, self.pending, self.last_sent = {Side.BUY: {}, Side.SELL: {}}, None, self.pending
        return (frames.depth_diff(self.channel, levels, first, last, self._venue.now_ns()),)


class DealsFeed(Feed):
    """Stream public trades."""

    def __init__(self, venue: Venue, channel: Channel) -> None:
        super().__init__(venue, channel)
        self._trades: list[PublicTrade] = []

    def on_trade(self, trade: PublicTrade, /) -> None:
        """Note a trade."""
        self._trades.append(trade)
        self._start_period()

    def _frames(self) -> Sequence[bytes]:
        trades, self._trades = self._trades, []
        now_ns = self._venue.now_ns()
        chunks = [trades[start : start + DEALS_PER_FRAME] for start in range(0, len(trades), DEALS_PER_FRAME)]
        return [frames.deals(self.channel, chunk, now_ns) for chunk in chunks]


class BookTickerFeed(Feed):
    """Stream the best bid and ask when they have changed; nothing while a side is empty."""

    def __init__(self, venue: Venue, channel: Channel) -> None:
        super().__init__(venue, channel)
        self._last: frames.Best | None = None

    def on_level(self, _event: LevelChanged, /) -> None:
        """Look at the book at the period's end."""
        self._start_period()

    def _state(self) -> Sequence[bytes]:
        best = self._best()
        return () if best is None else (frames.book_ticker(self.channel, best, self._venue.now_ns()),)

    def _frames(self) -> Sequence[bytes]:
        best = self._best()
        if best is None or best == self._last:
            return ()
        self._last = best
        return (frames.book_ticker(self.channel, best, self._venue.now_ns()),)

    def _best(self) -> frames.Best | None:
        book = self._venue.exchange.depth(self.symbol, 1)
        return (*book.bids[0], *book.asks[0]) if book.bids and book.asks else None


class LimitDepthFeed(Feed):
    """Stream the best levels of the book."""

    def on_level(self, _event: LevelChanged, /) -> None:
        """Look at the book at the period's end."""
        self._start_period()

    def _state(self) -> Sequence[bytes]:
        return self._frames()

    def _frames(self) -> Sequence[bytes]:
        book = self._venue.exchange.depth(self.symbol, self.channel.levels)
        return (frames.limited_book(self.channel, book, self._venue.now_ns()),)


class KlineFeed(Feed):
    """Stream the open candle as it grows, and its last state when the next one opens."""

    def __init__(self, venue: Venue, channel: Channel) -> None:
        super().__init__(venue, channel)
        self._last: Kline | None = None
        self._roll: asyncio.TimerHandle | None = None

    def add(self, socket: ClientSocket) -> None:
        """Let a socket listen."""
        super().add(socket)
        if self._roll is None:
            self._wait_for_next()

    def remove(self, socket: ClientSocket) -> bool:
        """Let a socket listen no more; returns whether nobody does."""
        is_empty = super().remove(socket)
        if is_empty and self._roll is not None:
            self._roll.cancel()
            self._roll = None
        return is_empty

    def on_trade(self, _trade: PublicTrade, /) -> None:
        """Look at the candles at the period's end."""
        self._start_period()

    def _wait_for_next(self) -> None:
        interval_ns = self.channel.interval_ns
        left_ns = interval_ns - self._venue.now_ns() % interval_ns + ROLL_MARGIN_NS
        self._roll = asyncio.get_running_loop().call_later(left_ns / NANOSECONDS_PER_SECOND, self._next)

    def _next(self) -> None:
        self._wait_for_next()
        self._post(tuple(self.sockets), self._frames())

    def _state(self) -> Sequence[bytes]:
        return [frames.kline(self.channel, one, self._venue.now_ns()) for one in self._newest()[-1:]]

    def _frames(self) -> Sequence[bytes]:
        last = self._last
        changed = [one for one in self._newest() if last is None or (one.open_ns >= last.open_ns and one != last)]
        if changed:
            self._last = changed[-1]
        return [frames.kline(self.channel, one, self._venue.now_ns()) for one in changed]

    def _newest(self) -> Sequence[Kline]:
        return self._venue.exchange.klines(
            self.symbol, self.channel.interval_ns, start_ns=None, end_ns=None, limit=2, now_ns=self._venue.now_ns()
        )


FEEDS: dict[ChannelKind, type[Feed]] = {
    ChannelKind.DEPTH: DepthFeed,
    ChannelKind.DEALS: DealsFeed,
    ChannelKind.BOOK_TICKER: BookTickerFeed,
    ChannelKind.LIMIT_DEPTH: LimitDepthFeed,
    ChannelKind.KLINE: KlineFeed,
}


class PublicFeeds:
    """Hold the channels that somebody listens to."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._feeds: dict[str, Feed] = {}
        self._by_symbol: dict[str, list[Feed]] = {}

    def subscribe(self, socket: ClientSocket, channel: Channel) -> None:
        """Let a socket listen to a channel."""
        feed = self._feeds.get(channel.name)
        if feed is None:
            feed = self._feeds[channel.name] = FEEDS[channel.kind](self._venue, channel)
            self._by_symbol.setdefault(feed.symbol, []).append(feed)
        feed.add(socket)

    def unsubscribe(self, socket: ClientSocket, name: str) -> None:
        """Let a socket listen to a channel no more."""
        feed = self._feeds.get(name)
        if feed is not None and feed.remove(socket):
            del self._feeds[name]
            self._by_symbol[feed.symbol].remove(feed)

    def straddled(self, symbol: str) -> int | None:
        """Return a version inside a range that a diff spans, or will span; None when no diff has two versions."""
        depths = [one for one in self._by_symbol.get(symbol, []) if isinstance(one, DepthFeed)]
        ranges = [one.pending for one in depths] + [one.last_sent for one in depths]
        return next((span[0] for span in ranges if span is not None and span[1] > span[0]), None)

    def on_level(self, event: LevelChanged) -> None:
        """Tell a level's change to the market's channels."""
        for feed in self._by_symbol.get(event.symbol, ()):
            feed.on_level(event)

    def on_trade(self, event: TradePrinted) -> None:
        """Tell a trade to the market's channels."""
        for feed in self._by_symbol.get(event.trade.symbol, ()):
            feed.on_trade(event.trade)

"""MEXC's public side: markets, streams over as many sockets as it takes, books, candles.

In: the markets and streams that are wanted. Out: calls of a sink. Never: a book after a gap, an open candle, a market
that is quiet because nobody listens: what was refused is asked for again, and what is old is called stale.

MEXC streams candles while they are open and does not mark the last word, so closed ones are asked for by REST.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from math import inf
from random import Random

from shared.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, wall_ns
from shared.errors import RejectedError, UnavailableError
from shared.exchange.live.book import Applied
from shared.exchange.live.config import WireConfig
from shared.exchange.live.listing import Listing
from shared.exchange.live.retry import full_jitter_s
from shared.exchange.live.socket import LiveSocket, Timings, shards
from shared.exchange.mexc.candles import Candles
from shared.exchange.mexc.feed import MarketFeed
from shared.exchange.mexc.frames import PublicWire
from shared.exchange.mexc.markets import Markets
from shared.exchange.mexc.rest import MexcRest
from shared.exchange.mexc.shapes import DepthInfo, PublicTradeInfo
from shared.exchange.mexc.tape import Listed
from shared.exchange.mexc.words import DEALS, DEPTH, SUBSCRIPTIONS_PER_SOCKET, TICKER, TRADES_LISTED, VENUE, WS_URL
from shared.exchange.port import MarketSink, Recovered, Streams
from shared.messages import Bar, BookSnapshot, FeedState, Instrument, Side

AGES_EVERY_S = 0.5
# A snapshot that is older than the changes is asked for again soon, then at the pace of any failure.
TOO_OLD_WAIT_S, TOO_OLD_MAX = 0.05, 10
SNAPSHOT_FIRST_S, SNAPSHOT_MOST_S = 0.1, 10.0
REFUSED_FIRST_S, REFUSED_MOST_S, REFUSED_LOOK_S = 1.0, 60.0, 0.02


class MexcMarket:
    """Be MEXC's public side (`port.VenueMarket`)."""

    def __init__(self, config: WireConfig, *, random: Random | None = None) -> None:
        self._config, self._random = config, random or Random()
        self._stale_after_ns = int(config.stale_after_s * NANOSECONDS_PER_SECOND)
        self._open_rest: MexcRest | None = None
        self._markets = Markets()
        self._feeds: dict[str, MarketFeed] = {}
        self._sockets: list[LiveSocket] = []
        self._wires: dict[PublicWire, LiveSocket] = {}
        self._refusals: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching: set[str] = set()
        self._up: set[PublicWire] = set()
        self._sink: MarketSink | None = None
        self._listing: Listing | None = None
        self._is_all_up: bool | None = None

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        return VENUE

    async def instruments(self, symbols: Sequence[str]) -> tuple[Instrument, ...]:
        """Return the grids of markets (bus tokens). Raises ConfigError for one that the venue does not trade."""
        await self._markets.load(self._rest())
        return tuple(self._markets.rules(symbol).instrument for symbol in symbols)

    async def open(self, symbols: Sequence[str], streams: Streams, sink: MarketSink) -> None:
        """Subscribe, over as many sockets as MEXC's 30 subscriptions need, and keep subscribed until `close`.

        Returns when every stream was acknowledged. Raises UnavailableError when the first ones were not in time, and
        ConfigError for a market that MEXC does not trade.
        """
        if self._sockets:
            raise RuntimeError("this market side is open already")
        rest = self._rest()
        await self.instruments(symbols)
        await rest.clock.measure()
        self._sink = sink
        channels = [self._channels(symbol, streams) for symbol in symbols]
        for symbol in symbols:
            market_id = self._markets.market_id(symbol)
            self._feeds[symbol] = MarketFeed(
                symbol, market_id, sink, levels=streams.book_levels, has_book=streams.book,
                want_snapshot=self._want_snapshot,
            )  # fmt: skip
        by_id = {feed.market_id: feed for feed in self._feeds.values()}
        for number, shard in enumerate(shards([one for one in channels if one], SUBSCRIPTIONS_PER_SOCKET)):
            self._add_socket(number, shard, by_id)
        try:
            await self._connect(self._config.connect_timeout_s + self._config.ack_timeout_s)
        except UnavailableError:
            await self._disconnect()
            raise
        self._spawn(rest.clock.keep(self._config.clock_interval_s))
        self._spawn(self._watch_ages())
        self._listing = Listing(
            {symbol: self._markets.rules(symbol) for symbol in symbols},
            lambda tokens: self._markets.listed(rest, tokens),
            interval_s=self._config.listing_interval_s, on_halt=self._on_halt, on_grid=sink.on_instrument,
        )  # fmt: skip
        self._spawn(self._listing.run())
        if streams.bar_timeframe is not None:
            candles = Candles(self.bars, streams.bar_timeframe, tuple(symbols), sink, self._venue_ns)
            self._spawn(candles.run())

    def book(self, instrument: str) -> BookSnapshot | None:
        """Return the best levels, or None while the book is not known to be whole and fresh."""
        feed = self._feeds.get(instrument)
        return feed.book(wall_ns(), self._stale_after_ns) if feed is not None else None

    async def bars(self, instrument: str, timeframe: str, start_ns: int, end_ns: int) -> tuple[Bar, ...]:
        """Return the venue's closed candles that open in [start, end), oldest first.

        Raises ConfigError for an interval that MEXC has not, UnavailableError when it does not answer.
        """
        rest = self._rest()
        await self._markets.load(rest)
        if not rest.clock.is_measured:
            await rest.clock.measure()
        return await self._markets.bars(rest, instrument, timeframe, start_ns, end_ns)

    @property
    def counts_trades(self) -> bool:
        """Return False: MEXC numbers no trades."""
        return False

    async def recover(self, instrument: str, start_ns: int, end_ns: int) -> Recovered:
        """Ask what was traded in [start, end) of an opened market, to find what the stream lost.

        MEXC lists its last 1000 trades: of a longer time the end is answered. Raises UnavailableError.
        """
        feed = self._feeds.get(instrument)
        if feed is None:
            return Recovered(problem=f"{instrument} was not opened")
        params: dict[str, str | int] = {"symbol": feed.market_id, "limit": TRADES_LISTED}
        try:
            rows = await self._rest().read("trades", list[PublicTradeInfo], params)
        except RejectedError as error:
            return Recovered(problem=str(error))
        # Newest first; those of one millisecond keep their order.
        listed = [_listed(one) for one in reversed(rows)]
        if listed and listed[0].time_ms > listed[-1].time_ms:
            listed.reverse()
        if len(rows) >= TRADES_LISTED:
            # Of the oldest millisecond some may be left out.
            start_ns = max(start_ns, (listed[0].time_ms + 1) * NANOSECONDS_PER_MILLISECOND)
        if start_ns >= end_ns:
            return Recovered(problem=f"more than {TRADES_LISTED} trades came since")
        if not all(0.0 < one.price < inf and 0.0 < one.quantity < inf for one in listed):
            return Recovered(problem="the venue lists a trade that no market can have")
        wanted = [one for one in listed if start_ns <= one.time_ms * NANOSECONDS_PER_MILLISECOND < end_ns]
        return feed.recover(wanted, start_ns, end_ns, wall_ns())

    def clock_offset_ns(self) -> int:
        """Return how far the venue's clock is ahead of ours, as measured last."""
        return self._open_rest.clock.offset_ns if self._open_rest is not None else 0

    async def measure_clock(self) -> None:
        """Measure the offset anew. Raises UnavailableError."""
        await self._rest().clock.measure_anew()

    def reconnect(self, reason: str) -> None:
        """Give up every connection of the streams, and make new ones: they may be dead without a sign."""
        for socket in self._sockets:
            socket.fail(reason)

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        await self._disconnect()
        rest, self._open_rest = self._open_rest, None
        if rest is not None:
            await rest.close()

    async def _connect(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s), asyncio.TaskGroup() as group:
                for socket in self._sockets:
                    group.create_task(socket.open(wait_s))
        except* UnavailableError as failed:
            raise UnavailableError(str(failed.exceptions[0])) from None
        except* TimeoutError:
            problem = "; ".join(socket.last_problem for socket in self._sockets if not socket.is_up)
            raise UnavailableError(f"{VENUE} was not ready in {wait_s:g} s: {problem}") from None
        try:
            async with asyncio.timeout(wait_s):
                while any(wire.refused for wire in self._wires):  # noqa: ASYNC110 - wires know plain calls only
                    await asyncio.sleep(REFUSED_LOOK_S)
        except TimeoutError:
            problem = "; ".join(text for wire in self._wires for text in wire.refused.values())
            raise UnavailableError(f"{VENUE} refused a subscription: {problem}") from None

    async def _disconnect(self) -> None:
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        sockets, self._sockets = self._sockets, []
        await asyncio.gather(*(socket.close() for socket in sockets))
        self._feeds.clear()
        self._wires.clear()
        self._fetching.clear()
        self._refusals.clear()
        self._up.clear()
        self._is_all_up = self._listing = None

    def _rest(self) -> MexcRest:
        if self._open_rest is None:
            self._open_rest = MexcRest(self._config, random=self._random)
        return self._open_rest

    def _venue_ns(self) -> int:
        return wall_ns() + self.clock_offset_ns()

    def _channels(self, symbol: str, streams: Streams) -> list[str]:
        market_id = self._markets.market_id(symbol)
        wanted = ((streams.book, DEPTH), (streams.trades, DEALS), (streams.bbo, TICKER))
        return [channel + market_id for is_wanted, channel in wanted if is_wanted]

    def _add_socket(self, number: int, channels: list[str], by_id: Mapping[str, MarketFeed]) -> None:
        ids = dict.fromkeys(channel.rpartition("@")[2] for channel in channels)
        wire = PublicWire(
            channels, {one: by_id[one] for one in ids}, on_state=self._on_state, on_no=self._on_refused,
            offset_ns=self.clock_offset_ns,
        )  # fmt: skip
        config = self._config
        socket = LiveSocket(
            f"{VENUE} market data {number + 1}", self._address, wire, self._rest().session, timings_of(config),
            random=self._random,
        )  # fmt: skip
        wire.on_pong = socket.pong
        self._sockets.append(socket)
        self._wires[wire] = socket

    async def _address(self) -> str:
        return self._config.ws_url or WS_URL

    def _on_state(self, wire: PublicWire, is_up: bool, reason: str) -> None:
        (self._up.add if is_up else self._up.discard)(wire)
        if is_up and self._listing is not None:
            # What cut the connection may have been the venue's maintenance, or its end.
            self._listing.look_soon()
        is_all_up = len(self._up) == len(self._wires)
        if is_all_up is not self._is_all_up and self._sink is not None:
            self._is_all_up = is_all_up
            self._sink.on_status(None, FeedState.LIVE if is_all_up else FeedState.STALE, reason)

    def _on_halt(self, symbol: str, reason: str) -> None:
        self._feeds[symbol].on_halt(reason)

    def _on_refused(self, wire: PublicWire, channel: str, reason: str) -> None:
        """Ask again for what was refused, a little later: the other channels of the socket are not to suffer."""
        socket = self._wires.get(wire)
        if socket is None:
            return
        socket.last_problem = reason
        failures = self._refusals[channel] = self._refusals.get(channel, 0) + 1
        wait_s = full_jitter_s(failures, self._random, first_s=REFUSED_FIRST_S, most_s=REFUSED_MOST_S)
        self._spawn(_say_later(socket, wire.subscription(channel), wait_s))

    def _want_snapshot(self, feed: MarketFeed) -> None:
        if feed.instrument not in self._fetching:
            self._fetching.add(feed.instrument)
            self._spawn(self._fill_book(feed))

    async def _fill_book(self, feed: MarketFeed) -> None:
        failures = too_old = 0
        try:
            while feed.needs_snapshot:
                epoch, levels = feed.epoch, feed.snapshot_levels
                try:
                    params: dict[str, str | int] = {"symbol": feed.market_id, "limit": levels}
                    info = await self._rest().read("depth", DepthInfo, params)
                    bids, asks = _floats(info.bids), _floats(info.asks)
                except (UnavailableError, RejectedError, ValueError):
                    failures += 1
                    await asyncio.sleep(_snapshot_wait_s(failures, self._random))
                    continue
                if feed.epoch != epoch:
                    # The stream broke meanwhile: what was asked for before says nothing about what came after.
                    continue
                recv_ns = wall_ns()
                event_ms = (recv_ns + self.clock_offset_ns()) // NANOSECONDS_PER_MILLISECOND
                outcome = feed.on_snapshot(
                    info.last_update_id, bids, asks, levels=levels, event_ms=event_ms, recv_ns=recv_ns
                )
                if outcome is Applied.TOO_OLD and too_old < TOO_OLD_MAX:
                    too_old += 1
                    await asyncio.sleep(TOO_OLD_WAIT_S)
                elif outcome is not Applied.DONE:
                    failures += 1
                    await asyncio.sleep(_snapshot_wait_s(failures, self._random))
        finally:
            self._fetching.discard(feed.instrument)

    async def _watch_ages(self) -> None:
        while True:
            await asyncio.sleep(min(AGES_EVERY_S, self._config.stale_after_s / 4))
            now_ns = wall_ns()
            for feed in self._feeds.values():
                feed.on_age(now_ns, self._stale_after_ns)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def timings_of(config: WireConfig) -> Timings:
    """Return how long each thing may take on a socket."""
    return Timings(
        connect_s=config.connect_timeout_s, ack_s=config.ack_timeout_s, ping_every_s=config.ping_interval_s,
        pong_s=config.pong_timeout_s, idle_max_s=config.ping_interval_s + 2 * config.pong_timeout_s,
        age_max_s=config.socket_age_max_s, first_s=config.reconnect_first_s, most_s=config.reconnect_most_s,
    )  # fmt: skip


async def _say_later(socket: LiveSocket, text: str, wait_s: float) -> None:
    await asyncio.sleep(wait_s)
    await socket.say(text)


def _listed(one: PublicTradeInfo) -> Listed:
    return Listed(one.time, one.price, one.qty, Side.SELL if one.is_buyer_maker else Side.BUY)


def _floats(levels: list[tuple[str, str]]) -> list[tuple[float, float]]:
    return [(float(price), float(quantity)) for price, quantity in levels]


def _snapshot_wait_s(failures: int, random: Random) -> float:
    return full_jitter_s(failures, random, first_s=SNAPSHOT_FIRST_S, most_s=SNAPSHOT_MOST_S)

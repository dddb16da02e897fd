"""Binance's public side: instruments, candles, and market data over as many sockets as it takes.

In: markets and what is wanted of them. Out: their data through a sink, books that are whole, closed candles.
Never: a book that nobody proved whole, an open candle, a socket trusted because it is open.
"""

import asyncio
from collections.abc import Sequence
from random import Random

import aiohttp
import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND, wall_ns
from shared.errors import ConfigError, UnavailableError
from shared.exchange.binance.codes import SYMBOL_UNKNOWN
from shared.exchange.binance.endpoints import stream_url
from shared.exchange.binance.feed import DepthAnswer, MarketFeed
from shared.exchange.binance.rest import BinanceRest, Params, ReadRefusedError
from shared.exchange.binance.rules import ExchangeInfo, rules_of
from shared.exchange.binance.stream import STREAMS_MAX, MarketWire, stream_names
from shared.exchange.live.book import Applied
from shared.exchange.live.config import WireConfig
from shared.exchange.live.filters import MarketRules
from shared.exchange.live.listing import Listing
from shared.exchange.live.retry import full_jitter_s
from shared.exchange.live.socket import LiveSocket, Timings, shards
from shared.exchange.port import MarketSink, Recovered, Streams
from shared.messages import Bar, BookSnapshot, FeedState, Instrument

VENUE = "binance"
# A snapshot of 1000 levels weighs 50, one of 5000 five times as much.
DEPTH, DEPTH_MOST = 1_000, 5_000
DEPTH_WEIGHTS = {DEPTH: 50, DEPTH_MOST: 250}
SNAPSHOTS_AT_ONCE = 4
TOO_OLD_WAIT_S = 0.05
TOO_OLD_MAX = 10
BARS_PER_PAGE = 1_000
TIMEFRAMES = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")


async def fetch_rules(rest: BinanceRest, symbols: Sequence[str]) -> dict[str, MarketRules]:
    """Return the rules of markets (bus tokens) by the venue's symbol, in their order.

    Raises ConfigError for one that the venue does not have.
    """
    names = {token.replace("-", ""): token for token in symbols}
    if not names:
        return {}
    asked = msgspec.json.encode(sorted(names)).decode()
    try:
        info = await rest.read("publicGetExchangeInfo", {"symbols": asked}, ExchangeInfo, weight=20)
    except ReadRefusedError as error:
        if error.code == SYMBOL_UNKNOWN:
            unknown = await _unknown_symbols(rest, names)
            raise ConfigError(f"binance does not trade {', '.join(unknown)}: check the spelling BASE-QUOTE") from error
        raise
    found = {one.symbol: rules_of(one) for one in info.symbols}
    for name, token in names.items():
        if name not in found or found[name].instrument.symbol != token:
            raise ConfigError(f"binance does not trade {token}: check the spelling BASE-QUOTE")
    return {name: found[name] for name in names}


async def listed_rules(rest: BinanceRest, symbols: Sequence[str]) -> dict[str, MarketRules]:
    """Return the rules of those of the markets (bus tokens) that the venue lists, by token."""
    try:
        return {rules.instrument.symbol: rules for rules in (await fetch_rules(rest, symbols)).values()}
    except ConfigError:
        if len(symbols) == 1:
            return {}
    found: dict[str, MarketRules] = {}
    for symbol in symbols:
        found |= await listed_rules(rest, [symbol])
    return found


async def _unknown_symbols(rest: BinanceRest, names: dict[str, str]) -> list[str]:
    """Ask for each market by itself: the venue does not say which one of several it does not know."""
    if len(names) == 1:
        return list(names.values())
    unknown = []
    for name, token in names.items():
        try:
            await rest.read("publicGetExchangeInfo", {"symbol": name}, ExchangeInfo, weight=20)
        except ReadRefusedError:
            unknown.append(token)
    return unknown


class BinanceMarket:
    """Be the public side of Binance spot, or of whatever speaks like it at the configured addresses.

    `streams_max` bounds the streams of one socket (the venue's own bound is 1024). Snapshots have `snapshot_levels`
    (1000 or 5000); where these were too few, the next one has 5000.
    """

    def __init__(
        self, config: WireConfig, *, random: Random | None = None, streams_max: int = STREAMS_MAX,
        snapshot_levels: int = DEPTH,
    ) -> None:  # fmt: skip
        self._config, self._random, self._streams_max = config, random or Random(), streams_max
        self._depth = snapshot_levels
        self._rest = BinanceRest(config, random=self._random)
        self._feeds: dict[str, MarketFeed] = {}
        self._by_token: dict[str, MarketFeed] = {}
        self._wires: list[MarketWire] = []
        self._sockets: list[LiveSocket] = []
        self._syncing: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)
        self._watching: list[asyncio.Task[None]] = []
        self._listing: Listing | None = None
        self._sink: MarketSink | None = None
        self._state: FeedState | None = None
        self.snapshots = 0

    @property
    def venue(self) -> str:
        """Return the venue's name, as in subjects."""
        return self._config.venue

    async def instruments(self, symbols: Sequence[str]) -> tuple[Instrument, ...]:
        """Return the grids of markets (bus tokens). Raises ConfigError for one that the venue does not trade."""
        await self._rest.start()
        return tuple(rules.instrument for rules in (await fetch_rules(self._rest, symbols)).values())

    async def open(self, symbols: Sequence[str], streams: Streams, sink: MarketSink) -> None:
        """Subscribe, over as many sockets as the venue's limits need, and keep subscribed until `close`.

        Returns when every stream was acknowledged. Raises UnavailableError when the first ones were not in time.
        """
        if self._feeds:
            raise ConfigError("this market is open already: close it, or make another one")
        if streams.bar_timeframe is not None and streams.bar_timeframe not in TIMEFRAMES:
            raise ConfigError(f"binance has no {streams.bar_timeframe} candles: choose one of {', '.join(TIMEFRAMES)}")
        try:
            await self._open(symbols, streams, sink)
        except BaseException:
            await self.close()
            raise

    def book(self, instrument: str) -> BookSnapshot | None:
        """Return the best levels, or None while the book is not known to be whole and fresh."""
        feed = self._by_token.get(instrument)
        return None if feed is None else feed.book()

    def proofs(self, instrument: str) -> tuple[int, int]:
        """Return how often the book was compared with the venue's best prices of the same update: equal, not equal."""
        feed = self._by_token[instrument]
        return feed.proofs, feed.contradictions

    async def bars(self, instrument: str, timeframe: str, start_ns: int, end_ns: int) -> tuple[Bar, ...]:
        """Return the venue's closed candles that open in [start, end), oldest first."""
        await self._rest.start()
        found: list[Bar] = []
        start_ms, end_ms = -(-start_ns // NANOSECONDS_PER_MILLISECOND), (end_ns - 1) // NANOSECONDS_PER_MILLISECOND
        while start_ms <= end_ms:
            params: Params = {
                "symbol": instrument.replace("-", ""), "interval": timeframe, "startTime": start_ms, "endTime": end_ms,
                "limit": BARS_PER_PAGE,
            }  # fmt: skip
            rows = await self._rest.read("publicGetKlines", params, list[KlineRow], weight=2)
            now_ms = self._rest.clock.now_ms()
            for row in rows:
                if start_ms <= row.open_ms <= end_ms and row.last_ms < now_ms:
                    found.append(_bar(self.venue, instrument, timeframe, row, len(found) + 1))
            if len(rows) < BARS_PER_PAGE:
                break
            start_ms = rows[-1].open_ms + 1
        return tuple(found)

    @property
    def counts_trades(self) -> bool:
        """Return True: a lost trade leaves a hole in the ids."""
        return True

    async def recover(self, instrument: str, start_ns: int, end_ns: int) -> Recovered:
        """Answer that there is nothing to compare: what was lost shows in the trades' own count."""
        del start_ns, end_ns
        return Recovered(problem=f"{self.venue} counts its trades: a lost one of {instrument} shows by itself")

    def clock_offset_ns(self) -> int:
        """Return how far the venue's clock is ahead of ours, as measured last."""
        return self._rest.clock.offset_ns

    async def measure_clock(self) -> None:
        """Measure the offset anew. Raises UnavailableError."""
        await self._rest.start()
        await self._rest.clock.measure_anew()

    def reconnect(self, reason: str) -> None:
        """Give up every connection of the streams, and make new ones: they may be dead without a sign."""
        for socket in self._sockets:
            socket.fail(reason)

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        tasks = [*self._syncing.values(), *self._watching]
        self._syncing.clear()
        self._watching.clear()
        self._listing = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sockets, self._sockets = self._sockets, []
        await asyncio.gather(*(socket.close() for socket in sockets))
        self._feeds, self._by_token, self._wires, self._state = {}, {}, [], None
        await self._rest.close()

    async def _open(self, symbols: Sequence[str], streams: Streams, sink: MarketSink) -> None:
        session = await self._rest.start()
        self._sink = sink
        found = await fetch_rules(self._rest, symbols)
        for name, rules in found.items():
            feed = MarketFeed(
                self.venue, rules.instrument.symbol, streams, sink, stale_after_s=self._config.stale_after_s,
                want_snapshot=self._want_snapshot, offset_ns=self.clock_offset_ns,
            )  # fmt: skip
            self._feeds[name] = self._by_token[rules.instrument.symbol] = feed
        groups = [stream_names(name, streams) for name in self._feeds]
        for number, names in enumerate(shards(groups, self._streams_max)):
            self._make_socket(f"{self.venue} market data {number}", names, session)
        config = self._config
        patience_s = config.connect_timeout_s + config.ack_timeout_s
        await asyncio.gather(*(socket.open(patience_s) for socket in self._sockets))
        self._listing = Listing(
            {rules.instrument.symbol: rules for rules in found.values()},
            lambda tokens: listed_rules(self._rest, tokens),
            interval_s=config.listing_interval_s, on_halt=self._on_halt, on_grid=sink.on_instrument,
        )  # fmt: skip
        self._watching = [
            asyncio.create_task(self._watch(), name=f"{self.venue} ages"),
            asyncio.create_task(self._listing.run(), name=f"{self.venue} listing"),
        ]

    def _make_socket(self, name: str, names: Sequence[str], session: aiohttp.ClientSession) -> None:
        wire = MarketWire(names, self._feeds, self._on_change)
        socket = LiveSocket(name, self._address, wire, session, timings_of(self._config), random=self._random)
        wire.socket = socket
        self._wires.append(wire)
        self._sockets.append(socket)

    async def _address(self) -> str:
        return stream_url(self._config)

    def _on_change(self, reason: str) -> None:
        state = FeedState.LIVE if all(wire.is_up for wire in self._wires) else FeedState.STALE
        if state is FeedState.LIVE and self._listing is not None:
            # What cut the connection may have been the venue's maintenance, or its end.
            self._listing.look_soon()
        if self._state is None and state is FeedState.STALE and not reason:
            # The first of several sockets is up: the connection is what it was, not there yet.
            return
        if state is not self._state and self._sink is not None:
            self._state = state
            self._sink.on_status(None, state, reason or "every stream is acknowledged")

    def _on_halt(self, token: str, reason: str) -> None:
        self._by_token[token].on_halt(reason)

    def _want_snapshot(self, feed: MarketFeed, reason: str) -> None:
        known = self._syncing.get(feed.instrument)
        if known is None or known.done():
            name = f"snapshot of {feed.instrument}: {reason}"
            self._syncing[feed.instrument] = asyncio.create_task(self._sync(feed), name=name)

    async def _sync(self, feed: MarketFeed) -> None:
        """Fetch snapshots until the book is whole, or the connection that wanted it is gone."""
        depth, too_old, failures = self._depth, 0, 0
        while feed.needs_snapshot:
            epoch = feed.epoch
            try:
                answer = await self._snapshot(feed.instrument.replace("-", ""), depth)
            except UnavailableError:
                failures += 1
                await asyncio.sleep(full_jitter_s(failures, self._random))
                continue
            outcome = feed.on_snapshot(answer, depth, epoch)
            if outcome is Applied.DONE:
                return
            if outcome is Applied.EXHAUSTED:
                depth = DEPTH_MOST
            if outcome is Applied.TOO_OLD and too_old < TOO_OLD_MAX:
                too_old += 1
                await asyncio.sleep(TOO_OLD_WAIT_S)
            else:
                failures += 1
                await asyncio.sleep(full_jitter_s(failures, self._random))

    async def _snapshot(self, name: str, depth: int) -> DepthAnswer:
        async with self._slots:
            self.snapshots += 1
            return await self._rest.read(
                "publicGetDepth", {"symbol": name, "limit": depth}, DepthAnswer, weight=DEPTH_WEIGHTS[depth]
            )

    async def _watch(self) -> None:
        pause_s = min(1.0, self._config.stale_after_s / 4)
        while True:
            await asyncio.sleep(pause_s)
            for feed in self._feeds.values():
                feed.check_age()


class KlineRow(msgspec.Struct, array_like=True):
    """Hold a candle as `GET /api/v3/klines` writes it."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    last_ms: int
    quote_volume: float


def timings_of(config: WireConfig) -> Timings:
    """Return how long things may take on a socket."""
    return Timings(
        connect_s=config.connect_timeout_s, ack_s=config.ack_timeout_s, ping_every_s=config.ping_interval_s,
        pong_s=config.pong_timeout_s, idle_max_s=config.ping_interval_s + config.pong_timeout_s + 30.0,
        age_max_s=config.socket_age_max_s, first_s=config.reconnect_first_s, most_s=config.reconnect_most_s,
    )  # fmt: skip


def _bar(venue: str, instrument: str, timeframe: str, row: KlineRow, sequence: int) -> Bar:
    return Bar(
        venue=venue, instrument=instrument, timeframe=timeframe,
        open_time_ns=row.open_ms * NANOSECONDS_PER_MILLISECOND,
        close_time_ns=(row.last_ms + 1) * NANOSECONDS_PER_MILLISECOND,
        open=row.open, high=row.high, low=row.low, close=row.close, volume=row.volume, quote_volume=row.quote_volume,
        ts_recv_ns=wall_ns(), sequence=sequence,
    )  # fmt: skip

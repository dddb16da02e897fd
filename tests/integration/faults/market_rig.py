"""A sandbox venue whose market the test moves, the truth of every version of its book, and the adapters' public side.

The venue's clock runs ahead as the test says, so that a minute passes in no time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from random import Random

import msgspec

from services.sandbox_exchange.app import RunningSandbox, start
from services.sandbox_exchange.config import SandboxConfig, Source, VenueName
from services.sandbox_exchange.core.faults import Fault, FaultName
from services.sandbox_exchange.core.model import (
    HOUSE,
    Event,
    LevelChanged,
    OrderKind,
    PlaceOrder,
    PublicTrade,
    TradePrinted,
)
from services.sandbox_exchange.wire.socket import kill_sockets
from shared.clock import NANOSECONDS_PER_SECOND, wall_ns
from shared.domain.instruments import floor_to_grid
from shared.exchange.binance import BinanceMarket
from shared.exchange.live.config import WireConfig
from shared.exchange.mexc import MexcMarket
from shared.exchange.port import Streams
from shared.messages import BookSnapshot, FeedState, Side, TimeInForce
from tests.unit.exchange.mexc.frames_of import Sink

MARKET, TOKEN = "BTCUSDT", "BTC-USDT"
LEVELS = 20
PATIENCE_S = 15.0
DEPTH = {"mexc": "spot@public.aggre.depth", "binance": "depth"}
TRADES = {"mexc": "spot@public.aggre.deals", "binance": "trade"}
Top = tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]


class TrueMarket:
    """Move the market, and remember its book at each version and its tape."""

    def __init__(self, running: RunningSandbox, seed: int = 1) -> None:
        self.running, self.venue, self.exchange = running, running.venue, running.venue.exchange
        self.faults = running.venue.faults
        self.ahead_ns = 0
        self.remembers_books = True
        self.venue._clock = lambda: wall_ns() + self.ahead_ns
        self.tape: list[PublicTrade] = []
        self.books: dict[int, Top] = {}
        self.version = 0
        self._random = Random(seed)
        depth = self.exchange.depth(MARKET)
        self._sides = {Side.BUY: dict(depth.bids), Side.SELL: dict(depth.asks)}
        self._know(depth.version)
        step = self.exchange.markets[MARKET].instrument.step_size
        self.unit = floor_to_grid(Decimal(10) / depth.asks[0][0], step)
        self.exchange.listen(self._on_event)

    def arm(self, name: FaultName, **fields: object) -> None:
        """Arm a fault switch."""
        self.faults.arm(msgspec.convert({"name": name, **fields}, Fault))

    def kill(self) -> None:
        """Cut every socket."""
        kill_sockets(self.venue)

    def move(self, count: int = 1) -> None:
        """Let the house place, and take, a few orders; none of its levels are used up."""
        grid = self.exchange.markets[MARKET].instrument
        for _ in range(count):
            side = self._random.choice((Side.BUY, Side.SELL))
            best = max(self._sides[Side.BUY]), min(self._sides[Side.SELL])
            quantity = self.unit * self._random.randint(1, 9)
            if self._random.random() < 0.4:
                self.trade(side, quantity)
                continue
            away = Decimal(self._random.randint(0, 40)) * grid.tick_size
            price = best[0] - away if side is Side.BUY else best[1] + away
            self._place(side, quantity, price)

    def trade(self, side: Side, quantity: Decimal | None = None, *, refill: bool = True) -> None:
        """Take from the best price, and (`refill`) put as much back."""
        quantity = quantity or self.unit
        other = Side.SELL if side is Side.BUY else Side.BUY
        price = min(self._sides[other]) if side is Side.BUY else max(self._sides[other])
        if refill:
            self._place(other, quantity, price)
        self._place(side, quantity, price, TimeInForce.IOC)

    async def spread(self, count: int) -> None:
        """Trade, each time in a later millisecond."""
        for number in range(count):
            self.trade(Side.BUY if number % 2 else Side.SELL)
            await self.later()

    async def later(self) -> None:
        """Wait for the venue's next millisecond."""
        now_ms = self.venue.now_ns() // 10**6
        await until(lambda: self.venue.now_ns() // 10**6 > now_ms)

    def deepen(self, side: Side, quantity: Decimal) -> None:
        """Put more at the best price of a side."""
        best = max(self._sides[side]) if side is Side.BUY else min(self._sides[side])
        self._place(side, quantity, best)

    def top(self) -> Top:
        """Return the best levels now."""
        bids = sorted(self._sides[Side.BUY].items(), reverse=True)[:LEVELS]
        asks = sorted(self._sides[Side.SELL].items())[:LEVELS]
        return tuple((float(p), float(q)) for p, q in bids), tuple((float(p), float(q)) for p, q in asks)

    def _place(self, side: Side, quantity: Decimal, price: Decimal, force: TimeInForce = TimeInForce.GTC) -> None:
        grid = self.exchange.markets[MARKET].instrument
        at = floor_to_grid(price, grid.tick_size)
        request = PlaceOrder(
            HOUSE, MARKET, side, OrderKind.LIMIT, quantity=quantity, price=at, time_in_force=force
        )  # fmt: skip
        self.exchange.place(request, self.venue.now_ns())

    def _on_event(self, event: Event) -> None:
        if isinstance(event, TradePrinted):
            self.tape.append(event.trade)
        elif isinstance(event, LevelChanged) and event.symbol == MARKET:
            levels = self._sides[event.side]
            if event.quantity:
                levels[event.price] = event.quantity
            else:
                levels.pop(event.price, None)
            self._know(event.version)

    def _know(self, version: int) -> None:
        self.version = version
        if self.remembers_books:
            self.books[version] = self.top()


class TruthSink(Sink):
    """Keep what comes, and hold every book next to the true one at its version."""

    def __init__(self, true: TrueMarket) -> None:
        super().__init__()
        self.true = true
        self.version: Callable[[], int] = lambda: -1
        self.wrong: list[str] = []
        self.versions: list[int] = []

    def on_book(self, book: BookSnapshot) -> None:
        """Compare a book with the truth."""
        super().on_book(book)
        version = self.version()
        if self.versions and version < self.versions[-1] and self.states()[-1:] != [FeedState.LIVE]:
            self.wrong.append(f"version {version} came after {self.versions[-1]}")
        self.versions.append(version)
        if (book.bids, book.asks) != self.true.books.get(version):
            self.wrong.append(f"the book of version {version} is not the venue's")
        if self.states() and self.states()[-1] is not FeedState.LIVE:
            self.wrong.append(f"a book of version {version} came while the market was {self.states()[-1]}")


@contextlib.asynccontextmanager
async def true_market(venue: str, **settings: object) -> AsyncIterator[TrueMarket]:
    """Run a sandbox with a still book that the test moves."""
    told = {"venue": VenueName(venue), "source": Source.STILL, "symbols": (MARKET,), **settings}
    running = await start(msgspec.convert(told, SandboxConfig, strict=False))
    try:
        yield TrueMarket(running)
    finally:
        await running.close()


def market_config(running: RunningSandbox, **changes: float) -> WireConfig:
    """Return how an adapter reaches the sandbox, with short waits."""
    told = running.announcement
    wanted: dict[str, object] = {
        "venue": told.venue, "rest_url": told.rest_url, "ws_url": told.ws_url, "ws_api_url": told.ws_api_url,
        "request_timeout_s": 1.0, "ack_timeout_s": 0.5, "connect_timeout_s": 2.0, "ping_interval_s": 0.2,
        "pong_timeout_s": 0.3, "reconnect_first_s": 0.02, "reconnect_most_s": 0.2, "clock_interval_s": 0.05,
        "stale_after_s": 5.0, **changes,
    }  # fmt: skip
    return msgspec.convert(wanted, WireConfig)


def make_market(running: RunningSandbox, **changes: float) -> MexcMarket | BinanceMarket:
    """Return the venue's public side, not opened yet."""
    make = MexcMarket if running.announcement.venue == "mexc" else BinanceMarket
    return make(market_config(running, **changes))


@contextlib.asynccontextmanager
async def watched(
    true: TrueMarket, streams: Streams, **changes: float
) -> AsyncIterator[tuple[MexcMarket | BinanceMarket, TruthSink]]:
    """Open the public side over a sink that knows the truth."""
    market, sink = make_market(true.running, **changes), TruthSink(true)
    sink.version = lambda: version_of(market)
    try:
        await market.open((TOKEN,), streams, sink)
        yield market, sink
    finally:
        await market.close()


def version_of(market: MexcMarket | BinanceMarket) -> int:
    """Return the venue's version of the book that the adapter has."""
    if isinstance(market, MexcMarket):
        return market._feeds[TOKEN].version
    return market._feeds[MARKET].builder.version


async def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def seconds(number: float) -> int:
    """Return seconds in nanoseconds."""
    return int(number * NANOSECONDS_PER_SECOND)

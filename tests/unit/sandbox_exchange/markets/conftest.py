"""A sandbox exchange with a background, stepped by hand."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.flow import FlowShape, grid_of
from services.sandbox_exchange.core.flow_candles import CandlePath, TickCandle
from services.sandbox_exchange.core.flow_market import MarketFlow
from services.sandbox_exchange.core.flow_synthetic import PriceShape, SyntheticPrice
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    AccountTrade,
    Event,
    Market,
    OrderKind,
    PlaceOrder,
    PublicTrade,
    TradePrinted,
    VenueOrder,
)
from services.sandbox_exchange.markets.runner import MarketRunner
from shared.messages import Instrument, Side, TimeInForce

STEP_NS = 50_000_000
SYMBOL = "ABCUSDT"


def market_of(tick: str = "0.01", step: str = "0.001", notional_min: str = "1") -> Market:
    grid = (Decimal(tick), Decimal(step), Decimal(step), Decimal(notional_min))
    return Market(symbol=SYMBOL, instrument=Instrument("ABC-USDT", "ABC", "USDT", *grid))


class Sandbox:
    """Hold one market with its background, its time and its trader."""

    def __init__(self, market: Market, flow: MarketFlow, exchange: SandboxExchange | None = None) -> None:
        self.now_ns = 1_700_000_000_000_000_000
        self.events: list[Event] = []
        is_new = exchange is None
        self.exchange = SandboxExchange() if exchange is None else exchange
        if is_new:
            self.exchange.list_market(market)
            deposits = {"ABC": Decimal(10_000_000), "USDT": Decimal(1_000_000_000)}
            self.exchange.open_account(Account("trader", "key", "secret"), deposits, self.now_ns)
        self.flow = flow
        self.runner = MarketRunner(self.exchange, {market.symbol: flow}, now_ns=lambda: self.now_ns)
        self.house = self.runner.houses[market.symbol]
        self.by_candle: dict[int, list[PublicTrade]] = {}
        self.exchange.listen(self._note)

    def _note(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, TradePrinted):
            self.by_candle.setdefault(self.flow.volume_id - 1, []).append(event.trade)

    @property
    def market(self) -> Market:
        return self.exchange.markets[SYMBOL]

    @property
    def trades(self) -> list[PublicTrade]:
        return [event.trade for event in self.events if isinstance(event, TradePrinted)]

    def run(self, seconds: float, each_step: Callable[[], None] | None = None) -> None:
        for _ in range(round(seconds * 20)):
            self.now_ns += STEP_NS
            self.runner.step(0.05)
            if each_step is not None:
                each_step()

    def mid(self) -> float:
        depth = self.exchange.depth(SYMBOL, 1)
        return float(depth.bids[0][0] + depth.asks[0][0]) / 2

    def trade(
        self, side: Side, quantity: Decimal, price: Decimal | None = None
    ) -> tuple[VenueOrder, tuple[AccountTrade, ...]]:
        kind = OrderKind.MARKET if price is None else OrderKind.LIMIT
        request = PlaceOrder("trader", SYMBOL, side, kind, quantity, None, price, TimeInForce.GTC)
        return self.exchange.place(request, self.now_ns)

    def check(self) -> None:
        """Assert what must hold after every step."""
        depth = self.exchange.depth(SYMBOL)
        bids, asks = [price for price, _ in depth.bids], [price for price, _ in depth.asks]
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        if bids and asks:
            assert bids[0] < asks[0]
        tick, step = self.market.instrument.tick_size, self.market.instrument.step_size
        assert all(price % tick == 0 and size % step == 0 and size > 0 for price, size in (*depth.bids, *depth.asks))
        makers = self.flow.makers
        known = [(one.order_id, one.ticks) for one in (*makers.bids.orders, *makers.asks.orders)]
        resting = [(one.order_id, int((one.price or 0) / tick)) for one in self.exchange.open_orders(HOUSE, SYMBOL)]
        assert sorted(known) == sorted(resting)
        assert [one.ticks for one in makers.bids.orders] == sorted((t.ticks for t in makers.bids.orders), reverse=True)


def synthetic(
    *,
    seed: int = 1,
    price: float = 100.0,
    volatility: float = 0.06,
    time_factor: float = 60.0,
    market: Market | None = None,
    shape: FlowShape | None = None,
    exchange: SandboxExchange | None = None,
) -> Sandbox:
    market = market or market_of()
    draw = np.random.Generator(np.random.PCG64(seed))
    jumps = 3.0 if volatility else 0.0
    path_shape = PriceShape(volatility_daily=volatility, jumps_daily=jumps, jump_size=0.3 * volatility)
    path = SyntheticPrice(path_shape, price / float(market.instrument.tick_size), draw, time_factor=time_factor)
    if not volatility:
        path.state = msgspec.structs.replace(path.state, left_s=1e12)
    return Sandbox(market, MarketFlow(shape or FlowShape(), grid_of(market), path, draw), exchange)


def historical(candles: Sequence[TickCandle], *, speed: float, seed: int = 1, interval_s: float = 60.0) -> Sandbox:
    market, draw = market_of(), np.random.Generator(np.random.PCG64(seed))
    path = CandlePath(candles, interval_s, draw, speed=speed)
    return Sandbox(market, MarketFlow(FlowShape(), grid_of(market), path, draw))


@pytest.fixture(scope="session")
def make_synthetic() -> Callable[..., Sandbox]:
    return synthetic


@pytest.fixture(scope="session")
def make_historical() -> Callable[..., Sandbox]:
    return historical

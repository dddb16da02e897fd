"""The house's hand: it carries out what a market's flow wants, and tells the flow what became of it.

In: actions in ticks and lots, the venue's events. Out: the house's orders at the exchange. Never: an order of anybody
else, a flow that believes in an order that rests no more.
"""

from collections import Counter
from decimal import Decimal

from services.sandbox_exchange.core.flow import Action, Pull, Quote, Take, grid_of
from services.sandbox_exchange.core.flow_market import MarketFlow
from services.sandbox_exchange.core.model import (
    HOUSE,
    Market,
    OrderKind,
    PlaceOrder,
    Refusal,
    RefusalCode,
    TradingStatus,
    VenueOrder,
)
from services.sandbox_exchange.core.port import Exchange
from shared.matching.exact import floor_units, multiply
from shared.messages import Side, TimeInForce

SWEEPS_MAX = 5


class House:
    """Trade one market for the house."""

    def __init__(self, exchange: Exchange, market: Market, flow: MarketFlow) -> None:
        self.flow = flow
        self.refused: Counter[RefusalCode] = Counter()
        self._exchange, self._market = exchange, market
        self._touched: dict[tuple[Side, Decimal], Decimal] = {}
        self._own: tuple[Side, Decimal] | None = None

    @property
    def is_trading(self) -> bool:
        """Tell whether the market takes orders."""
        return self._market.status is TradingStatus.TRADING

    def step(self, elapsed_s: float, now_ns: int) -> None:
        """Let wall time pass in the market."""
        self._look_after()
        for actions in self.flow.step(elapsed_s):
            for action in actions:
                self._carry_out(action, now_ns)
            self._look_after()

    def level_changed(self, side: Side, price: Decimal, quantity: Decimal) -> None:
        """Note that a level of the book changed, by whomever."""
        # One's own quote alone takes nothing away, but it says what lies at a level that somebody emptied before.
        if (side, price) != self._own or (side, price) in self._touched:
            self._touched[side, price] = quantity

    def market_changed(self, market: Market) -> None:
        """Note another description of the market; on another grid nothing of the old quotes is kept."""
        old, new = self._market.instrument, market.instrument
        self._market = market
        if (old.tick_size, old.step_size) != (new.tick_size, new.step_size):
            # A redenomination moves tick and step against each other: the price in ticks stays.
            is_redenomination = multiply(old.tick_size, old.step_size) == multiply(new.tick_size, new.step_size)
            factor = 1.0 if is_redenomination else float(old.tick_size / new.tick_size)
            self.flow.change_grid(grid_of(market), factor)
            self.adopt(market)
        else:
            self.flow.makers.grid = grid_of(market)

    def adopt(self, market: Market) -> None:
        """Take over a market as the exchange has it now, with the house's orders that rest in its book."""
        self._market = market
        self.flow.change_grid(grid_of(market), 1.0)
        self._touched.clear()
        tick, step = self._market.instrument.tick_size, self._market.instrument.step_size
        makers = self.flow.makers
        for order in self._exchange.open_orders(HOUSE, self._market.symbol):
            if order.price is not None and order.quantity is not None:
                lots = floor_units(order.quantity - order.executed_quantity, step)
                ticks = floor_units(order.price, tick)
                makers.rested(order.order_id, is_buy=order.side is Side.BUY, ticks=ticks, lots=lots)

    def _carry_out(self, action: Action, now_ns: int) -> None:
        try:
            match action:
                case Quote():
                    self._quote(action, now_ns)
                case Pull():
                    self._exchange.cancel(HOUSE, self._market.symbol, now_ns, order_id=action.order_id)
                case Take():
                    self._take(action, now_ns)
        except Refusal as refusal:
            # An order that was eaten meanwhile, a market that was paused: the flow goes on with what there is.
            self.refused[refusal.code] += 1

    def _quote(self, quote: Quote, now_ns: int) -> None:
        side = Side.BUY if quote.is_buy else Side.SELL
        self._own = (side, multiply(self._market.instrument.tick_size, Decimal(quote.ticks)))
        try:
            order = self._place(side, quote.ticks, quote.lots, TimeInForce.GTC, now_ns)
        finally:
            self._own = None
        executed = self._lots(order.executed_quantity)
        if executed:
            self.flow.traded(executed)
        if order.status.is_open:
            left = quote.lots - executed
            self.flow.makers.rested(order.order_id, is_buy=quote.is_buy, ticks=quote.ticks, lots=left)

    def _take(self, take: Take, now_ns: int) -> None:
        side = Side.BUY if take.is_buy else Side.SELL
        wanted = take.lots + (self._better(side, take.limit_ticks) if take.clears else 0)
        for _ in range(SWEEPS_MAX):
            lots = self.flow.makers.grid.bounded(wanted, take.limit_ticks)
            order = self._place(side, take.limit_ticks, lots, TimeInForce.IOC, now_ns)
            self.flow.traded(self._lots(order.executed_quantity))
            wanted -= lots
            if wanted <= 0:
                break

    def _better(self, side: Side, limit_ticks: int) -> int:
        depth = self._exchange.depth(self._market.symbol)
        limit = multiply(self._market.instrument.tick_size, Decimal(limit_ticks))
        levels = depth.asks if side is Side.BUY else depth.bids
        return sum(
            self._lots(quantity)
            for price, quantity in levels
            if price != limit and (price < limit) == (side is Side.BUY)
        )

    def _place(self, side: Side, ticks: int, lots: int, force: TimeInForce, now_ns: int) -> VenueOrder:
        instrument = self._market.instrument
        request = PlaceOrder(
            HOUSE,
            self._market.symbol,
            side,
            OrderKind.LIMIT,
            quantity=multiply(instrument.step_size, Decimal(lots)),
            price=multiply(instrument.tick_size, Decimal(ticks)),
            time_in_force=force,
        )
        return self._exchange.place(request, now_ns)[0]

    def _lots(self, quantity: Decimal) -> int:
        return floor_units(quantity, self._market.instrument.step_size) if quantity else 0

    def _look_after(self) -> None:
        """Forget the house's orders that rest no more at the levels that changed."""
        touched, self._touched = self._touched, {}
        makers = self.flow.makers
        for (side, price), quantity in touched.items():
            ladder = makers.bids if side is Side.BUY else makers.asks
            ticks = floor_units(price, self._market.instrument.tick_size)
            for order in [one for one in ladder.orders if one.ticks == ticks]:
                if not quantity or not self._rests(order.order_id):
                    ladder.drop(order.order_id)

    def _rests(self, order_id: int) -> bool:
        try:
            self._exchange.order(HOUSE, self._market.symbol, order_id=order_id)
        except Refusal:
            return False
        return True

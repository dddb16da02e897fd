"""One market: its book, its levels and their versions, its public trades.

In: orders that were checked, cancels. Out: what the engine made of them; level events with versions without gaps.
Never: a level whose quantity differs from what the engine holds there.
"""

from collections import deque
from collections.abc import Iterator
from decimal import Decimal

from services.sandbox_exchange.core.candles import Candles
from services.sandbox_exchange.core.events import Events
from services.sandbox_exchange.core.intervals import DAY_NS
from services.sandbox_exchange.core.model import (
    Depth,
    LevelChanged,
    Market,
    PublicTrade,
    Refusal,
    RefusalCode,
    Ticker,
    TradePrinted,
)
from services.sandbox_exchange.core.orders import OrderRecord
from shared.matching import Execution, MatchingEngine, NewOrder, Outcome
from shared.matching.exact import add, subtract, whole_units
from shared.messages import Side, TimeInForce

ZERO = Decimal(0)


class MarketBook:
    """Hold one market's engine and what everybody may see of it."""

    def __init__(self, market: Market, events: Events, trades_kept: int) -> None:
        self.market = market
        self.engine = MatchingEngine(market.instrument)
        self.resting: dict[str, OrderRecord] = {}  # by the engine's order id
        self.version = 0
        self.last_trade_id = 0
        self.trades: deque[PublicTrade] = deque(maxlen=trades_kept)
        self.levels: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}
        self.candles = Candles()
        self._events = events

    def change(self, market: Market) -> None:
        """Take over a new description; MALFORMED when an order rests off its grid."""
        old, new = self.market.instrument, market.instrument
        if (old.tick_size, old.step_size) != (new.tick_size, new.step_size):
            resting = list(self.in_order())
            for order, rest in resting:
                if whole_units(order.price or ZERO, new.tick_size) is None or whole_units(rest, new.step_size) is None:
                    raise Refusal(RefusalCode.MALFORMED, f"order {order.order_id} rests off the new grid")
            self.engine = MatchingEngine(new)
            for order, rest in resting:
                self.engine.submit(new_order(order, rest, None, TimeInForce.GTC))
        self.market = market

    def in_order(self) -> Iterator[tuple[OrderRecord, Decimal]]:
        """Yield the resting orders and their rests, each side as it would fill."""
        for side in (Side.BUY, Side.SELL):
            for engine_id in self.engine.order_ids(side):
                rest = self.engine.resting_quantity(engine_id)
                assert rest is not None
                yield self.resting[engine_id], rest

    def restore(self, resting: list[tuple[OrderRecord, Decimal]]) -> None:
        """Put orders and their rests into the empty book; they come as they would fill."""
        for order, rest in resting:
            self.engine.submit(new_order(order, rest, None, TimeInForce.GTC))
            assert order.price is not None
            levels = self.levels[order.side]
            levels[order.price] = add(levels.get(order.price, ZERO), rest)
        for order in sorted([order for order, _ in resting], key=lambda one: one.order_id):
            self.resting[str(order.order_id)] = order

    def best(self, side: Side) -> Decimal | None:
        """Return the best price of one side, or None."""
        return self.engine.best_bid() if side is Side.BUY else self.engine.best_ask()

    def would_take(self, side: Side, price: Decimal) -> bool:
        """Tell whether an order at that price would meet a resting one."""
        best = self.best(side.opposite)
        if best is None:
            return False
        return price >= best if side is Side.BUY else price <= best

    def submit(
        self,
        order: OrderRecord,
        *,
        quantity: Decimal | None,
        quote_amount: Decimal | None,
        time_in_force: TimeInForce,
    ) -> Outcome:
        """Let the engine match an order, or a part of one."""
        return self.engine.submit(new_order(order, quantity, quote_amount, time_in_force))

    def rest(self, order: OrderRecord, quantity: Decimal, now_ns: int) -> None:
        """Note that the engine keeps that much of an order."""
        assert order.price is not None
        self.resting[str(order.order_id)] = order
        levels = self.levels[order.side]
        total = levels[order.price] = add(levels.get(order.price, ZERO), quantity)
        self.tell_level(order.side, order.price, total, now_ns)

    def unrest(self, order: OrderRecord, quantity: Decimal, now_ns: int) -> None:
        """Note that the engine gave up that much of a resting order, which ended."""
        assert order.price is not None
        del self.resting[str(order.order_id)]
        self.tell_level(order.side, order.price, self.shrink(order.side, order.price, quantity), now_ns)

    def shrink(self, side: Side, price: Decimal, quantity: Decimal) -> Decimal:
        """Take from a level and return what is left."""
        levels = self.levels[side]
        left = subtract(levels[price], quantity)
        if left:
            levels[price] = left
        else:
            del levels[price]
        return left

    def tell_level(self, side: Side, price: Decimal, quantity: Decimal, now_ns: int) -> None:
        """Count a level's change and tell everybody."""
        self.version += 1
        if self._events.wanted:
            self._events.add(LevelChanged(self.market.symbol, self.version, side, price, quantity, now_ns))

    def print_trade(self, execution: Execution, notional: Decimal, now_ns: int) -> int:
        """Put an execution on the tape and return its trade id."""
        self.last_trade_id += 1
        trade = PublicTrade(
            self.market.symbol,
            self.last_trade_id,
            execution.price,
            execution.quantity,
            execution.taker_side,
            now_ns,
        )
        self.trades.append(trade)
        self.candles.trade(execution.taker_side, execution.price, execution.quantity, notional, now_ns=now_ns)
        if self._events.wanted:
            self._events.add(TradePrinted(trade))
        return self.last_trade_id

    def depth(self, levels_max: int | None) -> Depth:
        """Return the book as the engine holds it."""
        bids, asks = (
            tuple([(level.price, level.quantity) for level in self.engine.depth(side, levels_max)])
            for side in (Side.BUY, Side.SELL)
        )
        return Depth(self.market.symbol, self.version, bids, asks)

    def ticker(self, now_ns: int) -> Ticker:
        """Return the last 24 hours, to the minute."""
        bid, ask, last = self.best(Side.BUY), self.best(Side.SELL), self.candles.last_price()
        start_ns = now_ns - DAY_NS
        day = self.candles.since(start_ns)
        return Ticker(
            symbol=self.market.symbol,
            last=last,
            open=last if day is None else day.open,
            high=last if day is None else day.high,
            low=last if day is None else day.low,
            volume=ZERO if day is None else day.volume,
            quote_volume=ZERO if day is None else day.quote_volume,
            bid=bid,
            bid_quantity=None if bid is None else self.levels[Side.BUY][bid],
            ask=ask,
            ask_quantity=None if ask is None else self.levels[Side.SELL][ask],
            trades=0 if day is None else day.trades,
            open_ns=start_ns,
            close_ns=now_ns,
        )


def new_order(
    order: OrderRecord, quantity: Decimal | None, quote_amount: Decimal | None, time_in_force: TimeInForce
) -> NewOrder:
    """Return an order, or a part of one, as the engine takes it."""
    return NewOrder(
        str(order.order_id),
        order.account,
        order.side,
        quantity,
        quote_amount,
        order.price,
        time_in_force,
        order.self_trade,
    )

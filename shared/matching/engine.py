"""One instrument's matching engine: Decimal in and out, whole ticks and lots inside.

In: new orders and cancels, one after the other. Out: executions with fees, and what became of each order.
Never: a crossed book after a call, a quantity or an amount that appears or vanishes, a look at a clock or a dice.
"""

from collections.abc import Sequence
from decimal import Decimal

from shared.matching.book import Book, BookSide, RestingOrder, Taker
from shared.matching.exact import floor_units, is_amount, multiply, subtract, whole_units
from shared.matching.fees import FeeSchedule, fee_of
from shared.matching.orders import BookLevel, Execution, NewOrder, Outcome, OutcomeReason, OutcomeState
from shared.messages.base import Side
from shared.messages.instrument import Instrument
from shared.messages.order import Liquidity, TimeInForce

ZERO = Decimal(0)


class MatchingEngine:
    """Match the orders of one instrument by price, then by time."""

    def __init__(
        self,
        instrument: Instrument,
        fees: FeeSchedule | None = None,
        *,
        third_asset_price: Decimal | None = None,
    ) -> None:
        self.instrument = instrument
        self._fees = fees or FeeSchedule()
        self._third_asset_price = third_asset_price
        self._book = Book()
        self._executions = 0
        self._money_unit = multiply(instrument.tick_size, instrument.step_size)

    def submit(self, order: NewOrder) -> Outcome:
        """Handle a new order and return what became of it; a rejected order changed nothing."""
        if order.order_id in self._book.orders:
            return _rejected(order, OutcomeReason.ORDER_ID_TAKEN)
        taker = self._taker(order)
        if isinstance(taker, OutcomeReason):
            return _rejected(order, taker)
        force = order.time_in_force
        if force is TimeInForce.POST_ONLY and taker.limit is not None and self._book.crosses(taker.is_buy, taker.limit):
            return _rejected(order, OutcomeReason.POST_ONLY_WOULD_TAKE)
        if force is TimeInForce.FOK and not self._book.can_fill(taker):
            return self._canceled(order, taker, OutcomeReason.FOK_UNFILLABLE)
        matches, removed = self._book.match(taker)
        executions = tuple([self._execution(order, maker, lots) for maker, lots in matches])
        canceled_makers = tuple([(maker.order_id, self._quantity(maker.remaining)) for maker in removed])
        return self._settle(order, taker, executions, canceled_makers)

    def cancel(self, order_id: str) -> Decimal | None:
        """Take an order out and return its rest; None, and no change, when no such order rests."""
        order = self._book.cancel(order_id)
        return None if order is None else self._quantity(order.remaining)

    def resting_quantity(self, order_id: str) -> Decimal | None:
        """Return what rests of an order, or None when no such order rests."""
        order = self._book.orders.get(order_id)
        return None if order is None else self._quantity(order.remaining)

    def best_bid(self) -> Decimal | None:
        """Return the highest resting buy price, or None."""
        return self._price_or_none(self._book.bids.best_price())

    def best_ask(self) -> Decimal | None:
        """Return the lowest resting sell price, or None."""
        return self._price_or_none(self._book.asks.best_price())

    def depth(self, side: Side, levels_max: int | None = None) -> Sequence[BookLevel]:
        """Return the side's levels, best first, at most `levels_max` of them."""
        book_side = self._side(side)
        keys = book_side.keys[::-1][:levels_max]
        return [
            BookLevel(
                price=self._price(book_side.sign * key),
                quantity=self._quantity(sum(order.remaining for order in book_side.levels[key].values())),
                orders=len(book_side.levels[key]),
            )
            for key in keys
        ]

    def order_ids(self, side: Side) -> list[str]:
        """Return the side's orders in the order in which they would fill."""
        book_side = self._side(side)
        return [order_id for key in reversed(book_side.keys) for order_id in book_side.levels[key]]

    def _taker(self, order: NewOrder) -> Taker | OutcomeReason:
        is_market = order.limit_price is None
        limit = lots = budget = None
        if (order.quantity is None) == (order.quote_amount is None):
            return OutcomeReason.MALFORMED
        if order.limit_price is not None:
            if not order.limit_price.is_finite() or order.limit_price <= 0:
                return OutcomeReason.MALFORMED
            limit = whole_units(order.limit_price, self.instrument.tick_size)
            if limit is None:
                return OutcomeReason.OFF_GRID
        may_rest = order.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)
        if (is_market and order.time_in_force is TimeInForce.POST_ONLY) or (
            not is_market and order.quote_amount is not None and may_rest
        ):
            return OutcomeReason.MALFORMED
        if order.quantity is not None:
            if not order.quantity.is_finite() or order.quantity <= 0:
                return OutcomeReason.MALFORMED
            lots = whole_units(order.quantity, self.instrument.step_size)
            if lots is None:
                return OutcomeReason.OFF_GRID
        if order.quote_amount is not None:
            if not is_amount(order.quote_amount):
                return OutcomeReason.MALFORMED
            budget = floor_units(order.quote_amount, self._money_unit)
        return Taker(order.order_id, order.owner, order.side is Side.BUY, limit, lots, budget, order.self_trade)

    def _settle(
        self,
        order: NewOrder,
        taker: Taker,
        executions: tuple[Execution, ...],
        canceled_makers: tuple[tuple[str, Decimal], ...],
    ) -> Outcome:
        if taker.budget is not None:
            return self._settle_by_quote(order, taker, executions, canceled_makers)
        remaining = taker.remaining or 0
        state, reason = OutcomeState.FILLED, OutcomeReason.NONE
        resting = canceled = ZERO
        if remaining and taker.stopped_by_self_trade:
            state, reason, canceled = OutcomeState.CANCELED, OutcomeReason.SELF_TRADE, self._quantity(remaining)
        elif remaining and taker.limit is not None and order.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY):
            state, resting = OutcomeState.RESTING, self._quantity(remaining)
            self._book.rest(RestingOrder(order.order_id, order.owner, taker.is_buy, taker.limit, remaining))
        elif remaining:
            state, reason, canceled = OutcomeState.CANCELED, OutcomeReason.UNFILLED, self._quantity(remaining)
        return Outcome(order.order_id, state, reason, executions, resting, canceled, None, canceled_makers)

    def _settle_by_quote(
        self,
        order: NewOrder,
        taker: Taker,
        executions: tuple[Execution, ...],
        canceled_makers: tuple[tuple[str, Decimal], ...],
    ) -> Outcome:
        unspent = order.quote_amount or ZERO
        for execution in executions:
            unspent = subtract(unspent, multiply(execution.price, execution.quantity))
        state, reason = OutcomeState.FILLED, OutcomeReason.NONE
        if taker.stopped_by_self_trade:
            state, reason = OutcomeState.CANCELED, OutcomeReason.SELF_TRADE
        elif not executions or (taker.budget or 0) >= self._ticks(executions[-1].price):
            state, reason = OutcomeState.CANCELED, OutcomeReason.UNFILLED
        return Outcome(order.order_id, state, reason, executions, ZERO, None, unspent, canceled_makers)

    def _canceled(self, order: NewOrder, taker: Taker, reason: OutcomeReason) -> Outcome:
        canceled = None if taker.remaining is None else self._quantity(taker.remaining)
        return Outcome(
            order.order_id, OutcomeState.CANCELED, reason, canceled_quantity=canceled, unspent_quote=order.quote_amount
        )

    def _execution(self, order: NewOrder, maker: RestingOrder, lots: int) -> Execution:
        self._executions += 1
        price, quantity = self._price(maker.price), self._quantity(lots)
        taker_fee, taker_fee_asset = self._fee(order.side, Liquidity.TAKER, price, quantity)
        maker_fee, maker_fee_asset = self._fee(order.side.opposite, Liquidity.MAKER, price, quantity)
        return Execution(
            self._executions,
            price,
            quantity,
            order.side,
            order.order_id,
            order.owner,
            maker.order_id,
            maker.owner,
            self._quantity(maker.remaining),
            taker_fee,
            taker_fee_asset,
            maker_fee,
            maker_fee_asset,
        )

    def _fee(self, side: Side, liquidity: Liquidity, price: Decimal, quantity: Decimal) -> tuple[Decimal, str]:
        return fee_of(
            self._fees,
            self.instrument,
            side,
            liquidity,
            price=price,
            quantity=quantity,
            third_asset_price=self._third_asset_price,
        )

    def _side(self, side: Side) -> BookSide:
        return self._book.bids if side is Side.BUY else self._book.asks

    def _ticks(self, price: Decimal) -> int:
        return floor_units(price, self.instrument.tick_size)

    def _price(self, ticks: int) -> Decimal:
        return multiply(self.instrument.tick_size, ticks)

    def _price_or_none(self, ticks: int | None) -> Decimal | None:
        return None if ticks is None else self._price(ticks)

    def _quantity(self, lots: int) -> Decimal:
        return multiply(self.instrument.step_size, lots)


def _rejected(order: NewOrder, reason: OutcomeReason) -> Outcome:
    canceled = ZERO if order.quantity is not None else None
    return Outcome(order.order_id, OutcomeState.REJECTED, reason, canceled_quantity=canceled)

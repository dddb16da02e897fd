"""The money of orders: what an order locks, what an execution moves, what its end releases.

In: orders, executions. Out: booked holdings, account trades, order events.
Never: more spent than was locked, a fee that appears in no account.
"""

from decimal import Decimal

from services.sandbox_exchange.core.accounts import Accounts
from services.sandbox_exchange.core.events import Events
from services.sandbox_exchange.core.history import History
from services.sandbox_exchange.core.model import (
    HOUSE,
    AccountTrade,
    FeeSettings,
    Market,
    OrderChanged,
    OrderStatus,
)
from services.sandbox_exchange.core.orders import OrderRecord, Orders
from shared.matching import Execution, FeeMode
from shared.matching.exact import add, ceil_units, multiply, subtract
from shared.messages import Side

ZERO = Decimal(0)


class Settlement:
    """Book locks, executions and releases."""

    def __init__(self, accounts: Accounts, orders: Orders, history: History, events: Events, fees: FeeSettings) -> None:
        self._accounts, self._orders, self._history, self._events = accounts, orders, history, events
        self.fees = fees

    def lock(self, order: OrderRecord, now_ns: int) -> None:
        """Move what the order needs from free to locked."""
        self._accounts.change(
            order.account, order.lock_asset, -order.locked, order.locked, reason="place", now_ns=now_ns
        )

    def end(self, order: OrderRecord, status: OrderStatus, now_ns: int) -> None:
        """End an order that is not filled: close it, tell its owner, release what is locked."""
        order.status, order.updated_ns = status, now_ns
        self._close(order)
        if order.account == HOUSE:
            return
        if order.quote_amount is not None:
            order.quantity = order.executed_quantity
        self.tell(order, None)
        self.release(order, now_ns, "cancel")

    def release(self, order: OrderRecord, now_ns: int, reason: str) -> None:
        """Move what is still locked for an order back to free."""
        if order.locked:
            self._accounts.change(
                order.account, order.lock_asset, order.locked, -order.locked, reason=reason, now_ns=now_ns
            )
            order.locked = ZERO

    def tell(self, order: OrderRecord, trade: AccountTrade | None) -> None:
        """Tell the owner how the order stands."""
        if self._events.wanted and order.account != HOUSE:
            self._events.add(OrderChanged(order.snapshot(), trade))

    def execute(
        self,
        order: OrderRecord,
        counterparty: str,
        market: Market,
        execution: Execution,
        trade_id: int,
        *,
        notional: Decimal,
        is_maker: bool,
        is_last: bool,
        now_ns: int,
    ) -> AccountTrade | None:
        """Book one side of an execution; `is_last` says that the order is filled by it. None for the house."""
        order.executed_quantity = add(order.executed_quantity, execution.quantity)
        order.executed_quote = add(order.executed_quote, notional)
        order.status = OrderStatus.FILLED if is_last else OrderStatus.PARTIALLY_FILLED
        order.updated_ns = now_ns
        self._orders.touch(order)
        if order.account == HOUSE:
            if counterparty != HOUSE:
                self._move(order, market, execution.quantity, notional, now_ns)
            if is_last:
                self._close(order)
            return None
        if is_last:
            self._close(order)
            if order.quote_amount is not None:
                order.quantity = order.executed_quantity
        fee, fee_asset, is_third = self._fee(order, market, execution, notional, is_maker)
        trade = AccountTrade(
            trade_id,
            order.order_id,
            order.client_order_id,
            order.account,
            market.symbol,
            order.side,
            execution.price,
            execution.quantity,
            notional,
            fee,
            fee_asset,
            is_maker,
            counterparty == order.account,
            now_ns,
        )
        self._history.add(trade)
        self.tell(order, trade)
        self._book(order, market, trade, is_third=is_third)
        return trade

    def _close(self, order: OrderRecord) -> None:
        self._orders.close(order)
        self._history.end(order)

    def _move(self, order: OrderRecord, market: Market, quantity: Decimal, notional: Decimal, now_ns: int) -> None:
        base, quote = market.instrument.base, market.instrument.quote
        is_buy = order.side is Side.BUY
        self._accounts.change(
            order.account, base, quantity if is_buy else -quantity, ZERO, reason="trade", now_ns=now_ns
        )
        self._accounts.change(
            order.account, quote, -notional if is_buy else notional, ZERO, reason="trade", now_ns=now_ns
        )

    def _book(self, order: OrderRecord, market: Market, trade: AccountTrade, *, is_third: bool) -> None:
        is_buy = order.side is Side.BUY
        base, quote = market.instrument.base, market.instrument.quote
        spent, got = (trade.quote_quantity, trade.quantity) if is_buy else (trade.quantity, trade.quote_quantity)
        got_asset = base if is_buy else quote
        if not is_third and trade.fee_asset == order.lock_asset:
            spent = add(spent, trade.fee)
        elif not is_third:
            got = subtract(got, trade.fee)
        left = _lock_left(order, spent)
        freed = subtract(order.locked, left)
        assert freed >= spent, f"order {order.order_id} spends {spent} {order.lock_asset}, {freed} of it was locked"
        order.locked = left
        change, now_ns = self._accounts.change, trade.time_ns
        change(order.account, order.lock_asset, subtract(freed, spent), -freed, reason="trade", now_ns=now_ns)
        change(order.account, got_asset, got, ZERO, reason="trade", now_ns=now_ns)
        if is_third and trade.fee:
            change(order.account, trade.fee_asset, -trade.fee, ZERO, reason="fee", now_ns=now_ns)
        if trade.fee:
            self._accounts.take_fee(trade.fee_asset, trade.fee)

    def _fee(
        self, order: OrderRecord, market: Market, execution: Execution, notional: Decimal, is_maker: bool
    ) -> tuple[Decimal, str, bool]:
        instrument, mode = market.instrument, order.fees.mode
        rate = order.fees.maker_rate if is_maker else order.fees.taker_rate
        if mode is FeeMode.THIRD:
            fee, asset = self._third_fee(multiply(notional, rate))
            if asset is not None and self._accounts.free(order.account, asset) >= fee:
                return fee, asset, True
        is_base = mode is FeeMode.BASE or (mode in (FeeMode.GET, FeeMode.THIRD) and order.side is Side.BUY)
        if is_base:
            return multiply(execution.quantity, rate), instrument.base, False
        return multiply(notional, rate), instrument.quote, False

    def _third_fee(self, quote_fee: Decimal) -> tuple[Decimal, str | None]:
        settings = self.fees
        if settings.third_asset is None or settings.third_asset_price is None:
            return ZERO, None
        step = settings.third_asset_step
        steps = ceil_units(quote_fee, multiply(settings.third_asset_price, step))
        return multiply(step, Decimal(steps)), settings.third_asset


def _lock_left(order: OrderRecord, spent: Decimal) -> Decimal:
    if order.price is None or order.quantity is None:
        return ZERO if order.status is OrderStatus.FILLED else subtract(order.locked, spent)
    remaining = subtract(order.quantity, order.executed_quantity)
    amount = multiply(order.price, remaining) if order.side is Side.BUY else remaining
    return order.fees.to_lock(order.side, amount)

"""How an order comes in: checks, lock, matching, booking, rest.

In: a request. Out: the order and its executions, everything booked. Never: a refusal after a change.
"""

from collections.abc import Mapping
from decimal import Decimal

from services.sandbox_exchange.core import checks
from services.sandbox_exchange.core.accounts import ZERO, Accounts
from services.sandbox_exchange.core.market import MarketBook
from services.sandbox_exchange.core.model import (
    HOUSE,
    AccountTrade,
    Market,
    OrderKind,
    OrderStatus,
    Permission,
    PlaceOrder,
    Refusal,
    RefusalCode,
    VenueOrder,
)
from services.sandbox_exchange.core.needs import needed
from services.sandbox_exchange.core.orders import FeeTerms, OrderRecord, Orders
from services.sandbox_exchange.core.settlement import Settlement
from shared.matching import Execution, FeeMode, Outcome, OutcomeReason, OutcomeState
from shared.matching.exact import floor_to, multiply, subtract
from shared.messages import Side, TimeInForce


class Placing:
    """Take orders in."""

    def __init__(
        self,
        books: Mapping[str, MarketBook],
        accounts: Accounts,
        orders: Orders,
        settlement: Settlement,
        *,
        open_orders_max: int | None,
    ) -> None:
        self._books, self._accounts, self._orders, self._settlement = books, accounts, orders, settlement
        self._open_orders_max = open_orders_max

    def check(
        self, request: PlaceOrder, *, accept_duplicate_id: bool, fee_mode: FeeMode | None
    ) -> tuple[MarketBook, FeeTerms, str, Decimal]:
        """Raise a Refusal, or return the market, the fees, and the asset and amount that must be locked."""
        book = self._books.get(request.symbol)
        if book is None:
            raise Refusal(RefusalCode.SYMBOL_UNKNOWN, f"no market {request.symbol}")
        market = book.market
        self._accounts.may(request.account, Permission.TRADE)
        checks.check_status(market, request)
        checks.check_shape(request)
        checks.check_filters(market, request, book.best(request.side.opposite) if request.price is None else None)
        if checks.is_post_only(request) and request.price is not None and book.would_take(request.side, request.price):
            raise Refusal(RefusalCode.WOULD_TAKE, f"{request.side} at {request.price} would take")
        terms = FeeTerms(market.maker_rate, market.taker_rate, fee_mode or self._settlement.fees.mode)
        if request.account == HOUSE:
            return book, terms, "", ZERO
        client_id = request.client_order_id
        if client_id and not accept_duplicate_id and self._orders.is_client_id_open(request.account, client_id):
            raise Refusal(RefusalCode.CLIENT_ID_TAKEN, f"client order id {client_id} is in use")
        self._check_count(request, market)
        asset, amount = needed(book, request, terms)
        self._accounts.require(request.account, asset, amount)
        return book, terms, asset, amount

    def _check_count(self, request: PlaceOrder, market: Market) -> None:
        for count, most in (
            (self._orders.open_count(request.account), self._open_orders_max),
            (self._orders.open_count(request.account, market.symbol), market.orders_max),
        ):
            if most is not None and count >= most:
                raise Refusal(RefusalCode.ORDERS_MAX, f"{count} orders are open")

    def place(
        self,
        request: PlaceOrder,
        now_ns: int,
        fill_fraction: Decimal | None,
        accept_duplicate_id: bool,
        fee_mode: FeeMode | None,
    ) -> tuple[VenueOrder, tuple[AccountTrade, ...]]:
        """Check, lock, match and book an order."""
        if fill_fraction is not None and not 0 < fill_fraction <= 1:
            raise ValueError(f"fill_fraction must be above 0, at most 1, got {fill_fraction}")
        book, terms, asset, amount = self.check(request, accept_duplicate_id=accept_duplicate_id, fee_mode=fee_mode)
        order = self._new_order(request, terms, asset, amount, now_ns)
        is_house = order.account == HOUSE
        if not is_house:
            self._orders.add(order)
            self._settlement.tell(order, None)
            self._settlement.lock(order, now_ns)
        if fill_fraction is None or order.time_in_force is TimeInForce.FOK or checks.is_post_only(request):
            trades = self._match(
                book, order, order.quantity, order.quote_amount, time_in_force=order.time_in_force, now_ns=now_ns
            )
        else:
            trades = self._match_part(book, order, fill_fraction, now_ns)
        return order.snapshot(), tuple(trades)

    def _new_order(self, request: PlaceOrder, terms: FeeTerms, asset: str, amount: Decimal, now_ns: int) -> OrderRecord:
        order_id = self._orders.next_id()
        return OrderRecord(
            order_id,
            request.client_order_id or f"venue-{order_id}",
            request.account,
            request.symbol,
            request.side,
            request.kind,
            TimeInForce.POST_ONLY if request.kind is OrderKind.LIMIT_MAKER else request.time_in_force,
            OrderStatus.NEW,
            request.price,
            request.quantity,
            request.quote_amount,
            ZERO,
            ZERO,
            request.self_trade,
            now_ns,
            now_ns,
            asset,
            amount,
            terms,
        )

    def _match(
        self,
        book: MarketBook,
        order: OrderRecord,
        quantity: Decimal | None,
        quote_amount: Decimal | None,
        *,
        time_in_force: TimeInForce,
        now_ns: int,
        is_part: bool = False,
    ) -> list[AccountTrade]:
        """Match an order or a part of one, book it, and let the rest rest or end (not the rest of a part)."""
        outcome = book.submit(order, quantity=quantity, quote_amount=quote_amount, time_in_force=time_in_force)
        assert outcome.state is not OutcomeState.REJECTED, f"{order} was checked and is rejected: {outcome.reason}"
        is_filled = outcome.state is OutcomeState.FILLED and not is_part
        trades = self._book_executions(book, order, outcome, is_filled, now_ns)
        for engine_id, rest in outcome.canceled_makers:
            maker = book.resting[engine_id]
            book.unrest(maker, rest, now_ns)
            self._settlement.end(maker, OrderStatus.EXPIRED_IN_MATCH, now_ns)
        if outcome.state is OutcomeState.RESTING:
            if order.account == HOUSE:
                self._orders.add(order)
            book.rest(order, outcome.resting_quantity, now_ns)
        elif outcome.state is OutcomeState.CANCELED and not (is_part and outcome.reason is OutcomeReason.UNFILLED):
            stopped = outcome.reason is OutcomeReason.SELF_TRADE
            status = OrderStatus.EXPIRED_IN_MATCH if stopped else OrderStatus.EXPIRED
            self._settlement.end(order, status, now_ns)
        return trades

    def _book_executions(
        self, book: MarketBook, order: OrderRecord, outcome: Outcome, is_filled: bool, now_ns: int
    ) -> list[AccountTrade]:
        trades: list[AccountTrade] = []
        executions = outcome.executions
        last = len(executions) - 1
        for number, execution in enumerate(executions):
            self._shrink_level(book, order.side.opposite, executions, number, now_ns)
            notional = multiply(execution.price, execution.quantity)
            trade_id = book.print_trade(execution, notional, now_ns)
            maker = book.resting[execution.maker_order_id]
            is_gone = not execution.maker_remaining
            if is_gone:
                del book.resting[execution.maker_order_id]
            for one, other, is_maker, is_last in (
                (maker, order, True, is_gone),
                (order, maker, False, is_filled and number == last),
            ):
                trade = self._settlement.execute(
                    one,
                    other.account,
                    book.market,
                    execution,
                    trade_id,
                    notional=notional,
                    is_maker=is_maker,
                    is_last=is_last,
                    now_ns=now_ns,
                )
                if trade is not None and not is_maker:
                    trades.append(trade)
        return trades

    def _shrink_level(
        self, book: MarketBook, side: Side, executions: tuple[Execution, ...], number: int, now_ns: int
    ) -> None:
        """Take an execution from its level; the level is told once, before its last trade."""
        execution = executions[number]
        left = book.shrink(side, execution.price, execution.quantity)
        if number + 1 == len(executions) or executions[number + 1].price != execution.price:
            book.tell_level(side, execution.price, left, now_ns)

    def _match_part(self, book: MarketBook, order: OrderRecord, fraction: Decimal, now_ns: int) -> list[AccountTrade]:
        """Let only a part match at once. What the house still offers to the rest is withdrawn before it rests."""
        step = book.market.instrument.step_size
        quantity = quote_amount = None
        if order.quantity is not None:
            quantity = max(step, floor_to(multiply(order.quantity, fraction), step))
        if order.quote_amount is not None:
            best = book.best(order.side.opposite) or ZERO
            quote_amount = max(multiply(order.quote_amount, fraction), min(order.quote_amount, multiply(best, step)))
        if quantity == order.quantity and quote_amount == order.quote_amount:
            return self._match(book, order, quantity, quote_amount, time_in_force=order.time_in_force, now_ns=now_ns)
        trades = self._match(
            book, order, quantity, quote_amount, time_in_force=TimeInForce.IOC, now_ns=now_ns, is_part=True
        )
        if not order.status.is_open:
            return trades
        if order.price is None or order.quantity is None or order.time_in_force is not TimeInForce.GTC:
            self._settlement.end(order, OrderStatus.EXPIRED, now_ns)
            return trades
        self._withdraw_house(book, order.side.opposite, order.price, now_ns)
        rest = subtract(order.quantity, order.executed_quantity)
        return trades + self._match(book, order, rest, None, time_in_force=TimeInForce.GTC, now_ns=now_ns)

    def _withdraw_house(self, book: MarketBook, side: Side, limit: Decimal, now_ns: int) -> None:
        for engine_id in book.engine.order_ids(side):
            maker = book.resting[engine_id]
            assert maker.price is not None
            if maker.price > limit if side is Side.SELL else maker.price < limit:
                return
            if maker.account == HOUSE:
                rest = book.engine.cancel(engine_id)
                assert rest is not None
                book.unrest(maker, rest, now_ns)
                self._settlement.end(maker, OrderStatus.CANCELED, now_ns)

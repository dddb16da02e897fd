"""The paper venue's rules over whatever keeps its records: the paper venue's file, or a backtest's memory.

In: orders, cancels and market data. Out: orders, fills and balances, each in the records before it is answered.
Never: a second execution under one client order id; a bar that fills a resting order twice; money from nowhere.
Ids are hashes of the client order id and times are the market's, so that the same input gives the same answers.
"""

import hashlib
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from shared.errors import InputError, IntegrityError
from shared.exchange import paper_account, paper_market, paper_rules
from shared.exchange.paper_market import Market, Taken
from shared.exchange.paper_records import PaperOrder, PaperRecords, venue_order
from shared.exchange.port import OrderRequest, VenueCancelReason, VenueOrder, VenueRejectCode, VenueTrade
from shared.matching import BarFill, FillModel
from shared.matching.exact import add, is_amount, multiply
from shared.messages import (
    Balance,
    Bar,
    BarsClosed,
    Bbo,
    BookSnapshot,
    Fill,
    Instrument,
    OrderState,
    Side,
    TimeInForce,
)

INITIAL_DEPOSIT = "initial"
ZERO = Decimal(0)


class PaperBook:
    """Be a simulated venue whose answers are there at once; `PaperVenue` is the same behind the venue's port.

    `initial_deposit` is credited once, when the records are new. With `durable_books=False`, for feeds of thousands
    of books a second, a book is recorded only together with fills that it caused.
    """

    def __init__(
        self,
        records: PaperRecords,
        *,
        venue: str,
        model: FillModel,
        initial_deposit: Mapping[str, Decimal] | None = None,
        durable_books: bool = True,
    ) -> None:
        self._venue = venue
        self._model = model
        self._store = records
        self._durable_books = durable_books
        self._books: dict[str, Market] = {}
        self._deposit(INITIAL_DEPOSIT, initial_deposit or {})

    @property
    def venue(self) -> str:
        """Return the venue's name, as in subjects."""
        return self._venue

    def close(self) -> None:
        """Let go of the records; closing twice is no error."""
        self._store.close()

    def define_instrument(self, instrument: Instrument) -> None:
        """Make an instrument tradable, or replace its grid; the same definition again changes nothing."""
        known = self._store.instrument(instrument.symbol)
        if known is not None and known[0] == instrument:
            return
        with self._store.transaction():
            known = self._store.instrument(instrument.symbol)
            self._store.save_instrument(instrument, Market() if known is None else known[1])

    def deposit(self, deposit_id: str, amounts: Mapping[str, Decimal]) -> bool:
        """Credit assets once per `deposit_id` and return True; a known id changes nothing and returns False.

        Raises InputError for an amount that is not positive, IntegrityError for a known id with other amounts.
        """
        return self._deposit(deposit_id, amounts)

    def submit(self, request: OrderRequest) -> VenueOrder:
        """Place an order, fill it against the market as far as that goes, and return it.

        The same request under the same client order id returns the order as it now stands.
        Raises RejectedError (nothing was kept), IntegrityError when the id is taken by another request.
        """
        known = self._store.order(request.client_order_id)
        if known is None:
            with self._store.transaction():
                known = self._store.order(request.client_order_id) or self._place(request)
        if known.request != request:
            raise IntegrityError(f"client order id {request.client_order_id} is taken by another request")
        return venue_order(self._store, known)

    def cancel(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Cancel an order and return how it now stands; None when there is no such order."""
        known = self._find(client_order_id, instrument)
        if known is None:
            return None
        if known.is_open:
            with self._store.transaction():
                known = self._cancel(client_order_id)
        return venue_order(self._store, known)

    def query(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Return an order, or None when there is none."""
        known = self._find(client_order_id, instrument)
        return None if known is None else venue_order(self._store, known)

    def open_orders(self, instrument: str | None = None) -> tuple[VenueOrder, ...]:
        """Return the orders that still rest, oldest first."""
        return tuple(venue_order(self._store, order) for order in self._store.open_orders(instrument))

    def trades_since(self, sequence: int, *, limit: int = 1000) -> tuple[VenueTrade, ...]:
        """Return up to `limit` trades with a sequence above `sequence`, oldest first."""
        return tuple(self._store.trades_since(sequence, limit))

    def balances(self) -> tuple[Balance, ...]:
        """Return every asset's free and locked amount, sorted by asset."""
        return tuple(self._store.balances().values())

    def on_bar(self, bar: Bar) -> tuple[VenueTrade, ...]:
        """Take one closed bar and return what it filled; a bar not newer than the last one changes nothing.

        Hand in one timeframe only. Raises InputError for a bar that cannot be, or of an undefined instrument.
        """
        instrument, market = self._market(bar.instrument)
        changed = paper_market.with_bar(market, bar)
        if bar.close_time_ns <= market.bar_time_ns:
            return ()
        trades: list[VenueTrade] = []
        orders = self._by_priority(instrument.symbol)
        # A bar that can fill nothing is on the disk with the next durable change, at the latest the end of its step.
        with self._store.transaction(durable=bool(orders)):
            for order in orders:
                taken = paper_market.fill_from_bar(
                    changed,
                    instrument,
                    self._model,
                    order.request.side,
                    limit_price=_limit_price(order),
                    quantity=order.remaining,
                    bar=bar,
                    rested_since_ns=order.created_at_ns,
                )
                changed = taken.market
                trades += self._book_fills(order, instrument, taken.fills, bar.close_time_ns)[1]
            self._store.save_instrument(instrument, changed)
        return tuple(trades)

    def on_bbo(self, bbo: Bbo) -> tuple[VenueTrade, ...]:
        """Take a best bid and ask and return what it filled; one not newer than the last changes nothing."""
        instrument, market = self._market(bbo.instrument)
        return self._on_book(instrument, market, paper_market.with_bbo(market, instrument, bbo))

    def on_book(self, book: BookSnapshot) -> tuple[VenueTrade, ...]:
        """Take a book snapshot and return what it filled; one not newer than the last changes nothing."""
        instrument, market = self._market(book.instrument)
        return self._on_book(instrument, market, paper_market.with_book(market, instrument, book))

    def on_bars_closed(self, closed: BarsClosed) -> None:
        """Learn that every bar of `close_time_ns` was handed in."""
        if closed.close_time_ns > self._store.closed_time_ns():
            with self._store.transaction():
                self._store.save_closed_time_ns(closed.close_time_ns)

    def market_time_ns(self, instrument: str) -> int:
        """Return how far the venue has seen this instrument's market, nanoseconds UTC; 0 before the first input."""
        closed = self._store.closed_time_ns()
        known = self._store.instrument(instrument)
        return closed if known is None else max(closed, self._with_book(instrument, known[1]).time_ns)

    def _deposit(self, deposit_id: str, amounts: Mapping[str, Decimal]) -> bool:
        for asset, amount in amounts.items():
            if not is_amount(amount):
                raise InputError(f"deposit {deposit_id}: {asset} must be a positive number, got {amount}")
        known = {asset: amount for _, asset, amount in self._store.deposits(deposit_id)}
        if known and deposit_id != INITIAL_DEPOSIT and known != dict(amounts):
            raise IntegrityError(f"deposit {deposit_id} was made with other amounts")
        if known or not amounts:
            return False
        with self._store.transaction():
            before = self._store.balances()
            after = dict(before)
            for asset, amount in amounts.items():
                self._store.add_deposit(deposit_id, asset, amount)
                after = paper_account.credited(after, asset, amount)
            self._store.save_balances(before, after)
        return True

    def _place(self, request: OrderRequest) -> PaperOrder:
        paper_rules.check_shape(request)
        known = self._store.instrument(request.instrument)
        if known is None:
            raise paper_rules.refuse(VenueRejectCode.INSTRUMENT_UNKNOWN, f"{request.instrument} is not traded here")
        instrument, market = known[0], self._with_book(request.instrument, known[1])
        paper_rules.check_market(request, instrument, market, self._model)
        taken = self._take(request, instrument, market)
        paper_rules.check_taken(request, instrument, taken)
        balances = self._store.balances()
        paper_rules.check_balance(request, instrument, self._model, market=market, taken=taken, balances=balances)
        reason = paper_rules.cancel_reason(request, instrument, self._model, market)
        if request.time_in_force is TimeInForce.FOK and not taken.is_complete:
            taken, reason = Taken((), taken.unfilled_quantity, market), VenueCancelReason.FOK_UNFILLABLE
        now_ns = self.market_time_ns(request.instrument)
        order = self._new_order(request, now_ns)
        self._store.save_order(order)
        if order.lock_unit:
            self._lock(instrument, order, order.remaining)
        order, _ = self._book_fills(order, instrument, taken.fills, now_ns)
        if order.is_open and not _may_rest(request):
            state = OrderState.FILLED if taken.is_complete else OrderState.CANCELED
            order = self._close(order, instrument, state, "" if taken.is_complete else reason.value, now_ns)
        self._store.save_instrument(instrument, taken.market)
        return order

    def _take(self, request: OrderRequest, instrument: Instrument, market: Market) -> Taken:
        if request.time_in_force is TimeInForce.POST_ONLY:
            return Taken((), request.quantity or ZERO, market)
        return paper_market.take(
            market,
            instrument,
            self._model,
            request.side,
            quantity=request.quantity,
            quote_amount=request.quote_amount,
            limit_price=request.price_bound if request.limit_price is None else request.limit_price,
        )

    def _new_order(self, request: OrderRequest, now_ns: int) -> PaperOrder:
        digest = hashlib.sha256(f"{self._venue}\0{request.client_order_id}".encode()).hexdigest()
        fees = self._model.fees
        price = request.limit_price
        return PaperOrder(
            sequence=self._store.next_order_sequence(),
            request=request,
            venue_order_id=f"paper-{digest[:20]}",
            state=OrderState.ACCEPTED,
            filled_quantity=ZERO,
            filled_quote=ZERO,
            fills=0,
            lock_unit=ZERO if price is None else paper_account.lock_unit(fees, request.side, price),
            reason="",
            created_at_ns=now_ns,
            updated_at_ns=now_ns,
        )

    def _book_fills(
        self, order: PaperOrder, instrument: Instrument, fills: tuple[BarFill, ...], now_ns: int
    ) -> tuple[PaperOrder, list[VenueTrade]]:
        trades = []
        for part in fills:
            if order.lock_unit:
                self._lock(instrument, order, part.quantity.copy_negate())
            before = self._store.balances()
            self._store.save_balances(before, paper_account.filled(before, instrument, order.request.side, part))
            order = msgspec.structs.replace(
                order,
                filled_quantity=add(order.filled_quantity, part.quantity),
                filled_quote=add(order.filled_quote, part.quote),
                fills=order.fills + 1,
                updated_at_ns=now_ns,
            )
            is_filled = order.request.quantity is not None and not order.remaining
            state = OrderState.FILLED if is_filled else OrderState.PARTIALLY_FILLED
            order = msgspec.structs.replace(order, state=state)
            fill_id = f"{order.venue_order_id}-{order.fills}"
            fill = Fill(fill_id, part.price, part.quantity, part.fee, part.fee_asset, part.liquidity, now_ns)
            trades.append(self._store.add_trade(order, fill))
        if fills:
            self._store.save_order(order)
        return order, trades

    def _close(
        self, order: PaperOrder, instrument: Instrument, state: OrderState, reason: str, now_ns: int
    ) -> PaperOrder:
        if order.lock_unit:
            self._lock(instrument, order, order.remaining.copy_negate())
        closed = msgspec.structs.replace(order, state=state, reason=reason, updated_at_ns=now_ns)
        self._store.save_order(closed)
        return closed

    def _cancel(self, client_order_id: str) -> PaperOrder:
        order = self._store.order(client_order_id)
        known = None if order is None else self._store.instrument(order.request.instrument)
        if order is None or known is None:
            raise IntegrityError(f"paper venue: order {client_order_id} has vanished")
        if not order.is_open:
            return order
        now_ns = self.market_time_ns(order.request.instrument)
        return self._close(order, known[0], OrderState.CANCELED, VenueCancelReason.REQUESTED.value, now_ns)

    def _lock(self, instrument: Instrument, order: PaperOrder, quantity: Decimal) -> None:
        asset = paper_account.paid_asset(instrument, order.request.side)
        before = self._store.balances()
        amount = multiply(quantity, order.lock_unit)
        self._store.save_balances(before, paper_account.locked(before, asset, amount))

    def _on_book(self, instrument: Instrument, market: Market, changed: Market) -> tuple[VenueTrade, ...]:
        if changed.book_time_ns <= market.book_time_ns:
            return ()
        orders = self._by_priority(instrument.symbol) if changed.is_book else []
        crossed = [
            order
            for order in orders
            if paper_market.is_marketable(changed, instrument, order.request.side, _limit_price(order), self._model)
        ]
        if not crossed and not self._durable_books:
            self._books[instrument.symbol] = changed
            return ()
        trades: list[VenueTrade] = []
        with self._store.transaction():
            for order in crossed:
                taken = paper_market.fill_from_book(
                    changed,
                    instrument,
                    self._model,
                    order.request.side,
                    limit_price=_limit_price(order),
                    quantity=order.remaining,
                )
                changed = taken.market
                trades += self._book_fills(order, instrument, taken.fills, changed.book_time_ns)[1]
            self._store.save_instrument(instrument, changed)
        return tuple(trades)

    def _by_priority(self, instrument: str) -> list[PaperOrder]:
        # Buys come first, the highest price first; then sells, the lowest price first; then the oldest.
        return sorted(self._store.open_orders(instrument), key=_priority)

    def _market(self, symbol: str) -> tuple[Instrument, Market]:
        known = self._store.instrument(symbol)
        if known is None:
            raise InputError(f"{self._venue} has no instrument {symbol}: define it before its market data")
        return known[0], self._with_book(symbol, known[1])

    def _with_book(self, symbol: str, market: Market) -> Market:
        seen = self._books.get(symbol)
        if seen is None or seen.book_time_ns <= market.book_time_ns:
            return market
        return msgspec.structs.replace(market, book_time_ns=seen.book_time_ns, bids=seen.bids, asks=seen.asks)

    def _find(self, client_order_id: str, instrument: str) -> PaperOrder | None:
        order = self._store.order(client_order_id)
        return order if order is not None and order.request.instrument == instrument else None


def _priority(order: PaperOrder) -> tuple[int, Decimal, int]:
    price = _limit_price(order)
    return (0, price.copy_negate(), order.sequence) if order.request.side is Side.BUY else (1, price, order.sequence)


def _limit_price(order: PaperOrder) -> Decimal:
    if order.request.limit_price is None:
        raise IntegrityError(f"paper venue: market order {order.request.client_order_id} rests")
    return order.request.limit_price


def _may_rest(request: OrderRequest) -> bool:
    return request.limit_price is not None and request.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)

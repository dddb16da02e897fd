"""A venue at a wire in a test's hands: it executes at once at one price and tells only what the test lets it tell.

In: requests, the test's script. Out: acknowledgements without fills, as MEXC gives them; reports when the test sends
them. Its `orders`, `trades` and `held` are the truth.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from shared.errors import UnavailableError, UnknownOutcomeError
from shared.exchange.port import OrderRequest, StreamState, VenueOrder, VenueReport, VenueTrade
from shared.messages import Balance, Fill, Instrument, Liquidity, OrderState, OrderType, Side, TimeInForce

PRICE = Decimal(100)
OVERLAP_MS = 60_000
ZERO = Decimal(0)


class FakeWire:
    """Be a WireVenue. `parts` is into how many fills an order is split."""

    def __init__(self, **held: str) -> None:
        self.held = {asset: Decimal(amount) for asset, amount in held.items()}
        self.orders: dict[str, VenueOrder] = {}
        self.trades: list[VenueTrade] = []
        self.submitted: list[OrderRequest] = []
        self.parts = 2
        self.lose_requests = self.lose_answers = 0
        self.hide_orders = False
        self.names_orders = True
        self.prices: dict[str, Decimal] = {}
        self.fee_asset: str | None = None
        self.resting: list[VenueOrder] = []
        self.refusal: Exception | None = None
        self.is_down = False
        self.opened = self.closed = 0
        self.now_ms = 1_000_000
        self._report: Callable[[VenueReport], None] = lambda _: None

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        return "paper"

    async def open(self, symbols: Sequence[str], on_report: Callable[[VenueReport], None]) -> tuple[Instrument, ...]:
        """Start to report; the grids are of no use here."""
        del symbols
        self._check()
        self.opened += 1
        self._report = on_report
        on_report(StreamState(True, "fake"))
        return ()

    async def close(self) -> None:
        """Count."""
        self.closed += 1

    async def submit(self, request: OrderRequest) -> VenueOrder:
        """Execute at once; the answer has no fills."""
        self._check()
        self.submitted.append(request)
        if self.lose_requests:
            self.lose_requests -= 1
            raise UnknownOutcomeError("fake: the request is lost")
        order = self._execute(request)
        if self.lose_answers:
            self.lose_answers -= 1
            raise UnknownOutcomeError("fake: the answer is lost")
        return order

    async def cancel(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Return the order, which is filled."""
        return await self.query(client_order_id, instrument)

    async def query(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Return the order as it stands, without fills."""
        del instrument
        self._check()
        return None if self.hide_orders else self.orders.get(client_order_id)

    async def open_orders(self, instrument: str | None = None) -> tuple[VenueOrder, ...]:
        """Return what the test has put there: everything else is filled."""
        self._check()
        return tuple(order for order in self.resting if instrument in (None, order.instrument))

    async def trades_since(
        self, sequence: int, *, limit: int = 1000, instrument: str | None = None
    ) -> tuple[VenueTrade, ...]:
        """Return the trades since a minute before `sequence`."""
        del limit
        self._check()
        return tuple(
            trade
            for trade in self.trades
            if trade.sequence >= sequence - OVERLAP_MS and instrument in (None, trade.instrument)
        )

    async def balances(self) -> tuple[Balance, ...]:
        """Return what is held."""
        self._check()
        return tuple(Balance(asset, amount, ZERO) for asset, amount in sorted(self.held.items()))

    async def price(self, instrument: str) -> Decimal | None:
        """Return what the test has set."""
        self._check()
        return self.prices.get(instrument)

    def tell(self, *reports: VenueReport) -> None:
        """Report over the stream."""
        for report in reports:
            self._report(report)

    def told_of(self, client_order_id: str) -> list[VenueReport]:
        """Return what a stream would tell of an order: new, each fill, filled."""
        order = self.orders[client_order_id]
        new = msgspec.structs.replace(order, state=OrderState.ACCEPTED, filled_quantity=ZERO, filled_quote=ZERO)
        return [new, *(trade for trade in self.trades if trade.venue_order_id == order.venue_order_id), order]

    def trade_of_somebody(self, instrument: str = "BTC-USDT") -> VenueTrade:
        """Make a trade that no order of ours made."""
        trade = self._trade("foreign", None, instrument, Side.BUY, Decimal(1))
        self.trades.append(trade)
        return trade

    def _check(self) -> None:
        if self.is_down:
            raise UnavailableError("fake: 503")
        if self.refusal is not None:
            raise self.refusal

    def _execute(self, request: OrderRequest) -> VenueOrder:
        quantity = request.quantity or (request.quote_amount or ZERO) / PRICE
        venue_order_id = f"v{len(self.orders) + 1}"
        for _ in range(self.parts):
            name = request.client_order_id if self.names_orders else None
            part = self._trade(venue_order_id, name, request.instrument, request.side, quantity / self.parts)
            self.trades.append(part)
            self.move(part)
        order = VenueOrder(
            client_order_id=request.client_order_id,
            venue_order_id=venue_order_id,
            instrument=request.instrument,
            side=request.side,
            # As a venue that knows no price bound is asked.
            type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC,
            state=OrderState.FILLED,
            quantity=quantity,
            quote_amount=None,
            limit_price=request.price_bound,
            filled_quantity=quantity,
            filled_quote=quantity * PRICE,
            fills=(),
            reason="",
            created_at_ns=1,
            updated_at_ns=2,
        )
        self.orders[request.client_order_id] = order
        return msgspec.structs.replace(order, state=OrderState.ACCEPTED, filled_quantity=ZERO, filled_quote=ZERO)

    def _trade(self, order_id: str, name: str | None, instrument: str, side: Side, quantity: Decimal) -> VenueTrade:
        self.now_ms += 1
        base, quote = instrument.split("-")
        fee_asset = self.fee_asset or (base if side is Side.BUY else quote)
        fee = (quantity if side is Side.BUY else quantity * PRICE) / 1_000
        fill = Fill(
            f"t{len(self.trades) + 1}", PRICE, quantity, fee, fee_asset, Liquidity.TAKER, self.now_ms * 1_000_000
        )
        return VenueTrade(self.now_ms, name, order_id, instrument, side, fill)

    def move(self, trade: VenueTrade) -> None:
        """Let a trade move what is held."""
        base, quote = trade.instrument.split("-")
        sign = 1 if trade.side is Side.BUY else -1
        fill = trade.fill
        for asset, change in (
            (base, sign * fill.quantity),
            (quote, -sign * fill.quantity * fill.price),
            (fill.fee_asset, -fill.fee),
        ):
            self.held[asset] = self.held.get(asset, ZERO) + change

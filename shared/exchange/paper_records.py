"""What the paper venue remembers: its records, and whoever keeps them.

In: records, each change inside `transaction`. Out: the same records. Never: a float where there is money.
Two keepers: `PaperStore` (one file, on the disk before it is answered) and `MemoryRecords` (a backtest's).
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Protocol

import msgspec

from shared.exchange.paper_market import Market
from shared.exchange.port import OrderRequest, VenueOrder, VenueTrade
from shared.matching.exact import subtract
from shared.messages import Balance, Fill, Instrument, OrderState


class PaperOrder(msgspec.Struct, frozen=True):
    """Hold one order; while it rests, `lock_unit` of the asset it gives away is locked per unit of its rest."""

    sequence: int
    request: OrderRequest
    venue_order_id: str
    state: OrderState
    filled_quantity: Decimal
    filled_quote: Decimal
    fills: int
    lock_unit: Decimal
    reason: str
    created_at_ns: int
    updated_at_ns: int

    @property
    def remaining(self) -> Decimal:
        """Return the quantity of an order by quantity that has not filled."""
        if self.request.quantity is None:
            raise ValueError("an order by quote amount has no remaining quantity")
        return subtract(self.request.quantity, self.filled_quantity)

    @property
    def is_open(self) -> bool:
        """Tell whether the order rests."""
        return not self.state.is_terminal


class PaperRecords(Protocol):
    """Keep the records of one paper venue."""

    def close(self) -> None:
        """Let go of what keeps them; closing twice is no error."""
        ...

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """Make everything inside one change; unless `durable` a power cut may lose it until the next durable one."""
        ...

    def balances(self) -> dict[str, Balance]:
        """Return every asset's balance, sorted by asset."""
        ...

    def save_balances(self, before: Mapping[str, Balance], after: Mapping[str, Balance]) -> None:
        """Write the balances that differ."""
        ...

    def deposits(self, deposit_id: str | None = None) -> list[tuple[str, str, Decimal]]:
        """Return `(deposit id, asset, amount)` of one deposit or of all."""
        ...

    def add_deposit(self, deposit_id: str, asset: str, amount: Decimal) -> None:
        """Record a deposit."""
        ...

    def instrument(self, symbol: str) -> tuple[Instrument, Market] | None:
        """Return an instrument and its market, or None when it is not defined."""
        ...

    def save_instrument(self, instrument: Instrument, market: Market) -> None:
        """Write an instrument and its market."""
        ...

    def closed_time_ns(self) -> int:
        """Return the newest market time of which every bar was handed in."""
        ...

    def save_closed_time_ns(self, time_ns: int) -> None:
        """Write the newest market time of which every bar was handed in."""
        ...

    def next_order_sequence(self) -> int:
        """Return the sequence that the next order gets."""
        ...

    def order(self, client_order_id: str) -> PaperOrder | None:
        """Return an order, or None when there is none."""
        ...

    def open_orders(self, instrument: str | None = None) -> list[PaperOrder]:
        """Return the resting orders of one instrument or of all, oldest first."""
        ...

    def save_order(self, order: PaperOrder) -> None:
        """Write an order."""
        ...

    def add_trade(self, order: PaperOrder, fill: Fill) -> VenueTrade:
        """Record a fill and return it with its place in the account's sequence."""
        ...

    def trades_since(self, sequence: int, limit: int) -> list[VenueTrade]:
        """Return up to `limit` trades above `sequence`, oldest first."""
        ...

    def fills_of(self, client_order_id: str) -> tuple[Fill, ...]:
        """Return an order's fills, oldest first."""
        ...


def venue_order(records: PaperRecords, order: PaperOrder) -> VenueOrder:
    """Return an order with all its fills, as the port states it."""
    request = order.request
    return VenueOrder(
        client_order_id=request.client_order_id,
        venue_order_id=order.venue_order_id,
        instrument=request.instrument,
        side=request.side,
        type=request.type,
        time_in_force=request.time_in_force,
        state=order.state,
        quantity=request.quantity,
        quote_amount=request.quote_amount,
        limit_price=request.limit_price,
        filled_quantity=order.filled_quantity,
        filled_quote=order.filled_quote,
        fills=records.fills_of(request.client_order_id),
        reason=order.reason,
        created_at_ns=order.created_at_ns,
        updated_at_ns=order.updated_at_ns,
    )

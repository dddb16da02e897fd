"""A paper venue's records in memory, for a backtest: nothing outlives the process.

In: records. Out: the same records. Never: a copy that differs from what a file would have kept.
A change that fails half-way leaves half of it: whoever gets such an error drops the records.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal

from shared.exchange.paper_market import Market
from shared.exchange.paper_records import PaperOrder
from shared.exchange.port import VenueTrade
from shared.messages import Balance, Fill, Instrument

_NOTHING: AbstractContextManager[None] = nullcontext()


class MemoryRecords:
    """Keep the records of one paper venue in dictionaries."""

    def __init__(self) -> None:
        self._balances: dict[str, Balance] = {}
        self._deposits: list[tuple[str, str, Decimal]] = []
        self._instruments: dict[str, tuple[Instrument, Market]] = {}
        self._closed_time_ns = 0
        self._orders: dict[str, PaperOrder] = {}
        self._open: dict[str, PaperOrder] = {}
        self._trades: list[VenueTrade] = []
        self._fills: dict[str, tuple[Fill, ...]] = {}

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """Return a block without a meaning of its own: nobody else sees these records meanwhile."""
        del durable
        return _NOTHING

    def balances(self) -> dict[str, Balance]:
        """Return every asset's balance, sorted by asset."""
        return dict(sorted(self._balances.items()))

    def save_balances(self, before: Mapping[str, Balance], after: Mapping[str, Balance]) -> None:
        """Write the balances that differ."""
        del before
        self._balances = dict(after)

    def deposits(self, deposit_id: str | None = None) -> list[tuple[str, str, Decimal]]:
        """Return `(deposit id, asset, amount)` of one deposit or of all."""
        return [deposit for deposit in self._deposits if deposit_id is None or deposit[0] == deposit_id]

    def add_deposit(self, deposit_id: str, asset: str, amount: Decimal) -> None:
        """Record a deposit."""
        self._deposits.append((deposit_id, asset, amount))

    def instrument(self, symbol: str) -> tuple[Instrument, Market] | None:
        """Return an instrument and its market, or None when it is not defined."""
        return self._instruments.get(symbol)

    def save_instrument(self, instrument: Instrument, market: Market) -> None:
        """Write an instrument and its market."""
        self._instruments[instrument.symbol] = (instrument, market)

    def closed_time_ns(self) -> int:
        """Return the newest market time of which every bar was handed in."""
        return self._closed_time_ns

    def save_closed_time_ns(self, time_ns: int) -> None:
        """Write the newest market time of which every bar was handed in."""
        self._closed_time_ns = time_ns

    def next_order_sequence(self) -> int:
        """Return the sequence that the next order gets."""
        return len(self._orders) + 1

    def order(self, client_order_id: str) -> PaperOrder | None:
        """Return an order, or None when there is none."""
        return self._orders.get(client_order_id)

    def open_orders(self, instrument: str | None = None) -> list[PaperOrder]:
        """Return the resting orders of one instrument or of all, oldest first."""
        found = [order for order in self._open.values() if instrument is None or order.request.instrument == instrument]
        return sorted(found, key=lambda order: order.sequence)

    def save_order(self, order: PaperOrder) -> None:
        """Write an order."""
        client_order_id = order.request.client_order_id
        self._orders[client_order_id] = order
        if order.is_open:
            self._open[client_order_id] = order
        else:
            self._open.pop(client_order_id, None)

    def add_trade(self, order: PaperOrder, fill: Fill) -> VenueTrade:
        """Record a fill and return it with its place in the account's sequence."""
        request = order.request
        trade = VenueTrade(
            len(self._trades) + 1,
            request.client_order_id,
            order.venue_order_id,
            request.instrument,
            request.side,
            fill,
        )
        self._trades.append(trade)
        self._fills[request.client_order_id] = (*self._fills.get(request.client_order_id, ()), fill)
        return trade

    def trades_since(self, sequence: int, limit: int) -> list[VenueTrade]:
        """Return up to `limit` trades above `sequence`, oldest first."""
        return self._trades[sequence : sequence + limit]

    def fills_of(self, client_order_id: str) -> tuple[Fill, ...]:
        """Return an order's fills, oldest first."""
        return self._fills.get(client_order_id, ())

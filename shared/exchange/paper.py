"""The paper venue: real market data in, simulated fills out, kept in its own file through any crash.

In: orders, cancels and market data. Out: orders, fills and balances, each on the disk before it is answered.
Never: an answer that `PaperBook`, which a backtest runs over memory, would not have given too.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

from shared.exchange.paper_book import INITIAL_DEPOSIT, PaperBook
from shared.exchange.paper_store import PaperStore
from shared.exchange.port import OrderRequest, VenueOrder, VenueTrade
from shared.matching import FillModel
from shared.messages import Balance, Bar, BarsClosed, Bbo, BookSnapshot, Instrument

__all__ = ["INITIAL_DEPOSIT", "PaperVenue"]


def _no_fault(point: str) -> None:
    del point


class PaperVenue:
    """Be a SimulatedVenue over one file; `close` it when done.

    `initial_deposit` is credited once, when the file is new. With `durable_books=False`, for feeds of thousands of
    books a second, a book is written only together with fills that it caused: after a crash the venue's market time
    may then fall back, and orders go by the newest bar until the next book comes. `fault_point` is called with
    `before_commit` and `after_commit` around every change, so that tests can fail or die there.
    """

    def __init__(
        self,
        path: Path,
        *,
        venue: str,
        model: FillModel,
        initial_deposit: Mapping[str, Decimal] | None = None,
        durable_books: bool = True,
        fault_point: Callable[[str], None] = _no_fault,
    ) -> None:
        self._store = PaperStore(path, fault_point)
        self._book = PaperBook(
            self._store,
            venue=venue,
            model=model,
            initial_deposit=initial_deposit,
            durable_books=durable_books,
        )

    @property
    def venue(self) -> str:
        """Return the venue's name, as in subjects."""
        return self._book.venue

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        self._book.close()

    async def define_instrument(self, instrument: Instrument) -> None:
        """Make an instrument tradable, or replace its grid; the same definition again changes nothing."""
        self._book.define_instrument(instrument)

    async def deposit(self, deposit_id: str, amounts: Mapping[str, Decimal]) -> bool:
        """Credit assets once per `deposit_id` and return True; a known id changes nothing and returns False.

        Raises InputError for an amount that is not positive, IntegrityError for a known id with other amounts.
        """
        return self._book.deposit(deposit_id, amounts)

    async def submit(self, request: OrderRequest) -> VenueOrder:
        """Place an order, fill it against the market as far as that goes, and return it.

        The same request under the same client order id returns the order as it now stands.
        Raises RejectedError (nothing was kept), IntegrityError when the id is taken by another request.
        """
        return self._book.submit(request)

    async def cancel(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Cancel an order and return how it now stands; None when there is no such order."""
        return self._book.cancel(client_order_id, instrument)

    async def query(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Return an order, or None when there is none."""
        return self._book.query(client_order_id, instrument)

    async def open_orders(self, instrument: str | None = None) -> tuple[VenueOrder, ...]:
        """Return the orders that still rest, oldest first."""
        return self._book.open_orders(instrument)

    async def trades_since(
        self, sequence: int, *, limit: int = 1000, instrument: str | None = None
    ) -> tuple[VenueTrade, ...]:
        """Return up to `limit` trades with a sequence above `sequence`, oldest first; of one instrument, or all."""
        found = self._book.trades_since(sequence, limit=limit)
        return tuple(trade for trade in found if instrument in (None, trade.instrument))

    async def balances(self) -> tuple[Balance, ...]:
        """Return every asset's free and locked amount, sorted by asset."""
        return self._book.balances()

    async def on_bar(self, bar: Bar) -> tuple[VenueTrade, ...]:
        """Take one closed bar and return what it filled; a bar not newer than the last one changes nothing.

        Hand in one timeframe only. Raises InputError for a bar that cannot be, or of an undefined instrument.
        """
        return self._book.on_bar(bar)

    async def on_bbo(self, bbo: Bbo) -> tuple[VenueTrade, ...]:
        """Take a best bid and ask and return what it filled; one not newer than the last changes nothing."""
        return self._book.on_bbo(bbo)

    async def on_book(self, book: BookSnapshot) -> tuple[VenueTrade, ...]:
        """Take a book snapshot and return what it filled; one not newer than the last changes nothing."""
        return self._book.on_book(book)

    async def on_bars_closed(self, closed: BarsClosed) -> None:
        """Learn that every bar of `close_time_ns` was handed in."""
        self._book.on_bars_closed(closed)

    def market_time_ns(self, instrument: str) -> int:
        """Return how far the venue has seen this instrument's market, nanoseconds UTC; 0 before the first input."""
        return self._book.market_time_ns(instrument)

"""The execution side of a venue, as the execution service sees it.

In: order requests under the caller's own client order ids. Out: orders, trades and balances as the venue knows them.
Never: a second execution under one client order id; an exception where the answer is "there is none".

Every call may raise UnavailableError (nothing was asked). `submit` and `cancel` also raise RejectedError (a definite
no, nothing happened) and UnknownOutcomeError (it may have happened: `query` by the same id, never by sending anew).
A question that a venue definitely refuses raises RejectedError or RefusedQuestionError: `refusal_code` reads both.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import msgspec

from shared.errors import RejectedError, UnavailableError
from shared.messages.account import Balance
from shared.messages.base import Side
from shared.messages.instrument import Instrument
from shared.messages.market import Bar, BarsClosed, Bbo, BookSnapshot, FeedState, Trade
from shared.messages.order import Fill, OrderState, OrderType, TimeInForce


class VenueRejectCode(StrEnum):
    """Name why a venue refused a request; it is the `code` of the RejectedError."""

    INSTRUMENT_UNKNOWN = "instrument_unknown"
    REQUEST_MALFORMED = "request_malformed"
    PRECISION = "precision"
    QUANTITY_MIN = "quantity_min"
    NOTIONAL_MIN = "notional_min"
    BALANCE = "balance"
    MARKET_MISSING = "market_missing"
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    QUANTITY_MAX = "quantity_max"
    NOTIONAL_MAX = "notional_max"
    PRICE_BAND = "price_band"
    MARKET_CLOSED = "market_closed"
    ORDERS_MAX = "orders_max"
    PERMISSION = "permission"


class RefusedQuestionError(UnavailableError):
    """Report a question that the venue definitely refuses, and why where that is known: asking again does not help."""

    def __init__(self, detail: str, reject_code: VenueRejectCode | None = None) -> None:
        super().__init__(detail)
        self.reject_code = reject_code


def refusal_code(error: BaseException) -> VenueRejectCode | None:
    """Return why the venue definitely refused, or None for any other failure."""
    if isinstance(error, RefusedQuestionError):
        return error.reject_code
    if isinstance(error, RejectedError) and error.code in VenueRejectCode:
        return VenueRejectCode(error.code)
    return None


class VenueCancelReason(StrEnum):
    """Name why a simulated venue cancelled an order or the rest of it; it is the order's `reason`."""

    REQUESTED = "requested"
    NO_VOLUME = "no_volume"
    VOLUME_CAP = "volume_cap"
    PRICE_BOUND = "price_bound"
    UNFILLED = "unfilled"
    FOK_UNFILLABLE = "fok_unfillable"


class OrderRequest(msgspec.Struct, frozen=True):
    """Ask a venue for an order; exactly one of `quantity` (base units) and `quote_amount` (quote units) is set.

    `limit_price` is set for limit orders only. `quote_amount` is for market orders only; a buy spends at most that.
    `price_bound` is the worst price a market order may fill at (a venue without the notion sends a limit IOC).
    """

    client_order_id: str
    instrument: str
    side: Side
    type: OrderType
    quantity: Decimal | None = None
    quote_amount: Decimal | None = None
    limit_price: Decimal | None = None
    price_bound: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC


class VenueOrder(msgspec.Struct, frozen=True):
    """State an order as the venue knows it.

    `fills` are those known to this answer, oldest first; they are complete when their quantities sum to
    `filled_quantity`. `reason` says why a cancelled order is so. Times are the venue's, nanoseconds UTC.
    """

    client_order_id: str
    venue_order_id: str
    instrument: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    state: OrderState
    quantity: Decimal | None
    quote_amount: Decimal | None
    limit_price: Decimal | None
    filled_quantity: Decimal
    filled_quote: Decimal
    fills: tuple[Fill, ...]
    reason: str
    created_at_ns: int
    updated_at_ns: int


class VenueTrade(msgspec.Struct, frozen=True):
    """Report one execution of the account; `sequence` rises with each of them, over all instruments.

    `client_order_id` is None where the venue does not say it. `fill.fill_id` is the venue's trade id.
    """

    sequence: int
    client_order_id: str | None
    venue_order_id: str
    instrument: str
    side: Side
    fill: Fill


class VenueExecution(Protocol):
    """Send, cancel and look up the orders of one account at one venue."""

    @property
    def venue(self) -> str:
        """Return the venue's name, as in subjects."""
        ...

    async def submit(self, request: OrderRequest) -> VenueOrder:
        """Send an order and return it with the fills known so far.

        The same request under the same client order id returns the same order again, never a second execution.
        Raises RejectedError (a VenueRejectCode) for a definite no, UnknownOutcomeError when nobody knows,
        IntegrityError when the id is taken by another request.
        """
        ...

    async def cancel(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Cancel an order and return how it now stands; None when the venue knows no such order.

        Cancelling an order that is filled or cancelled already changes nothing and returns it.
        Raises UnknownOutcomeError when nobody knows.
        """
        ...

    async def query(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Return the order with that client order id, or None when the venue says there is none."""
        ...

    async def open_orders(self, instrument: str | None = None) -> tuple[VenueOrder, ...]:
        """Return the orders that still rest, of one instrument or (None) of all, oldest first."""
        ...

    async def trades_since(
        self, sequence: int, *, limit: int = 1000, instrument: str | None = None
    ) -> tuple[VenueTrade, ...]:
        """Return up to `limit` trades with a sequence above `sequence`, oldest first; 0 asks from the start.

        Of one instrument or (None) of all of them.
        """
        ...

    async def balances(self) -> tuple[Balance, ...]:
        """Return every asset's free and locked amount, sorted by asset; an asset never touched is absent."""
        ...


class SimulatedVenue(VenueExecution, Protocol):
    """Be a venue that fills against market data which its owner hands in.

    Market input is idempotent: what is not newer than the last handled changes nothing and returns no trades.
    The trades returned are those that the input caused to resting orders; `trades_since` has them too.
    """

    async def define_instrument(self, instrument: Instrument) -> None:
        """Make an instrument tradable, or replace its grid; the same definition again changes nothing."""
        ...

    async def deposit(self, deposit_id: str, amounts: Mapping[str, Decimal]) -> bool:
        """Credit assets once per `deposit_id` and return True; a known id changes nothing and returns False."""
        ...

    async def on_bar(self, bar: Bar) -> tuple[VenueTrade, ...]:
        """Take one closed bar. Raises InputError for a price or volume that no market can have.

        A power cut may forget bars of a step whose end was not handed in yet; handing them in again restores them.
        """
        ...

    async def on_bbo(self, bbo: Bbo) -> tuple[VenueTrade, ...]:
        """Take the best bid and ask. Raises InputError for a price or size that no market can have."""
        ...

    async def on_book(self, book: BookSnapshot) -> tuple[VenueTrade, ...]:
        """Take a book snapshot. Raises InputError for a price or size that no market can have."""
        ...

    async def on_bars_closed(self, closed: BarsClosed) -> None:
        """Learn that every bar of `close_time_ns` was handed in: the whole venue's market time is that."""
        ...

    def market_time_ns(self, instrument: str) -> int:
        """Return how far the venue has seen this instrument's market, nanoseconds UTC; 0 before the first input."""
        ...


class StreamState(msgspec.Struct, frozen=True):
    """Tell that the account's stream is up again or down, and why; until it is reconciled nothing may be sent."""

    is_live: bool
    reason: str


VenueReport = VenueOrder | VenueTrade | StreamState


class WireVenue(VenueExecution, Protocol):
    """Be a venue at the other end of a wire, real or sandbox.

    A trade's `sequence` is its time in milliseconds, so it may repeat: `trades_since` returns every trade of the
    account in the opened markets since a minute before that time (0: since the account was opened), oldest first, and
    callers drop those that they know by fill id. What cannot have happened is refused before a byte is sent.
    """

    async def open(self, symbols: Sequence[str], on_report: Callable[[VenueReport], None]) -> tuple[Instrument, ...]:
        """Connect, check the key (one that may withdraw is refused with ConfigError), start the account's stream.

        `symbols` are bus tokens. Returns their grids. Raises ConfigError for a market that the venue does not trade
        and for credentials that it refuses, UnavailableError when it does not answer.
        """
        ...

    async def price(self, instrument: str) -> Decimal | None:
        """Return the middle of the best bid and ask in any market of the venue; None where there is none."""
        ...

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        ...


class MarketSink(Protocol):
    """Take what a venue says happened. Calls are short and never raise."""

    def on_trades(self, trades: Sequence[Trade]) -> None:
        """Take trades of one instrument, in the venue's order."""
        ...

    def on_bbo(self, bbo: Bbo) -> None:
        """Take the best bid and ask."""
        ...

    def on_book(self, book: BookSnapshot) -> None:
        """Take the best levels of a book that has no gap; never called while it has one."""
        ...

    def on_venue_bar(self, bar: Bar) -> None:
        """Take a closed candle as the venue itself computed it."""
        ...

    def on_instrument(self, instrument: Instrument) -> None:
        """Take a market's grid, which is another one than before."""
        ...

    def on_status(self, instrument: str | None, state: FeedState, reason: str) -> None:
        """Take the state of a market, or (None) of the connection.

        LIVE; STALE when nothing comes; FROZEN while the market is not trading or its book has a gap.
        """
        ...


class Streams(msgspec.Struct, frozen=True):
    """Say what is wanted of each market; `bar_timeframe` is None for no candles, `book_levels` counts each side."""

    trades: bool = True
    bbo: bool = True
    book: bool = True
    book_levels: int = 20
    bar_timeframe: str | None = None


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """State what a venue lists as traded: `trades` are all of [whole_from_ns, end), in its order.

    `lost` are those among them that the stream did not bring; it will not bring them any more. With a `problem` the
    list proves nothing, and there are none of either.
    """

    trades: tuple[Trade, ...] = ()
    lost: tuple[Trade, ...] = ()
    whole_from_ns: int = 0
    problem: str = ""


class VenueMarket(Protocol):
    """Be the public side of a venue."""

    @property
    def venue(self) -> str:
        """Return the venue's name, as in subjects."""
        ...

    async def instruments(self, symbols: Sequence[str]) -> tuple[Instrument, ...]:
        """Return the grids of markets (bus tokens). Raises ConfigError for one that the venue does not trade."""
        ...

    async def open(self, symbols: Sequence[str], streams: Streams, sink: MarketSink) -> None:
        """Subscribe, over as many sockets as the venue's limits need, and keep subscribed until `close`.

        Returns when every stream was acknowledged. Raises UnavailableError when the first ones were not in time.
        """
        ...

    def book(self, instrument: str) -> BookSnapshot | None:
        """Return the best levels, or None while the book is not known to be whole."""
        ...

    async def bars(self, instrument: str, timeframe: str, start_ns: int, end_ns: int) -> tuple[Bar, ...]:
        """Return the venue's closed candles that open in [start, end), oldest first."""
        ...

    @property
    def counts_trades(self) -> bool:
        """Tell whether a trade's `sequence` is the venue's own count, so that a lost one shows at once."""
        ...

    async def recover(self, instrument: str, start_ns: int, end_ns: int) -> Recovered:
        """Ask what was traded in [start, end) of an opened market, to find what the stream lost.

        For a venue that does not count its trades; one that does answers with a problem. Raises UnavailableError.
        """
        ...

    def clock_offset_ns(self) -> int:
        """Return how far the venue's clock is ahead of ours, as measured last."""
        ...

    async def measure_clock(self) -> None:
        """Measure the offset anew. Raises UnavailableError."""
        ...

    def reconnect(self, reason: str) -> None:
        """Give up every connection of the streams, and make new ones: they may be dead without a sign."""
        ...

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        ...

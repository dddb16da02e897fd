"""The venue as its wire modules, its markets and its admin page see it. `core/exchange.py` is the implementation.

Every call is synchronous, takes the venue's time, and is atomic. Listeners are called, in order, before it returns.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from services.sandbox_exchange.core.changes import Changes
from services.sandbox_exchange.core.model import (
    Account,
    AccountTrade,
    Depth,
    Event,
    Holding,
    Kline,
    Market,
    PlaceOrder,
    PublicTrade,
    Ticker,
    TradingStatus,
    VenueOrder,
)
from shared.matching import FeeMode


class Exchange(Protocol):
    """Be a spot venue. Raises Refusal, with nothing changed, for whatever it does not do."""

    @property
    def markets(self) -> Mapping[str, Market]:
        """Return the markets by symbol, in the order in which they were listed."""
        ...

    @property
    def accounts(self) -> Mapping[str, Account]:
        """Return the accounts by API key."""
        ...

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on."""
        ...

    def list_market(self, market: Market) -> None:
        """List a market, or change a listed one's filters and rates."""
        ...

    def set_status(self, symbol: str, status: TradingStatus, now_ns: int) -> None:
        """Pause, delist or reopen a market; delisting cancels every order."""
        ...

    def redenominate(self, symbol: str, factor: Decimal, now_ns: int) -> None:
        """Multiply prices by `factor` and divide holdings of the base asset by it; every order is cancelled."""
        ...

    def open_account(self, account: Account, deposits: Mapping[str, Decimal], now_ns: int) -> None:
        """Open an account and book its first deposits."""
        ...

    def transfer(self, account: str, asset: str, amount: Decimal, now_ns: int, reason: str) -> None:
        """Book a deposit (positive) or a withdrawal (negative) from outside."""
        ...

    def place(
        self,
        request: PlaceOrder,
        now_ns: int,
        *,
        fill_fraction: Decimal | None = None,
        accept_duplicate_id: bool = False,
        fee_mode: FeeMode | None = None,
    ) -> tuple[VenueOrder, tuple[AccountTrade, ...]]:
        """Check, lock, match and book an order; returns it with its own trades, in order.

        For faults: `fill_fraction` lets only that part match at once, `accept_duplicate_id` takes a client order id
        that is in use, `fee_mode` overrides the venue's for this order.
        """
        ...

    def check(self, request: PlaceOrder) -> None:
        """Raise what `place` would refuse; change nothing."""
        ...

    def cancel(
        self, account: str, symbol: str, now_ns: int, *, order_id: int | None = None, client_order_id: str | None = None
    ) -> VenueOrder:
        """Cancel a resting order. ORDER_UNKNOWN when it is none of the account's, or rests no more."""
        ...

    def cancel_all(self, account: str, symbol: str | None, now_ns: int) -> tuple[VenueOrder, ...]:
        """Cancel every resting order of the account, of one market or of all; returns them."""
        ...

    def order(
        self, account: str, symbol: str, *, order_id: int | None = None, client_order_id: str | None = None
    ) -> VenueOrder:
        """Return an order, the newest one under a client order id that was used again. ORDER_UNKNOWN for none."""
        ...

    def open_orders(self, account: str, symbol: str | None = None) -> Sequence[VenueOrder]:
        """Return the resting orders, oldest first."""
        ...

    def orders(self, account: str, symbol: str) -> Sequence[VenueOrder]:
        """Return the account's orders in a market, open and kept ones, oldest first."""
        ...

    def account_trades(self, account: str, symbol: str | None = None) -> Sequence[AccountTrade]:
        """Return the account's executions that are kept, oldest first."""
        ...

    def holdings(self, account: str) -> Sequence[Holding]:
        """Return what the account holds, by asset; an asset never touched is absent."""
        ...

    def depth(self, symbol: str, levels_max: int | None = None) -> Depth:
        """Return the book."""
        ...

    def trades(self, symbol: str, limit: int) -> Sequence[PublicTrade]:
        """Return the last `limit` public trades that are kept, oldest first."""
        ...

    def klines(
        self, symbol: str, interval_ns: int, *, start_ns: int | None, end_ns: int | None, limit: int, now_ns: int
    ) -> Sequence[Kline]:
        """Return candles, oldest first; the last one may be open. Without bounds the newest `limit` of them."""
        ...

    def add_past(self, symbol: str, klines: Sequence[Kline]) -> None:
        """Give a market candles of the time before its first trade, oldest first."""
        ...

    def ticker(self, symbol: str, now_ns: int) -> Ticker:
        """Return the last 24 hours."""
        ...

    def dump(self) -> bytes:
        """Return the whole state: accounts, holdings, markets, books, orders, trades, ids."""
        ...

    def restore(self, state: bytes) -> None:
        """Become what `dump` returned; a later call behaves as if nothing had happened between."""
        ...

    def take_changes(self) -> Changes:
        """Return the rows that changed since the last call; every row at first, and after `restore`."""
        ...

    def take_whole(self) -> None:
        """Make the next `take_changes` return every row."""
        ...

    def ledger(self) -> bytes:
        """Return what truly happened, as JSON: accounts, holdings, orders, executions, transfers."""
        ...

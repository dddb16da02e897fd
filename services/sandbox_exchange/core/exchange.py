"""The sandbox venue: what `port.Exchange` promises, put together from the parts next door.

In: requests with the venue's time. Out: orders, executions, events, queries. Never: half a change, a look at a clock.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import islice

import msgspec

from services.sandbox_exchange.core import ledger, state
from services.sandbox_exchange.core.accounts import Accounts
from services.sandbox_exchange.core.changes import Changes, Tracking
from services.sandbox_exchange.core.events import Events
from services.sandbox_exchange.core.history import HISTORY_MAX, History
from services.sandbox_exchange.core.intervals import MINUTE_NS, SECOND_NS
from services.sandbox_exchange.core.market import MarketBook
from services.sandbox_exchange.core.model import (
    Account,
    AccountTrade,
    Depth,
    Event,
    FeeSettings,
    Holding,
    Kline,
    Market,
    MarketChanged,
    OrderStatus,
    Permission,
    PlaceOrder,
    PublicTrade,
    Refusal,
    RefusalCode,
    Ticker,
    TradingStatus,
    VenueOrder,
)
from services.sandbox_exchange.core.orders import OrderRecord, Orders
from services.sandbox_exchange.core.placing import Placing
from services.sandbox_exchange.core.redenomination import redenominated
from services.sandbox_exchange.core.seconds import second_klines
from services.sandbox_exchange.core.settlement import Settlement
from shared.matching import FeeMode

OPEN_ORDERS_MAX = 500
TRADES_KEPT = 10_000


class SandboxExchange:
    """Be a spot venue (`port.Exchange`)."""

    def __init__(
        self,
        *,
        fees: FeeSettings | None = None,
        open_orders_max: int | None = OPEN_ORDERS_MAX,
        trades_kept: int = TRADES_KEPT,
        history_max: int = HISTORY_MAX,
    ) -> None:
        self._events = Events()
        self._accounts = Accounts(self._events)
        self._orders, self._history = Orders(), History(history_max)
        self._settlement = Settlement(self._accounts, self._orders, self._history, self._events, fees or FeeSettings())
        self._books: dict[str, MarketBook] = {}
        self._markets: dict[str, Market] = {}
        self._placing = Placing(
            self._books, self._accounts, self._orders, self._settlement, open_orders_max=open_orders_max
        )
        self._parts = state.Parts(
            self._events, self._accounts, self._orders, self._settlement, self._history, self._books, trades_kept
        )
        self._tracking: Tracking | None = None

    @property
    def markets(self) -> Mapping[str, Market]:
        """Return the markets by symbol, in the order in which they were listed."""
        return self._markets

    @property
    def accounts(self) -> Mapping[str, Account]:
        """Return the accounts by API key."""
        return self._accounts.by_key

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on."""
        self._events.listen(listener)

    def list_market(self, market: Market) -> None:
        """List a market, or change a listed one's filters and rates; MALFORMED when resting orders forbid the grid."""
        book = self._books.get(market.symbol)
        if book is None:
            book = self._books[market.symbol] = MarketBook(market, self._events, self._parts.trades_kept)
        self._describe(book, market)
        self._events.hand_out()

    def open_account(self, account: Account, deposits: Mapping[str, Decimal], now_ns: int) -> None:
        """Open an account and book its first deposits."""
        self._accounts.open(account, deposits, now_ns)
        self._events.hand_out()

    def transfer(self, account: str, asset: str, amount: Decimal, now_ns: int, reason: str) -> None:
        """Book a deposit (positive) or a withdrawal (negative) from outside."""
        self._accounts.transfer(account, asset, amount, now_ns, reason)
        self._events.hand_out()

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

        With `fill_fraction` only that part (floored to the step, at least one step) matches at once: what else the
        house offers up to the limit is withdrawn, and the rest rests (GTC) or expires. `accept_duplicate_id` takes a
        client order id that is in use; `fee_mode` overrides the venue's for this order.
        """
        answer = self._placing.place(request, now_ns, fill_fraction, accept_duplicate_id, fee_mode)
        self._finish()
        return answer

    def check(self, request: PlaceOrder) -> None:
        """Raise what `place` would refuse; change nothing."""
        self._placing.check(request, accept_duplicate_id=False, fee_mode=None)

    def cancel(
        self, account: str, symbol: str, now_ns: int, *, order_id: int | None = None, client_order_id: str | None = None
    ) -> VenueOrder:
        """Cancel a resting order. ORDER_UNKNOWN when it is none of the account's, or rests no more."""
        self._may(account, Permission.TRADE)
        self._book(symbol)
        order = self._orders.find(account, symbol, order_id, client_order_id)
        if not order.status.is_open:
            raise Refusal(RefusalCode.ORDER_UNKNOWN, f"order {order.order_id} is {order.status}")
        self._cancel(order, now_ns)
        self._finish()
        return order.snapshot()

    def cancel_all(self, account: str, symbol: str | None, now_ns: int) -> tuple[VenueOrder, ...]:
        """Cancel every resting order of the account, of one market or of all; returns them."""
        self._may(account, Permission.TRADE)
        if symbol is not None:
            self._book(symbol)
        orders = self._orders.open(account, symbol)
        for order in orders:
            self._cancel(order, now_ns)
        self._finish()
        return tuple([order.snapshot() for order in orders])

    def order(
        self, account: str, symbol: str, *, order_id: int | None = None, client_order_id: str | None = None
    ) -> VenueOrder:
        """Return an order, the newest one under a client order id that was used again. ORDER_UNKNOWN for none."""
        self._book(symbol)
        return self._orders.find(account, symbol, order_id, client_order_id).snapshot()

    def open_orders(self, account: str, symbol: str | None = None) -> Sequence[VenueOrder]:
        """Return the resting orders, oldest first."""
        self._accounts.known(account)
        if symbol is not None:
            self._book(symbol)
        return [one.snapshot() for one in self._orders.open(account, symbol)]

    def orders(self, account: str, symbol: str) -> Sequence[VenueOrder]:
        """Return the account's orders in a market, open and kept ones, oldest first."""
        self._accounts.known(account)
        self._book(symbol)
        return [one.snapshot() for one in self._orders.of_account(account, symbol)]

    def account_trades(self, account: str, symbol: str | None = None) -> Sequence[AccountTrade]:
        """Return the account's executions that are kept, oldest first."""
        self._accounts.known(account)
        return [one for one in self._history.trades(account) if symbol is None or one.symbol == symbol]

    def holdings(self, account: str) -> Sequence[Holding]:
        """Return what the account holds, by asset; an asset never touched is absent."""
        return self._accounts.holdings(account)

    def depth(self, symbol: str, levels_max: int | None = None) -> Depth:
        """Return the book."""
        return self._book(symbol).depth(levels_max)

    def trades(self, symbol: str, limit: int) -> Sequence[PublicTrade]:
        """Return the last `limit` public trades that are kept, oldest first."""
        trades = self._book(symbol).trades
        return list(islice(trades, max(0, len(trades) - limit), None))

    def klines(
        self, symbol: str, interval_ns: int, *, start_ns: int | None, end_ns: int | None, limit: int, now_ns: int
    ) -> Sequence[Kline]:
        """Return candles, oldest first; the last one may be open. Without bounds the newest `limit` of them.

        Intervals are a second, as far back as trades are kept, or multiples of a minute; `intervals.WEEK_NS` and
        `MONTH_NS` name the calendar's. The bounds are those of the openings, both inclusive.
        """
        if interval_ns == SECOND_NS:
            trades = self._book(symbol).trades
            return second_klines(symbol, trades, start_ns=start_ns, end_ns=end_ns, limit=limit, now_ns=now_ns)
        if interval_ns <= 0 or interval_ns % MINUTE_NS:
            raise Refusal(RefusalCode.MALFORMED, f"no candles of {interval_ns} ns")
        candles = self._book(symbol).candles
        return candles.query(symbol, interval_ns, start_ns=start_ns, end_ns=end_ns, limit=limit, now_ns=now_ns)

    def add_past(self, symbol: str, klines: Sequence[Kline]) -> None:
        """Give a market the minutes of the time before its first trade, oldest first."""
        candles = self._book(symbol).candles
        for kline in klines:
            candles.add_past(kline)

    def ticker(self, symbol: str, now_ns: int) -> Ticker:
        """Return the last 24 hours."""
        return self._book(symbol).ticker(now_ns)

    def dump(self) -> bytes:
        """Return the whole state: accounts, holdings, markets, books, orders, trades, ids."""
        return state.dump(self._parts)

    def restore(self, state_bytes: bytes) -> None:
        """Become what `dump` returned; a later call behaves as if nothing had happened between.

        MALFORMED, with nothing changed, for other bytes. No event is told: whoever listens starts afresh.
        """
        state.restore(self._parts, state_bytes)
        self._markets.clear()
        self._markets.update({symbol: book.market for symbol, book in self._parts.books.items()})
        self._history.forget(self._orders.forget, self._markets)
        self.take_whole()

    def take_changes(self) -> Changes:
        """Return the rows that changed since the last call.

        Every row at the first call, after `restore` and after `take_whole`.
        """
        if self._tracking is None:
            self._tracking = Tracking(self._parts)
        return self._tracking.take()

    def take_whole(self) -> None:
        """Make the next `take_changes` return every row."""
        if self._tracking is not None:
            self._tracking.take_whole()

    def ledger(self) -> bytes:
        """Return what truly happened, as JSON (`ledger.Ledger`): accounts, holdings, orders, executions, transfers."""
        return ledger.ledger(self._parts)

    def set_status(self, symbol: str, status: TradingStatus, now_ns: int) -> None:
        """Pause, delist or reopen a market; delisting cancels every order."""
        book = self._book(symbol)
        if status is TradingStatus.DELISTED:
            self._cancel_book(book, now_ns)
        self._describe(book, msgspec.structs.replace(book.market, status=status))
        self._finish()

    def redenominate(self, symbol: str, factor: Decimal, now_ns: int) -> None:
        """Multiply prices by `factor` and divide holdings of the base asset by it; every order is cancelled.

        The grid moves along (tick x factor, step / factor), the trades of the past do not: the price jumps. Orders of
        every market with that asset are cancelled. MALFORMED, with nothing changed, when a quotient would be inexact.
        """
        book = self._book(symbol)
        base = book.market.instrument.base
        market = redenominated(book.market, factor)
        self._accounts.check_divisible(base, factor)
        for each in self._books.values():
            if base in (each.market.instrument.base, each.market.instrument.quote):
                self._cancel_book(each, now_ns)
        self._accounts.divide(base, factor, now_ns)
        self._describe(book, market)
        self._finish()

    def _finish(self) -> None:
        self._history.forget(self._orders.forget, self._markets)
        self._events.hand_out()

    def _describe(self, book: MarketBook, market: Market) -> None:
        book.change(market)
        self._markets[market.symbol] = market
        self._events.add(MarketChanged(market))

    def _cancel_book(self, book: MarketBook, now_ns: int) -> None:
        for order in list(book.resting.values()):
            self._cancel(order, now_ns)

    def _cancel(self, order: OrderRecord, now_ns: int) -> None:
        book = self._books[order.symbol]
        rest = book.engine.cancel(str(order.order_id))
        assert rest is not None, f"order {order.order_id} is open and does not rest"
        book.unrest(order, rest, now_ns)
        self._settlement.end(order, OrderStatus.CANCELED, now_ns)

    def _may(self, account: str, permission: Permission) -> None:
        self._accounts.may(account, permission)

    def _book(self, symbol: str) -> MarketBook:
        book = self._books.get(symbol)
        if book is None:
            raise Refusal(RefusalCode.SYMBOL_UNKNOWN, f"no market {symbol}")
        return book

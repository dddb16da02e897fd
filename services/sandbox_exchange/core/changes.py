"""What changed at a venue, as rows, so that a file follows it without being written anew.

In: the venue's parts. Out: rows to put and to drop; the rows of a file back as a state.
Never: rows that say anything else than `state.dump` does; a row that did not change, unless all are asked for.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from services.sandbox_exchange.core.accounts import Wallet
from services.sandbox_exchange.core.candles import Candle, Series
from services.sandbox_exchange.core.history import Forgotten
from services.sandbox_exchange.core.market import MarketBook
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    AccountTrade,
    FeeSettings,
    Market,
    PublicTrade,
    Transfer,
)
from services.sandbox_exchange.core.orders import OrderRecord
from services.sandbox_exchange.core.state import FORMAT, MarketState, Parts, SeriesState, State
from shared.matching.exact import floor_units, multiply, subtract
from shared.messages import Side

Section = str
Key = tuple[Section, str, int]
Row = tuple[Section, str, int, bytes]

SUMS, ACCOUNT, WALLET, TRANSFER = "sums", "account", "wallet", "transfer"
ORDER, EXECUTION, MARKET, TRADE, CANDLE = "order", "execution", "market", "trade", "candle"
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.decode


class Changes(msgspec.Struct, frozen=True):
    """Hold rows to put and to drop, in this order.

    With `is_whole` every row goes first. `puts` take the place of the rows of their key; of each of `drops_below` the
    rows of that section and name with smaller numbers go.
    """

    is_whole: bool
    puts: list[Row]
    drops: list[Key]
    drops_below: list[Key]

    def __repr__(self) -> str:
        return f"Changes(is_whole={self.is_whole}, {len(self.puts)} puts)"  # the accounts' secrets are among them


class SumsRow(msgspec.Struct, frozen=True):
    """Hold what there is one of."""

    fees: FeeSettings
    fees_taken: dict[str, Decimal]
    last_order_id: int
    forgotten: dict[str, Forgotten]


class WalletRow(msgspec.Struct, frozen=True):
    """Hold one asset of one account."""

    account: str
    asset: str
    wallet: Wallet


class SeriesRow(msgspec.Struct, frozen=True):
    """Hold what a series of candles is besides its candles."""

    interval_ns: int
    kept: int
    is_trimmed: bool


class MarketRow(msgspec.Struct, frozen=True):
    """Hold what a market is besides its orders, trades and candles."""

    market: Market
    version: int
    last_trade_id: int
    series: list[SeriesRow]


class _Known(NamedTuple):
    """Remember what of a market the rows say already."""

    version: int = -1
    market: Market | None = None
    last_trade_id: int = 0
    candles: tuple[tuple[int, int], ...] = ()  # the first and the newest opening of each series


class Tracking:
    """Note what changes at a venue from now on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._is_whole = True
        self._accounts = self._transfers = 0  # how many of them the rows hold
        self._known: dict[str, _Known] = {}

    def take_whole(self) -> None:
        """Make the next `take` return every row."""
        self._is_whole = True

    def take(self) -> Changes:
        """Return what changed since the last call."""
        is_whole, self._is_whole = self._is_whole, False
        if is_whole:
            self._touch_everything()
        changes = Changes(is_whole, [], [], [])
        self._take_accounts(changes)
        self._take_orders(changes)
        for number, book in enumerate(self._parts.books.values()):
            self._take_market(changes, number, book)
        return changes

    def _touch_everything(self) -> None:
        parts = self._parts
        self._accounts = self._transfers = 0
        self._known.clear()
        parts.orders.touched = set(parts.orders.by_id)
        parts.accounts.touched = {(name, asset) for name, held in parts.accounts.wallets.items() for asset in held}
        parts.history.touched = dict(parts.history.numbered())

    def _take_accounts(self, changes: Changes) -> None:
        parts, accounts = self._parts, self._parts.accounts
        sums = SumsRow(parts.settlement.fees, accounts.fees, parts.orders.last_id, parts.history.forgotten())
        changes.puts.append((SUMS, "", 0, _encode(sums)))
        if len(accounts.by_name) > self._accounts:
            for number, account in enumerate(accounts.by_name.values()):
                if number >= self._accounts:
                    changes.puts.append((ACCOUNT, "", number, _encode(account)))
            self._accounts = len(accounts.by_name)
        for number in range(self._transfers, len(accounts.transfers)):
            changes.puts.append((TRANSFER, "", number, _encode(accounts.transfers[number])))
        self._transfers = len(accounts.transfers)
        assert accounts.touched is not None
        for account_name, asset in sorted(accounts.touched):
            row = WalletRow(account_name, asset, accounts.wallets[account_name][asset])
            changes.puts.append((WALLET, repr((account_name, asset)), 0, _encode(row)))
        accounts.touched.clear()

    def _take_orders(self, changes: Changes) -> None:
        orders, history = self._parts.orders, self._parts.history
        assert orders.touched is not None and history.touched is not None
        for order_id in orders.touched:
            order = orders.by_id.get(order_id)
            if order is None:
                changes.drops.append((ORDER, "", order_id))
            else:
                changes.puts.append((ORDER, "", order_id, _encode(order)))
        orders.touched.clear()
        for number, execution in history.touched.items():
            if execution is None:
                changes.drops.append((EXECUTION, "", number))
            else:
                changes.puts.append((EXECUTION, "", number, _encode(execution)))
        history.touched.clear()

    def _take_market(self, changes: Changes, number: int, book: MarketBook) -> None:
        market = book.market
        symbol, known, series = market.symbol, self._known.get(market.symbol, _Known()), book.candles.series
        candles = tuple(_ends(one) for one in series)
        now = _Known(book.version, market, book.last_trade_id, candles)
        if now[:3] == known[:3] and candles == known.candles:
            return
        self._known[symbol] = now
        rows = [SeriesRow(one.interval_ns, one.kept, one.is_trimmed) for one in series]
        changes.puts.append((MARKET, "", number, _encode(MarketRow(market, book.version, book.last_trade_id, rows))))
        for trade in reversed(book.trades):
            if trade.trade_id <= known.last_trade_id:
                break
            changes.puts.append((TRADE, symbol, trade.trade_id, _encode(trade)))
        if book.trades:
            changes.drops_below.append((TRADE, symbol, book.trades[0].trade_id))
        for index, one in enumerate(series):
            self._take_candles(changes, symbol, one, known.candles[index] if known.candles else (0, 0))

    def _take_candles(self, changes: Changes, symbol: str, series: Series, known: tuple[int, int]) -> None:
        first_ns, newest_ns = known
        name = f"{symbol} {series.interval_ns}"
        for candle in reversed(series.candles.values()):
            if candle.open_ns < newest_ns:
                break
            changes.puts.append((CANDLE, name, candle.open_ns, _encode(candle)))
        if _ends(series)[0] > first_ns:
            changes.drops_below.append((CANDLE, name, _ends(series)[0]))


def _ends(series: Series) -> tuple[int, int]:
    candles = series.candles
    return (next(iter(candles)), next(reversed(candles))) if candles else (0, 0)


def state_of(rows: Iterable[Row]) -> State:
    """Return the state that rows hold; they come by section, name and number.

    Raises msgspec.MsgspecError or LookupError for rows of something else.
    """
    found: dict[Section, list[tuple[str, bytes]]] = {}
    for section, name, _, value in rows:
        found.setdefault(section, []).append((name, value))

    def every[T](section: Section, kind: type[T]) -> list[T]:
        return [_decode(value, type=kind) for _, value in found.get(section, ())]

    sums = _decode(found[SUMS][0][1], type=SumsRow)
    orders = every(ORDER, OrderRecord)
    accounts = every(ACCOUNT, Account)
    wallets: dict[str, dict[str, Wallet]] = {HOUSE: {}, **{one.name: {} for one in accounts}}
    for row in every(WALLET, WalletRow):
        wallets[row.account][row.asset] = row.wallet
    executions: dict[str, list[AccountTrade]] = {}
    for execution in every(EXECUTION, AccountTrade):
        executions.setdefault(execution.account, []).append(execution)
    return State(
        FORMAT,
        sums.fees,
        accounts,
        wallets,
        sums.fees_taken,
        every(TRANSFER, Transfer),
        sums.last_order_id,
        orders,
        executions,
        _markets_of(every(MARKET, MarketRow), found, orders),
        sums.forgotten,
    )


def _markets_of(
    rows: Sequence[MarketRow], found: dict[Section, list[tuple[str, bytes]]], orders: Sequence[OrderRecord]
) -> list[MarketState]:
    trades: dict[str, list[PublicTrade]] = {}
    for symbol, value in found.get(TRADE, ()):
        trades.setdefault(symbol, []).append(_decode(value, type=PublicTrade))
    candles: dict[str, list[Candle]] = {}
    for name, value in found.get(CANDLE, ()):
        candles.setdefault(name, []).append(_decode(value, type=Candle))
    resting: dict[str, list[OrderRecord]] = {}
    for order in orders:
        if order.status.is_open:
            resting.setdefault(order.symbol, []).append(order)
    return [
        MarketState(
            row.market,
            row.version,
            row.last_trade_id,
            trades.get(row.market.symbol, []),
            [
                SeriesState(
                    one.interval_ns, one.kept, one.is_trimmed, candles.get(f"{row.market.symbol} {one.interval_ns}", [])
                )
                for one in row.series
            ],
            _in_order(resting.get(row.market.symbol, []), row.market.instrument.step_size),
        )
        for row in rows
    ]


def _in_order(resting: list[OrderRecord], step: Decimal) -> list[tuple[int, Decimal]]:
    """Return each order's id and rest as they would fill: by price, then as they came."""
    found: list[tuple[int, Decimal]] = []
    for side, sign in ((Side.BUY, -1), (Side.SELL, 1)):
        mine = [one for one in resting if one.side is side and one.price is not None]
        mine.sort(key=lambda one: (sign * (one.price or Decimal(0)), one.order_id))
        for one in mine:
            rest = subtract(one.quantity or Decimal(0), one.executed_quantity)
            found.append((one.order_id, multiply(step, Decimal(floor_units(rest, step)))))
    return found

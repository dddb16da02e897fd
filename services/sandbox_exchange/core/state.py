"""The venue's whole state as bytes, and back.

In: the venue's parts, or the bytes. Out: the bytes, or the parts as they were.
Never: half a state: bytes are read wholly before anything is changed.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.accounts import Accounts, Wallet
from services.sandbox_exchange.core.candles import Candle, Series
from services.sandbox_exchange.core.events import Events
from services.sandbox_exchange.core.history import Forgotten, History
from services.sandbox_exchange.core.market import MarketBook
from services.sandbox_exchange.core.model import (
    Account,
    AccountTrade,
    FeeSettings,
    Market,
    PublicTrade,
    Refusal,
    RefusalCode,
    Transfer,
)
from services.sandbox_exchange.core.orders import OrderRecord, Orders
from services.sandbox_exchange.core.settlement import Settlement

FORMAT = 1


class Parts(msgspec.Struct, frozen=True):
    """Name the parts of a venue; they are changed in place."""

    events: Events
    accounts: Accounts
    orders: Orders
    settlement: Settlement
    history: History
    books: dict[str, MarketBook]
    trades_kept: int


class SeriesState(msgspec.Struct, frozen=True):
    """Hold one base interval's candles, oldest first."""

    interval_ns: int
    kept: int
    is_trimmed: bool
    candles: list[Candle]


class MarketState(msgspec.Struct, frozen=True):
    """Hold one market; `resting` is each order's id and rest, as they would fill."""

    market: Market
    version: int
    last_trade_id: int
    trades: Sequence[PublicTrade]
    series: list[SeriesState]
    resting: list[tuple[int, Decimal]]


class State(msgspec.Struct, frozen=True):
    """Hold everything; `orders` are all that are known, by rising id."""

    format: int
    fees: FeeSettings
    accounts: list[Account]
    wallets: dict[str, dict[str, Wallet]]
    fees_taken: dict[str, Decimal]
    transfers: list[Transfer]
    last_order_id: int
    orders: list[OrderRecord]
    account_trades: dict[str, list[AccountTrade]]
    markets: list[MarketState]
    forgotten: dict[str, Forgotten] = {}


def dump(parts: Parts) -> bytes:
    """Return the state."""
    accounts, orders = parts.accounts, parts.orders
    return encode_state(
        State(
            FORMAT,
            parts.settlement.fees,
            list(accounts.by_name.values()),
            accounts.wallets,
            accounts.fees,
            accounts.transfers,
            orders.last_id,
            sorted(orders.by_id.values(), key=lambda one: one.order_id),
            parts.history.executions(),
            [
                MarketState(
                    book.market,
                    book.version,
                    book.last_trade_id,
                    list(book.trades),
                    [_series_state(one) for one in book.candles.series],
                    [(order.order_id, rest) for order, rest in book.in_order()],
                )
                for book in parts.books.values()
            ],
            parts.history.forgotten(),
        )
    )


def encode_state(state: State) -> bytes:
    """Return a state as `restore` takes it."""
    return msgspec.msgpack.encode(state, order="deterministic")


def restore(parts: Parts, state_bytes: bytes) -> None:
    """Put the state into the parts."""
    try:
        state = msgspec.msgpack.decode(state_bytes, type=State)
    except msgspec.DecodeError as error:
        raise Refusal(RefusalCode.MALFORMED, f"no saved state of the sandbox: {error}") from None
    if state.format != FORMAT:
        raise Refusal(RefusalCode.MALFORMED, f"saved state has format {state.format}, this is {FORMAT}")
    accounts, orders = parts.accounts, parts.orders
    accounts.by_name = {one.name: one for one in state.accounts}
    accounts.by_key.clear()
    accounts.by_key.update({one.api_key: one for one in state.accounts})
    accounts.wallets, accounts.fees, accounts.transfers = state.wallets, state.fees_taken, state.transfers
    parts.settlement.fees = state.fees
    orders.clear(state.last_order_id)
    for order in state.orders:
        orders.add(order)
    parts.history.restore(state.orders, state.account_trades, state.forgotten)
    parts.books.clear()
    for one in state.markets:
        parts.books[one.market.symbol] = _book(one, parts)


def _book(state: MarketState, parts: Parts) -> MarketBook:
    book = MarketBook(state.market, parts.events, parts.trades_kept)
    book.trades.extend(state.trades)
    book.candles.series = [
        Series(one.interval_ns, one.kept, {candle.open_ns: candle for candle in one.candles}, one.is_trimmed)
        for one in state.series
    ]
    book.restore([(parts.orders.by_id[order_id], rest) for order_id, rest in state.resting])
    book.version, book.last_trade_id = state.version, state.last_trade_id
    return book


def _series_state(series: Series) -> SeriesState:
    return SeriesState(series.interval_ns, series.kept, series.is_trimmed, list(series.candles.values()))

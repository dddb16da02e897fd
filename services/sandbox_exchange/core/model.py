"""What the sandbox venue is made of, in words that belong to no wire protocol.

Money is Decimal, times are nanoseconds UTC, symbols are the venue's spelling (`BTCUSDT`). The wire modules turn these
words into MEXC's or Binance's, and back.
"""

from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.matching import FeeMode, SelfTradePrevention
from shared.messages import Instrument, Side, TimeInForce

HOUSE = "house"  # the account of the background market: never short of anything


class TradingStatus(StrEnum):
    """Name what a market lets through."""

    TRADING = "trading"
    CANCEL_ONLY = "cancel_only"
    PAUSED = "paused"
    DELISTED = "delisted"


class Permission(StrEnum):
    """Name what an API key may do."""

    READ = "read"
    TRADE = "trade"
    WITHDRAW = "withdraw"


class Market(msgspec.Struct, frozen=True):
    """Describe one market; rates are fractions, `quantity_max` and `notional_max` bound one order.

    `orders_max` bounds what rests of one account in it, or is None.
    """

    symbol: str
    instrument: Instrument
    maker_rate: Decimal = Decimal(0)
    taker_rate: Decimal = Decimal("0.0005")
    quantity_max: Decimal = Decimal(10_000_000_000)
    notional_max: Decimal = Decimal(2_000_000)
    status: TradingStatus = TradingStatus.TRADING
    allowed_sides: frozenset[Side] = frozenset(Side)
    orders_max: int | None = None


class Account(msgspec.Struct, frozen=True):
    """Describe one account and its only API key. `allowed_ips` is None for no restriction; `expires_ns` likewise."""

    name: str
    api_key: str
    secret: str
    permissions: frozenset[Permission] = frozenset({Permission.READ, Permission.TRADE})
    allowed_ips: frozenset[str] | None = None
    expires_ns: int | None = None

    def __repr__(self) -> str:
        return f"Account(name={self.name!r}, api_key='…', secret='…')"


class OrderKind(StrEnum):
    """Name how an order is priced; `LIMIT_MAKER` is a limit order that must not take."""

    LIMIT = "limit"
    MARKET = "market"
    LIMIT_MAKER = "limit_maker"


class OrderStatus(StrEnum):
    """Name where an order stands at the venue."""

    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"  # also with a part filled: the wire tells PARTIALLY_CANCELED where the venue does
    EXPIRED = "expired"  # the rest of an IOC or market order, an unfillable FOK
    EXPIRED_IN_MATCH = "expired_in_match"  # taken out by self-trade prevention

    @property
    def is_open(self) -> bool:
        """Tell whether the order still rests."""
        return self in {OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED}


class PlaceOrder(msgspec.Struct, frozen=True):
    """Ask for an order; a limit order has `price` and `quantity`, a market order `quantity` or `quote_amount`."""

    account: str
    symbol: str
    side: Side
    kind: OrderKind
    quantity: Decimal | None = None
    quote_amount: Decimal | None = None
    price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    client_order_id: str | None = None
    self_trade: SelfTradePrevention = SelfTradePrevention.NONE


class VenueOrder(msgspec.Struct, frozen=True):
    """State an order. `quantity` is None for a market order by quote amount until it ends (then what was filled)."""

    order_id: int
    client_order_id: str
    account: str
    symbol: str
    side: Side
    kind: OrderKind
    time_in_force: TimeInForce
    status: OrderStatus
    price: Decimal | None
    quantity: Decimal | None
    quote_amount: Decimal | None
    executed_quantity: Decimal
    executed_quote: Decimal
    self_trade: SelfTradePrevention
    created_ns: int
    updated_ns: int


class AccountTrade(msgspec.Struct, frozen=True):
    """Record one account's side of an execution; both sides of a self-trade have one each."""

    trade_id: int
    order_id: int
    client_order_id: str
    account: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    fee: Decimal
    fee_asset: str
    is_maker: bool
    is_self_trade: bool
    time_ns: int


class PublicTrade(msgspec.Struct, frozen=True):
    """Record one execution as everybody sees it; ids count from 1 in each market."""

    symbol: str
    trade_id: int
    price: Decimal
    quantity: Decimal
    taker_side: Side
    time_ns: int


class Depth(msgspec.Struct, frozen=True):
    """State a book's best levels `(price, quantity)`, best first, after change number `version`."""

    symbol: str
    version: int
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]


class Kline(msgspec.Struct, frozen=True):
    """State one candle; `close_ns` is exclusive. A candle without a trade repeats the last close."""

    symbol: str
    interval_ns: int
    open_ns: int
    close_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trades: int
    taker_buy_volume: Decimal
    taker_buy_quote: Decimal


class Ticker(msgspec.Struct, frozen=True):
    """State the last 24 hours of a market; prices are None before the first trade or quote."""

    symbol: str
    last: Decimal | None
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    volume: Decimal
    quote_volume: Decimal
    bid: Decimal | None
    bid_quantity: Decimal | None
    ask: Decimal | None
    ask_quantity: Decimal | None
    trades: int
    open_ns: int
    close_ns: int


class Transfer(msgspec.Struct, frozen=True):
    """Record a deposit (positive), a withdrawal (negative), or what a redenomination changed."""

    account: str
    asset: str
    amount: Decimal
    reason: str
    time_ns: int


class FeeSettings(msgspec.Struct, frozen=True):
    """Say which asset fees are charged in: by default the one received.

    In mode `third` a fee is charged in `third_asset` (worth `third_asset_price` quote units) when the account has
    enough of it free, else in the asset received, as venues with a token of their own do.
    """

    mode: FeeMode = FeeMode.GET
    third_asset: str | None = None
    third_asset_price: Decimal | None = None
    third_asset_step: Decimal = Decimal("0.00000001")


class Holding(msgspec.Struct, frozen=True):
    """State an asset's free and locked amount; both are at least zero, except the house's."""

    asset: str
    free: Decimal
    locked: Decimal


class RefusalCode(StrEnum):
    """Name why the venue refused a request; each wire protocol has its own number for it."""

    SYMBOL_UNKNOWN = "symbol_unknown"
    MARKET_NOT_TRADING = "market_not_trading"
    SIDE_NOT_ALLOWED = "side_not_allowed"
    MALFORMED = "malformed"
    PRICE_GRID = "price_grid"
    QUANTITY_GRID = "quantity_grid"
    QUANTITY_MIN = "quantity_min"
    QUANTITY_MAX = "quantity_max"
    NOTIONAL_MIN = "notional_min"
    NOTIONAL_MAX = "notional_max"
    BALANCE = "balance"
    WOULD_TAKE = "would_take"
    CLIENT_ID_TAKEN = "client_id_taken"
    ORDER_UNKNOWN = "order_unknown"
    ORDERS_MAX = "orders_max"
    PERMISSION = "permission"


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of the sandbox
    """Refuse a request; nothing has changed."""

    def __init__(self, code: RefusalCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class OrderChanged(msgspec.Struct, frozen=True):
    """Tell an order's owner how it stands now; `trade` is the execution that changed it, or None."""

    order: VenueOrder
    trade: AccountTrade | None


class HoldingChanged(msgspec.Struct, frozen=True):
    """Tell an account's owner what an asset's amounts are now, by how much they changed, and why."""

    account: str
    holding: Holding
    free_change: Decimal
    locked_change: Decimal
    reason: str
    time_ns: int


class LevelChanged(msgspec.Struct, frozen=True):
    """Tell everybody a level's new quantity (0: gone) after change number `version`; versions have no gaps."""

    symbol: str
    version: int
    side: Side
    price: Decimal
    quantity: Decimal
    time_ns: int


class TradePrinted(msgspec.Struct, frozen=True):
    """Tell everybody of an execution."""

    trade: PublicTrade


class MarketChanged(msgspec.Struct, frozen=True):
    """Tell the wire modules that a market's description or status is another one now."""

    market: Market


Event = OrderChanged | HoldingChanged | LevelChanged | TradePrinted | MarketChanged

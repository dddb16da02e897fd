"""What one verdict is based on: everything that the checks may look at, and nothing else."""

from decimal import Decimal

import msgspec

from shared.messages import Balance, FeedState, Instrument, OrderType, Side, TradingState


class Price(msgspec.Struct, frozen=True):
    """Hold a reference price in quote units, and the market time that it is from."""

    value: Decimal
    at_ns: int


class Quote(msgspec.Struct, frozen=True):
    """Hold the best bid and ask, and the market time that they are from."""

    bid: Decimal
    ask: Decimal
    at_ns: int


class ApprovedOrder(msgspec.Struct, frozen=True):
    """Remember an approval until its order has ended and the windows have passed.

    `filled_*` are cumulative. While it is open, what is not filled counts as reserved at the worst price.
    """

    intent_id: str
    strategy: str
    correlation_id: str
    instrument: str
    base: str
    side: Side
    type: OrderType
    quantity: Decimal | None
    quote_amount: Decimal | None
    limit_price: Decimal | None
    price_bound: Decimal
    quantity_max: Decimal
    quote_fee_rate: Decimal
    approved_at_ns: int
    filled_quantity: Decimal = Decimal(0)
    filled_quote: Decimal = Decimal(0)
    is_open: bool = True

    @property
    def reserved_quote(self) -> Decimal:
        """Return the quote money that the rest of an open buy may still cost, fee included."""
        if not self.is_open or self.side is not Side.BUY:
            return Decimal(0)
        if self.quote_amount is not None:
            rest = self.quote_amount - self.filled_quote
        else:
            rest = (self.quantity_max - self.filled_quantity) * self.price_bound
        return max(rest, Decimal(0)) * (1 + self.quote_fee_rate)

    @property
    def reserved_base(self) -> Decimal:
        """Return the base units that the rest of an open sell may still give away."""
        if not self.is_open or self.side is not Side.SELL:
            return Decimal(0)
        return max(self.quantity_max - self.filled_quantity, Decimal(0))

    def incoming_value(self, price: Decimal) -> Decimal:
        """Return what the rest of an open buy may add to the holding, valued at `price`, in quote units."""
        if not self.is_open or self.side is not Side.BUY:
            return Decimal(0)
        if self.quote_amount is not None:
            return max(self.quote_amount - self.filled_quote, Decimal(0))
        return max(self.quantity_max - self.filled_quantity, Decimal(0)) * price


class Equity(msgspec.Struct, frozen=True):
    """Hold what the account was worth at the first verdict of the market step that closed at `step_ns`."""

    step_ns: int
    value_usdt: Decimal


class Account(msgspec.Struct, frozen=True):
    """Hold the balances after ledger entry `ledger_sequence`.

    `equity_usdt` is marked at the closes in force; None while a holding has no price.
    """

    ledger_sequence: int
    balances: tuple[Balance, ...]
    equity_usdt: Decimal | None

    def balance(self, asset: str) -> Balance:
        """Return the balance of an asset; one that the account never had is zero."""
        for balance in self.balances:
            if balance.asset == asset:
                return balance
        return Balance(asset=asset, free=Decimal(0), locked=Decimal(0))


class View(msgspec.Struct, frozen=True):
    """State everything a verdict on one intent depends on, at market time `now_ns`.

    `orders` are the approvals that are still open or younger than the windows, oldest first. `feed_reason` says why
    the feed is frozen or stale, or why there is no price.
    """

    state: TradingState
    now_ns: int
    instrument: Instrument | None
    feed: FeedState
    price: Price | None
    quote: Quote | None
    account: Account | None
    orders: tuple[ApprovedOrder, ...] = ()
    feed_reason: str = ""

    def available(self, asset: str, reserved: Decimal, *, is_exclusive: bool) -> Decimal | None:
        """Return what is left of an asset when `reserved` is taken off; None when the account is not known.

        On an account that others use too, what the venue has locked may be theirs: it is never counted on.
        """
        if self.account is None:
            return None
        balance = self.account.balance(asset)
        left = balance.total - reserved
        return left if is_exclusive else min(left, balance.free)

    def reserved_quote(self) -> Decimal:
        """Return the quote money that all open buys may still cost."""
        return sum((order.reserved_quote for order in self.orders), Decimal(0))

    def reserved_base(self, base: str) -> Decimal:
        """Return the units of an asset that all open sells may still give away."""
        return sum((order.reserved_base for order in self.orders if order.base == base), Decimal(0))

"""What the admin does to a venue: markets, accounts, transfers, orders of anybody.

In: requests that were decoded. Out: what has changed. Never: a change that the exchange refuses.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from services.sandbox_exchange.config import MarketVerb
from services.sandbox_exchange.core.faults import Fault
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    Market,
    OrderKind,
    Permission,
    PlaceOrder,
    TradingStatus,
    VenueOrder,
)
from services.sandbox_exchange.keys import new_key
from services.sandbox_exchange.wire.context import Venue
from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import InputError
from shared.messages import Side, TimeInForce

REPEAT_MAX = 1_000_000


class StateVerb(StrEnum):
    """Name what is done with the state file."""

    SAVE = "save"
    RESTORE = "restore"


STATUSES = {
    MarketVerb.PAUSE: TradingStatus.PAUSED,
    MarketVerb.RESUME: TradingStatus.TRADING,
    MarketVerb.DELIST: TradingStatus.DELISTED,
    MarketVerb.CANCEL_ONLY: TradingStatus.CANCEL_ONLY,
}
SIDES = {
    MarketVerb.BUY_ONLY: frozenset({Side.BUY}),
    MarketVerb.SELL_ONLY: frozenset({Side.SELL}),
    MarketVerb.BOTH_SIDES: frozenset(Side),
}


class MarketChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for a market's change; `factor` multiplies its price, with `redenominate` alone."""

    action: MarketVerb
    factor: Decimal | None = None

    def __post_init__(self) -> None:
        if (self.action is MarketVerb.REDENOMINATE) != (self.factor is not None):
            raise ValueError("factor and action=redenominate belong together, for example factor=1000")
        if self.factor is not None and not (self.factor.is_finite() and self.factor > 0):
            raise ValueError(f"factor must be a positive number, got {self.factor}")


class NewAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for an account with a key of its own; `expires_s` counts from now, `allowed_ips` None is everywhere."""

    name: str
    permissions: frozenset[Permission] = frozenset({Permission.READ, Permission.TRADE})
    balances: Mapping[str, Decimal] = {}
    allowed_ips: frozenset[str] | None = None
    expires_s: float | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name == HOUSE:
            raise ValueError(f"name must be a word other than {HOUSE!r}, got {self.name!r}")


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for a deposit (positive) or a withdrawal (negative) from outside."""

    asset: str
    amount: Decimal
    account: str = "trader"
    reason: str = "admin"


class NewOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for an order of any account, of the house unless it says so, `repeat` times over."""

    symbol: str
    side: Side
    kind: OrderKind = OrderKind.LIMIT
    quantity: Decimal | None = None
    quote_amount: Decimal | None = None
    price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    account: str = HOUSE
    client_order_id: str | None = None
    repeat: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.repeat <= REPEAT_MAX:
            raise ValueError(f"repeat must be from 1 to {REPEAT_MAX}, got {self.repeat}")


def from_now(fault: Fault, elapsed_s: float) -> Fault:
    """Return the fault with its seconds counted from now, as whoever arms it at a running venue means them."""
    return msgspec.structs.replace(
        fault,
        from_s=None if fault.from_s is None else fault.from_s + elapsed_s,
        until_s=None if fault.until_s is None else fault.until_s + elapsed_s,
    )


def change_market(venue: Venue, symbol: str, change: MarketChange) -> Market:
    """Do it, and return the market as it is now."""
    exchange, now_ns = venue.exchange, venue.now_ns()
    market = exchange.markets.get(symbol)
    if market is None:
        raise InputError(f"no market {symbol}; there are {', '.join(exchange.markets)}")
    if change.factor is not None:
        exchange.redenominate(symbol, change.factor, now_ns)
    elif change.action in STATUSES:
        exchange.set_status(symbol, STATUSES[change.action], now_ns)
    else:
        exchange.list_market(msgspec.structs.replace(market, allowed_sides=SIDES[change.action]))
    return exchange.markets[symbol]


def open_account(venue: Venue, wanted: NewAccount) -> Account:
    """Open it, and return it with its key."""
    key, now_ns = new_key(), venue.now_ns()
    expires_ns = None if wanted.expires_s is None else now_ns + int(wanted.expires_s * NANOSECONDS_PER_SECOND)
    account = Account(
        name=wanted.name,
        api_key=key.api_key,
        secret=key.secret,
        permissions=wanted.permissions,
        allowed_ips=wanted.allowed_ips,
        expires_ns=expires_ns,
    )
    venue.exchange.open_account(account, wanted.balances, now_ns)
    return account


def transfer(venue: Venue, wanted: Transfer) -> dict[str, Decimal]:
    """Book it, and return what the account has free now, by asset."""
    venue.exchange.transfer(wanted.account, wanted.asset, wanted.amount, venue.now_ns(), wanted.reason)
    return {one.asset: one.free for one in venue.exchange.holdings(wanted.account)}


def place(venue: Venue, orders: Sequence[NewOrder]) -> list[VenueOrder]:
    """Place them one after the other, and return each one's last order."""
    placed: list[VenueOrder] = []
    for one in orders:
        request = PlaceOrder(
            account=one.account,
            symbol=one.symbol,
            side=one.side,
            kind=one.kind,
            quantity=one.quantity,
            quote_amount=one.quote_amount,
            price=one.price,
            time_in_force=one.time_in_force,
            client_order_id=one.client_order_id,
        )
        for _ in range(one.repeat):
            order, _trades = venue.exchange.place(request, venue.now_ns())
        placed.append(order)
    return placed

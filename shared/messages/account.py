"""Accounts: what is owned, after each ledger entry and each market step. Money is Decimal."""

from decimal import Decimal

import msgspec

from shared.messages.base import Message


class Balance(msgspec.Struct, frozen=True, array_like=True):
    """State an asset's free and locked amounts, in units of the asset; both are at least zero."""

    asset: str
    free: Decimal
    locked: Decimal

    @property
    def total(self) -> Decimal:
        """Return free + locked."""
        return self.free + self.locked


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Value a holding; `mark_price` and `value_usdt` are None until a price was seen, never a default."""

    instrument: str
    quantity: Decimal
    average_price: Decimal | None
    mark_price: Decimal | None
    value_usdt: Decimal | None
    realized_pnl_usdt: Decimal


class AccountSnapshot(Message, frozen=True):
    """State a whole account after ledger entry `ledger_sequence`, marked at market time `as_of_ns`.

    `equity_usdt` is None while any holding has no price. `fees_paid_usdt` sums since the account's start.
    """

    venue: str
    account: str
    ledger_sequence: int
    as_of_ns: int
    balances: tuple[Balance, ...]
    positions: tuple[Position, ...]
    equity_usdt: Decimal | None
    fees_paid_usdt: Decimal
    open_orders: int

"""Accounts and what they hold.

In: deposits, locks, releases, the money of executions, fees. Out: holdings, and an event for each change.
Never: a holding below zero (but the house's), an amount that appears or vanishes unbooked.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.events import Events
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    Holding,
    HoldingChanged,
    Permission,
    Refusal,
    RefusalCode,
    Transfer,
)
from shared.matching.exact import EXACT, add, is_amount, subtract

ZERO = Decimal(0)


class Wallet(msgspec.Struct):
    """Hold one asset of one account."""

    free: Decimal = ZERO
    locked: Decimal = ZERO


class Accounts:
    """Hold every account's wallets, the fees taken so far, and the transfers from and to outside.

    `touched` holds the wallets (account, asset) that changed since somebody emptied it; None while nobody asks.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self.by_key: dict[str, Account] = {}
        self.by_name: dict[str, Account] = {}
        self.wallets: dict[str, dict[str, Wallet]] = {HOUSE: {}}
        self.fees: dict[str, Decimal] = {}
        self.transfers: list[Transfer] = []
        self.touched: set[tuple[str, str]] | None = None

    def open(self, account: Account, deposits: Mapping[str, Decimal], now_ns: int) -> None:
        """Open an account with its first deposits; MALFORMED for a name or key in use or a negative deposit."""
        if account.name in self.wallets or account.api_key in self.by_key:
            raise Refusal(RefusalCode.MALFORMED, f"account {account.name} or its API key exists")
        for asset, amount in deposits.items():
            if amount and not is_amount(amount):
                raise Refusal(RefusalCode.MALFORMED, f"deposit of {asset} must not be negative, got {amount}")
        self.by_key[account.api_key] = self.by_name[account.name] = account
        self.wallets[account.name] = {}
        for asset, amount in deposits.items():
            self.transfer(account.name, asset, amount, now_ns, "deposit")

    def transfer(self, account: str, asset: str, amount: Decimal, now_ns: int, reason: str) -> None:
        """Book a deposit or a withdrawal; BALANCE when it would take more than is free."""
        self.known(account)
        if not amount.is_finite() or (amount and not is_amount(amount.copy_abs())):
            raise Refusal(RefusalCode.MALFORMED, f"amount must be a number of at most 40 digits, got {amount}")
        if amount < 0:
            self.require(account, asset, -amount)
        self.change(account, asset, amount, ZERO, reason=reason, now_ns=now_ns)
        self.transfers.append(Transfer(account, asset, amount, reason, now_ns))

    def known(self, account: str) -> None:
        """Raise PERMISSION unless there is such an account."""
        if account not in self.wallets:
            raise Refusal(RefusalCode.PERMISSION, f"no account {account}")

    def may(self, account: str, permission: Permission) -> None:
        """Raise PERMISSION unless the account may do that."""
        self.known(account)
        if account != HOUSE and permission not in self.by_name[account].permissions:
            raise Refusal(RefusalCode.PERMISSION, f"account {account} must not {permission}")

    def require(self, account: str, asset: str, amount: Decimal) -> None:
        """Raise BALANCE unless that much is free; the house always has it."""
        if account == HOUSE:
            return
        free = self.free(account, asset)
        if free < amount:
            raise Refusal(RefusalCode.BALANCE, f"{amount} {asset} needed, {free} free")

    def free(self, account: str, asset: str) -> Decimal:
        """Return what is free."""
        wallet = self.wallets[account].get(asset)
        return ZERO if wallet is None else wallet.free

    def holdings(self, account: str) -> list[Holding]:
        """Return an account's holdings by asset."""
        self.known(account)
        return [Holding(asset, one.free, one.locked) for asset, one in sorted(self.wallets[account].items())]

    def change(self, account: str, asset: str, free: Decimal, locked: Decimal, *, reason: str, now_ns: int) -> None:
        """Add to an asset's free and locked amount and tell the owner."""
        wallets = self.wallets[account]
        wallet = wallets.get(asset)
        if wallet is None:
            wallet = wallets[asset] = Wallet()
        wallet.free, wallet.locked = add(wallet.free, free), add(wallet.locked, locked)
        if self.touched is not None:
            self.touched.add((account, asset))
        if account == HOUSE:
            return
        assert wallet.free >= 0 and wallet.locked >= 0, f"{account} holds {wallet} of {asset} after {reason}"
        if self._events.wanted:
            holding = Holding(asset, wallet.free, wallet.locked)
            self._events.add(HoldingChanged(account, holding, free, locked, reason, now_ns))

    def take_fee(self, asset: str, amount: Decimal) -> None:
        """Count a fee that was taken from an account."""
        self.fees[asset] = add(self.fees.get(asset, ZERO), amount)

    def check_divisible(self, asset: str, factor: Decimal) -> None:
        """Raise MALFORMED unless everybody's amount of an asset divides exactly."""
        for wallets in self.wallets.values():
            wallet = wallets.get(asset)
            if wallet is not None:
                for amount in (wallet.free, wallet.locked):
                    exact_quotient(amount, factor)

    def divide(self, asset: str, factor: Decimal, now_ns: int) -> None:
        """Divide what everybody holds of an asset; nothing of it is locked any more."""
        for account, wallets in self.wallets.items():
            wallet = wallets.get(asset)
            if wallet is None or not wallet.free:
                continue
            change = subtract(exact_quotient(wallet.free, factor), wallet.free)
            self.transfers.append(Transfer(account, asset, change, "redenominate", now_ns))
            self.change(account, asset, change, ZERO, reason="redenominate", now_ns=now_ns)


def exact_quotient(amount: Decimal, factor: Decimal) -> Decimal:
    """Return `amount / factor`; MALFORMED when that has no exact decimal."""
    try:
        return EXACT.divide(amount, factor)
    except ArithmeticError:
        raise Refusal(RefusalCode.MALFORMED, f"{amount} / {factor} is not exact") from None

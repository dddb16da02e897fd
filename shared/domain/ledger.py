"""The double-entry ledger: every change of an account, append-only, exact to the last decimal.

In: deposits, transfers and fills, each under a reference of its own. Out: entries, balances, positions, fees paid.
Never: a sum that does not balance, a reference booked twice, a holding below zero, a rounded amount of money.

Every entry posts to four accounts (`Account`) and sums to zero per asset. Positions follow the weighted average cost:
- A buy adds `price x quantity` to the position's cost. A fee in the base asset is taken out at the fill's price, as if
  it had never been bought; a sale's fee in the base asset is sold at the fill's price too. A fee in a third asset
  leaves that asset's position at its average cost.
- A sale takes the sold share of the cost out; what it fetched above that is realised. The share is rounded to 18
  decimals and the rest stays in the cost, so realised + unrealised - fees + transfers is the equity's change exactly.
- Fees are never part of realised profit; `fees_quote` values them at the price of their own fill.
"""

from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.domain.instruments import split_symbol
from shared.domain.money import ZERO, add, multiply, plain, prorate, quotient, subtract
from shared.errors import IntegrityError
from shared.messages.base import Side
from shared.messages.order import Fill


class EntryKind(StrEnum):
    """Name what caused an entry."""

    DEPOSIT = "deposit"
    TRANSFER = "transfer"
    FILL = "fill"


class Account(StrEnum):
    """Name the four sides of an entry: ours, the counterparties', the fees paid, the world outside."""

    HOLDINGS = "holdings"
    MARKET = "market"
    FEES = "fees"
    EXTERNAL = "external"


class Posting(msgspec.Struct, frozen=True):
    """Add a signed amount of an asset to one account."""

    account: Account
    asset: str
    amount: Decimal


class LedgerEntry(msgspec.Struct, frozen=True):
    """Record one change. `quantity` is signed for transfers alone; `price` is in quote units per unit of `asset`.

    `asset` is what moved: a fill's base asset, a transfer's asset. `fee` is zero or more, in `fee_asset`.
    """

    sequence: int
    reference: str
    kind: EntryKind
    asset: str
    side: Side | None
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    ts_event_ns: int

    def postings(self, quote_asset: str) -> tuple[Posting, ...]:
        """Return the entry's postings; they sum to zero for each asset."""
        if self.kind is not EntryKind.FILL:
            return _pair(Account.EXTERNAL, self.asset, self.quantity)
        value = multiply(self.price, self.quantity)
        if self.side is Side.BUY:
            base, quote = self.quantity, value.copy_negate()
        else:
            base, quote = self.quantity.copy_negate(), value
        fee = _pair(Account.FEES, self.fee_asset, self.fee.copy_negate()) if self.fee else ()
        return _pair(Account.MARKET, self.asset, base) + _pair(Account.MARKET, quote_asset, quote) + fee


class Holding(msgspec.Struct, frozen=True):
    """State a position: quantity in base units, its cost and what was realised so far in quote units."""

    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized: Decimal = ZERO

    @property
    def average_price(self) -> Decimal | None:
        """Return cost / quantity to 18 decimals, or None when nothing is held."""
        return quotient(self.cost, self.quantity) if self.quantity else None


class Ledger:
    """Keep an account in memory; `book_*` check everything first, so a refused entry changes nothing."""

    def __init__(self, quote_asset: str) -> None:
        self.quote_asset = quote_asset
        self.entries: list[LedgerEntry] = []
        self.fees_quote = ZERO
        self._by_reference: dict[str, LedgerEntry] = {}
        self._balances: dict[str, Decimal] = {}
        self._holdings: dict[str, Holding] = {}

    @classmethod
    def replay(cls, quote_asset: str, entries: list[LedgerEntry]) -> "Ledger":
        """Rebuild a ledger from its entries; raises IntegrityError when they are not consecutive or not bookable."""
        ledger = cls(quote_asset)
        for entry in entries:
            if entry.sequence != ledger.sequence + 1:
                raise IntegrityError(f"ledger entry {ledger.sequence + 1} is missing: the next one is {entry.sequence}")
            if ledger._book(entry) is None:
                raise IntegrityError(f"ledger entry {entry.sequence} repeats {entry.reference!r}")
        return ledger

    @property
    def sequence(self) -> int:
        """Return the last entry's number; 0 before the first."""
        return len(self.entries)

    def book_deposit(self, reference: str, amount: Decimal, ts_event_ns: int) -> LedgerEntry | None:
        """Book the account's first money, in the quote asset; None when the reference is booked already."""
        asset = self.quote_asset
        if amount <= 0:
            raise IntegrityError(f"deposit {reference!r} of {plain(amount)} {asset} is impossible")
        return self._book_external(
            EntryKind.DEPOSIT, reference, asset, amount=amount, price=Decimal(1), ts_event_ns=ts_event_ns
        )

    def book_transfer(
        self, reference: str, asset: str, amount: Decimal, price: Decimal, ts_event_ns: int
    ) -> LedgerEntry | None:
        """Book what came from (or, below zero, went) outside, valued at `price` quote units for one unit of `asset`.

        A price of zero says that no price was to be had; only what is held to pay fees from may be worth nothing.
        """
        return self._book_external(
            EntryKind.TRANSFER, reference, asset, amount=amount, price=price, ts_event_ns=ts_event_ns
        )

    def book_fill(self, instrument: str, side: Side, fill: Fill) -> LedgerEntry | None:
        """Book one execution under its fill id; None when it is booked already.

        Raises IntegrityError when the id stands for another execution, or when more would leave than is held.
        """
        base, quote = split_symbol(instrument)
        if quote != self.quote_asset:
            raise IntegrityError(f"fill {fill.fill_id} of {instrument} is not in {self.quote_asset}")
        if min(fill.price, fill.quantity) <= 0 or fill.fee < 0:
            raise IntegrityError(f"fill {fill.fill_id} has an impossible amount: {fill}")
        return self._book(
            LedgerEntry(
                sequence=self.sequence + 1,
                reference=f"fill:{fill.fill_id}",
                kind=EntryKind.FILL,
                asset=base,
                side=side,
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
                fee_asset=fill.fee_asset,
                ts_event_ns=fill.ts_event_ns,
            )
        )

    def entry(self, reference: str) -> LedgerEntry | None:
        """Return the entry with that reference, or None."""
        return self._by_reference.get(reference)

    def balance(self, asset: str) -> Decimal:
        """Return how much of `asset` is held."""
        return self._balances.get(asset, ZERO)

    def balances(self) -> dict[str, Decimal]:
        """Return what is held of every asset that was ever touched, sorted by asset."""
        return dict(sorted(self._balances.items()))

    def holding(self, asset: str) -> Holding:
        """Return the position in a base asset; one that there never was is empty."""
        return self._holdings.get(asset, Holding())

    def holdings(self) -> dict[str, Holding]:
        """Return every position there was, by base asset, sorted."""
        return dict(sorted(self._holdings.items()))

    def _book_external(
        self, kind: EntryKind, reference: str, asset: str, *, amount: Decimal, price: Decimal, ts_event_ns: int
    ) -> LedgerEntry | None:
        if not amount or price < 0:
            raise IntegrityError(f"{kind} {reference!r} of {plain(amount)} {asset} at {plain(price)} is impossible")
        return self._book(
            LedgerEntry(
                sequence=self.sequence + 1,
                reference=f"{kind}:{reference}",
                kind=kind,
                asset=asset,
                side=None,
                price=price,
                quantity=amount,
                fee=ZERO,
                fee_asset=asset,
                ts_event_ns=ts_event_ns,
            )
        )

    def _book(self, entry: LedgerEntry) -> LedgerEntry | None:
        known = self._by_reference.get(entry.reference)
        if known is not None:
            if msgspec.structs.replace(entry, sequence=known.sequence) != known:
                raise IntegrityError(f"{entry.reference} is booked with other content: {known}, now {entry}")
            return None
        balances = self._balances_after(entry)
        holdings, fee_value = self._holdings_after(entry)
        self._balances.update(balances)
        self._holdings.update(holdings)
        self.fees_quote = add(self.fees_quote, fee_value)
        self.entries.append(entry)
        self._by_reference[entry.reference] = entry
        return entry

    def _balances_after(self, entry: LedgerEntry) -> dict[str, Decimal]:
        after: dict[str, Decimal] = {}
        for posting in entry.postings(self.quote_asset):
            if posting.account is Account.HOLDINGS:
                before = after.get(posting.asset, self.balance(posting.asset))
                after[posting.asset] = add(before, posting.amount)
        for asset, amount in after.items():
            if amount < 0:
                raise IntegrityError(f"{entry.reference} would leave {plain(amount)} {asset}")
        return after

    def _holdings_after(self, entry: LedgerEntry) -> tuple[dict[str, Holding], Decimal]:
        base_fee = entry.fee if entry.fee_asset == entry.asset else ZERO
        after: dict[str, Holding] = {}
        if entry.asset != self.quote_asset:
            before = self._holdings.get(entry.asset, Holding())
            change = entry.quantity.copy_negate() if entry.side is Side.SELL else entry.quantity
            after[entry.asset] = _moved(before, subtract(change, base_fee), entry)
        if base_fee:
            return after, multiply(base_fee, entry.price)
        if not entry.fee or entry.fee_asset == self.quote_asset:
            return after, entry.fee
        third = self._holdings.get(entry.fee_asset, Holding())
        value = prorate(third.cost, entry.fee, third.quantity)
        after[entry.fee_asset] = Holding(
            subtract(third.quantity, entry.fee), subtract(third.cost, value), third.realized
        )
        return after, value


def _moved(before: Holding, change: Decimal, entry: LedgerEntry) -> Holding:
    value = multiply(change, entry.price)
    quantity = add(before.quantity, change)
    if change >= 0:
        return Holding(quantity, add(before.cost, value), before.realized)
    removed = prorate(before.cost, change.copy_negate(), before.quantity)
    gain = subtract(value.copy_negate(), removed)
    return Holding(quantity, subtract(before.cost, removed), add(before.realized, gain))


def _pair(other: Account, asset: str, amount: Decimal) -> tuple[Posting, ...]:
    return (Posting(Account.HOLDINGS, asset, amount), Posting(other, asset, amount.copy_negate()))

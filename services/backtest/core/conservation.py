"""Books that must balance: the ledger against the venue, against its own postings, and equity against its causes.

In: the ledger, the venue's balances, the last closes. Out: nothing, or IntegrityError. Never: a tolerance; money is
exact, so a difference of any size is an error.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from shared.domain.ledger import Account, EntryKind, Ledger
from shared.domain.money import ZERO, add, multiply, plain, subtract
from shared.errors import IntegrityError
from shared.messages import Balance


def check_balances(ledger: Ledger, at_venue: Iterable[Balance]) -> None:
    """Check that the venue holds exactly what the ledger says, and nothing below zero."""
    held = {balance.asset: balance.total for balance in at_venue}
    booked = ledger.balances()
    for asset in sorted(held.keys() | booked.keys()):
        there, here = held.get(asset, ZERO), booked.get(asset, ZERO)
        if there != here or here < 0:
            raise IntegrityError(f"{asset}: the venue holds {plain(there)}, the ledger {plain(here)}")


def check_books(ledger: Ledger, at_venue: Iterable[Balance], marks: Mapping[str, Decimal]) -> None:
    """Check everything at the end of a run, from the first entry on.

    Every entry sums to zero for each asset over its four accounts; what the accounts sum up to is what is held; and
    deposits + realised + unrealised - fees is the equity.
    """
    check_balances(ledger, at_venue)
    sums: dict[tuple[Account, str], Decimal] = {}
    for entry in ledger.entries:
        by_asset: dict[str, Decimal] = {}
        for posting in entry.postings(ledger.quote_asset):
            by_asset[posting.asset] = add(by_asset.get(posting.asset, ZERO), posting.amount)
            key = (posting.account, posting.asset)
            sums[key] = add(sums.get(key, ZERO), posting.amount)
        for asset, rest in by_asset.items():
            if rest:
                raise IntegrityError(f"entry {entry.sequence} creates {plain(rest)} {asset} out of nothing")
    for asset, held in ledger.balances().items():
        summed = sums.get((Account.HOLDINGS, asset), ZERO)
        if summed != held:
            raise IntegrityError(f"{asset}: the entries sum up to {plain(summed)}, {plain(held)} is held")
    _check_equity(ledger, marks)


def _check_equity(ledger: Ledger, marks: Mapping[str, Decimal]) -> None:
    quote = ledger.quote_asset
    brought = ZERO
    for entry in ledger.entries:
        if entry.kind is not EntryKind.FILL:
            brought = add(brought, multiply(entry.quantity, entry.price))
    worth = ledger.balance(quote)
    explained = subtract(brought, ledger.fees_quote)
    for asset, holding in ledger.holdings().items():
        mark = marks.get(f"{asset}-{quote}")
        if mark is None:
            if holding.quantity:
                return
            mark = ZERO
        value = multiply(holding.quantity, mark)
        worth = add(worth, value)
        explained = add(explained, add(holding.realized, subtract(value, holding.cost)))
    if worth != explained:
        raise IntegrityError(f"equity is {plain(worth)}, deposits, profits and fees explain {plain(explained)}")

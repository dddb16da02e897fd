"""What truly happened at the venue: the oracle that tests compare everybody's books with.

In: the venue's parts. Out: JSON. Never: a secret; anything of the house but what it holds.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.history import Forgotten
from services.sandbox_exchange.core.model import HOUSE, AccountTrade, Holding, Permission, Transfer, VenueOrder
from services.sandbox_exchange.core.state import Parts
from shared.matching.exact import add, subtract

ZERO = Decimal(0)


class LedgerAccount(msgspec.Struct, frozen=True):
    """Name an account and what its key may do."""

    name: str
    permissions: frozenset[Permission]


class Total(msgspec.Struct, frozen=True):
    """State where an asset is: `held` by everybody (the house's debt counts negative) + `fees` = `transferred`.

    `difference` is what is missing or too much: zero, or the venue is wrong.
    """

    held: Decimal
    fees: Decimal
    transferred: Decimal
    difference: Decimal


class Ledger(msgspec.Struct, frozen=True):
    """State everything that is kept; holdings by account, totals by asset, orders and executions as they came.

    `forgotten` says by account what is not kept any more; an account of which all is kept is absent.
    """

    accounts: Sequence[LedgerAccount]
    holdings: dict[str, Sequence[Holding]]
    orders: Sequence[VenueOrder]
    executions: Sequence[AccountTrade]
    transfers: Sequence[Transfer]
    totals: dict[str, Total]
    forgotten: dict[str, Forgotten] = {}


def ledger(parts: Parts) -> bytes:
    """Return the ledger as JSON."""
    accounts = parts.accounts
    orders = [one.snapshot() for one in parts.orders.by_id.values() if one.account != HOUSE]
    executions = [trade for _, trade in parts.history.numbered()]
    return msgspec.json.encode(
        Ledger(
            [LedgerAccount(one.name, one.permissions) for one in accounts.by_name.values()],
            {name: accounts.holdings(name) for name in accounts.wallets},
            sorted(orders, key=lambda one: one.order_id),
            sorted(executions, key=lambda one: (one.time_ns, one.symbol, one.trade_id, not one.is_maker)),
            accounts.transfers,
            totals(parts),
            parts.history.forgotten(),
        )
    )


def totals(parts: Parts) -> dict[str, Total]:
    """Return where every asset is."""
    held: dict[str, Decimal] = {}
    transferred: dict[str, Decimal] = {}
    for wallets in parts.accounts.wallets.values():
        for asset, wallet in wallets.items():
            held[asset] = add(held.get(asset, ZERO), add(wallet.free, wallet.locked))
    for transfer in parts.accounts.transfers:
        transferred[transfer.asset] = add(transferred.get(transfer.asset, ZERO), transfer.amount)
    result: dict[str, Total] = {}
    for asset in sorted({*held, *transferred, *parts.accounts.fees}):
        has, fees = held.get(asset, ZERO), parts.accounts.fees.get(asset, ZERO)
        came = transferred.get(asset, ZERO)
        result[asset] = Total(has, fees, came, subtract(add(has, fees), came))
    return result

"""Deposits and withdrawals: what changed in the account between two closes that no fill of this strategy explains.

In: holdings at each close, fills in between. Out: the unexplained changes, by market and quote asset.
Never: a fill counted twice (each by its id and its place in the ledger), a change of less than a cent reported.
"""

from decimal import Decimal

import msgspec

from services.rebalancer.core.model import CENT, money
from services.rebalancer.modes import OnTransfer
from shared.messages import OrderEvent, Side

QUOTE = "quote"
_RELATIVE = Decimal("1e-9")
_CONSEQUENCES = {
    OnTransfer.HOLD: "no plan at this close because of it",
    OnTransfer.REBALANCE: "no plan at this close because of it; a rebalance to target at the next",
    OnTransfer.IGNORE: "the rules go on as always",
}


class Known(msgspec.Struct, frozen=True):
    """Hold what the account held at the last close that was looked at; amounts by market, and of the quote asset."""

    ledger_sequence: int
    amounts: dict[str, Decimal]


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """Hold what one fill changed, and the ledger's entry from which accounts contain it."""

    ledger_sequence: int
    amounts: dict[str, Decimal]


def moved_by(event: OrderEvent, markets: tuple[str, ...]) -> Moved | None:
    """Return what the event's fill changed in the markets' base assets and the quote asset; None without a fill."""
    fill = event.fill
    if fill is None:
        return None
    base_sign = 1 if event.side is Side.BUY else -1
    amounts = {event.instrument: base_sign * fill.quantity, QUOTE: -base_sign * fill.quantity * fill.price}
    paid_in = QUOTE if fill.fee_asset == event.instrument.rpartition("-")[2] else None
    paid_in = paid_in or next((each for each in markets if each.rpartition("-")[0] == fill.fee_asset), None)
    if paid_in is not None:
        amounts[paid_in] = amounts.get(paid_in, Decimal(0)) - fill.fee
    return Moved(event.ledger_sequence, amounts)


def unexplained(
    known: Known | None, moved: dict[str, Moved], now: Known, closes: dict[str, Decimal]
) -> dict[str, Decimal]:
    """Return the changes from `known` to `now` that `moved` does not explain and that are worth at least a cent.

    A market without a price counts when its quantity changed by more than a billionth.
    """
    if known is None:
        return {}
    found: dict[str, Decimal] = {}
    for key, amount in now.amounts.items():
        if key not in known.amounts:
            continue
        change = amount - known.amounts[key]
        if change == 0 and not moved:
            continue
        for each in moved.values():
            if known.ledger_sequence < each.ledger_sequence <= now.ledger_sequence:
                change -= each.amounts.get(key, Decimal(0))
        price = Decimal(1) if key == QUOTE else closes.get(key)
        usable = price is not None and price.is_finite()
        worth = abs(change) * price if price is not None and usable else None
        if change and (abs(change) > amount * _RELATIVE if worth is None else worth >= CENT):
            found[key] = change
    return found


def still_to_come(moved: dict[str, Moved], ledger_sequence: int) -> dict[str, Moved]:
    """Return the fills that an account at this place in the ledger does not contain yet."""
    return {key: each for key, each in moved.items() if each.ledger_sequence > ledger_sequence}


def describe(changes: dict[str, Decimal], on_transfer: OnTransfer) -> tuple[str, ...]:
    """Return a sentence for each change, and what follows from it."""
    notes = [
        f"{'deposit' if change > 0 else 'withdrawal'} of {_amount(key, change)}: no fill of this strategy explains it"
        for key, change in changes.items()
    ]
    return (*notes, _CONSEQUENCES[on_transfer])


def _amount(key: str, change: Decimal) -> str:
    return money(abs(change)) if key == QUOTE else f"{abs(change):f} {key.rpartition('-')[0] or key}"

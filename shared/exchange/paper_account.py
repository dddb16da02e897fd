"""The paper venue's money: what an order needs, what a fill moves. Pure and exact.

In: balances and fills. Out: new balances. Never: a negative balance, an amount that appears or vanishes.
"""

from collections.abc import Mapping
from decimal import Decimal

from shared.errors import IntegrityError
from shared.matching import BarFill, FeeMode, FeeSchedule
from shared.matching.exact import add, multiply, subtract
from shared.messages import Balance, Instrument, Side

ZERO = Decimal(0)
ONE = Decimal(1)


def paid_asset(instrument: Instrument, side: Side) -> str:
    """Return the asset that an order of `side` gives away."""
    return instrument.quote if side is Side.BUY else instrument.base


def lock_unit(fees: FeeSchedule, side: Side, limit_price: Decimal) -> Decimal:
    """Return what a resting order locks of the asset it gives away, per unit of quantity, the worst fee included."""
    unit = limit_price if side is Side.BUY else ONE
    fee_is_on_top = fees.mode is (FeeMode.QUOTE if side is Side.BUY else FeeMode.BASE)
    return multiply(unit, add(ONE, max(fees.maker_rate, fees.taker_rate))) if fee_is_on_top else unit


def paid_amount(instrument: Instrument, side: Side, fill: BarFill) -> Decimal:
    """Return what a fill takes of the asset given away, a fee in that asset included."""
    amount = fill.quote if side is Side.BUY else fill.quantity
    return add(amount, fill.fee) if fill.fee_asset == paid_asset(instrument, side) else amount


def balance_of(balances: Mapping[str, Balance], asset: str) -> Balance:
    """Return an asset's balance; an asset never touched has nothing, which is a fact and no default."""
    return balances.get(asset) or Balance(asset, ZERO, ZERO)


def credited(balances: Mapping[str, Balance], asset: str, amount: Decimal) -> dict[str, Balance]:
    """Return the balances with `amount` (negative: debited) more of `asset` free.

    Raises IntegrityError when that would be below zero: the caller has let through what the account cannot pay.
    """
    balance = balance_of(balances, asset)
    free = add(balance.free, amount)
    if free < 0:
        raise IntegrityError(f"paper account: {asset} would fall to {free}")
    return {**balances, asset: Balance(asset, free, balance.locked)}


def locked(balances: Mapping[str, Balance], asset: str, amount: Decimal) -> dict[str, Balance]:
    """Return the balances with `amount` (negative: unlocked) of `asset` moved from free to locked.

    Raises IntegrityError when either would be below zero.
    """
    balance = balance_of(balances, asset)
    free, held = subtract(balance.free, amount), add(balance.locked, amount)
    if free < 0 or held < 0:
        raise IntegrityError(f"paper account: {asset} would be {free} free and {held} locked")
    return {**balances, asset: Balance(asset, free, held)}


def filled(balances: Mapping[str, Balance], instrument: Instrument, side: Side, fill: BarFill) -> dict[str, Balance]:
    """Return the balances after a fill, paid from what is free."""
    base, quote = fill.quantity, fill.quote
    changes = (
        {instrument.base: base, instrument.quote: quote.copy_negate()}
        if side is Side.BUY
        else {instrument.base: base.copy_negate(), instrument.quote: quote}
    )
    changes[fill.fee_asset] = subtract(changes.get(fill.fee_asset, ZERO), fill.fee)
    result = dict(balances)
    for asset, amount in changes.items():
        result = credited(result, asset, amount)
    return result

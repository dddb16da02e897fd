"""Arithmetic on money that is exact or fails, and the one border between market floats and money.

In: finite Decimals; floats of market data. Out: exact sums and products. Never: a silent rounding, a NaN, an infinity.
The only rounding here is `prorate`, which says what happens to the rest.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

from shared.errors import InputError

ZERO = Decimal(0)
# 120 digits hold a product of any three amounts, prices or rates that a market can have.
EXACT = Context(prec=120, Emin=-999, Emax=999, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
ROUNDING = Context(prec=120, Emin=-999, Emax=999, traps=[InvalidOperation, DivisionByZero, Overflow])
# A division of money is kept to 18 decimals, finer than any asset's smallest unit on a spot market.
QUANTUM = Decimal("1E-18")

add = EXACT.add
subtract = EXACT.subtract
multiply = EXACT.multiply


def money_of(value: float) -> Decimal:
    """Return the decimal number that `value` is written as; raises InputError for NaN and infinities."""
    number = Decimal(repr(float(value)))
    if not number.is_finite():
        raise InputError(f"{value!r} is no amount and no price")
    return number


def total(amounts: list[Decimal]) -> Decimal:
    """Return the exact sum."""
    result = ZERO
    for amount in amounts:
        result = add(result, amount)
    return result


def prorate(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Return `amount x part / whole` to 18 decimals, half even; all of `amount` when `part` is the whole.

    A caller that splits an amount subtracts the result from it, so that nothing is created or lost.
    """
    if part == whole:
        return amount
    return ROUNDING.divide(multiply(amount, part), whole).quantize(QUANTUM, ROUND_HALF_EVEN, ROUNDING)


def quotient(amount: Decimal, by: Decimal) -> Decimal:
    """Return `amount / by` to 18 decimals, half even, to be shown and never to be booked."""
    return ROUNDING.divide(amount, by).quantize(QUANTUM, ROUND_HALF_EVEN, ROUNDING)


def plain(amount: Decimal) -> str:
    """Return the amount without exponent and without trailing zeros: equal amounts give equal texts."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text

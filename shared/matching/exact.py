"""Arithmetic on money that is exact or fails.

In: finite Decimals. Out: exact sums and products, and whole numbers of grid steps. Never: a silent rounding.
The only roundings are `floor_units` and `ceil_units`, which say which way they go.
"""

from decimal import Decimal, Inexact, InvalidOperation

from shared.domain.instruments import ceil_to_grid as ceil_to
from shared.domain.instruments import floor_to_grid as floor_to
from shared.domain.money import EXACT, add, multiply, subtract

__all__ = [
    "AMOUNT_MAX",
    "EXACT",
    "add",
    "ceil_to",
    "ceil_units",
    "decimal_of",
    "floor_to",
    "floor_units",
    "is_amount",
    "multiply",
    "subtract",
    "whole_units",
]

AMOUNT_MAX = Decimal("1e30")
AMOUNT_DIGITS_MAX = 40


def decimal_of(value: float) -> Decimal:
    """Return the decimal number that `value` is written as."""
    return Decimal(repr(value))


def floor_units(value: Decimal, unit: Decimal) -> int:
    """Return how many whole `unit`s fit into `value` (at least zero, same dimension)."""
    return int(EXACT.divide_int(value, unit))


def ceil_units(value: Decimal, unit: Decimal) -> int:
    """Return the fewest whole `unit`s that cover `value` (at least zero, same dimension)."""
    whole, rest = EXACT.divmod(value, unit)
    return int(whole) + (1 if rest else 0)


def whole_units(value: Decimal, unit: Decimal) -> int | None:
    """Return `value / unit` when it is a whole number of at most 120 digits, else None."""
    try:
        whole, rest = EXACT.divmod(value, unit)
    except (Inexact, InvalidOperation):
        return None
    return None if rest else int(whole)


def is_amount(value: Decimal) -> bool:
    """Tell whether `value` is a positive number of a size that exact products have room for."""
    if not value.is_finite() or not 0 < value < AMOUNT_MAX:
        return False
    _, digits, exponent = value.as_tuple()
    # Nobody's grid is as fine as the smallest exponent, and a sum with such a number would not be exact.
    return len(digits) <= AMOUNT_DIGITS_MAX and int(exponent) >= -AMOUNT_DIGITS_MAX

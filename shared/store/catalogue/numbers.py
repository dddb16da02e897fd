"""Decimal texts to floats without losing a digit.

In: a column of texts as a file or a venue wrote them. Out: the nearest floats and, only where a float's shortest text
is another number, the exact text beside it. So kernels read plain float64 columns, and `exact_decimal` still returns
every digit. Never: a text that is no finite number read as one.

A decimal of up to 15 significant digits always comes back from its float, so almost no text is kept.
"""

import math
import re
from decimal import Context, Decimal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

FLOAT_DIGITS = 15
# The noise of binary arithmetic lies behind the digits that people write: 5.330000000000001e-05.
NOISE_DECIMALS_MIN = 9
NOISE_DIGITS_DROPPED_MIN = 3
NOISE_SHARE_MIN = 0.9
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_ROUND = Context(prec=FLOAT_DIGITS)


class Numbers(msgspec.Struct, frozen=True):
    """Hold a column's floats (NaN where `bad`), the texts that floats cannot carry, and how many were noise."""

    values: Floats
    exact: pa.Array
    bad: Flags
    noise: int


def parse_numbers(texts: pa.Array, *, quantise: bool = False) -> Numbers:
    """Return a column of texts as numbers; with `quantise`, the noise of binary floats is rounded away and counted."""
    trimmed = pc.utf8_trim_whitespace(texts.cast(pa.string()).fill_null(""))
    values = _all_at_once(trimmed)
    if values is None:
        return _one_by_one(trimmed, quantise=quantise)
    long = np.flatnonzero(pc.greater(pc.utf8_length(trimmed), FLOAT_DIGITS).to_numpy(zero_copy_only=False))
    if not len(long):
        return Numbers(values, pa.nulls(len(values), pa.string()), np.zeros(len(values), dtype=np.bool_), 0)
    settled = _one_by_one(trimmed.take(pa.array(long)), quantise=quantise)
    values[long] = settled.values
    exact = pa.nulls(len(values), pa.string())
    if settled.exact.null_count < len(settled.exact):
        mask = np.zeros(len(values), dtype=np.bool_)
        mask[long] = True
        exact = pc.replace_with_mask(exact, pa.array(mask), settled.exact)
    return Numbers(values, exact, np.zeros(len(values), dtype=np.bool_), settled.noise)


def exact_decimal(value: float, exact: str | None) -> Decimal:
    """Return the decimal number that was stored, with every digit that it had."""
    return Decimal(exact) if exact is not None else Decimal(repr(value))


def float_texts(values: pa.Array) -> pa.Array:
    """Return floats as their shortest texts, NULL and NaN as empty texts."""
    texts = [None if value is None or not math.isfinite(value) else repr(value) for value in values.to_pylist()]
    return pa.array(texts, pa.string()).fill_null("")


def _all_at_once(texts: pa.Array) -> Floats | None:
    try:
        values: Floats = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return values.copy() if np.isfinite(values).all() else None


def _one_by_one(texts: pa.Array, *, quantise: bool) -> Numbers:
    values = np.full(len(texts), np.nan)
    bad = np.ones(len(texts), dtype=np.bool_)
    exact: list[str | None] = [None] * len(texts)
    long: dict[int, Decimal] = {}
    for row, text in enumerate(texts.to_pylist()):
        if not _NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
            continue
        bad[row] = False
        values[row] = value
        if len(text) > FLOAT_DIGITS and _digits(number := Decimal(text)) > FLOAT_DIGITS:
            long[row] = number
    noisy = {row for row, number in long.items() if _is_noise(number)} if quantise else set()
    if len(noisy) < NOISE_SHARE_MIN * len(long):
        # Exact numbers with many digits look like noise now and then; arithmetic noise is on nearly all of them.
        noisy = set()
    for row, number in long.items():
        if row in noisy:
            values[row] = float(_ROUND.plus(number))
        elif Decimal(repr(float(values[row]))) != number:
            exact[row] = texts[row].as_py().removeprefix("+")
    return Numbers(values, pa.array(exact, pa.string()), bad, len(noisy))


def _is_noise(number: Decimal) -> bool:
    """Tell whether a number may end in a binary float's rounding error, which 15 digits remove.

    Seventeen digits or fewer, more decimals than venues give, and rounding leaves a much shorter number.
    """
    digits = _digits(number)
    exponent = number.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    if digits > FLOAT_DIGITS + 2 or -exponent < NOISE_DECIMALS_MIN:
        return False
    return digits - _digits(_ROUND.plus(number)) >= NOISE_DIGITS_DROPPED_MIN


def _digits(number: Decimal) -> int:
    # Not `normalize`: it rounds to the context's 28 digits.
    return len("".join(map(str, number.as_tuple().digits)).strip("0"))

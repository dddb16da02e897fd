"""Times as files write them, to nanoseconds UTC.

In: a column of texts. Out: integers, and which could not be read. Never: a guess: a date that can be read in two ways
(01/04/2017) is bad unless another row of the column shows which part is the month.

Whole numbers since 1970 say by their size what they count: between 2009 and 2100 seconds, milliseconds, microseconds
and nanoseconds do not overlap, so a change of the unit within a file is read right, and counted.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

EARLIEST_S, LATEST_S = 1_230_768_000, 4_102_444_800
UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLASHED = re.compile(r"^([0-9]{1,2})/([0-9]{1,2})/([0-9]{2}|[0-9]{4})(?:[ T]([0-9:.]+))?$")


class Times(msgspec.Struct, frozen=True):
    """Hold a column's times in nanoseconds UTC (0 where `bad`) and how many rows used each unit."""

    ns: npt.NDArray[np.int64]
    bad: npt.NDArray[np.bool_]
    units: dict[str, int]


def parse_times(texts: pa.Array) -> Times:
    """Return a column of texts as times."""
    trimmed = pc.utf8_trim_whitespace(texts.cast(pa.string()).fill_null(""))
    try:
        numbers = trimmed.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return _one_by_one(trimmed.to_pylist())
    ns = np.zeros(len(numbers), dtype=np.int64)
    bad = np.ones(len(numbers), dtype=np.bool_)
    units: dict[str, int] = {}
    for name, unit_ns in UNITS.items():
        scale = 1_000_000_000 // unit_ns
        of_unit = (numbers >= EARLIEST_S * scale) & (numbers < LATEST_S * scale)
        if of_unit.any():
            ns[of_unit] = numbers[of_unit] * unit_ns
            bad &= ~of_unit
            units[name] = int(of_unit.sum())
    return Times(ns, bad, units)


def _one_by_one(texts: Sequence[str]) -> Times:
    ns = np.zeros(len(texts), dtype=np.int64)
    bad = np.ones(len(texts), dtype=np.bool_)
    units: dict[str, int] = {}
    month_first = _month_comes_first(texts)
    for row, text in enumerate(texts):
        found = _number(text) or _date(text, month_first=month_first)
        if found is not None and EARLIEST_S * 1_000_000_000 <= found[0] < LATEST_S * 1_000_000_000:
            ns[row], unit = found
            bad[row] = False
            units[unit] = units.get(unit, 0) + 1
    return Times(ns, bad, units)


def _number(text: str) -> tuple[int, str] | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    for name, unit_ns in UNITS.items():
        scale = 1_000_000_000 // unit_ns
        if EARLIEST_S * scale <= number < LATEST_S * scale:
            return int(number * unit_ns), name
    return None


def _date(text: str, *, month_first: bool | None) -> tuple[int, str] | None:
    if match := _SLASHED.match(text):
        if month_first is None:
            return None
        one, two, year = int(match[1]), int(match[2]), int(match[3])
        month, day = (one, two) if month_first else (two, one)
        text = f"{year + 2000 if year < 100 else year:04d}-{month:02d}-{day:02d}" + (f"T{match[4]}" if match[4] else "")
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None
    since = (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment) - _EPOCH
    # Integers only: a float would lose nanoseconds.
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000, "date"


def _month_comes_first(texts: Sequence[str]) -> bool | None:
    """Return which part of dates with slashes is the month, None when no row shows it or rows disagree."""
    shown: set[bool] = set()
    for text in texts:
        if match := _SLASHED.match(text):
            if int(match[2]) > 12:
                shown.add(True)
            if int(match[1]) > 12:
                shown.add(False)
    return shown.pop() if len(shown) == 1 else None

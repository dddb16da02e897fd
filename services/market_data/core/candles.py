"""One asset's rows of a candle file, checked to the last digit.

In: texts as the file has them, with their places. Out: candles, and the decimal digits seen, which tell the grid.
Never: a repaired value. A bad row is an InputError that names file, line, asset, time, field and fix.

Prices that carry the noise of binary floats (more than 15 significant digits) are rounded to 15, where the decimal
number that was meant stands again.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from decimal import Context, Decimal
from itertools import pairwise

import msgspec

from services.market_data.core.feed import Candle, utc_text
from shared.errors import InputError

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
SIGNIFICANT_DIGITS_MAX = 15
# Every market that a file can hold traded after 2009 and before 2100.
EARLIEST_S, LATEST_S = 1_230_768_000, 4_102_444_800
UNITS_NS = (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1))

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ROUND = Context(prec=SIGNIFICANT_DIGITS_MAX)


class RawSeries(msgspec.Struct, frozen=True):
    """Hold one asset's rows in the file's order; `lines` count from 1, every column is as long as `times`."""

    asset: str
    file: str
    lines: Sequence[int]
    times: Sequence[int]
    columns: dict[str, Sequence[str]]


class Series(msgspec.Struct, frozen=True):
    """Hold one asset's checked candles, ascending, and the most decimals seen in its prices and volumes."""

    asset: str
    file: str
    open_times_ns: list[int]
    candles: list[Candle]
    price_decimals: int
    volume_decimals: int


def time_unit_ns(series: Sequence[RawSeries]) -> int:
    """Return how many nanoseconds the files' time unit has; raises InputError for times that nothing can have."""
    rows = [(one, index, time) for one in series for index, time in enumerate(one.times)]
    for name, unit_ns in UNITS_NS:
        scale = 1_000_000_000 // unit_ns
        if rows and EARLIEST_S * scale <= rows[0][2] < LATEST_S * scale:
            for one, index, time in rows:
                if not EARLIEST_S * scale <= time < LATEST_S * scale:
                    raise _implausible(one, index, f"the first time of the replay is in {name}")
            return unit_ns
    if rows:
        raise _implausible(rows[0][0], rows[0][1], "no unit of time fits")
    raise InputError("the replay has no rows: choose another file or other assets")


def interval_of(series: Sequence[RawSeries], unit_ns: int) -> int:
    """Return the bars' interval in nanoseconds: the most frequent step between neighbours.

    Raises InputError when no asset has two bars, or when the interval is no whole number of seconds.
    """
    steps: Counter[int] = Counter()
    for one in series:
        steps.update(after - before for before, after in pairwise(one.times) if after > before)
    if not steps:
        files = ", ".join(sorted({one.file for one in series}))
        raise InputError(f"{files}: no asset has two bars in ascending order, so the interval is unknown")
    most = max(steps.values())
    interval_ns = min(step for step, count in steps.items() if count == most) * unit_ns
    if interval_ns % 1_000_000_000:
        raise InputError(f"{series[0].file}: bars follow each other after {interval_ns} ns, not after whole seconds")
    return interval_ns


def timeframe_text(interval_ns: int) -> str:
    """Return an interval of whole seconds as `15m`, `4h` or `1d`."""
    seconds = interval_ns // 1_000_000_000
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def check_series(raw: RawSeries, unit_ns: int, interval_ns: int, *, start_ns: int | None, end_ns: int | None) -> Series:
    """Return the candles that open at `start_ns` or later and close at `end_ns` or earlier, all checked.

    Raises InputError for the first row that is out of order, double, overlapping, or holds a value it must not.
    """
    series = Series(raw.asset, raw.file, [], [], 0, 0)
    price_decimals = volume_decimals = 0
    for index, time in enumerate(raw.times):
        open_time_ns = time * unit_ns
        if (start_ns is not None and open_time_ns < start_ns) or (
            end_ns is not None and open_time_ns + interval_ns > end_ns
        ):
            continue
        place = f"{raw.file} line {raw.lines[index]}: {raw.asset} at {utc_text(open_time_ns)}"
        if series.open_times_ns:
            _check_order(series.open_times_ns[-1], open_time_ns, interval_ns, place)
        candle, in_prices, in_volume = _candle(raw, index, place)
        price_decimals, volume_decimals = max(price_decimals, in_prices), max(volume_decimals, in_volume)
        series.open_times_ns.append(open_time_ns)
        series.candles.append(candle)
    return msgspec.structs.replace(series, price_decimals=price_decimals, volume_decimals=volume_decimals)


def _check_order(before_ns: int, open_time_ns: int, interval_ns: int, place: str) -> None:
    if open_time_ns == before_ns:
        raise InputError(f"{place}: open_time appears twice for this asset. Remove the double row")
    if open_time_ns < before_ns:
        raise InputError(f"{place}: open_time is before that of the row above. Sort the file by symbol and open_time")
    if open_time_ns - before_ns < interval_ns:
        raise InputError(
            f"{place}: the bar overlaps the one before it; bars of this file last {timeframe_text(interval_ns)}. "
            "Use a file with one interval"
        )


def _candle(raw: RawSeries, index: int, place: str) -> tuple[Candle, int, int]:
    numbers: list[float] = []
    price_decimals = volume_decimals = 0
    for field in VALUES:
        value, decimals = _number(raw.columns[field][index], field, place)
        if field in PRICES:
            if value <= 0:
                raise InputError(f"{place}: {field} is {value:g}; a price must be above 0. Correct or remove the row")
            price_decimals = max(price_decimals, decimals)
        elif value < 0:
            raise InputError(f"{place}: volume is {value:g}; it must be at least 0. Correct or remove the row")
        else:
            volume_decimals = decimals
        numbers.append(value)
    opened, high, low, close, volume = numbers
    for field, value in (("open", opened), ("close", close), ("low", low)):
        if value > high:
            raise InputError(f"{place}: high {high!r} is below {field} {value!r}. Correct or remove the row")
        if value < low:
            raise InputError(f"{place}: low {low!r} is above {field} {value!r}. Correct or remove the row")
    quote_volume = _quote_volume(raw, index, place)
    return Candle(raw.asset, opened, high, low, close, volume, quote_volume), price_decimals, volume_decimals


def _quote_volume(raw: RawSeries, index: int, place: str) -> float | None:
    texts = raw.columns.get("quote_volume")
    if texts is None or texts[index].strip().lower() in {"", "nan", "null"}:
        return None
    value, _ = _number(texts[index], "quote_volume", place)
    if value < 0:
        raise InputError(f"{place}: quote_volume is {value:g}; it must be at least 0. Correct or remove the row")
    return value


def _number(text: str, field: str, place: str) -> tuple[float, int]:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        found = "empty" if not text else repr(text)
        raise InputError(f"{place}: {field} is {found}; it must be a number. Correct or remove the row")
    value = float(text)
    if not math.isfinite(value):
        raise InputError(f"{place}: {field} is {text}, beyond every price. Correct or remove the row")
    if len(text) <= SIGNIFICANT_DIGITS_MAX + 1 and "e" not in text and "E" not in text:
        return value, len(text.partition(".")[2].rstrip("0"))
    exact = Decimal(text)
    if len(exact.normalize().as_tuple().digits) > SIGNIFICANT_DIGITS_MAX:
        exact = _ROUND.plus(exact)
    exponent = exact.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return float(exact), max(0, -exponent)


def _implausible(raw: RawSeries, index: int, why: str) -> InputError:
    return InputError(
        f"{raw.file} line {raw.lines[index]}: {raw.asset}: open_time {raw.times[index]} is no time between 2009 and "
        f"2100: {why}. Give seconds, milliseconds, microseconds or nanoseconds since 1970, the same unit in every row"
    )

"""The pieces that every chart of a report is made of: scales, ticks, paths, and SVG elements with escaped text.

In: numbers, times in ns UTC, text from anywhere. Out: SVG text in view-box units; colours are classes of the style
sheet, for the page's policy allows no style attribute. Never: unescaped text, a NaN in a path, a smoothed line.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape

import msgspec

DAY_NS = 86_400_000_000_000
COLUMNS_MAX = 420
Value = float | None
Points = Sequence[tuple[float, float]]

_HOURS = (1, 2, 3, 4, 6, 12)
_DAYS = (1, 2, 3, 5, 7, 10, 14)
_MONTHS = (1, 2, 3, 6, 12, 24, 60)


class Frame(msgspec.Struct, frozen=True):
    """Place values in a view box; `low` < `high` and `first_ns` < `last_ns`, margins in view-box units.

    With `is_log`, for which `low` must be positive, equal factors are equally far apart.
    """

    first_ns: int
    last_ns: int
    low: float
    high: float
    width: float = 800
    height: float = 260
    top: float = 10
    bottom: float = 26
    left: float = 4
    right: float = 76
    is_log: bool = False

    def x(self, at_ns: int) -> float:
        """Return where a time lies."""
        share = (at_ns - self.first_ns) / (self.last_ns - self.first_ns)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Return where a value lies; values beyond the frame stay at its edge."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(self.high / value) / math.log(self.high / self.low)
        else:
            share = (self.high - value) / (self.high - self.low)
        return self.top + share * (self.height - self.top - self.bottom)


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """Return an SVG element; `content` is markup, attribute values are escaped, `class_` and `stroke_width` are read
    as `class` and `stroke-width`, None leaves an attribute out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text(at: tuple[float, float], content: str, css: str = "label", anchor: str | None = None) -> str:
    """Return escaped text at a place."""
    return element("text", escape(content), class_=css, x=at[0], y=at[1], text_anchor=anchor)


def picture(frame: Frame, label: str, content: str, css: str = "") -> str:
    """Return a whole SVG; `label` says to those who cannot see it what it shows."""
    box = f"0 0 {frame.width:g} {frame.height:g}"
    return element("svg", content, class_=f"chart {css}".strip(), viewBox=box, role="img", aria_label=label)


def path_of(points: Points) -> str:
    """Return the `d` of straight lines between points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def line(frame: Frame, times_ns: Sequence[int], values: Sequence[Value], css: str) -> str:
    """Return a line through the values that are known; a None leaves a hole."""
    found = []
    for run in runs(values):
        kept = [run.start + index for index in thin([values[index] or 0.0 for index in run])]
        points = [(frame.x(times_ns[index]), frame.y(values[index] or 0.0)) for index in kept]
        if len(points) > 1:
            found.append(path_of(points))
    return element("path", class_=f"line {css}", d=" ".join(found)) if found else ""


def band(frame: Frame, times_ns: Sequence[int], lows: Sequence[Value], highs: Sequence[Value], css: str) -> str:
    """Return the area between two curves, where both are known."""
    both: list[Value] = [None if a is None or b is None else b for a, b in zip(lows, highs, strict=True)]
    found = []
    for run in runs(both):
        step = max(1, -(-len(run) // COLUMNS_MAX))
        kept = sorted({*run[::step], run[-1]})
        over = [(frame.x(times_ns[index]), frame.y(highs[index] or 0.0)) for index in kept]
        under = [(frame.x(times_ns[index]), frame.y(lows[index] or 0.0)) for index in reversed(kept)]
        if len(kept) > 1:
            found.append(path_of([*over, *under]) + "Z")
    return element("path", class_=css, d=" ".join(found)) if found else ""


def runs(values: Sequence[Value]) -> list[range]:
    """Return the stretches of indices without a None."""
    found: list[range] = []
    start: int | None = None
    for index, value in enumerate([*values, None]):
        if value is not None and start is None:
            start = index
        elif value is None and start is not None:
            found.append(range(start, index))
            start = None
    return found


def thin(values: Sequence[float], columns: int = COLUMNS_MAX) -> list[int]:
    """Return the indices to draw: each column's first, lowest, highest and last, so that no extreme disappears."""
    if len(values) <= 4 * columns:
        return list(range(len(values)))
    size = -(-len(values) // columns)
    kept: list[int] = []
    for start in range(0, len(values), size):
        column = range(start, min(start + size, len(values)))
        extremes = {column[0], min(column, key=values.__getitem__), max(column, key=values.__getitem__), column[-1]}
        kept.extend(sorted(extremes))
    return kept


def value_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2, 2.5 or 5 times a power of ten apart) from `low` to `high`."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2 and 5 times a power of ten that lie from `low` to `high`, both positive."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]


def time_ticks(first_ns: int, last_ns: int, count: int = 6) -> list[tuple[int, str]]:
    """Return `(time, label)` at whole hours, days, months or years, at most about `count` of them."""
    first, last = _moment(first_ns), _moment(last_ns)
    days = (last_ns - first_ns) / DAY_NS
    if days / count > _DAYS[-1]:
        step = next((months for months in _MONTHS if months * 30.4 * count >= days), _MONTHS[-1] * 2)
        return [(_ns(at), at.strftime("%b %Y")) for at in _months(first, last, step)]
    hours = next((n for n in _HOURS if n * count >= days * 24), None) or 24 * next(
        n for n in _DAYS if n * count >= days * 0.999
    )
    pattern = "%d %b" if hours >= 24 else "%d %b %H:%M" if days > 1 else "%H:%M"
    at = first.replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    while at <= last:
        if at >= first:
            found.append((_ns(at), at.strftime(pattern)))
        at += timedelta(hours=hours)
    return found


def axes(frame: Frame, y_labels: Mapping[float, str]) -> str:
    """Return grid lines with their labels, and the labels of the times."""
    right = frame.width - frame.right
    parts = []
    for value, label in y_labels.items():
        y = frame.y(value)
        parts.append(element("line", class_="grid", x1=frame.left, x2=right, y1=y, y2=y))
        parts.append(text((right + 6, y + 4), label))
    ticks = time_ticks(frame.first_ns, frame.last_ns, 6 if frame.width > 500 else 3)
    for at_ns, label in ticks:
        x = frame.x(at_ns)
        near_end = x > right - 24
        near_start = x < frame.left + 24
        anchor = "end" if near_end else "start" if near_start else "middle"
        parts.append(text((x, frame.height - 7), label, anchor=anchor))
    return "".join(parts)


def _attribute(value: object) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in a drawing")
        return f"{value:.1f}".rstrip("0").rstrip(".")
    return escape(str(value), quote=True)


def _moment(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, tz=UTC)


def _ns(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000


def _months(first: datetime, last: datetime, step: int) -> list[datetime]:
    number = first.year * 12 + first.month - 1
    number -= number % step
    found = []
    while (at := datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)) <= last:
        if at >= first:
            found.append(at)
        number += step
    return found

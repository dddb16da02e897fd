"""The equity curve as an SVG path.

In: equity points, oldest first. Out: path, area, axis labels in a fixed view box, scaled by the page's CSS.
Never: a point that was not measured; a straight line is drawn between two, nothing is smoothed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from services.dashboard.core.board import EquityPoint

WIDTH, HEIGHT = 800, 220
TOP, BOTTOM, LEFT, RIGHT = 12, 24, 8, 74
COLUMNS_MAX = 400
SECONDS_BELOW_DAYS = 1 / 96


class Tick(msgspec.Struct, frozen=True):
    """Place one axis label in view-box units."""

    at: float
    text: str


class EquityChart(msgspec.Struct, frozen=True):
    """Hold everything that the template draws; coordinates in a view box of 800 x 220."""

    line: str
    area: str
    start_y: float
    last_x: float
    last_y: float
    is_up: bool
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]


def equity_chart(points: Sequence[EquityPoint]) -> EquityChart | None:
    """Return the drawing of the curve, or None with fewer than two points in time."""
    if len(points) < 2 or points[0].at_ns == points[-1].at_ns:
        return None
    shown = _thin(points)
    values = [float(point.equity) for point in shown]
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or abs(high) * 0.01 or 1.0
    low, high = low - margin, high + margin
    first_ns, last_ns = shown[0].at_ns, shown[-1].at_ns

    def x_of(at_ns: int) -> float:
        return LEFT + (at_ns - first_ns) / (last_ns - first_ns) * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    coordinates = [(x_of(point.at_ns), y_of(value)) for point, value in zip(shown, values, strict=True)]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in coordinates)
    floor = HEIGHT - BOTTOM
    return EquityChart(
        line=line,
        area=f"{line}L{coordinates[-1][0]:.1f} {floor}L{coordinates[0][0]:.1f} {floor}Z",
        start_y=coordinates[0][1],
        last_x=coordinates[-1][0],
        last_y=coordinates[-1][1],
        is_up=values[-1] >= values[0],
        y_ticks=tuple(Tick(y_of(value), f"{value:,.0f}") for value in _between(low, high, 4)),
        x_ticks=tuple(_time_tick(x_of(at), at, last_ns - first_ns) for at in _times(first_ns, last_ns)),
    )


def _thin(points: Sequence[EquityPoint]) -> list[EquityPoint]:
    """Keep each column's lowest and highest point, so that no drawdown disappears."""
    if len(points) <= 2 * COLUMNS_MAX:
        return list(points)
    size = -(-len(points) // COLUMNS_MAX)
    kept: list[EquityPoint] = []
    for start in range(0, len(points), size):
        column = points[start : start + size]
        extremes = {min(column, key=lambda p: p.equity), max(column, key=lambda p: p.equity)}
        kept.extend(sorted(extremes, key=lambda p: p.at_ns))
    if kept[-1] is not points[-1]:
        kept.append(points[-1])
    return kept


def _between(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * (index + 0.5) / count for index in range(count)]


def _times(first_ns: int, last_ns: int) -> list[int]:
    return [first_ns + (last_ns - first_ns) * index // 4 for index in range(5)]


def _time_tick(at: float, at_ns: int, span_ns: int) -> Tick:
    moment = datetime.fromtimestamp(at_ns / 1e9, tz=UTC)
    days = span_ns / 86_400e9
    pattern = "%d %b %Y" if days > 300 else "%d %b" if days > 5 else "%d %b %H:%M" if days > 1 else "%H:%M"
    if days < SECONDS_BELOW_DAYS:
        pattern = "%H:%M:%S"
    return Tick(at, moment.strftime(pattern))

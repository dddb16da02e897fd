"""The charts of a report, each one SVG: worth, drawdown, allocation, and each asset's weight between its thresholds.

In: curves, weights, plans. Out: SVG text. Never: a plan without its mark, unless there are more than can be seen
(`MARKS_MAX`, the first and the last of them are kept then); a smoothed or an invented point.
"""

from collections.abc import Sequence
from html import escape

from services.backtest.core.outcome import Rebalance
from services.backtest.report.draw import (
    COLUMNS_MAX,
    Frame,
    Value,
    axes,
    band,
    element,
    line,
    log_ticks,
    picture,
    value_ticks,
)
from services.backtest.report.series import Curve, Moment, drawdowns

MARKS_MAX = 400
MARGIN_SHARE = 0.06
LOG_RATIO = 4.0
SERIES_COLOURS = 10


def worth_chart(
    times_ns: Sequence[int], curves: Sequence[Curve], plans: Sequence[Rebalance], texts: Sequence[str]
) -> str:
    """Return worth over time with a mark for every plan; `texts` say what each plan was, a mark links to `#plan-n`."""
    frame, ticks = _worth_frame(times_ns, [value for curve in curves for value in curve.values if value is not None])
    parts = [axes(frame, {value: money_label(value) for value in ticks})]
    start = curves[0].values[0]
    if start is not None:
        y = frame.y(start)
        parts.append(element("line", class_="start", x1=frame.left, x2=frame.width - frame.right, y1=y, y2=y))
    parts += [line(frame, times_ns, curve.values, curve.kind) for curve in reversed(curves)]
    parts.append(_marks(frame, times_ns, curves[0].values, plans, texts))
    parts.append(element("line", class_="cursor", x1=0, x2=0, y1=frame.top, y2=frame.height - frame.bottom))
    return picture(frame, f"Worth over time: {', '.join(curve.name for curve in curves)}", "".join(parts), "worth")


def drawdown_chart(times_ns: Sequence[int], curves: Sequence[Curve]) -> str:
    """Return how far each curve was below its highest value before."""
    falls = [(curve, drawdowns(curve.values)) for curve in curves]
    low = min([value for _, values in falls for value in values if value is not None], default=0.0)
    frame = Frame(times_ns[0], times_ns[-1], min(low * (1 + MARGIN_SHARE), -0.01), 0.0, height=170)
    parts = [axes(frame, {value: share_label(value) for value in value_ticks(frame.low, 0.0, 4)})]
    own: list[Value] = falls[0][1]
    zeros: list[Value] = [None if value is None else 0.0 for value in own]
    parts.append(band(frame, times_ns, own, zeros, "area own"))
    parts += [line(frame, times_ns, values, curve.kind) for curve, values in reversed(falls)]
    parts.append(element("line", class_="cursor", x1=0, x2=0, y1=frame.top, y2=frame.height - frame.bottom))
    return picture(frame, "Drawdown over time", "".join(parts), "fall")


def allocation_chart(moments: Sequence[Moment], names: Sequence[str]) -> str:
    """Return what the account was made of, from the first asset below to the cash on top; empty without two times."""
    shown = _thinned(moments)
    if len(shown) < 2 or shown[0].at_ns == shown[-1].at_ns:
        return ""
    frame = Frame(shown[0].at_ns, shown[-1].at_ns, 0.0, 1.0, height=220)
    times = [moment.at_ns for moment in shown]
    floor: list[Value] = [0.0] * len(shown)
    parts = []
    for column in range(len(names)):
        top: list[Value] = [(low or 0.0) + moment.weights[column] for low, moment in zip(floor, shown, strict=True)]
        parts.append(_layer(band(frame, times, floor, top, f"layer {series_class(column)}"), names[column]))
        floor = top
    parts.append(_layer(band(frame, times, floor, [1.0] * len(shown), "layer cash"), "cash"))
    parts.append(axes(frame, {value: f"{value * 100:.0f} %" for value in (0.0, 0.25, 0.5, 0.75, 1.0)}))
    return picture(frame, f"Allocation over time: {', '.join(names)} and cash", "".join(parts), "stack")


def asset_chart(moments: Sequence[Moment], column: int, name: str, limit: Value, plans: Sequence[Rebalance]) -> str:
    """Return one asset's weight, the weights at which it is traded, the position limit, and where it fired."""
    shown = _thinned(moments)
    if len(shown) < 2 or shown[0].at_ns == shown[-1].at_ns:
        return ""
    times = [moment.at_ns for moment in shown]
    weights: list[Value] = [moment.weights[column] for moment in shown]
    upper: list[Value] = [moment.upper[column] for moment in shown]
    known = [value for value in (*weights, *upper) if value is not None]
    high = max([*known, limit or 0.0])
    frame = Frame(times[0], times[-1], 0.0, high * 1.08 or 1.0, width=400, height=150, right=52)
    parts = [
        axes(frame, {value: f"{value * 100:.0f} %" for value in value_ticks(0.0, frame.high, 3)}),
        band(frame, times, [moment.lower[column] for moment in shown], upper, "band"),
    ]
    if limit is not None:
        y = frame.y(limit)
        parts.append(element("line", class_="limit", x1=frame.left, x2=frame.width - frame.right, y1=y, y2=y))
    parts.append(line(frame, times, weights, series_class(column)))
    for moment in moments:
        plan = plans[moment.plan - 1] if moment.plan is not None else None
        if plan is not None and plan.asset == name:
            parts.append(mark(frame.x(moment.at_ns), frame.y(moment.weights[column]), plan.direction, size=4.0))
    return picture(frame, f"Weight of {name} over time", "".join(parts), "small")


def mark(x: float, y: float, direction: str, size: float = 5.5) -> str:
    """Return a plan's mark: a triangle that points down for a sale, up for a purchase, a circle for the rest."""
    if direction in {"upside", "position_limit"}:
        points = f"{x - size:.1f},{y - 2 * size:.1f} {x + size:.1f},{y - 2 * size:.1f} {x:.1f},{y - 1:.1f}"
        return element("polygon", class_="mark sold", points=points)
    if direction == "downside":
        points = f"{x - size:.1f},{y + 2 * size:.1f} {x + size:.1f},{y + 2 * size:.1f} {x:.1f},{y + 1:.1f}"
        return element("polygon", class_="mark bought", points=points)
    return element("circle", class_="mark begun", cx=x, cy=y, r=size * 0.8)


def series_class(column: int) -> str:
    """Return the colour class of an asset."""
    return f"s{column % SERIES_COLOURS}"


def money_label(value: float) -> str:
    """Return an axis label of money: 12,345, 1.2M, or as many digits as a small amount needs."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:,.4g}M"
    return f"{value:,.0f}" if size >= 1000 or value == 0 else f"{value:.4g}"


def share_label(value: float) -> str:
    """Return a share as per cent, as short as its size allows."""
    return f"{value * 100:.3g} %" if value else "0 %"


def kept_marks(count: int) -> list[int]:
    """Return which of `count` plans are marked: all of them, or the first and last `MARKS_MAX` / 2."""
    if count <= MARKS_MAX:
        return list(range(count))
    return [*range(MARKS_MAX // 2), *range(count - MARKS_MAX // 2, count)]


def is_log(values: Sequence[float]) -> bool:
    """Tell whether worths are so far apart that a linear scale would hide the small ones."""
    return min(values) > 0 and max(values) / min(values) > LOG_RATIO


def _worth_frame(times_ns: Sequence[int], known: Sequence[float]) -> tuple[Frame, list[float]]:
    low, high = min(known), max(known)
    if is_log(known):
        spread = (high / low) ** MARGIN_SHARE
        frame = Frame(times_ns[0], times_ns[-1], low / spread, high * spread, height=320, is_log=True)
        return frame, log_ticks(frame.low, frame.high)
    margin = (high - low) * MARGIN_SHARE or abs(high) * 0.01 or 1.0
    frame = Frame(times_ns[0], times_ns[-1], low - margin, high + margin, height=320)
    return frame, value_ticks(frame.low, frame.high)


def _marks(
    frame: Frame, times_ns: Sequence[int], own: Sequence[Value], plans: Sequence[Rebalance], texts: Sequence[str]
) -> str:
    worth = dict(zip(times_ns, own, strict=True))
    parts = []
    for index in kept_marks(len(plans)):
        plan = plans[index]
        value = worth.get(plan.at_ns)
        if value is None:
            continue
        shape = mark(frame.x(plan.at_ns), frame.y(value), plan.direction)
        title = element("title", escape(texts[index]))
        parts.append(element("a", title + shape, href=f"#plan-{index + 1}", aria_label=texts[index]))
    return "".join(parts)


def _layer(area: str, name: str) -> str:
    return element("g", element("title", escape(name)) + area)


def _thinned(moments: Sequence[Moment]) -> list[Moment]:
    """Keep an even part of the moments, and those around every plan."""
    step = max(1, len(moments) // (2 * COLUMNS_MAX))
    if step == 1:
        return list(moments)
    near: set[int] = {0, len(moments) - 1}
    for index, moment in enumerate(moments):
        if moment.plan is not None:
            near |= {index, min(index + 1, len(moments) - 1)}
    return [moment for index, moment in enumerate(moments) if index % step == 0 or index in near]

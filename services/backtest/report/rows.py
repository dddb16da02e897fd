"""The rows of a report's tables: rebalances with their legs, fills, months.

In: a result. Out: rows of text for the template. Never: a row that stands for something that did not happen.
"""

from collections.abc import Sequence

import msgspec

from services.backtest.core.outcome import Leg, Rebalance
from services.backtest.report import charts, words
from services.backtest.report.series import Change, months
from services.backtest.result import BacktestResult

TRADES_MAX = 2_000
HEAT_STEPS = (0.0, 0.02, 0.05, 0.10, 0.20)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SIDES = {"upside": "sold", "position_limit": "sold", "downside": "bought"}


class Weight(msgspec.Struct, frozen=True):
    """Show an asset's weight before and after a plan, as text and as bars of a width of 100."""

    name: str
    css: str
    before: str
    after: str
    change: str
    before_width: float
    after_width: float


class PlanRow(msgspec.Struct, frozen=True):
    """Show one plan."""

    number: int
    time: str
    title: str
    side: str
    reason: tuple[str, ...]
    traded: str
    cost: str
    fees: str
    slippage: str
    equity: str
    weights: tuple[Weight, ...]
    legs: tuple["LegRow", ...]


class LegRow(msgspec.Struct, frozen=True):
    """Show one order of a plan."""

    asset: str
    side: str
    quantity: str
    price: str
    notional: str
    cost: str
    state: str
    reason: str


class TradeRow(msgspec.Struct, frozen=True):
    """Show one fill; `profit` is empty for a purchase."""

    plan: int | None
    time: str
    asset: str
    side: str
    price: str
    quantity: str
    notional: str
    fee: str
    profit: str
    tone: str


class HeatCell(msgspec.Struct, frozen=True):
    """Show one month; `css` is its colour."""

    text: str
    css: str
    hint: str = ""


class HeatRow(msgspec.Struct, frozen=True):
    """Show one year."""

    year: str
    cells: tuple[HeatCell, ...]
    total: HeatCell


def plan_text(result: BacktestResult, plan: Rebalance) -> str:
    """Return a plan in a line."""
    asset = "" if plan.asset is None else f" {result.name(plan.asset)}"
    far = "" if plan.deviation is None else f" {words.signed(plan.deviation)}"
    direction = plan.direction.replace("_", " ")
    return f"{words.when(plan.at_ns)}: {direction}{asset}{far}, cost {words.money(plan.cost_quote)}"


def plan_row(result: BacktestResult, index: int, change: Change, names: Sequence[str]) -> PlanRow:
    """Return the row of plan `index`, counted from 0; `names` are the assets'."""
    plan = result.rebalances[index]
    direction = plan.direction.replace("_", " ")
    asset = "" if plan.asset is None else f" · {result.name(plan.asset)}"
    far = "" if plan.deviation is None else f" {words.signed(plan.deviation)}"
    labels = [*names, "cash"]
    weights = tuple(
        Weight(
            label,
            charts.series_class(column) if column < len(names) else "cash",
            words.percent(before, 1),
            words.percent(after, 1),
            f"{(after - before) * 100:+.1f}",
            round(before * 100, 2),
            round(after * 100, 2),
        )
        for column, (label, before, after) in enumerate(zip(labels, change.before, change.after, strict=True))
    )
    traded = sum(float(leg.notional) for leg in plan.legs)
    return PlanRow(
        number=index + 1,
        time=words.when(plan.at_ns),
        title=f"{direction}{asset}{far}",
        side=SIDES.get(plan.direction, "begun"),
        reason=tuple(plan.notes),
        traded=words.money(traded),
        cost=words.money(plan.cost_quote),
        fees=words.money(plan.fees_quote),
        slippage=words.money(plan.cost_quote - plan.fees_quote),
        equity=words.money(plan.equity_before),
        weights=weights,
        legs=tuple(_leg_row(result, leg) for leg in plan.legs),
    )


def _leg_row(result: BacktestResult, leg: Leg) -> LegRow:
    return LegRow(
        asset=result.name(leg.asset),
        side=leg.side,
        quantity=words.amount(leg.quantity),
        price=words.DASH if leg.price is None else words.amount(leg.price),
        notional=words.money(leg.notional),
        cost=words.money(leg.fee_quote + leg.slippage_quote),
        state=leg.state,
        reason=f"{leg.reason} ({leg.detail})" if leg.detail else leg.reason,
    )


def trades(result: BacktestResult, plans: set[int]) -> tuple[TradeRow, ...]:
    """Return the first `TRADES_MAX` fills; those of `plans` (indices) name theirs."""
    number_of = {plan.plan_id: index for index, plan in enumerate(result.rebalances)}
    rows = []
    for fill in result.fills[:TRADES_MAX]:
        index = number_of.get(fill.plan_id)
        rows.append(
            TradeRow(
                plan=index + 1 if index is not None and index in plans else None,
                time=words.when(fill.at_ns),
                asset=result.name(fill.asset),
                side=fill.side,
                price=words.amount(fill.price),
                quantity=words.amount(fill.quantity),
                notional=words.money(fill.notional),
                fee=words.money(fill.fee_quote),
                profit="" if fill.profit_quote is None else f"{fill.profit_quote:+,.2f}",
                tone=words.tone(fill.profit_quote),
            )
        )
    return tuple(rows)


def heat(result: BacktestResult) -> tuple[HeatRow, ...]:
    """Return a row of twelve months for each year."""
    found = months(result)
    rows = []
    for year in sorted({month.year for month in found}):
        of_year = {month.month: month for month in found if month.year == year}
        cells = []
        growth = 1.0
        for number, name in enumerate(MONTHS, start=1):
            month = of_year.get(number)
            if month is None:
                cells.append(HeatCell("", "none"))
                continue
            growth *= 1.0 + month.value
            star = "*" if month.is_partial else ""
            cells.append(HeatCell(f"{month.value * 100:+.1f}{star}", heat_class(month.value), f"{name} {year}"))
        total = HeatCell(f"{(growth - 1) * 100:+.1f}", heat_class(growth - 1))
        rows.append(HeatRow(str(year), tuple(cells), total))
    return tuple(rows)


def heat_class(value: float) -> str:
    """Return the colour class of a return: `gain` or `loss` 1 to 5."""
    if value == 0:
        return "none"
    return f"{'gain' if value > 0 else 'loss'}{sum(abs(value) > step for step in HEAT_STEPS)}"

"""The curves of a report, out of what a run logged: worth against benchmarks, weights before and after trades, months.

In: a result; closes of BTC, if the data has them. Out: lists of floats along times. Never: a number that the log does
not hold; a price is carried forward where its market has no bar, as the run did.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from services.backtest.core.figures import hold_curve
from services.backtest.core.outcome import FillRow
from services.backtest.report.bands import Bands
from services.backtest.report.draw import Value
from services.backtest.result import BacktestResult
from shared.messages import Side


class Curve(msgspec.Struct, frozen=True):
    """Hold one line: `values` along the report's times, None where there is none; `kind` is its style."""

    name: str
    kind: str
    values: list[Value]
    note: str = ""


class Moment(msgspec.Struct, frozen=True):
    """Hold what the account was made of: shares of its worth by asset and in cash, None without a price.

    `lower` and `upper` are the weights at which each asset is filled up or sold, None without a band. `plan` is the
    number of the plan that was about to trade.
    """

    at_ns: int
    weights: tuple[float, ...]
    cash: float
    lower: tuple[Value, ...]
    upper: tuple[Value, ...]
    plan: int | None = None


class Change(msgspec.Struct, frozen=True):
    """Hold what a plan did: weights before and after its own fills, both at the deciding closes; the cash last."""

    before: tuple[float, ...]
    after: tuple[float, ...]


class Month(msgspec.Struct, frozen=True):
    """Hold a calendar month's return; `is_partial` when the run does not cover all of it."""

    year: int
    month: int
    value: float
    is_partial: bool


def times_of(result: BacktestResult) -> list[int]:
    """Return the start and the closes of all steps."""
    return [result.facts.first_open_ns, *result.log.times_ns]


def curves(result: BacktestResult, btc: Mapping[int, float]) -> list[Curve]:
    """Return worth in the quote asset along `times_of`: the strategy, then what it is to be compared with."""
    log = result.log
    start = float(log.initial_equity)
    own: list[Value] = [start, *(None if value is None else float(value) for value in log.equity)]
    found = [Curve(result.facts.strategy, "own", own)]
    kept = _first_purchase_kept(result)
    if kept is not None:
        note = "the first purchase with its cash, never rebalanced"
        found.append(Curve("Buy and hold", "hold", kept, note))
    hold = hold_curve(log)
    if hold is not None:
        values: list[Value] = [start, *(start * float(value) for value in hold)]
        found.append(Curve("Equal-weight hold", "equal", values, "all money in equal parts at the first closes, free"))
    held = _btc_curve(log.times_ns, own, btc) if btc else None
    if held is not None:
        found.append(held)
    return found


def drawdowns(values: Sequence[Value]) -> list[Value]:
    """Return how far each value is below the highest before it, as a share <= 0."""
    peak = 0.0
    found: list[Value] = []
    for value in values:
        peak = max(peak, value or 0.0)
        found.append(None if value is None or peak <= 0 else value / peak - 1.0)
    return found


def moments(result: BacktestResult) -> list[Moment]:
    """Return the weights after every step, and before the trades of each plan."""
    log, fills = result.log, _fills_of(result)
    plans = {plan.at_ns: (number, plan.plan_id) for number, plan in enumerate(result.rebalances, start=1)}
    bands = Bands(result)
    prices: list[float | None] = [None] * len(log.assets)
    found: list[Moment] = []
    for index, at_ns in enumerate(log.times_ns):
        prices = _carried(prices, log.closes[index])
        bands.see(log.closes[index])
        now = [float(held) for held in log.quantities[index]]
        rows: list[tuple[int | None, list[float], float]] = [(None, now, float(log.quote[index]))]
        if at_ns in plans:
            number, plan_id = plans[at_ns]
            rows.insert(0, (number, *_before(result, index, fills.get(plan_id, []))))
        for plan, quantities, quote in rows:
            values = [amount * (price or 0.0) for amount, price in zip(quantities, prices, strict=True)]
            total = sum(values) + quote
            if total <= 0:
                continue
            lower, upper = bands.lines(index, prices, quantities, quote, is_plan=plan is not None)
            found.append(Moment(at_ns, tuple(value / total for value in values), quote / total, lower, upper, plan))
    return found


def changes(result: BacktestResult) -> list[Change]:
    """Return what each plan did to the weights, in the order of the plans."""
    log = result.log
    index_of = {at_ns: index for index, at_ns in enumerate(log.times_ns)}
    fills = _fills_of(result)
    found = []
    for plan in result.rebalances:
        index = index_of[plan.at_ns]
        prices: list[float | None] = [None] * len(log.assets)
        for column in range(len(log.assets)):
            rows = (log.closes[at][column] for at in range(index, -1, -1))
            prices[column] = next((price for price in rows if price is not None), None)
        own = fills.get(plan.plan_id, [])
        held, quote = _before(result, index, own)
        before = _weights(held, quote, prices)
        moved, spent = _moved(result, own)
        after = _weights([a + b for a, b in zip(held, moved, strict=True)], quote + spent, prices)
        found.append(Change(before, after))
    return found


def months(result: BacktestResult) -> list[Month]:
    """Return the returns of the calendar months (UTC); a close at midnight of the first ends the month before it."""
    facts, log = result.facts, result.log
    last: dict[tuple[int, int], float] = {}
    for at_ns, equity in zip(log.times_ns, log.equity, strict=True):
        if equity is not None:
            at = _moment(at_ns - 1)
            last[at.year, at.month] = float(equity)
    worth = float(log.initial_equity)
    starts_whole = _is_month_start(facts.first_open_ns)
    ends_whole = _is_month_start(log.times_ns[-1])
    found = []
    for number, ((year, month), value) in enumerate(last.items()):
        is_partial = (number == 0 and not starts_whole) or (number == len(last) - 1 and not ends_whole)
        found.append(Month(year, month, value / worth - 1.0, is_partial))
        worth = value
    return found


def _first_purchase_kept(result: BacktestResult) -> list[Value] | None:
    log = result.log
    if not result.rebalances or not result.rebalances[0].legs:
        return None
    plan = result.rebalances[0]
    index = log.times_ns.index(plan.at_ns)
    own = _fills_of(result).get(plan.plan_id, [])
    held, quote = _before(result, index, own)
    moved, spent = _moved(result, own)
    kept = [a + b for a, b in zip(held, moved, strict=True)]
    prices: list[float | None] = [None] * len(log.assets)
    found: list[Value] = [float(log.initial_equity)]
    for at, closes in enumerate(log.closes):
        prices = _carried(prices, closes)
        if at < index:
            known = log.equity[at]
            found.append(None if known is None else float(known))
        elif any(amount and price is None for amount, price in zip(kept, prices, strict=True)):
            found.append(None)
        else:
            worth = sum(amount * (price or 0.0) for amount, price in zip(kept, prices, strict=True))
            found.append(worth + quote + spent)
    return found


def _btc_curve(times_ns: Sequence[int], own: Sequence[Value], btc: Mapping[int, float]) -> Curve | None:
    """Return BTC, bought when its first candle closed for what the strategy was worth then."""
    first_ns = min(btc)
    start = bisect_right(times_ns, first_ns - 1)
    worth = own[0] if start == 0 else own[start + 1] if start < len(times_ns) else None
    if worth is None:
        return None
    values: list[Value] = [worth if start == 0 else None]
    last: float | None = None
    for at_ns in times_ns:
        last = btc.get(at_ns, last)
        values.append(None if last is None else last / btc[first_ns] * worth)
    note = "all money in BTC at its first close, free"
    if start:
        note = f"from its first candle, {_moment(first_ns):%d %b %Y}, with what the strategy was worth then"
    return Curve("BTC", "btc", values, note)


def _before(result: BacktestResult, index: int, fills: Sequence[FillRow]) -> tuple[list[float], float]:
    """Return holdings and cash when a plan was made: those after its step without its own `fills` of that step."""
    log = result.log
    moved, spent = _moved(result, [fill for fill in fills if fill.at_ns <= log.times_ns[index]])
    held = [max(0.0, float(now) - change) for now, change in zip(log.quantities[index], moved, strict=True)]
    return held, float(log.quote[index]) - spent


def _moved(result: BacktestResult, fills: Sequence[FillRow]) -> tuple[list[float], float]:
    """Return what fills did to the holdings and to the cash, their fees included."""
    assets, quote_asset = result.log.assets, result.facts.settings.quote_asset
    moved, spent = [Decimal(0)] * len(assets), Decimal(0)
    for fill in fills:
        column = assets.index(fill.asset)
        sign = 1 if fill.side == Side.BUY.value else -1
        moved[column] += sign * fill.quantity
        spent -= sign * fill.notional
        if fill.fee_asset == quote_asset:
            spent -= fill.fee
        elif fill.fee_asset == fill.asset.rpartition("-")[0]:
            moved[column] -= fill.fee
    return [float(amount) for amount in moved], float(spent)


def _fills_of(result: BacktestResult) -> dict[str, list[FillRow]]:
    found: dict[str, list[FillRow]] = {}
    for fill in result.fills:
        found.setdefault(fill.plan_id, []).append(fill)
    return found


def _weights(held: Sequence[float], quote: float, prices: Sequence[float | None]) -> tuple[float, ...]:
    values = [*(amount * (price or 0.0) for amount, price in zip(held, prices, strict=True)), quote]
    total = sum(values)
    return tuple(value / total if total > 0 else 0.0 for value in values)


def _carried(prices: Sequence[float | None], closes: Sequence[float | None]) -> list[float | None]:
    return [old if new is None else new for old, new in zip(prices, closes, strict=True)]


def _moment(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, tz=UTC)


def _is_month_start(at_ns: int) -> bool:
    at = _moment(at_ns)
    return (at.day, at.hour, at.minute, at.second) == (1, 0, 0, 0)

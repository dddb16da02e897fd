"""What a run came to, for people and for machines: its rebalances with their legs, its fills, its daily curve.

In: a run's log. Out: rows, each from what was logged. Never: a row for something that did not happen.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.backtest.core.log import PlanOpened, RunLog
from services.execution.core.orders import Order
from shared.domain.ledger import Ledger
from shared.domain.money import ROUNDING, ZERO, add, multiply, subtract
from shared.errors import IntegrityError
from shared.exchange.paper_book import INITIAL_DEPOSIT
from shared.messages import OrderIntent, OrderRefused, Side

DAY_NS = 86_400_000_000_000
REFUSED = "refused"


class Leg(msgspec.Struct, frozen=True):
    """Describe one order of a rebalance; what was refused or did not fill has quantity and notional zero.

    `price` is the average (28 digits), None without a fill. `fee` is in `fee_asset`, `fee_quote` its worth.
    `slippage_quote` is what the fills cost against the close that the order was decided on (negative: gained).
    """

    intent_id: str
    asset: str
    side: str
    quantity: Decimal
    price: Decimal | None
    notional: Decimal
    fee: Decimal
    fee_asset: str | None
    fee_quote: Decimal
    slippage_quote: Decimal
    state: str
    reason: str
    detail: str


class Rebalance(msgspec.Struct, frozen=True):
    """Describe one plan. `equity_before` is at the deciding closes before any order, `cost_quote` fees and slippage.

    `asset` and `deviation` are None for the initial allocation, whose direction is `allocate`.
    """

    plan_id: str
    at_ns: int
    asset: str | None
    direction: str
    deviation: Decimal | None
    notes: tuple[str, ...]
    legs: tuple[Leg, ...]
    equity_before: Decimal | None
    fees_quote: Decimal
    cost_quote: Decimal


class FillRow(msgspec.Struct, frozen=True):
    """Describe one fill; `profit_quote` is what a sale realised against average cost, less its own fee."""

    at_ns: int
    plan_id: str
    intent_id: str
    asset: str
    side: str
    price: Decimal
    quantity: Decimal
    notional: Decimal
    fee: Decimal
    fee_asset: str
    fee_quote: Decimal
    profit_quote: Decimal | None


def fill_rows(log: RunLog, quote_asset: str) -> list[FillRow]:
    """Return every fill in order, valued by booking all of them once more."""
    ledger = Ledger(quote_asset)
    ledger.book_deposit(INITIAL_DEPOSIT, log.initial_equity, 0)
    rows: list[FillRow] = []
    for event in log.events:
        fill = event.fill
        if fill is None:
            continue
        base = event.instrument.rpartition("-")[0]
        before, fees_before = ledger.holding(base).realized, ledger.fees_quote
        if ledger.book_fill(event.instrument, event.side, fill) is None:
            raise IntegrityError(f"fill {fill.fill_id} was logged twice")
        fee_quote = subtract(ledger.fees_quote, fees_before)
        gained = subtract(subtract(ledger.holding(base).realized, before), fee_quote)
        rows.append(
            FillRow(
                at_ns=fill.ts_event_ns,
                plan_id=event.correlation_id,
                intent_id=event.intent_id,
                asset=event.instrument,
                side=event.side.value,
                price=fill.price,
                quantity=fill.quantity,
                notional=multiply(fill.price, fill.quantity),
                fee=fill.fee,
                fee_asset=fill.fee_asset,
                fee_quote=fee_quote,
                profit_quote=gained if event.side is Side.SELL else None,
            )
        )
    return rows


def rebalances(log: RunLog, fills: Sequence[FillRow]) -> list[Rebalance]:
    """Return every plan with its legs, in the order they were decided; a refused leg is one, too."""
    by_intent: dict[str, list[FillRow]] = {}
    for fill in fills:
        by_intent.setdefault(fill.intent_id, []).append(fill)
    orders: dict[str, list[Order]] = {}
    for order in log.orders:
        orders.setdefault(order.intent.correlation_id, []).append(order)
    refusals: dict[str, list[OrderRefused]] = {}
    for refusal in log.refusals:
        refusals.setdefault(refusal.correlation_id, []).append(refusal)
    rows = dict(zip(log.times_ns, log.closes, strict=True))
    intents = {intent.intent_id: intent for intent in log.intents} if log.refusals else {}
    found = []
    for plan in log.plans:
        plan_id = plan.opened.plan_id
        closes = dict(zip(log.assets, rows.get(plan.at_ns, ()), strict=False))
        legs = [_leg(order, by_intent.get(order.intent.intent_id, []), closes) for order in orders.get(plan_id, [])]
        legs += [_refused_leg(refusal, intents[refusal.intent_id]) for refusal in refusals.get(plan_id, [])]
        found.append(_rebalance(plan, tuple(legs)))
    return found


def daily_curve(
    times_ns: Sequence[int], equity: Sequence[Decimal | None], first_open_ns: int, initial: Decimal, timeframe_ns: int
) -> tuple[list[int], list[Decimal]]:
    """Return `(ends of periods, equity at them)`, the start first: UTC days, or the bars themselves when longer.

    A close at midnight ends the day before it. A step without an equity is left out.
    """
    period_ns = max(DAY_NS, timeframe_ns)
    offset_ns = 0 if period_ns == DAY_NS else first_open_ns % period_ns
    last: dict[int, Decimal] = {}
    for at_ns, value in zip(times_ns, equity, strict=True):
        if value is not None:
            last[(at_ns - 1 - offset_ns) // period_ns] = value
    ends = [(number + 1) * period_ns + offset_ns for number in last]
    return [first_open_ns, *ends], [initial, *last.values()]


def _rebalance(plan: PlanOpened, legs: tuple[Leg, ...]) -> Rebalance:
    fees = slipped = ZERO
    for leg in legs:
        fees, slipped = add(fees, leg.fee_quote), add(slipped, leg.slippage_quote)
    opened = plan.opened
    return Rebalance(
        plan_id=opened.plan_id,
        at_ns=plan.at_ns,
        asset=opened.asset,
        direction=opened.direction,
        deviation=opened.deviation,
        notes=plan.notes,
        legs=legs,
        equity_before=plan.equity_before,
        fees_quote=fees,
        cost_quote=add(fees, slipped),
    )


def _leg(order: Order, fills: Sequence[FillRow], closes: dict[str, float | None]) -> Leg:
    intent = order.intent
    fee = fee_quote = ZERO
    for fill in fills:
        fee, fee_quote = add(fee, fill.fee), add(fee_quote, fill.fee_quote)
    close = closes.get(intent.instrument)
    slipped = ZERO
    if close is not None and fills:
        ideal = multiply(order.filled_quantity, Decimal(repr(close)))
        paid = subtract(order.filled_quote, ideal)
        slipped = paid if intent.side is Side.BUY else paid.copy_negate()
    return Leg(
        intent_id=intent.intent_id,
        asset=intent.instrument,
        side=intent.side.value,
        quantity=order.filled_quantity,
        price=_average(order.filled_quote, order.filled_quantity),
        notional=order.filled_quote,
        fee=fee,
        fee_asset=fills[0].fee_asset if fills else None,
        fee_quote=fee_quote,
        slippage_quote=slipped,
        state=order.state.value,
        reason=intent.reason,
        detail=order.reason,
    )


def _refused_leg(refusal: OrderRefused, intent: OrderIntent) -> Leg:
    return Leg(
        intent_id=intent.intent_id,
        asset=intent.instrument,
        side=intent.side.value,
        quantity=ZERO,
        price=None,
        notional=ZERO,
        fee=ZERO,
        fee_asset=None,
        fee_quote=ZERO,
        slippage_quote=ZERO,
        state=REFUSED,
        reason=intent.reason,
        detail=f"{refusal.code.value}: {refusal.detail}",
    )


def _average(quote: Decimal, quantity: Decimal) -> Decimal | None:
    if not quantity:
        return None
    return ROUNDING.divide(quote, quantity).normalize(ROUNDING) + 0

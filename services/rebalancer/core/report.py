"""What a plan cost, and how the portfolio stands against having held its starting assets.

In: a plan whose orders are over, the newest closes, what was held at the start. Out: one report, for the journal.
Never: a price made up (without one a figure is None), a fee counted that was paid in an asset without a price.
"""

from decimal import Context, Decimal

import msgspec

from services.rebalancer.core.model import MONEY, money, percent
from services.rebalancer.core.state import Hold, RunningPlan
from shared.messages import Side

_RATIO = Context(prec=20)


class Report(msgspec.Struct, frozen=True):
    """State a plan's cost in USDT. `slippage_usdt` is against the closes that the plan was decided on; below 0 it won.

    `equity_usdt` is the portfolio after the plan at the newest closes, `hold_usdt` what holding since `hold_since_ns`
    would be worth, deposits and withdrawals counted on both sides; `advantage` = equity / hold - 1.
    """

    plan_id: str
    orders: int
    turnover_usdt: Decimal
    fees_usdt: Decimal
    slippage_usdt: Decimal
    equity_usdt: Decimal | None = None
    hold_usdt: Decimal | None = None
    hold_since_ns: int | None = None
    advantage: Decimal | None = None
    unvalued_fees: tuple[str, ...] = ()

    @property
    def cost_usdt(self) -> Decimal:
        """Return fees and slippage together."""
        return self.fees_usdt + self.slippage_usdt


def report_on(plan: RunningPlan, closes: dict[str, Decimal], hold: Hold | None) -> Report:
    """Return the report of a plan whose orders are all over; call it inside the `EXACT` context."""
    fees = slippage = turnover = Decimal(0)
    orders = 0
    unvalued: list[str] = []
    for each in plan.executions:
        price = plan.portfolio.prices[each.intent.instrument]
        quantity, quote = each.quantity_done, each.quote_done
        if not quantity:
            continue
        orders += 1
        turnover += quote
        fees += each.fee_quote + sum(each.fees_base.values(), Decimal(0)) * price
        ideal = quantity * price
        slippage += ideal - quote if each.intent.side is Side.SELL else quote - ideal
        unvalued += each.fees_elsewhere.values()
    equity = _equity(plan, closes)
    held = None if hold is None else _worth(hold.quantities, hold.usdt, closes)
    advantage = _RATIO.divide(equity - held, held) if equity is not None and held else None
    return Report(
        plan_id=plan.plan_id,
        orders=orders,
        turnover_usdt=MONEY.plus(turnover),
        fees_usdt=MONEY.plus(fees),
        slippage_usdt=MONEY.plus(slippage),
        equity_usdt=equity,
        hold_usdt=held,
        hold_since_ns=None if hold is None else hold.since_ns,
        advantage=advantage,
        unvalued_fees=tuple(unvalued),
    )


def sentences(report: Report) -> tuple[str, ...]:
    """Return the report for people."""
    share = f" ({percent(MONEY.divide(report.cost_usdt, report.turnover_usdt))})" if report.turnover_usdt else ""
    notes = [
        f"cost {money(report.cost_usdt)}: fees {money(report.fees_usdt)}, slippage {money(report.slippage_usdt)}, "
        f"on {money(report.turnover_usdt)} traded{share}"
    ]
    notes += [f"not counted: a fee of {fee}, which has no price here" for fee in report.unvalued_fees]
    if report.equity_usdt is not None and report.hold_usdt is not None and report.advantage is not None:
        notes.append(
            f"the portfolio is worth {money(report.equity_usdt)}, "
            f"holding the starting assets {money(report.hold_usdt)}: {percent(report.advantage)}"
        )
    return tuple(notes)


def _equity(plan: RunningPlan, closes: dict[str, Decimal]) -> Decimal | None:
    quantities = dict(plan.portfolio.quantities)
    usdt = plan.portfolio.usdt
    for each in plan.executions:
        market = each.intent.instrument
        sign = 1 if each.intent.side is Side.BUY else -1
        paid = sum(each.fees_base.values(), Decimal(0))
        quantities[market] = quantities.get(market, Decimal(0)) + sign * each.quantity_done - paid
        usdt -= sign * each.quote_done + each.fee_quote
    return _worth(quantities, usdt, closes)


def _worth(quantities: dict[str, Decimal], usdt: Decimal, closes: dict[str, Decimal]) -> Decimal | None:
    total = usdt
    for market, quantity in quantities.items():
        if not quantity:
            continue
        price = closes.get(market)
        if price is None or not price.is_finite():
            return None
        total += quantity * price
    return MONEY.plus(total)

"""`cascade rebalance history`: every finished plan with its cost, and how the portfolio stood against holding.

In: the decision journal. Out: a table, or one JSON object a line. Never: a plan shown twice, a figure made up.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from services.cli.client import ask, whole_history
from services.cli.commands.options import AsJson, StateDir, print_json
from services.cli.rebalance_view import console
from services.cli.runfile import find_running
from services.cli.summary import iso_time
from services.rebalancer.core import Report
from services.rebalancer.core.told import QUIET_ACTIONS, report_of
from shared.bus import streams
from shared.bus.port import Bus
from shared.messages import DecisionRecord

SUBJECT = "decision.rebalancer.*"


class Finished(msgspec.Struct, frozen=True):
    """Show one plan; amounts in USDT, `advantage` = portfolio / holding the starting assets - 1, after the plan.

    Cost is None for a plan that is not over yet.
    """

    time: str
    plan_id: str
    action: str
    why: str
    orders: int | None = None
    turnover_usdt: Decimal | None = None
    fees_usdt: Decimal | None = None
    slippage_usdt: Decimal | None = None
    cost_usdt: Decimal | None = None
    equity_usdt: Decimal | None = None
    hold_usdt: Decimal | None = None
    advantage: Decimal | None = None


def history(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many of the newest to show.")] = 20,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest rebalances with their reason, cost and standing against holding."""
    shown = plans_of(ask(find_running(state_dir), _records))[-limit:]
    if as_json:
        for plan in shown:
            print_json(plan)
        return
    if not shown:
        console().print("no rebalance yet")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("time", "action", "orders", "traded", "fees", "slippage", "portfolio", "holding", "against it"):
        table.add_column(heading, justify="left" if heading in ("time", "action") else "right", no_wrap=True)
    for plan in shown:
        table.add_row(
            plan.time,
            plan.action,
            "open" if plan.orders is None else str(plan.orders),
            *(_money(each) for each in (plan.turnover_usdt, plan.fees_usdt, plan.slippage_usdt)),
            *(_money(each) for each in (plan.equity_usdt, plan.hold_usdt)),
            "–" if plan.advantage is None else f"{plan.advantage * 100:+.1f} %",
        )
    console().print(table)
    done = [plan for plan in shown if plan.cost_usdt is not None]
    fees = sum((plan.fees_usdt or Decimal(0) for plan in done), Decimal(0))
    cost = sum((plan.cost_usdt or Decimal(0) for plan in done), Decimal(0))
    console().print(f"{len(done)} plans cost {cost:.2f} USDT, of it fees {fees:.2f}", highlight=False)


def plans_of(records: Iterable[DecisionRecord]) -> list[Finished]:
    """Return each plan once, by its first record, with the report of its last."""
    first: dict[str, DecisionRecord] = {}
    reports: dict[str, Report] = {}
    for record in records:
        if record.action in QUIET_ACTIONS:
            continue
        first.setdefault(record.correlation_id, record)
        report = report_of(record)
        if report is not None:
            reports[record.correlation_id] = report
    return [_finished(record, reports.get(plan_id)) for plan_id, record in first.items()]


def _finished(record: DecisionRecord, report: Report | None) -> Finished:
    why = record.notes[0] if record.notes else ""
    shown = Finished(iso_time(record.decided_at_ns), record.correlation_id, record.action, why)
    if report is None:
        return shown
    return msgspec.structs.replace(
        shown,
        orders=report.orders,
        turnover_usdt=report.turnover_usdt,
        fees_usdt=report.fees_usdt,
        slippage_usdt=report.slippage_usdt,
        cost_usdt=report.cost_usdt,
        equity_usdt=report.equity_usdt,
        hold_usdt=report.hold_usdt,
        advantage=report.advantage,
    )


def _money(amount: Decimal | None) -> str:
    return "–" if amount is None else f"{amount:.2f}"


async def _records(bus: Bus) -> list[DecisionRecord]:
    found = [delivery.message async for delivery in whole_history(bus, streams.DECISIONS, SUBJECT)]
    return [message for message in found if isinstance(message, DecisionRecord)]

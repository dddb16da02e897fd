"""What a rebalancer at a wire has heard of its stack: each finished plan, and the account as it last was.

In: decision records, account snapshots. Out: rows and a summary. Never: a figure that no service reported.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from services.rebalancer.core import Report
from services.rebalancer.core.told import fired
from shared.clock import NANOSECONDS_PER_SECOND
from shared.messages import AccountSnapshot, DecisionRecord

INITIAL = "allocate"


class WireRebalance(msgspec.Struct, frozen=True):
    """Describe one finished plan at a venue; money in the quote asset, `cost_quote` is fees and slippage.

    `asset` and `deviation` are None where no single asset fired. `equity_quote` is the portfolio after the plan, None
    while a price is missing. Its orders and fills are in the journal: `cascade orders`.
    """

    plan_id: str
    at_ns: int
    asset: str | None
    direction: str
    deviation: Decimal | None
    notes: tuple[str, ...]
    orders: int
    turnover_quote: Decimal
    fees_quote: Decimal
    cost_quote: Decimal
    equity_quote: Decimal | None


class WireResult(msgspec.Struct, frozen=True):
    """Sum up what was heard since `run_forever` began, as it stood right before the stack was told to stop.

    `start_equity` and `final_equity` are the first and the newest that execution reported, None until it knew every
    price; `fees_paid` sums since the account's books were opened in `state_dir`. `rebalances` are the newest plans.
    """

    venue: str
    mode: str
    state_dir: str
    as_of_ns: int
    start_equity: Decimal | None
    final_equity: Decimal | None
    fees_paid: Decimal
    open_orders: int
    balances: dict[str, Decimal]
    rebalances: tuple[WireRebalance, ...]

    @property
    def total_return(self) -> float | None:
        """Return the change of equity as a share of one, None while an end is not known."""
        if self.final_equity is None or not self.start_equity:
            return None
        return float(self.final_equity / self.start_equity - 1)

    @property
    def rebalance_count(self) -> int:
        """Return how many plans there were, the initial allocation left out."""
        return sum(plan.direction != INITIAL for plan in self.rebalances)

    def summary(self) -> str:
        """Return the result for people, a fact a line."""
        change = "–" if self.total_return is None else f"{self.total_return * 100:.2f} %"
        at = datetime.fromtimestamp(self.as_of_ns // NANOSECONDS_PER_SECOND, UTC)
        facts = {
            "Venue": f"{self.venue} ({self.mode}), account at {at:%Y-%m-%d %H:%M:%S} UTC",
            "Equity": f"{_money(self.start_equity)} to {_money(self.final_equity)}",
            "Total return": change,
            "Rebalances": f"{self.rebalance_count} and the initial allocation"
            if len(self.rebalances) > self.rebalance_count
            else str(self.rebalance_count),
            "Fees paid": _money(self.fees_paid),
            "Open orders": str(self.open_orders),
            "Holdings": ", ".join(f"{held.normalize():f} {asset}" for asset, held in self.balances.items() if held),
            "State": self.state_dir,
        }
        return "\n".join(f"{name:<14}{text}" for name, text in facts.items())


def result_of(
    first: AccountSnapshot, last: AccountSnapshot, plans: Sequence[WireRebalance], *, mode: str, state_dir: str
) -> WireResult:
    """Return the result; `first` is the first snapshot with an equity, or any when there is none."""
    return WireResult(
        venue=last.venue,
        mode=mode,
        state_dir=state_dir,
        as_of_ns=last.as_of_ns,
        start_equity=first.equity_usdt,
        final_equity=last.equity_usdt,
        fees_paid=last.fees_paid_usdt,
        open_orders=last.open_orders,
        balances={balance.asset: balance.total for balance in last.balances},
        rebalances=tuple(plans),
    )


def rebalance_of(opened: DecisionRecord, report: Report) -> WireRebalance:
    """Return the plan that `opened` began and `report` tells the end of."""
    cause = fired(opened)
    return WireRebalance(
        plan_id=report.plan_id,
        at_ns=opened.decided_at_ns,
        asset=cause.asset or None,
        direction=opened.action,
        deviation=cause.deviation,
        notes=opened.notes,
        orders=report.orders,
        turnover_quote=report.turnover_usdt,
        fees_quote=report.fees_usdt,
        cost_quote=report.cost_usdt,
        equity_quote=report.equity_usdt,
    )


def _money(value: Decimal | None) -> str:
    return "–" if value is None else f"{value:,.2f}"

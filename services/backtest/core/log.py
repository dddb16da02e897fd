"""What happened in a run, kept as it happened: nothing is computed here but what the moment alone knows."""

from decimal import Decimal

import msgspec

from services.backtest.core.strategy import Opened
from services.execution.core.orders import Order
from shared.domain.ledger import LedgerEntry
from shared.messages import DecisionRecord, OrderEvent, OrderIntent, OrderRefused


class PlanOpened(msgspec.Struct, frozen=True):
    """Remember a plan as it was decided: `equity_before` is at the deciding closes, before any of its orders."""

    opened: Opened
    at_ns: int
    notes: tuple[str, ...]
    equity_before: Decimal | None


class RunLog(msgspec.Struct):
    """Hold a run. Rows of `times_ns`, `equity`, `quote`, `closes` and `quantities` belong together, one for each step.

    `equity` (None while a holding has no price) is after the step's trades; `closes` has None where a market has no
    bar; `quantities` repeats the same tuple while nothing is traded. Both follow the order of `assets`.
    """

    assets: tuple[str, ...]
    initial_equity: Decimal
    times_ns: list[int] = []
    equity: list[Decimal | None] = []
    quote: list[Decimal] = []
    closes: list[tuple[float | None, ...]] = []
    quantities: list[tuple[Decimal, ...]] = []
    decisions: list[DecisionRecord] = []
    plans: list[PlanOpened] = []
    intents: list[OrderIntent] = []
    refusals: list[OrderRefused] = []
    events: list[OrderEvent] = []
    orders: list[Order] = []
    entries: list[LedgerEntry] = []
    unsent: list[OrderIntent] = []
    ledger_sequence: int = -1

    def open_plan(
        self, opened: Opened, record: DecisionRecord | None, at_ns: int, equity_before: Decimal | None
    ) -> None:
        """Remember a plan."""
        notes = () if record is None else record.notes
        self.plans.append(PlanOpened(opened, at_ns, notes, equity_before))

    def forget_steps(self, kept_max: int) -> None:
        """Drop the oldest half of the rows and of the journal when there are more than `kept_max` steps."""
        if len(self.times_ns) <= kept_max:
            return
        dropped = len(self.times_ns) // 2
        del self.times_ns[:dropped], self.equity[:dropped], self.quote[:dropped]
        del self.closes[:dropped], self.quantities[:dropped]
        del self.decisions[: len(self.decisions) // 2]

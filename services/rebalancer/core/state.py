"""What survives a crash: cooldowns, how far market time has been handled, and the plan under way."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from services.rebalancer.core.model import Direction, Portfolio, Trigger
from shared.errors import IntegrityError
from shared.messages import Fill, OrderEvent, OrderIntent, OrderState, Side

STATE_VERSION = 1
ALLOCATION_KEY = "*"


class Stage(StrEnum):
    """Name what a plan waits for: its sells, its buys, or the account snapshot that contains all of them."""

    SELLING = "selling"
    BUYING = "buying"
    SETTLING = "settling"


class Execution(msgspec.Struct, frozen=True):
    """Follow one intent of a plan. Amounts only grow: late and repeated reports cannot take a fill back.

    `fills` holds, by fill id, the quote amount and the part of the fee that was paid in the quote asset.
    """

    intent: OrderIntent
    state: OrderState = OrderState.INITIALIZED
    refusal: str = ""
    filled_quantity: Decimal = Decimal(0)
    filled_quote: Decimal = Decimal(0)
    fills: dict[str, tuple[Decimal, Decimal, Decimal]] = {}

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more is expected; UNKNOWN is not over."""
        return bool(self.refusal) or self.state.is_terminal

    @property
    def quantity_done(self) -> Decimal:
        """Return what was filled, in base units."""
        return max(self.filled_quantity, sum((fill[0] for fill in self.fills.values()), Decimal(0)))

    def net_quote(self, fee_rate: Decimal) -> Decimal:
        """Return what was received less fees, in quote units.

        A part that is reported as filled without its fills yet is counted less the estimated fee.
        """
        known = sum((fill[1] for fill in self.fills.values()), Decimal(0))
        fees = sum((fill[2] for fill in self.fills.values()), Decimal(0))
        unknown = max(self.filled_quote - known, Decimal(0))
        return known - fees + unknown * (1 - fee_rate)

    def after(self, event: OrderEvent) -> "Execution":
        """Return this with one order event counted in; a repeated or overtaken event changes nothing it must not."""
        fills = self.fills
        if event.fill is not None and event.fill.fill_id not in fills:
            fills = fills | {event.fill.fill_id: _fill_amounts(event.fill, quote_asset(event.instrument))}
        return msgspec.structs.replace(
            self,
            state=self.state if self.state.is_terminal else event.state,
            filled_quantity=max(self.filled_quantity, event.filled_quantity),
            filled_quote=max(self.filled_quote, event.filled_quote),
            fills=fills,
        )


class RunningPlan(msgspec.Struct, frozen=True):
    """Hold one plan from its first sale to its settlement.

    `portfolio` is what it was decided on; `ledger_sequence` the greatest that its order events named. `trigger` of an
    initial allocation names no asset.
    """

    plan_id: str
    trigger: Trigger
    opened_at_ns: int
    portfolio: Portfolio
    stage: Stage
    executions: tuple[Execution, ...]
    ledger_sequence: int = 0

    def of_side(self, side: Side) -> tuple[Execution, ...]:
        """Return the executions of one side."""
        return tuple(execution for execution in self.executions if execution.intent.side is side)

    @property
    def open_executions(self) -> tuple[Execution, ...]:
        """Return the executions that are not over."""
        return tuple(execution for execution in self.executions if not execution.is_over)


class RebalancerState(msgspec.Struct, frozen=True):
    """Hold everything that the next decision depends on beside account and closes.

    `fired_at_ns` by asset starts cooldowns (`*` is the initial allocation). `finished_ns` is the newest market time
    from which nothing is unfinished.
    """

    version: int = STATE_VERSION
    last_close_ns: int = 0
    finished_ns: int = 0
    ledger_sequence_seen: int = 0
    ledger_sequence_needed: int = 0
    closes: dict[str, Decimal] = {}
    fired_at_ns: dict[str, int] = {}
    plan: RunningPlan | None = None


def allocation_trigger() -> Trigger:
    """Return the trigger that stands for the initial allocation."""
    return Trigger("", Direction.ALLOCATE, Decimal(0))


def encode_state(state: RebalancerState) -> bytes:
    """Return the state as msgpack."""
    return msgspec.msgpack.encode(state)


def decode_state(payload: bytes) -> RebalancerState:
    """Return the state in `payload`; raises IntegrityError for another version or anything else."""
    try:
        state = msgspec.msgpack.decode(payload, type=RebalancerState)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"the rebalancer's stored state cannot be read: {error}") from error
    if state.version != STATE_VERSION:
        raise IntegrityError(f"the rebalancer's stored state has version {state.version}, this build {STATE_VERSION}")
    return state


def quote_asset(market: str) -> str:
    """Return the quote asset of a bus token."""
    return market.rpartition("-")[2]


def _fill_amounts(fill: Fill, quote: str) -> tuple[Decimal, Decimal, Decimal]:
    return fill.quantity, fill.price * fill.quantity, fill.fee if fill.fee_asset == quote else Decimal(0)

"""What survives a crash: cooldowns, how far market time has been handled, and the plan under way."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from services.rebalancer.core.model import Direction, Portfolio, Trigger
from services.rebalancer.core.past import Past
from services.rebalancer.core.transfers import Known, Moved
from shared.errors import IntegrityError
from shared.messages import Fill, OrderEvent, OrderIntent, OrderState, Side

STATE_VERSION = 1
ALLOCATION_KEY = "*"
REBALANCE_KEY = "@"


class Stage(StrEnum):
    """Name what a plan waits for: its sells, its buys, or the account snapshot that contains all of them."""

    SELLING = "selling"
    BUYING = "buying"
    SETTLING = "settling"


class Execution(msgspec.Struct, frozen=True):
    """Follow one intent of a plan. Amounts only grow: late and repeated reports cannot take a fill back.

    `fills` holds, by fill id, the quantity, the quote amount and the part of the fee that was paid in the quote asset;
    `fees_base` the fees paid in the market's base asset, `fees_elsewhere` those in others, as text.
    """

    intent: OrderIntent
    state: OrderState = OrderState.INITIALIZED
    refusal: str = ""
    filled_quantity: Decimal = Decimal(0)
    filled_quote: Decimal = Decimal(0)
    fills: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
    fees_base: dict[str, Decimal] = {}
    fees_elsewhere: dict[str, str] = {}

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more is expected; UNKNOWN is not over."""
        return bool(self.refusal) or self.state.is_terminal

    @property
    def quantity_done(self) -> Decimal:
        """Return what was filled, in base units."""
        return max(self.filled_quantity, sum((fill[0] for fill in self.fills.values()), Decimal(0)))

    @property
    def quote_done(self) -> Decimal:
        """Return what was paid or received for it before fees, in quote units."""
        return max(self.filled_quote, sum((fill[1] for fill in self.fills.values()), Decimal(0)))

    @property
    def fee_quote(self) -> Decimal:
        """Return the fees that were paid in the quote asset."""
        return sum((fill[2] for fill in self.fills.values()), Decimal(0))

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
        fills, base, elsewhere = self.fills, self.fees_base, self.fees_elsewhere
        fill = event.fill
        if fill is not None and fill.fill_id not in fills:
            fills = fills | {fill.fill_id: _fill_amounts(fill, quote_asset(event.instrument))}
            if fill.fee_asset == event.instrument.rpartition("-")[0]:
                base = base | {fill.fill_id: fill.fee}
            elif fill.fee and fill.fee_asset != quote_asset(event.instrument):
                elsewhere = elsewhere | {fill.fill_id: f"{fill.fee:f} {fill.fee_asset}"}
        return msgspec.structs.replace(
            self,
            fees_base=base,
            fees_elsewhere=elsewhere,
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


class Request(msgspec.Struct, frozen=True):
    """Hold a person's (or a deposit's) wish to rebalance to target; it lapses after `closes_left` more closes."""

    correlation_id: str
    user: str
    reason: str
    closes_left: int


class Pause(msgspec.Struct, frozen=True):
    """Say who stopped new plans, and why."""

    user: str
    reason: str
    at_ns: int


class Hold(msgspec.Struct, frozen=True):
    """Hold the starting assets, against which the portfolio is compared; transfers since then are added."""

    since_ns: int
    quantities: dict[str, Decimal]
    usdt: Decimal


class RebalancerState(msgspec.Struct, frozen=True):
    """Hold everything that the next decision depends on beside account and closes.

    `fired_at_ns` by asset starts cooldowns (`*` is the initial allocation, `@` the last rebalance to target, or the
    last date on which one was looked for). `finished_ns` is the newest market time from which nothing is unfinished.
    `requests_seen` are the ids of the newest requests; `known` and `moved` find transfers.
    """

    version: int = STATE_VERSION
    last_close_ns: int = 0
    finished_ns: int = 0
    ledger_sequence_seen: int = 0
    ledger_sequence_needed: int = 0
    closes: dict[str, Decimal] = {}
    fired_at_ns: dict[str, int] = {}
    plan: RunningPlan | None = None
    past: Past = Past()
    request: Request | None = None
    requests_seen: tuple[str, ...] = ()
    paused: Pause | None = None
    known: Known | None = None
    moved: dict[str, Moved] = {}
    hold: Hold | None = None


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

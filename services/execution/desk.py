"""What the parts of execution share: the ports, the books, the trading state, the one turn at a time.

In: the risk service's state and halts, contradictions found anywhere. Out: the situation that orders are checked
against; demands to halt. Never: a state assumed where none was heard, a halt of our own forgotten by a restart.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from services.execution.books import Books
from services.execution.config import ExecutionConfig
from services.execution.core.booking import Booked
from services.execution.core.bounds import Situation
from services.execution.core.orders import Order
from services.execution.faults import FaultPoint, no_fault
from services.execution.publisher import Publisher
from shared.bus import subjects
from shared.bus.port import Bus, Delivery
from shared.bus.streams import RISK
from shared.clock import Clock, monotonic_ns, wall_ns
from shared.domain.instruments import split_symbol
from shared.errors import RejectedError
from shared.exchange.port import (
    RefusedQuestionError,
    SimulatedVenue,
    VenueExecution,
    VenueRejectCode,
    refusal_code,
)
from shared.logs import Log
from shared.messages import OrderApproved, RiskHalt, RiskState, TradingState
from shared.pauses import PauseWatch, told

NAME = "execution"
PAUSE_LOOK_S = 1.0


class Host(Protocol):
    """Be what a running service needs from its process; `shared.lifecycle.Runtime` is one."""

    log: Log
    clock: Clock
    bus: Bus

    def advance_clock(self, to_ns: int) -> None:
        """Move market time on."""
        ...

    def report_progress(self, close_time_ns: int) -> None:
        """Say that everything up to this market time is finished."""
        ...

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Run `work` beside the service; its failure ends the process."""
        ...


class Desk:
    """Hold the shared state of one account's execution. `turn` is taken for every step that changes anything.

    `simulated` is the venue once more where it fills in this process; it is None at the end of a wire.
    """

    def __init__(
        self,
        host: Host,
        venue: VenueExecution,
        books: Books,
        config: ExecutionConfig,
        *,
        account: str,
        simulated: SimulatedVenue | None,
        fault_point: FaultPoint = no_fault,
        wall_clock_ns: Callable[[], int] = wall_ns,
        age_clock_ns: Callable[[], int] = monotonic_ns,
        pause_clock_ns: Callable[[], int] = wall_ns,
    ) -> None:
        self.host = host
        self.bus = host.bus
        self.log = host.log
        self.venue = venue
        self.simulated = simulated
        self.books = books
        self.config = config
        self.fault_point = fault_point
        self.wall_clock_ns = wall_clock_ns
        self.age_clock_ns = age_clock_ns
        self.publisher = Publisher(host.bus, books, venue=venue.venue, account=account, fault_point=fault_point)
        self.turn = asyncio.Lock()
        self.market_moved = asyncio.Condition()
        self.state: TradingState | None = None
        self.is_reconciled = False
        self.is_stream_live = True
        self.stream_losses = 0
        self.look_again = asyncio.Event()
        # The markets of a venue at a wire, which are asked about one by one.
        self.markets: tuple[str, ...] = ()
        self.mismatch: str | None = None
        self.key_refusal: str | None = None
        self.events_by_state: Counter[str] = Counter()
        self._risk_sequence = 0
        self._pauses = PauseWatch(every_s=PAUSE_LOOK_S, now_ns=pause_clock_ns)

    @property
    def halt_reason(self) -> str | None:
        """Return why execution itself refuses new orders, or None."""
        incidents = self.books.journal.open_incidents()
        return incidents[0] if incidents else self.key_refusal or self.mismatch

    def trade_in(self, markets: tuple[str, ...]) -> None:
        """Name the stack's markets at a wire: their assets' balances must agree with the ledger."""
        self.markets = markets
        self.books.traded = frozenset(part for symbol in markets for part in split_symbol(symbol))

    def now_ns(self) -> int:
        """Return the time that decisions go by: the market's in a replay."""
        return self.host.clock.now_ns()

    def situation(self, approval: OrderApproved, *, is_resend: bool = False) -> Situation:
        """Return what an order is checked against now; a resend may use its own approval and be its own unknown."""
        journal = self.books.journal
        return Situation(
            state=self.state,
            now_ns=self.now_ns(),
            halt_reason=self.halt_reason,
            approval_used_by=None if is_resend else journal.approval_used_by(approval.approval_id),
            unknown_order=None if is_resend else self.books.uncertain_on(approval.intent.instrument),
        )

    def market_time_ns(self, instrument: str) -> int:
        """Return how far the market of an instrument is: a simulated venue's own, at a wire what was heard of it."""
        if self.simulated is not None:
            return self.simulated.market_time_ns(instrument)
        return self.books.mark_ns(instrument)

    def on_stream(self, *, is_live: bool, reason: str) -> None:
        """Take the state of the account's stream; whatever it says, nothing is sent before a reconciliation."""
        self.log.warning("account_stream", is_live=is_live, reason=reason)
        self.is_stream_live = is_live
        self.is_reconciled = False
        self.stream_losses += 1

    def look_for_pause(self) -> None:
        """Trust the account at a wire no more until it is reconciled, when this computer slept.

        Its stream may be dead without a sign, and notices that only some time after it could be traded on.
        """
        if self.simulated is None and (pause_s := self._pauses.look()):
            self.on_stream(is_live=self.is_stream_live, reason=told(pause_s))
            self.look_again.set()

    async def wake(self) -> None:
        """Let approvals that wait for the market, the account or risk look again."""
        async with self.market_moved:
            self.market_moved.notify_all()

    async def call[T](self, work: Awaitable[T]) -> T:
        """Await a venue's answer for as long as the configuration allows; raises TimeoutError after that."""
        async with asyncio.timeout(self.config.venue_timeout_s):
            return await work

    async def ask_of_market[T](self, market: str, work: Awaitable[T], nothing: T) -> T:
        """Await a venue's answer about one of the stack's markets; `nothing` when it knows no such market any more."""
        try:
            return await self.call(work)
        except (RejectedError, RefusedQuestionError) as error:
            if refusal_code(error) is not VenueRejectCode.INSTRUMENT_UNKNOWN or market not in self.markets:
                raise
            self.log.warning("market_gone", instrument=market, error=str(error))
            return nothing

    async def commit(self, booked: Booked, *, approval_id: str | None = None) -> Order:
        """Journal a step; a contradiction in it demands a halt, a fill that waits for its fee a look at everything."""
        order = self.books.commit(booked, approval_id=approval_id, at_ns=self.now_ns())
        self.events_by_state.update(event.state.value for event in booked.events)
        if booked.problem is not None:
            await self.demand_halt(booked.problem)
        elif booked.waits and self.halt_reason is None:
            self.look_again.set()
        return order

    async def demand_halt(self, detail: str) -> None:
        """Ask risk to halt, durably, unless trading is halted already."""
        self.log.error("halt_demanded", detail=detail)
        if self.state is TradingState.HALTED:
            return
        digest = hashlib.sha256(f"{self._risk_sequence} {detail}".encode()).hexdigest()[:16]
        halt = RiskHalt(demanded_by=NAME, reason=detail, correlation_id=digest, demanded_at_ns=self.now_ns())
        await self.bus.publish(subjects.RISK_HALT, halt, message_id=f"{NAME}-{digest}")

    async def refresh_state(self) -> None:
        """Read the newest trading state and demand to halt, as they are stored."""
        for subject in (subjects.RISK_STATE, subjects.RISK_HALT):
            delivery = await self.bus.last(RISK, subject)
            if delivery is not None:
                self.take_state(delivery)

    def take_state(self, delivery: Delivery) -> bool:
        """Take a trading state or a demand to halt; an older one than known is no news. Return whether it is news."""
        if delivery.stream_sequence <= self._risk_sequence:
            return False
        message = delivery.message
        if isinstance(message, RiskState):
            self.state = message.state
        elif isinstance(message, RiskHalt):
            self.state = TradingState.HALTED
        else:
            return False
        self._risk_sequence = delivery.stream_sequence
        return True

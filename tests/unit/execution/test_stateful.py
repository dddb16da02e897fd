"""Anything may happen in any order: the venue's books are the model, and ours must equal them to the last digit."""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.execution.core.orders import client_order_id
from services.execution.faults import POINTS
from shared.messages import OrderApproved, OrderState, Side, TradingState
from shared.testing.paper import bar
from tests.unit.execution.rig import Rig
from tests.unit.execution.samples import approve, intent
from tests.unit.execution.scripted import Act

INSTRUMENTS = st.sampled_from(["BTC-USDT", "ETH-USDT"])
AMOUNTS = st.sampled_from(["50", "333.33", "1234.5", "9000"])
QUANTITIES = st.sampled_from(["0.05", "1.25", "7.5", "40"])
SETTLED = (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED)


class Execution(RuleBasedStateMachine):
    """Trade, crash, repeat, lose answers, halt and resume."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.rig = Rig(Path(self.directory.name))
        self.approvals: list[OrderApproved] = []
        self.copies = 0
        self.hour = 0
        self.is_halted = False
        self.sent_before_halt: set[str] = set()
        self.run(self.rig.open())
        self.run(self.rig.start())
        self.market(100, 50)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.rig.crash())
        self.loop.close()
        self.directory.cleanup()

    async def _submit(self, approval: OrderApproved, copy: int = 0) -> None:
        await self.rig.approve(approval, copy=copy)
        if approval not in self.approvals:
            self.approvals.append(approval)
        await self.rig.settled(*range(1, len(self.approvals) + 1), states=SETTLED)

    def _next(self) -> int:
        return len(self.approvals) + 1

    @rule(instrument=INSTRUMENTS, quote=AMOUNTS)
    def buy(self, instrument: str, quote: str) -> None:
        wanted = intent(self._next(), quote=quote, instrument=instrument, hour=self.hour, expires_hour=10_000)
        self.run(self._submit(approve(wanted)))

    @rule(instrument=INSTRUMENTS, quantity=QUANTITIES)
    def sell(self, instrument: str, quantity: str) -> None:
        wanted = intent(
            self._next(),
            side=Side.SELL,
            quantity=quantity,
            instrument=instrument,
            hour=self.hour,
            expires_hour=10_000,
        )
        self.run(self._submit(approve(wanted)))

    @rule(instrument=INSTRUMENTS, side=st.sampled_from(Side), quantity=QUANTITIES, limit=st.integers(40, 120))
    def rest(self, instrument: str, side: Side, quantity: str, limit: int) -> None:
        wanted = intent(
            self._next(),
            side=side,
            quantity=quantity,
            limit=str(limit),
            instrument=instrument,
            hour=self.hour,
            expires_hour=10_000,
        )
        self.run(self._submit(approve(wanted)))

    @precondition(lambda self: self.approvals)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.copies += 1
        self.run(self._submit(data.draw(st.sampled_from(self.approvals)), copy=self.copies))

    @rule(btc=st.integers(60, 140), eth=st.integers(30, 90))
    def market(self, btc: int, eth: int) -> None:
        self.hour += 1
        self.run(
            self.rig.step(
                self.hour,
                BTC=bar(self.hour, float(btc), low=btc * 0.9, high=btc * 1.1, volume=25.0),
                ETH=bar(self.hour, float(eth), low=eth * 0.9, high=eth * 1.1, instrument="ETH-USDT"),
            )
        )

    @rule(point=st.sampled_from(POINTS))
    def die_soon(self, point: str) -> None:
        self.rig.fault = point

    @rule()
    def die_now(self) -> None:
        self.rig.fault = None
        self.run(self.rig.restart())

    @rule(act=st.sampled_from([Act.LOSE_ANSWER, Act.LOSE_REQUEST, Act.GARBAGE_ANSWER, Act.UNAVAILABLE, Act.REFUSE]))
    def misbehave(self, act: Act) -> None:
        self.rig.venue.submits.append(act)

    @rule()
    def lose_a_cancel(self) -> None:
        self.rig.venue.cancels.append(Act.LOSE_ANSWER)

    @precondition(lambda self: not self.is_halted)
    @rule()
    def halt(self) -> None:
        self.is_halted = True
        self.run(self._halt())
        self.sent_before_halt = self.run(self._at_venue())

    async def _halt(self) -> None:
        await self.rig.set_state(TradingState.HALTED)
        await self.rig.until(lambda: self.rig.desk.state is TradingState.HALTED)
        await self.rig.settled(*range(1, len(self.approvals) + 1))

    @precondition(lambda self: self.is_halted)
    @rule()
    def resume(self) -> None:
        self.is_halted = False
        self.run(self.rig.set_state(TradingState.ACTIVE))

    async def _at_venue(self) -> set[str]:
        found = set()
        for number, approval in enumerate(self.approvals, start=1):
            order = await self.rig.venue_order(number, approval.intent.instrument)
            if order is not None:
                found.add(order.client_order_id)
        return found

    @invariant()
    def books_and_venue_agree(self) -> None:
        self.run(self.rig.until(lambda: not self.rig.crashed.is_set() and not self.rig.journal.unpublished(1)))
        self.run(self.rig.assert_agreement())

    @invariant()
    def nothing_reaches_the_venue_while_halted(self) -> None:
        if self.is_halted:
            assert self.run(self._at_venue()) == self.sent_before_halt
            assert self.run(self.rig.venue.real.open_orders()) == ()

    @invariant()
    def every_order_at_the_venue_has_its_own_approval(self) -> None:
        for client_id in self.run(self._at_venue()):
            order = self.rig.journal.order_by_client_id(client_id)
            assert order is not None
            assert order.state is not OrderState.DENIED
            assert client_id == client_order_id(order.intent.intent_id)
            used_by = self.rig.journal.approval_used_by(order.approval.approval_id)
            assert used_by == order.intent.intent_id


TestExecution = Execution.TestCase
TestExecution.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)

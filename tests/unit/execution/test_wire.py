"""Execution over a venue at a wire: what its stream says, what it does not, and when nothing may be sent."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import pytest

from services.execution.books import Books
from services.execution.core.orders import client_order_id
from services.execution.desk import Desk
from services.execution.journal import Journal
from services.execution.service import ExecutionService
from shared.bus.memory import MemoryBus
from shared.clock import NANOSECONDS_PER_SECOND
from shared.exchange.port import StreamState, VenueTrade
from shared.messages import Balance, OrderState, Side, TradingState
from shared.testing.fake_wire import FakeWire
from tests.unit.execution.rig import IDENTITY, QUICK, FakeHost, Rig
from tests.unit.execution.samples import approve, intent

SYMBOLS = ("BTC-USDT", "ETH-USDT")


class WireRig(Rig):
    """Be a rig whose venue is at a wire."""

    wire: FakeWire
    slept_ns = 0

    def build(self) -> None:
        """Make the service out of its files and the wire."""
        self.crashed.clear()
        bus = MemoryBus(self.broker, service="execution", on_fatal=self._on_fatal)
        bus._client.connected.set()
        self.host = FakeHost(bus)
        self.journal = Journal(self.directory / "execution.sqlite3", IDENTITY)
        self.desk = Desk(
            self.host,
            self.wire,
            Books(self.journal, "USDT"),
            self.config,
            account="paper",
            simulated=None,
            fault_point=self._fault_point,
            age_clock_ns=lambda: next(self.age_ns),
            pause_clock_ns=lambda: self.slept_ns,
        )
        self.service = ExecutionService(
            self.desk, timeframe="1h", closers=(self.journal.close,), wire=self.wire, symbols=SYMBOLS
        )

    async def crash(self) -> None:
        """End the service at once."""
        self.venue = self  # type: ignore[assignment] # the wire outlives the service
        await super().crash()

    def close(self) -> None:
        """Be the venue that the rig closes."""

    def balances(self) -> dict[str, Decimal]:
        """Return what is booked."""
        return {asset: amount for asset, amount in self.desk.books.ledger.balances().items() if amount}

    def held(self) -> dict[str, Decimal]:
        """Return what is truly held of the stack's assets."""
        return {asset: amount for asset, amount in self.wire.held.items() if amount and asset in {"BTC", "ETH", "USDT"}}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[WireRig]:
    one = WireRig(tmp_path)
    one.wire = FakeWire(USDT="10000", MX="7")
    await one.open()
    yield one
    await one.crash()


async def test_the_first_start_books_what_the_account_holds_of_the_stacks_assets_once(rig: WireRig) -> None:
    rig.wire.trade_of_somebody()
    await rig.start()
    assert rig.balances() == {"USDT": Decimal(10_000)}
    assert rig.desk.is_reconciled
    await rig.restart()
    assert rig.balances() == {"USDT": Decimal(10_000)}
    assert rig.desk.halt_reason is None
    assert rig.wire.opened == 2


async def test_an_account_with_a_long_past_is_opened_however_long_that_takes_to_read(
    rig: WireRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = rig.wire.trades_since

    async def slow(sequence: int, *, limit: int = 1000, instrument: str | None = None) -> tuple[VenueTrade, ...]:
        if not sequence and instrument is None:
            await asyncio.sleep(1.2 * rig.config.venue_timeout_s)
        return await read(sequence, limit=limit, instrument=instrument)

    monkeypatch.setattr(rig.wire, "trades_since", slow)
    rig.wire.trade_of_somebody()
    await rig.start()
    await rig.until(lambda: rig.desk.is_reconciled)
    assert rig.balances() == {"USDT": Decimal(10_000)}


async def test_an_asset_that_is_held_at_first_is_booked_at_its_first_close(rig: WireRig) -> None:
    rig.wire.held["BTC"] = Decimal(2)
    await rig.start()
    assert not rig.desk.is_reconciled
    await rig.step(1, BTC=101.0)
    await rig.until(lambda: rig.desk.is_reconciled)
    assert rig.balances() == {"USDT": Decimal(10_000), "BTC": Decimal(2)}
    assert rig.desk.books.ledger.holding("BTC").average_price == 101


async def test_fills_come_from_the_stream_without_a_question(rig: WireRig) -> None:
    rig.config = type(QUICK)(reconcile_interval_s=60, resolve_interval_s=60)
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quantity="3")))
    await rig.settled(1, states=(OrderState.ACCEPTED,))
    rig.wire.tell(*rig.wire.told_of(client_order_id("intent-1")))
    assert await rig.settled(1) == [OrderState.FILLED]
    assert rig.balances() == rig.held()


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
async def test_reports_give_one_final_state_in_any_order_and_twice(rig: WireRig, order: tuple[int, ...]) -> None:
    rig.config = type(QUICK)(reconcile_interval_s=60, resolve_interval_s=60)
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quantity="3")))
    await rig.settled(1, states=(OrderState.ACCEPTED,))
    reports = rig.wire.told_of(client_order_id("intent-1"))
    rig.wire.tell(*(reports[place] for place in (*order, *reversed(order))))
    assert await rig.settled(1) == [OrderState.FILLED]
    assert rig.balances() == rig.held()
    assert rig.desk.halt_reason is None


async def test_what_the_stream_does_not_say_is_asked_for(rig: WireRig) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, side=Side.BUY, quantity="3")))
    assert await rig.settled(1) == [OrderState.FILLED]
    assert rig.balances() == rig.held()


async def test_nothing_is_sent_while_the_stream_is_down_or_not_reconciled(rig: WireRig) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0)
    rig.wire.tell(StreamState(False, "reset"))
    await rig.approve(approve(intent(1)))
    with pytest.raises(TimeoutError):
        await _within(rig, 0.7, lambda: bool(rig.wire.submitted))
    rig.wire.is_down = True
    rig.wire.tell(StreamState(True, "back"))
    with pytest.raises(TimeoutError):
        await _within(rig, 0.3, lambda: bool(rig.wire.submitted))
    rig.wire.is_down = False
    assert await rig.settled(1) == [OrderState.FILLED]


async def test_a_computer_that_slept_sends_nothing_before_the_account_is_reconciled(
    rig: WireRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An approval that is there when it wakes is taken before anything else has looked at the clock.
    monkeypatch.setattr("services.execution.wire.PAUSE_LOOK_S", 3600.0)
    rig.config = type(QUICK)(reconcile_interval_s=60, resolve_interval_s=60)
    await rig.start()
    await rig.step(1, BTC=100.0)
    losses, asked, answers = rig.desk.stream_losses, rig.wire.balances, asyncio.Event()

    async def balances() -> tuple[Balance, ...]:
        await answers.wait()
        return await asked()

    monkeypatch.setattr(rig.wire, "balances", balances)
    rig.slept_ns += 3600 * NANOSECONDS_PER_SECOND
    await rig.approve(approve(intent(1)))
    await rig.until(lambda: rig.desk.stream_losses > losses or bool(rig.wire.submitted))
    assert rig.wire.submitted == []
    assert not rig.desk.is_reconciled
    answers.set()
    assert await rig.settled(1, states=(OrderState.ACCEPTED,))
    assert rig.desk.is_reconciled


async def test_answers_from_before_the_computer_slept_reconcile_nothing(
    rig: WireRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.start()
    asked = rig.wire.balances

    async def balances() -> tuple[Balance, ...]:
        found = await asked()
        rig.slept_ns += 3600 * NANOSECONDS_PER_SECOND
        return found

    async with rig.desk.turn:
        with monkeypatch.context() as patched:
            patched.setattr(rig.wire, "balances", balances)
            findings = await rig.service._recovery.run()
        assert (findings.conclusive, rig.desk.is_reconciled) == (False, False)
    await rig.until(lambda: rig.desk.is_reconciled)


async def test_a_lost_answer_is_adopted_and_never_sent_again(rig: WireRig) -> None:
    rig.wire.lose_answers, rig.wire.names_orders = 1, False
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1)))
    assert await rig.settled(1) == [OrderState.FILLED]
    assert len(rig.wire.submitted) == 1
    assert rig.balances() == rig.held()


async def test_a_trade_without_a_name_waits_for_the_order_that_is_not_shown_yet(rig: WireRig) -> None:
    rig.wire.lose_answers, rig.wire.names_orders, rig.wire.hide_orders = 1, False, True
    rig.config = type(QUICK)(reconcile_interval_s=0.1, resolve_interval_s=0.01, misses_span_s=3600)
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1)))
    await rig.settled(1, states=(OrderState.UNKNOWN,))
    with pytest.raises(TimeoutError):
        await _within(rig, 0.3, lambda: rig.desk.halt_reason is not None)
    rig.wire.hide_orders = False
    assert await rig.settled(1) == [OrderState.FILLED]
    assert rig.desk.halt_reason is None
    assert rig.balances() == rig.held()


async def test_an_order_is_not_given_up_while_a_trade_may_be_its_own(rig: WireRig) -> None:
    rig.wire.lose_answers, rig.wire.names_orders, rig.wire.hide_orders = 1, False, True
    rig.config = type(QUICK)(reconcile_interval_s=0.1, resolve_interval_s=0.01, misses_span_s=0.5)
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1)))
    await rig.settled(1, states=(OrderState.UNKNOWN,))
    with pytest.raises(TimeoutError):
        await _within(rig, 1.0, lambda: rig.desk.halt_reason is not None or not rig.desk.books.uncertain_orders())
    rig.wire.hide_orders = False
    assert await rig.settled(1) == [OrderState.FILLED]
    assert rig.balances() == rig.held()
    assert rig.desk.halt_reason is None


async def test_a_lost_request_is_given_up_after_enough_misses_and_never_repeated(rig: WireRig) -> None:
    rig.wire.lose_requests = 1
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1)))
    assert await rig.settled(1) == [OrderState.REJECTED_UNCONFIRMED]
    assert len(rig.wire.submitted) == 1


async def test_a_clock_that_is_set_forward_gives_no_order_up(rig: WireRig) -> None:
    rig.wire.lose_requests = 1
    rig.config = type(QUICK)(reconcile_interval_s=0.1, resolve_interval_s=0.01, misses_min=3, misses_span_s=3600)
    await rig.start()
    hours = itertools.count(1, 3600 * NANOSECONDS_PER_SECOND)
    rig.desk.wall_clock_ns = lambda: next(hours)
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1)))
    await rig.settled(1, states=(OrderState.UNKNOWN,))
    misses = rig.service._recovery._misses
    await rig.until(lambda: not rig.desk.books.uncertain_orders() or any(one.count > 5 for one in misses.values()))
    assert len(rig.desk.books.uncertain_orders()) == 1


@pytest.mark.parametrize("fault", ["after_journal_before_send", "after_send_before_outcome"])
async def test_a_crash_around_the_send_leaves_at_most_one_order(rig: WireRig, fault: str) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0)
    rig.fault = fault
    await rig.approve(approve(intent(1)))
    await rig.settled(1)
    assert len(rig.wire.submitted) == (0 if fault == "after_journal_before_send" else 1)
    assert rig.balances() == rig.held()


async def test_a_trade_of_somebody_else_halts(rig: WireRig) -> None:
    await rig.start()
    trade: VenueTrade = rig.wire.trade_of_somebody()
    rig.wire.tell(trade)
    await rig.until(lambda: rig.desk.halt_reason is not None)
    assert "no order of ours" in (rig.desk.halt_reason or "")


async def test_money_from_outside_halts_and_other_assets_do_not(rig: WireRig) -> None:
    await rig.start()
    rig.wire.held["MX"] = Decimal(3)
    with pytest.raises(TimeoutError):
        await _within(rig, 0.5, lambda: rig.desk.halt_reason is not None)
    rig.wire.held["USDT"] = Decimal(9_000)
    await rig.until(lambda: rig.desk.halt_reason is not None)
    assert "USDT at the venue 9000, booked 10000" in (rig.desk.halt_reason or "")


async def test_money_from_outside_is_adopted_only_while_halted_and_then_agrees(rig: WireRig) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0)
    early = await rig.command("adopt")
    rig.wire.held |= {"USDT": Decimal(9_000), "BTC": Decimal("1.5")}
    await rig.until(lambda: rig.desk.halt_reason is not None)
    assert (early.ok, "cascade halt" in early.detail) == (False, True)
    await rig.set_state(TradingState.HALTED)
    await rig.until(lambda: rig.desk.state is TradingState.HALTED)
    reply = await rig.command("adopt")
    assert reply.ok, reply.detail
    assert rig.balances() == {"USDT": Decimal(9_000), "BTC": Decimal("1.5")}
    assert rig.desk.halt_reason is None
    assert rig.desk.books.ledger.holding("BTC").average_price == Decimal(100)
    await rig.crash()
    await rig.open()
    await rig.start()
    assert rig.balances() == rig.held(), "it is in the journal"


async def test_what_has_no_price_is_not_adopted(rig: WireRig) -> None:
    await rig.start()
    rig.wire.held["BTC"] = Decimal(1)
    await rig.set_state(TradingState.HALTED)
    await rig.until(lambda: rig.desk.state is TradingState.HALTED)
    reply = await rig.command("adopt")
    assert (reply.ok, "BTC has no price yet" in reply.detail) == (False, True)
    assert rig.balances() == {"USDT": Decimal(10_000)}


async def test_a_trade_by_hand_that_was_adopted_halts_no_more(rig: WireRig) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0)
    trade = rig.wire.trade_of_somebody()
    rig.wire.move(trade)
    rig.wire.tell(trade)
    await rig.until(lambda: rig.desk.halt_reason is not None)
    await rig.set_state(TradingState.HALTED)
    await rig.until(lambda: rig.desk.state is TradingState.HALTED)
    reply = await rig.command("adopt")
    assert reply.ok, reply.detail
    assert rig.balances() == rig.held()
    assert (await rig.command("reconcile")).detail == "books and venue agree", "the venue tells the trade again"


async def _within(rig: WireRig, seconds: float, done: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        await rig.until(done)

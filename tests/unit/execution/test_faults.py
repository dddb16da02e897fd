"""Process death at every named point, and a venue that loses, delays and garbles (A1-A6, B4, B5, D3-D9, E3)."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.execution.core.orders import client_order_id, new_order, request_of
from services.execution.faults import POINTS
from shared.bus import subjects
from shared.bus.streams import ORDERS
from shared.errors import UnavailableError
from shared.messages import OrderEvent, OrderState, Side, TradingState
from shared.testing.paper import HOUR_NS, bar, closed
from tests.unit.execution.rig import QUICK, Rig
from tests.unit.execution.samples import approve, intent
from tests.unit.execution.scripted import Act

STATES = OrderState
NO_RESEND = msgspec.structs.replace(QUICK, resend_same_id=False)
ORDER_POINTS = [point for point in POINTS if "cancel" not in point and "bar" not in point]
CANCEL_POINTS = [point for point in POINTS if "cancel" in point]


async def started(directory: Path, config: object = QUICK) -> Rig:
    rig = Rig(directory, config if isinstance(config, type(QUICK)) else QUICK)
    await rig.open()
    await rig.start()
    await rig.step(1, BTC=100.0, ETH=50.0)
    return rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = await started(tmp_path)
    yield rig
    await rig.assert_agreement()
    await rig.stop()


@pytest.fixture
async def careful(tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig for a venue that may execute one client order id twice: nothing is ever sent again."""
    rig = await started(tmp_path, NO_RESEND)
    yield rig
    await rig.assert_agreement()
    await rig.stop()


async def fault_free(directory: Path) -> list[tuple[str, OrderState, Decimal]]:
    rig = await started(directory)
    await trade(rig)
    found = told(await rig.events())
    await rig.stop()
    return found


async def trade(rig: Rig) -> None:
    await rig.approve(approve(intent(1, quote="1000")))
    await rig.settled(1)
    await rig.approve(approve(intent(2, side=Side.SELL, quantity="2.5")))
    await rig.settled(2)


def told(events: list[OrderEvent]) -> list[tuple[str, OrderState, Decimal]]:
    return [(event.event_id, event.state, event.filled_quantity) for event in events]


@pytest.mark.parametrize("point", ORDER_POINTS)
async def test_death_at_any_point_of_an_order_changes_nothing(point: str, tmp_path: Path) -> None:
    expected = await fault_free(tmp_path / "calm")
    rig = await started(tmp_path / "faulty")
    rig.fault = point
    await trade(rig)
    assert rig.fault is None
    assert told(await rig.events()) == expected
    assert len(await rig.venue.real.trades_since(0)) == 2
    assert rig.desk.books.ledger.sequence == 3
    await rig.assert_agreement()
    await rig.stop()


@pytest.mark.parametrize("point", CANCEL_POINTS)
async def test_death_during_a_cancel_still_cancels(point: str, rig: Rig) -> None:
    await rig.approve(approve(intent(1, limit="90")))
    await rig.settled(1, states=(STATES.ACCEPTED,))
    rig.fault = point
    await rig.set_state(TradingState.HALTED)
    assert await rig.settled(1) == [STATES.CANCELED]
    assert rig.fault is None
    assert await rig.venue.real.open_orders() == ()
    states = [event.state for event in await rig.events(1)]
    assert states == [STATES.SUBMITTED, STATES.ACCEPTED, STATES.PENDING_CANCEL, STATES.CANCELED]


async def test_death_between_a_bars_fill_and_its_booking_books_it_once(rig: Rig) -> None:
    await rig.approve(approve(intent(1, limit="90")))
    await rig.settled(1, states=(STATES.ACCEPTED,))
    rig.fault = "after_bar_before_booking"
    await rig.step(2, BTC=bar(2, 95.0, opening=96.0, high=97.0, low=85.0), ETH=50.0)
    assert await rig.settled(1) == [STATES.FILLED]
    assert rig.fault is None
    assert rig.desk.books.ledger.sequence == 2


async def test_an_order_filled_while_we_were_dead_is_booked_at_start(rig: Rig) -> None:
    await rig.approve(approve(intent(1, limit="90")))
    await rig.settled(1, states=(STATES.ACCEPTED,))
    await rig.venue.real.on_bar(bar(2, 95.0, opening=96.0, high=97.0, low=85.0))
    await rig.restart()
    assert await rig.settled(1) == [STATES.FILLED]


async def test_cancelling_a_filled_order_is_no_error(rig: Rig) -> None:
    await rig.approve(approve(intent(1, limit="90")))
    await rig.settled(1, states=(STATES.ACCEPTED,))
    async with rig.desk.turn:
        await rig.venue.real.on_bar(bar(2, 95.0, opening=96.0, high=97.0, low=85.0))
        order = rig.desk.books.open_orders()[0]
        assert (await rig.service._cancels.cancel(order, "too late")).state is STATES.FILLED
    assert await rig.settled(1) == [STATES.FILLED]


@pytest.mark.parametrize("act", [Act.LOSE_ANSWER, Act.GARBAGE_ANSWER, Act.TIMEOUT_AFTER])
async def test_an_answer_lost_after_the_venue_took_the_order_is_found_by_its_id(act: Act, careful: Rig) -> None:
    careful.venue.submits.append(act)
    await careful.approve(approve(intent(1, quote="1000")))
    assert await careful.settled(1) == [STATES.FILLED]
    assert [event.state for event in await careful.events(1)] == [STATES.SUBMITTED, STATES.UNKNOWN, STATES.FILLED]
    assert len(careful.venue.sent) == 1


async def test_a_venue_that_never_answers_is_given_up_on_in_time(tmp_path: Path) -> None:
    rig = await started(tmp_path, msgspec.structs.replace(NO_RESEND, venue_timeout_s=0.1))
    real_submit = rig.venue.real.submit

    async def hang(request: object) -> None:
        await real_submit(request)  # type: ignore[arg-type] - the real venue's own request is handed on
        await asyncio.Event().wait()

    rig.venue.submit = hang  # type: ignore[method-assign, assignment] - a fake that never answers
    await rig.approve(approve(intent(1, quote="1000")))
    assert await rig.settled(1) == [STATES.FILLED]
    await rig.assert_agreement()
    await rig.stop()


@pytest.mark.parametrize("act", [Act.LOSE_REQUEST, Act.UNAVAILABLE])
async def test_a_request_that_never_arrived_is_called_unconfirmed_after_many_misses(act: Act, careful: Rig) -> None:
    careful.venue.submits.append(act)
    await careful.approve(approve(intent(1, quote="1000")))
    assert await careful.settled(1) == [STATES.REJECTED_UNCONFIRMED]
    assert len(careful.venue.sent) == 1
    assert careful.venue.queries >= QUICK.misses_min
    assert careful.desk.books.ledger.sequence == 1


async def test_a_request_that_never_arrived_is_sent_again_under_the_same_id_where_that_is_safe(rig: Rig) -> None:
    rig.venue.submits.append(Act.LOSE_REQUEST)
    await rig.approve(approve(intent(1, quote="1000")))
    assert await rig.settled(1) == [STATES.FILLED]
    assert rig.venue.queries >= 1
    assert [request.client_order_id for request in rig.venue.sent] == [client_order_id("intent-1")] * 2


@pytest.mark.parametrize("safe", [True, False])
async def test_an_order_that_is_not_found_three_times_and_then_found_is_adopted(safe: bool, tmp_path: Path) -> None:
    config = msgspec.structs.replace(QUICK, resend_same_id=safe, misses_min=5)
    rig = await started(tmp_path, config)
    rig.venue.submits.append(Act.LOSE_ANSWER)
    rig.venue.hidden_queries = 3
    await rig.approve(approve(intent(1, quote="1000")))
    assert await rig.settled(1) == [STATES.FILLED]
    assert STATES.REJECTED_UNCONFIRMED not in [event.state for event in await rig.events(1)]
    assert len(await rig.venue.real.trades_since(0)) == 1
    await rig.assert_agreement()
    await rig.stop()


async def test_failed_questions_never_count_as_not_found(careful: Rig) -> None:
    careful.venue.submits.append(Act.LOSE_ANSWER)
    careful.venue.failing_queries = 20
    await careful.approve(approve(intent(1, quote="1000")))
    assert await careful.settled(1) == [STATES.FILLED]
    assert careful.venue.failing_queries == 0


async def test_an_order_found_after_it_was_given_up_is_cancelled_and_its_fills_booked(careful: Rig) -> None:
    careful.venue.submits.append(Act.LOSE_ANSWER)
    careful.venue.hidden_queries = 1_000_000
    await careful.approve(approve(intent(1, limit="90")))
    assert await careful.settled(1) == [STATES.REJECTED_UNCONFIRMED]
    careful.venue.hidden_queries = 0
    await careful.until(lambda: bool(careful.venue.cancelled))
    await careful.command("reconcile")
    assert await careful.venue.real.open_orders() == ()
    assert await careful.settled(1) == [STATES.REJECTED_UNCONFIRMED]


async def test_an_unknown_outcome_blocks_its_instrument_alone(careful: Rig) -> None:
    careful.venue.submits.append(Act.LOSE_ANSWER)
    careful.venue.failing_queries = 1_000_000
    await careful.approve(approve(intent(1, quote="1000")))
    await careful.settled(1, states=(STATES.UNKNOWN,))
    await careful.approve(approve(intent(2, quote="1000")))
    await careful.approve(approve(intent(3, quote="1000", instrument="ETH-USDT")))
    assert await careful.settled(2, 3) == [STATES.DENIED, STATES.FILLED]
    assert "unknown_outcome" in (await careful.events(2))[-1].reason
    snapshot = (await careful.snapshots())[-1]
    assert snapshot.open_orders == 1
    assert next(b for b in snapshot.balances if b.asset == "USDT").locked == 1000
    careful.venue.failing_queries = 0
    await careful.settled(1)


async def test_an_unknown_order_survives_a_restart_and_is_resolved_then(careful: Rig) -> None:
    careful.venue.submits.append(Act.LOSE_ANSWER)
    careful.venue.failing_queries = 1_000_000
    await careful.approve(approve(intent(1, quote="1000")))
    await careful.settled(1, states=(STATES.UNKNOWN,))
    await careful.restart()
    assert await careful.settled(1) == [STATES.FILLED]


async def test_an_order_is_not_sent_again_while_halted_or_after_its_approval_expired(tmp_path: Path) -> None:
    rig = await started(tmp_path)
    rig.fault = "after_journal_before_send"
    await rig.approve(approve(intent(1, quote="1000", expires_hour=1)))
    await rig.until(rig.crashed.is_set) if rig.fault else None
    async with asyncio.timeout(5):
        await rig.crashed.wait()
    await rig.set_state(TradingState.HALTED)
    await rig.restart()
    assert await rig.settled(1) == [STATES.REJECTED_UNCONFIRMED]
    assert rig.venue.sent == []
    await rig.assert_agreement()
    await rig.stop()


async def test_an_unconfirmed_cancel_stays_pending_and_is_asked_again(rig: Rig) -> None:
    await rig.approve(approve(intent(1, limit="90")))
    await rig.settled(1, states=(STATES.ACCEPTED,))
    rig.venue.cancels.extend([Act.LOSE_REQUEST, Act.TIMEOUT_AFTER])
    reply = await rig.command("cancel", f'{{"client_order_id": "{client_order_id("intent-1")}"}}')
    assert reply.ok
    assert "pending_cancel" in reply.detail
    assert await rig.settled(1) == [STATES.CANCELED]
    assert await rig.venue.real.open_orders() == ()


async def test_a_venue_that_is_down_at_start_delays_orders_and_loses_none(tmp_path: Path) -> None:
    rig = await started(tmp_path)
    await rig.approve(approve(intent(1, limit="90")))
    await rig.settled(1, states=(STATES.ACCEPTED,))
    await rig.crash()
    await rig.approve(approve(intent(2, quote="1000")))

    async def down() -> tuple[()]:
        raise UnavailableError("scripted: connection refused")

    await rig.start(lambda venue: setattr(venue, "balances", down))
    await rig.until(lambda: bool(rig.service._submission._waiting_since_ns))
    assert not rig.desk.is_reconciled
    assert rig.venue.sent == []
    del rig.venue.balances  # type: ignore[method-assign] - the script ends
    assert await rig.settled(2) == [STATES.FILLED]
    await rig.assert_agreement()
    await rig.stop()


async def test_a_balance_that_the_ledger_cannot_explain_halts_and_sends_nothing(rig: Rig) -> None:
    rig.venue.extra_balance = {"USDT": Decimal("0.00000001")}
    await rig.command("reconcile")
    halts = await rig.halts()
    assert len(halts) == 1
    assert "USDT at the venue 10000.00000001, booked 10000" in halts[0].reason
    await rig.set_state(TradingState.ACTIVE)
    await rig.approve(approve(intent(1, quote="1000")))
    assert await rig.settled(1) == [STATES.DENIED]
    assert rig.desk.books.ledger.sequence == 1
    await rig.restart()
    assert await rig.settled(1) == [STATES.DENIED]


async def test_a_balance_mismatch_is_found_at_start_before_any_order(tmp_path: Path) -> None:
    rig = await started(tmp_path)
    await rig.crash()
    await rig.approve(approve(intent(1, quote="1000")))
    await rig.start(lambda venue: venue.extra_balance.update(BTC=Decimal("-0.5"), USDT=Decimal(50)))
    assert await rig.settled(1) == [STATES.DENIED]
    assert rig.venue.sent == []
    assert len(await rig.halts()) == 1
    await rig.stop()


async def test_a_second_reconciliation_finds_nothing_to_do(rig: Rig) -> None:
    await trade(rig)
    before = (rig.journal.event_count(), rig.desk.books.ledger.sequence, len(rig.venue.sent))
    for _ in range(2):
        reply = await rig.command("reconcile")
        assert reply.detail == "books and venue agree"
    assert (rig.journal.event_count(), rig.desk.books.ledger.sequence, len(rig.venue.sent)) == before
    assert len(await rig.events()) == before[0]


async def test_a_venue_that_overfills_halts_and_keeps_halting_until_a_person_looked(tmp_path: Path) -> None:
    rig = await started(tmp_path)
    real_submit = rig.venue.real.submit

    async def too_much(request: object) -> object:
        order = await real_submit(request)  # type: ignore[arg-type] - the real venue's own request is handed on
        fill = msgspec.structs.replace(order.fills[0], fill_id="extra", quantity=Decimal(3))
        return msgspec.structs.replace(order, fills=(*order.fills, fill))

    rig.venue.submit = too_much  # type: ignore[method-assign, assignment] - a fake that lies
    await rig.approve(approve(intent(1, quantity="2")))
    await rig.until(lambda: rig.desk.halt_reason is not None)
    await rig.approve(approve(intent(2, quantity="1")))
    assert await rig.settled(2) == [STATES.DENIED]
    assert "overfilled" in (await rig.halts())[0].reason
    await rig.restart()
    assert rig.desk.halt_reason is not None
    reply = await rig.command("reconcile", '{"resolve_incidents": true}')
    assert reply.detail == "books and venue agree"
    await rig.set_state(TradingState.ACTIVE)
    await rig.approve(approve(intent(3, quantity="1")))
    assert await rig.settled(3) == [STATES.FILLED]
    await rig.assert_agreement()
    await rig.stop()


async def test_a_trade_of_no_order_of_ours_halts_and_is_not_booked(tmp_path: Path) -> None:
    rig = await started(tmp_path)
    foreign = request_of(new_order(approve(intent(9, quantity="1"))))
    await rig.venue.real.submit(msgspec.structs.replace(foreign, client_order_id="somebody-else"))
    await rig.restart()
    assert rig.desk.books.ledger.sequence == 1
    await rig.approve(approve(intent(1, quote="1000")))
    assert await rig.settled(1) == [STATES.DENIED]
    assert "no order of ours" in (await rig.halts())[0].reason
    await rig.stop()


async def test_the_bus_going_away_delays_events_and_loses_none(rig: Rig) -> None:
    rig.host.bus.disconnect()
    await rig.approve(approve(intent(1, quote="1000")))
    assert await rig.events(1) == []
    rig.host.bus.reconnect()
    await rig.settled(1)
    events = await rig.events(1)
    assert [event.state for event in events] == [STATES.SUBMITTED, STATES.FILLED]


async def test_events_are_stored_in_the_order_they_happened(rig: Rig) -> None:
    rig.fault = "after_outcome_before_publish"
    await trade(rig)
    stored = await rig.messages(ORDERS, OrderEvent)
    first_time = list(dict.fromkeys(event.event_id for event in stored))
    with_seq = [event.event_id for event in (await rig.events())]
    assert first_time == with_seq
    sequences = [event.ledger_sequence for event in await rig.events()]
    assert sequences == sorted(sequences)


def written(directory: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in directory.iterdir() if not file.name.endswith("-shm")}


def put_back(directory: Path, disk: dict[Path, bytes]) -> None:
    for file in directory.iterdir():
        file.unlink()
    for file, content in disk.items():
        file.write_bytes(content)


async def test_bars_that_a_power_cut_took_come_back_at_the_end_of_their_step(rig: Rig, tmp_path: Path) -> None:
    disk = written(tmp_path)
    # The second bar is handled, so the first one is acknowledged: it is not delivered again.
    await rig.bars(2, BTC=200.0, ETH=60.0)
    await rig.until(lambda: len(rig.desk.books.marks()) == 2 and rig.desk.books._marks["ETH-USDT"][1] == 2 * HOUR_NS)
    await rig.crash()
    put_back(tmp_path, disk)
    await rig.start()
    assert rig.desk.books._marks["BTC-USDT"] == (Decimal(100), HOUR_NS)
    end = closed(2, "BTC-USDT", "ETH-USDT")
    await rig.outside.publish(subjects.bars_closed("1h", "paper"), end, message_id="closed-2")
    await rig.approve(approve(intent(1, quote="1000", hour=2)))
    assert await rig.settled(1) == [STATES.FILLED]
    fill = (await rig.events(1))[-1].fill
    assert fill is not None
    assert fill.price > 200
    assert (await rig.snapshots())[-1].equity_usdt is not None

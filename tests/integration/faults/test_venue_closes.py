"""A venue that pauses, delists or redenominates a market, or is under maintenance: nothing is sent there, what rests
is known, everybody is told why, and trading goes on when it can.

Market data, risk, execution, adapters and wire are real, the sandbox's ledger is the truth.
"""

from decimal import Decimal
from pathlib import Path

import pytest

from services.sandbox_exchange.core.faults import FaultName as F
from shared.messages import OrderRefused, RefusalCode
from shared.messages import OrderState as S
from tests.integration.faults.rig import CREATE, TOKEN, VENUES
from tests.integration.faults.stack_rig import StackRig, stack_rig

pytestmark = pytest.mark.timeout(120)


async def is_refused_as_frozen(rig: StackRig, number: int, words: str) -> None:
    """Hold that risk refuses an order with the reason, in the verdict and in the journal, and nothing is sent."""
    sent = rig.requests_of(CREATE)
    refused = await rig.ask(number, "quote")
    assert isinstance(refused, OrderRefused)
    assert refused.code is RefusalCode.INSTRUMENT_FROZEN
    assert words in refused.detail
    assert words in await rig.journal_notes(number)
    assert rig.requests_of(CREATE) == sent


async def trades_again(rig: StackRig, first: int) -> None:
    """Hold that an order fills; the account's side may learn some seconds later than the market's that it can."""
    for number in range(first, first + 20):
        state = await rig.ask(number, "quote")
        if state is not S.REJECTED:
            assert state is S.FILLED, rig.order(number)
            return
        assert "market_closed" in rig.order(number).reason
        await rig.step_on()
    pytest.fail("the market trades, and no order is sent")


@pytest.mark.parametrize("action", ["pause", "cancel_only"])
@pytest.mark.parametrize("venue", VENUES)
async def test_nothing_is_sent_into_a_paused_market_and_what_rests_there_is_known(
    venue: str, action: str, tmp_path: Path
) -> None:
    async with stack_rig(venue, tmp_path) as rig:
        assert await rig.ask(1, "quote") is S.FILLED
        assert await rig.ask(2, "limit") is S.ACCEPTED
        rig.change(action)
        await rig.until(lambda: rig.is_frozen("not trading"))
        await is_refused_as_frozen(rig, 3, "not trading")
        await rig.restart()
        await rig.until(lambda: rig.desk.is_reconciled)
        assert (await rig.command("reconcile")).detail == "books and venue agree"
        assert [order.intent.intent_id for order in rig.desk.books.open_orders()] == ["intent-2"]
        assert rig.desk.halt_reason is None
        rig.change("resume")
        await rig.until_open()
        assert rig.order(2).state is S.ACCEPTED
        await trades_again(rig, 10)
        assert await rig.cancel(2) is S.CANCELED
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize("venue", VENUES)
async def test_an_order_that_was_approved_before_the_pause_is_refused_by_the_venue_and_halts_nothing(
    venue: str, tmp_path: Path
) -> None:
    async with stack_rig(venue, tmp_path) as rig:
        rig.change("pause")
        state = await rig.ask(1, "quote")
        if not isinstance(state, OrderRefused):
            assert state is S.REJECTED
            assert "market_closed" in rig.order(1).reason
        await rig.until(lambda: rig.is_frozen("not trading"))
        assert rig.desk.halt_reason is None
        rig.change("resume")
        await rig.until_open()
        await trades_again(rig, 10)
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize("venue", VENUES)
async def test_a_delisted_market_takes_no_order_and_its_cancelled_ones_are_known(venue: str, tmp_path: Path) -> None:
    async with stack_rig(venue, tmp_path) as rig:
        assert await rig.ask(1, "quote") is S.FILLED
        assert await rig.ask(2, "limit") is S.ACCEPTED
        rig.arm(F.REPORT_DROP, times=None)  # nobody tells; it must be found
        rig.change("delist")
        assert (await rig.settled(2))[0] in (S.CANCELED, S.EXPIRED)
        await rig.until(lambda: rig.is_frozen("the venue"))
        await is_refused_as_frozen(rig, 3, "the venue")
        assert (await rig.command("reconcile")).detail == "books and venue agree"
        assert rig.desk.halt_reason is None
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize("venue", VENUES)
async def test_maintenance_sends_nothing_loses_nothing_and_is_over_when_it_is(venue: str, tmp_path: Path) -> None:
    async with stack_rig(venue, tmp_path) as rig:
        assert await rig.ask(1, "quote") is S.FILLED
        assert await rig.ask(2, "limit") is S.ACCEPTED
        rig.arm(F.MAINTENANCE, times=None)
        await rig.until(lambda: rig.is_frozen("maintenance"))
        await rig.until(lambda: not rig.desk.is_reconciled)
        await is_refused_as_frozen(rig, 3, "maintenance")
        rig.hit(2)  # the last match before the doors closed
        rig.faults.disarm()
        await rig.until_open()
        assert (await rig.settled(2))[0] is S.FILLED
        assert len(rig.ledger().orders) == 2, "nothing was caught up on"
        await trades_again(rig, 10)
        assert rig.desk.halt_reason is None
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize("venue", VENUES)
async def test_a_redenomination_freezes_and_halts_with_its_reasons_until_a_person_has_looked(
    venue: str, tmp_path: Path
) -> None:
    async with stack_rig(venue, tmp_path) as rig:
        assert await rig.ask(1, "quote") is S.FILLED
        assert await rig.ask(2, "limit") is S.ACCEPTED
        held = rig.ledger().holding("BTC").free
        rig.factor = Decimal(10)
        rig.change("redenominate", "10")
        rig.restock()
        assert (await rig.settled(2))[0] in (S.CANCELED, S.EXPIRED)
        reason = await rig.until_halted()
        assert "BTC at the venue" in reason
        assert "cascade adopt" in reason
        await rig.until(lambda: rig.is_frozen(""))
        await rig.until(lambda: TOKEN in rig.risk.report().frozen)
        why = rig.risk.report().frozen[TOKEN]
        assert any(character.isdigit() for character in why), why
        assert len(rig.ledger().orders) == 2
        reply = await rig.command("adopt")
        assert reply.ok, reply.detail
        assert rig.desk.books.ledger.balance("BTC") == held / 10
        assert (await rig.tell_risk("resume", "the swap was seen")).ok
        await is_refused_as_frozen(rig, 3, why)
        assert (await rig.release()).ok
        await rig.until_open()
        # Until the first bar on the new price an order could only be bounded by the old one, and would not fill.
        await rig.until(lambda: rig.desk.books.marks().get(TOKEN, 0) > 5 * rig.last_price)
        await rig.until_open()
        await trades_again(rig, 10)
        booked = rig.desk.books.ledger.balances()
        for asset in ("USDT", "BTC"):
            truth = rig.ledger().holding(asset)
            assert truth.free + truth.locked == booked[asset]

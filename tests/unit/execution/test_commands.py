from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from services.execution.core.orders import client_order_id
from shared.bus.streams import AUDIT
from shared.messages import CommandAudit, OrderState, TradingState
from tests.unit.execution.rig import Rig
from tests.unit.execution.samples import approve, intent


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.open()
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quote="1000")))
    await rig.approve(approve(intent(2, limit="90")))
    await rig.approve(approve(intent(3, limit="80")))
    await rig.settled(1, 2, 3, states=(OrderState.ACCEPTED,))
    yield rig
    await rig.stop()


async def rows(rig: Rig, arguments: str) -> list[tuple[str, str]]:
    reply = await rig.command("orders", arguments)
    assert reply.ok
    return [(row["intent_id"], row["state"]) for row in msgspec.json.decode(reply.result)]


async def test_orders_are_listed_newest_first_or_open_only(rig: Rig) -> None:
    everything = [("intent-3", "accepted"), ("intent-2", "accepted"), ("intent-1", "filled")]
    assert await rows(rig, "{}") == everything
    assert await rows(rig, '{"limit": 1}') == everything[:1]
    assert await rows(rig, '{"open": true, "limit": 10}') == [("intent-2", "accepted"), ("intent-3", "accepted")]


async def test_balances_show_every_digit(rig: Rig) -> None:
    shown = msgspec.json.decode((await rig.command("balances")).result)
    usdt = next(balance for balance in shown["balances"] if balance["asset"] == "USDT")
    held = {balance.asset: balance for balance in await rig.venue.real.balances()}["USDT"]
    assert (usdt["free"], usdt["locked"]) == (str(held.free), str(held.locked))
    assert shown["positions"][0]["instrument"] == "BTC-USDT"


async def test_status_says_how_execution_stands(rig: Rig) -> None:
    status = msgspec.json.decode((await rig.command("status")).result)
    assert (status["trading_state"], status["reconciled"], status["open_orders"]) == ("active", True, 2)


async def test_one_order_is_cancelled_even_while_halted_and_the_command_is_audited(rig: Rig) -> None:
    arguments = f'{{"client_order_id": "{client_order_id("intent-2")}"}}'
    reply = await rig.command("cancel", arguments)
    assert reply.ok
    assert reply.detail == "the order is canceled"
    again = await rig.command("cancel", arguments)
    assert again.detail == "the order is canceled"
    await rig.set_state(TradingState.HALTED)
    assert await rig.settled(3) == [OrderState.CANCELED]
    audits = await rig.messages(AUDIT, CommandAudit)
    assert [(audit.service, audit.command.verb, audit.command.user) for audit in audits] == [
        ("execution", "cancel", "alex")
    ] * 2


async def test_all_orders_are_cancelled(rig: Rig) -> None:
    reply = await rig.command("cancel_all")
    assert reply.detail == "2 cancelled, 0 still open"
    assert await rig.settled(2, 3) == [OrderState.CANCELED] * 2
    assert (await rig.snapshots())[-1].open_orders == 0


async def test_a_command_that_cannot_be_audited_does_not_act(rig: Rig) -> None:
    rig.broker.streams.pop(AUDIT)
    reply = await rig.command("cancel_all")
    assert not reply.ok
    assert len(await rig.venue.real.open_orders()) == 2


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("orders", '{"opne": true}'),
        ("orders", '{"limit": "many"}'),
        ("orders", "no json"),
        ("cancel", "{}"),
        ("cancel", '{"client_order_id": "unheard of"}'),
        ("cancel_all", '{"except": "this"}'),
        ("reconcile", "[]"),
    ],
)
async def test_a_command_that_is_not_understood_is_refused_with_a_reason(rig: Rig, verb: str, arguments: str) -> None:
    reply = await rig.command(verb, arguments)
    assert not reply.ok
    assert reply.detail
    assert "could not carry this out" not in reply.detail
    assert len(await rig.venue.real.open_orders()) == 2

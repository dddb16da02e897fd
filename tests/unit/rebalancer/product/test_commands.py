"""Operator commands over the bus: audited first, answered always, carried out once."""

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest

from services.rebalancer.__main__ import build
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Status
from services.rebalancer.telemetry import Telemetry
from shared.bus import subjects
from shared.bus.streams import AUDIT, RISK
from shared.errors import BusUnavailableError, ConfigError
from shared.messages import Command, CommandAudit, CommandReply, RiskState, TradingState
from shared.metrics import Metrics
from tests.unit.rebalancer.test_service import ASSETS, FLAT, PUMP, Stack, runtime, stack, until

D = Decimal


async def trading(made: Stack, state: TradingState) -> None:
    message = RiskState(state, "test", "test", "", 0)
    await made.bus.publish(subjects.RISK_STATE, message, message_id=f"risk-{state}-{len(made.progress)}")


async def ask(made: Stack, verb: str, *, identity: str = "id-1", reason: str = "why not") -> CommandReply:
    command = Command(verb, "ann", reason, identity, "{}", 0)
    reply = await made.bus.request(subjects.command("rebalancer", verb), command)
    assert isinstance(reply, CommandReply)
    assert reply.correlation_id == identity
    return reply


async def audits(made: Stack) -> list[str]:
    stored = await made.bus.history(AUDIT, "audit.rebalancer")
    return [each.message.command.verb for each in stored if isinstance(each.message, CommandAudit)]


async def test_rebalance_now_is_audited_and_carried_out_at_the_next_close() -> None:
    async with stack() as made:
        await trading(made, TradingState.ACTIVE)
        await made.launch()
        await made.reached(await made.market(FLAT))
        await made.reached(await made.market(FLAT | {"A-USDT": "1.3"}))
        before = len(await made.intents())
        reply = await ask(made, "rebalance")
        assert reply.ok
        assert "next closed bars" in reply.detail
        assert await audits(made) == ["rebalance"]
        assert len(await made.intents()) == before
        await made.reached(await made.market(FLAT | {"A-USDT": "1.3"}))
        sides = [intent.side.value for intent in (await made.intents())[before:]]
        assert sides == ["sell", "buy", "buy", "buy"]
        again = await ask(made, "rebalance")
        assert again.ok
        assert "taken before" in again.detail
        await made.reached(await made.market(FLAT | {"A-USDT": "1.3"}))
        assert len(await made.intents()) == before + 4
        assert "asked by ann: why not" in next(r for r in await made.records() if r.action == "rebalance").notes[0]


@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.REDUCING, None])
async def test_rebalance_is_refused_unless_trading_is_active(state: TradingState | None) -> None:
    async with stack() as made:
        if state is not None:
            await trading(made, state)
        service = await made.launch()
        await made.reached(await made.market(FLAT))
        reply = await ask(made, "rebalance")
        assert not reply.ok
        assert ("not known" if state is None else state.value.upper()) in reply.detail
        assert service.state.request is None
        assert await audits(made) == ["rebalance"]
        assert (await made.bus.last(RISK, subjects.RISK_STATE) is None) == (state is None)


async def test_rebalance_is_refused_while_a_plan_is_under_way() -> None:
    async with stack() as made:
        await trading(made, TradingState.ACTIVE)
        service = await made.launch()
        await made.reached(await made.market(FLAT))
        made.gate.clear()
        at_ns = await made.market(PUMP)
        await until(lambda: service.state.last_close_ns == at_ns)
        reply = await ask(made, "rebalance")
        assert not reply.ok
        assert "is under way" in reply.detail
        made.gate.set()
        await made.reached(at_ns)


async def test_command_that_cannot_be_audited_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stack() as made:
        await trading(made, TradingState.ACTIVE)
        service = await made.launch()
        await made.reached(await made.market(FLAT))
        bus = made.services[0][1]
        publish = bus.publish

        async def no_audit(subject: str, *rest: object, **how: object) -> object:
            if subject.startswith("audit."):
                raise BusUnavailableError("the disk is full")
            return await publish(subject, *rest, **how)

        monkeypatch.setattr(bus, "publish", no_audit)
        for verb in ("rebalance", "pause", "resume"):
            reply = await ask(made, verb)
            assert not reply.ok
            assert "cannot be audited" in reply.detail
        assert service.state.request is None
        assert service.state.paused is None


async def test_command_without_a_reason_or_of_another_verb_is_refused() -> None:
    async with stack() as made:
        await made.launch()
        assert "needs user, reason" in (await ask(made, "pause", reason=" ")).detail
        wrong = Command("resume", "ann", "x", "id", "{}", 0)
        reply = await made.bus.request(subjects.command("rebalancer", "pause"), wrong)
        assert isinstance(reply, CommandReply)
        assert not reply.ok
        assert await audits(made) == []


async def test_request_and_pause_survive_a_restart() -> None:
    async with stack() as made:
        await trading(made, TradingState.ACTIVE)
        first = await made.launch()
        await made.reached(await made.market(FLAT))
        await made.reached(await made.market(FLAT | {"A-USDT": "1.3"}))
        assert (await ask(made, "rebalance")).ok
        await first.drain()
        second = await made.launch()
        assert second.state.request is not None
        await made.reached(await made.market(FLAT | {"A-USDT": "1.3"}))
        assert [r.action for r in await made.records()].count("rebalance") >= 1
        assert (await ask(made, "pause", identity="p")).ok
        await second.drain()
        third = await made.launch()
        assert third.state.paused is not None
        reply = await ask(made, "status", identity="s")
        assert "paused by ann: why not" in reply.detail


async def test_status_is_enough_for_a_preview_elsewhere() -> None:
    async with stack() as made:
        await trading(made, TradingState.ACTIVE)
        await made.launch()
        empty = msgspec.json.decode((await ask(made, "status")).result, type=Status)
        assert empty.portfolio is None
        await made.reached(await made.market(FLAT))
        status = msgspec.json.decode((await ask(made, "status")).result, type=Status)
        assert status.trading_state == "active"
        assert status.portfolio is not None
        assert status.portfolio.quantities == made.venue.quantities
        assert status.portfolio.prices == dict.fromkeys(ASSETS, D("1.0"))
        assert status.portfolio.usdt == made.venue.usdt
        assert status.params.config == RebalanceConfig(assets=ASSETS)
        assert await audits(made) == []


async def test_volume_weights_come_from_the_bars_also_after_a_restart_within_a_step() -> None:
    config = RebalanceConfig(assets=ASSETS, trigger="absolute_band", target_mode="volume", lookback_bars=2)
    async with stack() as made:
        first = await made.launch(config)
        await made.reached(await made.market(FLAT))
        await made.market(FLAT | {"A-USDT": 3}, only_bars=True)
        await first.drain()
        second = await made.launch(config)
        await made.reached(await made.market(FLAT | {"A-USDT": 3}, only_end=True))
        # The bars tell no quote volume: one base unit at the close stands for it.
        assert second.state.past.volumes == ((1.0,) * 4, (3.0, 1.0, 1.0, 1.0))
        weights = [made.venue.quantities[asset] * (3 if asset == "A-USDT" else 1) for asset in ASSETS]
        assert float(weights[0] / weights[1]) == pytest.approx(2, abs=0.01)


async def test_cost_and_standing_against_holding_are_metrics() -> None:
    async with stack() as made:
        metrics = Metrics("rebalancer")
        service = await made.launch()
        service._telemetry = Telemetry(metrics)
        for prices in (FLAT, FLAT, PUMP):
            await made.reached(await made.market(prices))
        page = generate_latest(metrics.registry).decode()
        values = dict(line.split(" ") for line in page.splitlines() if line.startswith("cascade_rebalancer_"))
        fees = float(values["cascade_rebalancer_fees_usdt_total"])
        assert fees == pytest.approx(float(made.venue.fees), rel=1e-3)
        assert float(values["cascade_rebalancer_hold_usdt"]) == pytest.approx(3000 + 1748.25 * 5)
        ratio = float(values["cascade_rebalancer_equity_usdt"]) / float(values["cascade_rebalancer_hold_usdt"]) - 1
        assert float(values["cascade_rebalancer_advantage_ratio"]) == pytest.approx(ratio)
        assert float(values["cascade_rebalancer_paused"]) == 0


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ('{"A": 5, "B": 3, "C": 2, "D": 1}', ""),
        ("market,weight\nA,5\nB,3\nC,2\nD,1\n", ""),
        ("nonsense", "write a JSON object"),
        ("{", "no JSON at line 1"),
        ('{"A": 5}', "leaves out B-USDT"),
        (None, "name a file"),
    ],
)
async def test_weights_file_is_read_at_the_start(tmp_path: Path, text: str | None, fix: str) -> None:
    path = tmp_path / "caps.json"
    if text is not None:
        path.write_text(text)
    given = ("target_mode=market_cap", "trigger=calendar", f"weights_file={path}")
    overrides = ("stack.assets=AUSDT,BUSDT,CUSDT,DUSDT", *(f"rebalancer.{each}" for each in given))
    made = runtime(*overrides)
    if fix:
        with pytest.raises(ConfigError, match=fix):
            await build(made)
        return
    service = await build(made)
    assert service._params.config.given("target_weights", "A-USDT") == 5
    assert json.loads(msgspec.json.encode(service._params.config))["target_mode"] == "market_cap"


@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.REDUCING])
async def test_no_plan_is_opened_while_trading_is_not_active(state: TradingState) -> None:
    async with stack() as made:
        await trading(made, TradingState.ACTIVE)
        await made.launch()
        await made.reached(await made.market(FLAT))
        before = await made.intents()
        await trading(made, state)
        for _ in range(2):
            await made.reached(await made.market(PUMP))
        assert await made.intents() == before
        last = (await made.records())[-1]
        assert last.action == "none"
        assert last.notes == (f"trading is {state.value.upper()} by test (test): no plan until it is resumed",)
        await trading(made, TradingState.ACTIVE)
        await made.reached(await made.market(PUMP))
        # Nothing cooled down meanwhile: the asset fires at the first close that it may.
        assert next(intent.instrument for intent in (await made.intents())[len(before) :]) == "A-USDT"
        assert (await made.records())[-1].action == "upside"


async def test_a_halt_from_before_the_start_is_in_force_and_its_missed_end_is_found() -> None:
    async with stack() as made:
        await trading(made, TradingState.HALTED)
        service = await made.launch()
        await made.reached(await made.market(FLAT))
        assert not await made.intents()
        # As if the connection had been down when trading was resumed.
        await service._subscriptions[0].stop()
        await trading(made, TradingState.ACTIVE)
        await made.reached(await made.market(FLAT))
        assert len(await made.intents()) == 4


async def test_a_plan_under_way_is_finished_though_trading_is_halted_meanwhile() -> None:
    async with stack() as made:
        await trading(made, TradingState.ACTIVE)
        await made.launch()
        await made.reached(await made.market(FLAT))
        made.gate.clear()
        at_ns = await made.market(PUMP)
        await until(lambda: made.services[0][0].state.plan is not None)
        await trading(made, TradingState.HALTED)
        made.gate.set()
        await made.reached(at_ns)
        assert [intent.side.value for intent in (await made.intents())[4:]] == ["sell", "buy", "buy", "buy"]


async def test_before_risk_reports_a_state_plans_are_opened_and_risk_judges() -> None:
    async with stack() as made:
        await made.launch()
        await made.reached(await made.market(FLAT))
        assert len(await made.intents()) == 4

"""The trading state on a bus: obeyed at once, kept over kills, announced always, loosened only by a person."""

from pathlib import Path

import pytest

from services.risk import peers
from shared.bus import subjects
from shared.bus.streams import AUDIT, RISK
from shared.errors import BusUnavailableError
from shared.messages import (
    CommandAudit,
    Heartbeat,
    OrderApproved,
    RefusalCode,
    RiskHalt,
    RiskState,
    TradingState,
    schema_hash,
)
from tests.unit.risk.stage import CrashingBus, Stage
from tests.unit.risk.test_service import settle, staged
from tests.unit.risk.worlds import D, closed, intent

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED


def announced(stage: Stage) -> list[TradingState]:
    return [one.state for one in stage.stored(RISK, subjects.RISK_STATE) if isinstance(one, RiskState)]


async def test_a_first_start_is_active_and_says_so(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    [state] = stage.stored(RISK, subjects.RISK_STATE)
    assert isinstance(state, RiskState)
    assert (state.state, state.changed_by, state.reason) == (ACTIVE, "risk", "first start")
    await stage.stop()


async def test_a_first_start_with_real_money_is_halted(tmp_path: Path) -> None:
    stage = await staged(tmp_path, start_active=False)
    assert announced(stage) == [HALTED]
    assert (await stage.command("resume")).ok
    assert announced(stage) == [HALTED, ACTIVE]
    await stage.stop()


def beat(service: str, spoken: str) -> Heartbeat:
    return Heartbeat(service, "0", "build-7", spoken, 7, ready=True, detail="running", started_at_ns=1, sent_at_ns=2)


@pytest.mark.parametrize("verb", ["resume", "reduce"])
async def test_real_money_stays_halted_while_a_service_speaks_another_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(peers, "HEARD_AFTER_S", 0.0)
    stage = await staged(tmp_path, start_active=False, is_real_money=True)
    for service, spoken in (("rebalancer", "0ld0ld"), ("execution", schema_hash()), ("recorder", "0lder0")):
        stage.outside.publish_lossy(subjects.heartbeat(service, "0"), beat(service, spoken))
    await settle()
    reply = await stage.command(verb)
    assert not reply.ok
    assert f"risk's {schema_hash()} speak rebalancer 0ld0ld, recorder 0lder0." in reply.detail
    assert announced(stage) == [HALTED]
    assert [one.command.verb for one in stage.stored(AUDIT, subjects.audit("risk"))] == [verb]  # type: ignore[union-attr]
    assert (await stage.command("halt")).ok  # stopping depends on nobody
    for service in ("rebalancer", "recorder"):
        stage.outside.publish_lossy(subjects.heartbeat(service, "0"), beat(service, schema_hash()))
    await settle()
    assert (await stage.command(verb)).ok
    await stage.stop()


async def test_made_up_money_is_resumed_whatever_others_speak(tmp_path: Path) -> None:
    stage = await staged(tmp_path, start_active=False)
    stage.outside.publish_lossy(subjects.heartbeat("rebalancer", "0"), beat("rebalancer", "0ld0ld"))
    await settle()
    assert (await stage.command("resume")).ok
    await stage.stop()


def test_a_service_that_has_gone_speaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(peers, "monotonic_ns", lambda: int(now_s[0] * 1e9))
    heard = peers.Peers()
    heard.on_heartbeat(beat("rebalancer", "0ld0ld"))
    assert heard.strangers() == "rebalancer 0ld0ld"
    now_s[0] += peers.GONE_AFTER_S + 0.1
    assert heard.strangers() == ""


async def test_a_halt_refuses_everything_and_outlives_a_kill(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    reply = await stage.command("halt", reason="drill")
    assert reply.ok
    assert "drill" in reply.detail
    stage.kill_risk()
    await stage.start_risk()
    await stage.intend(intent())
    await stage.until_judged(1)
    assert stage.verdicts()["intent-1"][0].code is RefusalCode.TRADING_HALTED  # type: ignore[union-attr]
    assert (await stage.command("resume", reason="drill is over")).ok
    await stage.intend(intent("intent-2"))
    await stage.until_judged(2)
    assert isinstance(stage.verdicts()["intent-2"][0], OrderApproved)
    await stage.stop()


@pytest.mark.parametrize(("user", "reason"), [("ann", ""), ("ann", "  "), ("", "why")])
@pytest.mark.parametrize("verb", ["resume", "reduce"])
async def test_loosening_without_a_name_or_a_reason_is_refused(
    tmp_path: Path, verb: str, user: str, reason: str
) -> None:
    stage = await staged(tmp_path)
    await stage.command("halt")
    reply = await stage.command(verb, reason=reason, user=user)
    assert not reply.ok
    assert stage.service.report().state is HALTED
    assert announced(stage) == [ACTIVE, HALTED]
    await stage.stop()


async def test_reducing_lets_only_sells_pass(tmp_path: Path) -> None:
    from shared.messages import Side

    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    assert (await stage.command("reduce")).ok
    await stage.intend(intent(), intent("sell", Side.SELL), intent("much", Side.SELL, quantity=D("1.5")))
    await stage.until_judged(3)
    verdicts = stage.verdicts()
    assert verdicts["intent-1"][0].code is RefusalCode.TRADING_REDUCING  # type: ignore[union-attr]
    assert isinstance(verdicts["sell"][0], OrderApproved)
    assert verdicts["much"][0].code is RefusalCode.TRADING_REDUCING  # type: ignore[union-attr]
    await stage.stop()


async def test_commands_are_audited_before_they_act_and_status_is_not(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    assert (await stage.command("status")).ok
    await stage.command("halt", reason="drill")
    await stage.command("resume", reason="")
    audits = stage.stored(AUDIT, "audit.risk")
    assert [one.command.verb for one in audits if isinstance(one, CommandAudit)] == ["halt", "resume"]
    await stage.stop()


class NoAudit(CrashingBus):
    """Refuse to store audits, as a full stream would."""

    async def publish(self, subject, message, *, message_id, timeout_s=5.0):  # type: ignore[no-untyped-def] - as in the port
        if subject.startswith("audit."):
            raise BusUnavailableError("no audit")
        return await super().publish(subject, message, message_id=message_id, timeout_s=timeout_s)


async def test_without_an_audit_a_halt_acts_and_a_resume_does_not(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    stage.bus.__class__ = NoAudit
    halted = await stage.command("halt", reason="fire")
    assert halted.ok
    assert "audit" in halted.detail
    assert not (await stage.command("resume", reason="please")).ok
    assert not (await stage.command("reduce", reason="please")).ok
    assert stage.service.report().state is HALTED
    await stage.stop()


async def test_a_demanded_halt_is_obeyed_and_not_repeated_after_a_resume(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.send(subjects.RISK_HALT, RiskHalt("execution", "balances differ", "c-9", 5), "halt-1")
    await stage.until(lambda: announced(stage) == [ACTIVE, HALTED])
    assert (await stage.command("resume", reason="understood")).ok
    await stage.send(subjects.RISK_HALT, RiskHalt("execution", "balances differ", "c-9", 5), "the same again")
    await settle()
    assert stage.service.report().state is ACTIVE
    await stage.send(subjects.RISK_HALT, RiskHalt("execution", "again", "c-10", 6), "halt-2")
    await stage.until(lambda: stage.service.report().state is HALTED)
    assert stage.service.report().changed_by == "execution"
    await stage.stop()


async def test_a_second_halt_is_answered_announced_and_kept_with_both_reasons(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.command("halt", reason="drill")
    await stage.send(subjects.RISK_HALT, RiskHalt("execution", "balances differ", "c-9", 5), "halt-1")
    await stage.until(lambda: len(announced(stage)) == 3)
    reply = await stage.command("halt", reason="the office burns")
    assert reply.detail.endswith("drill; also execution: balances differ; also ann: the office burns")
    assert announced(stage) == [ACTIVE, HALTED, HALTED, HALTED]
    stage.kill_risk()
    await stage.start_risk()
    report = stage.service.report()
    assert (report.state, report.changed_by) == (HALTED, "ann")
    assert "balances differ" in report.reason
    assert "the office burns" in report.reason
    await stage.stop()


async def test_whatever_comes_as_a_halt_halts(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.send(subjects.RISK_HALT, closed(), "odd")
    await stage.until(lambda: stage.service.report().state is HALTED)
    await stage.stop()


@pytest.mark.parametrize("after", [False, True])
async def test_a_kill_between_halting_and_announcing_keeps_the_halt(tmp_path: Path, after: bool) -> None:
    stage = await Stage(tmp_path).open()
    await stage.send(subjects.RISK_HALT, RiskHalt("watchdog", "gone", "c-1", 1), "halt")
    # In an empty world the start looks up 5 market facts, 1 account and 1 state, then announces: the 9th call is ours.
    await stage.start_risk(crash_at=9, after=after)
    await stage.until(lambda: False)
    assert stage.service.report().state is HALTED
    stage.kill_risk()
    await stage.start_risk()
    await stage.until(lambda: announced(stage)[-1] is HALTED)
    assert stage.service.report().reason == "gone"
    await stage.stop()


async def test_a_new_database_takes_the_streams_state(tmp_path: Path) -> None:
    stage = await staged(tmp_path / "one")
    await stage.command("halt", reason="drill")
    stage.kill_risk()
    stage.path = tmp_path / "two"
    await stage.start_risk()
    assert (stage.service.report().state, stage.service.report().reason) == (HALTED, "drill")
    await stage.stop()


async def test_a_stream_that_holds_no_state_where_one_should_be_halts(tmp_path: Path) -> None:
    stage = await Stage(tmp_path).open()
    await stage.send(subjects.RISK_STATE, closed(), "odd")
    await stage.start_risk()
    assert stage.service.report().state is HALTED
    await stage.stop()


async def test_a_stream_that_cannot_be_read_at_a_first_start_halts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise BusUnavailableError("no answer")

    stage = await Stage(tmp_path).open()
    monkeypatch.setattr("services.risk.trading.RETRY_S", 0.0)
    monkeypatch.setattr("services.risk.service.rebuild", lambda *_: settle())
    monkeypatch.setattr(CrashingBus, "last", fail)
    await stage.start_risk()
    assert stage.service.report().state is HALTED
    await stage.stop()


def damage(path: Path, garbage: bytes) -> None:
    for part in path.glob("risk.db-*"):
        part.unlink()
    (path / "risk.db").write_bytes(garbage)


def set_aside(path: Path) -> list[bytes]:
    return [part.read_bytes() for part in path.glob("risk.db.damaged-*")]


@pytest.mark.parametrize("garbage", [b"this is no database" * 500, b"SQLite format 3\x00" + b"\xff" * 5_000])
async def test_a_damaged_database_is_set_aside_and_halts(tmp_path: Path, garbage: bytes) -> None:
    stage = await staged(tmp_path)
    stage.kill_risk()
    damage(tmp_path, garbage)
    await stage.start_risk()
    assert stage.service.report().state is HALTED
    assert set_aside(tmp_path) == [garbage]
    stage.kill_risk()
    await stage.start_risk()
    assert stage.service.report().state is HALTED
    await stage.stop()


async def test_a_kill_while_a_damaged_database_is_set_aside_still_halts(tmp_path: Path) -> None:
    (tmp_path / "risk.db.damaged-1").write_bytes(b"x")
    stage = await staged(tmp_path)
    assert stage.service.report().state is HALTED
    await stage.stop()


async def test_a_state_that_could_not_be_announced_is_announced_later(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    failing = True
    publish = stage.bus.publish

    async def perhaps(subject, message, *, message_id, timeout_s=5.0):  # type: ignore[no-untyped-def] - as in the port
        if failing and subject == subjects.RISK_STATE:
            raise BusUnavailableError("stream is full")
        return await publish(subject, message, message_id=message_id, timeout_s=timeout_s)

    stage.bus.publish = perhaps  # type: ignore[method-assign] - a fault for a while
    reply = await stage.command("halt", reason="drill")
    assert reply.ok
    assert "announced" in reply.detail
    assert announced(stage) == [ACTIVE]
    failing = False
    await stage.until(lambda: announced(stage) == [ACTIVE, HALTED])
    await stage.stop()

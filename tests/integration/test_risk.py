"""The risk process on a real server with the stack's permissions: killed in the middle, it answers each intent once."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from shared.bus import subjects
from shared.bus.nats import NatsBus
from shared.bus.streams import BUCKETS, ORDERS, STREAMS
from shared.errors import BusUnavailableError
from shared.messages import (
    Command,
    CommandReply,
    InstrumentDefinition,
    OrderApproved,
    OrderRefused,
    RefusalCode,
    TradingState,
)
from shared.testing.nats import RealNats, secured_nats_server
from tests.unit.risk.worlds import NOW_NS, STEP_NS, VENUE, D, bar, closed, instrument, intent, snapshot

__all__ = ["secured_nats_server"]

pytestmark = [pytest.mark.nats, pytest.mark.timeout(90)]

INTENTS = 60
SYMBOLS = ("A-USDT", "B-USDT")


class Process:
    """Run `python -m services.risk` as its user."""

    def __init__(self, server: RealNats, directory: Path) -> None:
        settings = directory / "settings.json"
        settings.write_bytes(msgspec.json.encode({"stack": {"mode": "replay", "assets": list(SYMBOLS)}}))
        self._environment = os.environ | {
            "CASCADE_NATS_URL": server.url,
            "CASCADE_NKEY_FILE": str(server.seed("risk")),
            "CASCADE_SETTINGS": str(settings),
            "CASCADE_STATE_DIR": str(directory / "state"),
        }
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.risk", env=self._environment
        )

    async def end(self, number: signal.Signals) -> int:
        assert self._process.returncode is None
        self._process.send_signal(number)
        return await self._process.wait()


async def connect(server: RealNats, name: str) -> NatsBus:
    def fail(error: BaseException) -> None:
        raise error

    bus = NatsBus(server.url, service=name, on_fatal=fail, nkey_file=server.seed(name))
    await bus.connect()
    return bus


async def publish_world(server: RealNats) -> None:
    market, execution = await connect(server, "market_data"), await connect(server, "execution")
    for symbol in SYMBOLS:
        definition = InstrumentDefinition(VENUE, instrument(symbol), 0)
        await market.publish(subjects.instrument(VENUE, symbol), definition, message_id=f"def-{symbol}")
        await market.publish(subjects.bar("15m", VENUE, symbol), bar(symbol, 100.0), message_id=f"bar-{symbol}")
    await market.publish(subjects.bars_closed("15m", VENUE), closed(), message_id="closed")
    await execution.publish(subjects.account(VENUE), snapshot(1, A="2"), message_id="account")
    await market.close()
    await execution.close()


async def verdicts(bus: NatsBus) -> list[OrderApproved | OrderRefused]:
    found = [one.message for one in await bus.history(ORDERS, "ord.>")]
    return [message for message in found if isinstance(message, OrderApproved | OrderRefused)]


async def until_verdicts(bus: NatsBus, count: int) -> list[OrderApproved | OrderRefused]:
    while len(found := await verdicts(bus)) < count:  # noqa: ASYNC110 - the stream is on a server
        await asyncio.sleep(0.005)
    return found


async def ask(bus: NatsBus, verb: str, reason: str) -> CommandReply:
    command = Command(verb, "ann", reason, f"c-{verb}", "{}", 1)
    while True:
        try:
            reply = await bus.request(subjects.command("risk", verb), command)
        except BusUnavailableError:
            await asyncio.sleep(0.05)
            continue
        assert isinstance(reply, CommandReply)
        return reply


async def test_kills_change_no_verdict_and_end_no_halt(secured_nats_server: RealNats, tmp_path: Path) -> None:
    admin = await connect(secured_nats_server, "admin")
    await admin.bootstrap(STREAMS, BUCKETS)
    await publish_world(secured_nats_server)
    strategy, operator = await connect(secured_nats_server, "rebalancer"), await connect(secured_nats_server, "cli")
    process = Process(secured_nats_server, tmp_path)
    await process.start()
    asked = [intent(f"intent-{number:02}", quantity=D(number + 1) / 10) for number in range(INTENTS)]
    subject = subjects.order_intent("cascade", VENUE, "A-USDT")
    publishing = asyncio.create_task(strategy.publish_all([(subject, one, one.intent_id) for one in asked]))
    for count in (5, 20, 40):
        await until_verdicts(operator, count)
        assert await process.end(signal.SIGKILL) == -signal.SIGKILL
        await process.start()
    await publishing
    found = await until_verdicts(operator, INTENTS)

    names = [one.intent.intent_id if isinstance(one, OrderApproved) else one.intent_id for one in found]
    assert names == [one.intent_id for one in asked]
    # 40 % of 1,200 are 480; 200 are held, so 2.8 more may be bought: 0.1 + ... + 0.6 are 2.1, another 0.7 are 2.8.
    approved = [one.intent.quantity for one in found if isinstance(one, OrderApproved)]
    assert approved == [D(tenths) / 10 for tenths in range(1, 8)]
    refused = [one for one in found if isinstance(one, OrderRefused)]
    assert {one.code for one in refused} == {RefusalCode.POSITION_LIMIT}

    assert (await ask(operator, "halt", "drill")).ok
    assert await process.end(signal.SIGKILL) == -signal.SIGKILL
    await process.start()
    status = msgspec.json.decode((await ask(operator, "status", "")).result)
    assert (status["state"], status["market_time_ns"], status["open_orders"]) == (TradingState.HALTED, NOW_NS, 7)
    later = intent("late", decided_at_ns=NOW_NS, expires_at_ns=NOW_NS + STEP_NS)
    await strategy.publish(subject, later, message_id="late")
    last = (await until_verdicts(operator, INTENTS + 1))[-1]
    assert isinstance(last, OrderRefused)
    assert last.code is RefusalCode.TRADING_HALTED
    assert not (await ask(operator, "resume", " ")).ok
    assert (await ask(operator, "resume", "drill is over")).ok
    assert await process.end(signal.SIGTERM) == 0
    for bus in (admin, strategy, operator):
        await bus.close()

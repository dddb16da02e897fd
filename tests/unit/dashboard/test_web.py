import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from services.dashboard.config import DashboardConfig
from services.dashboard.service import DashboardService
from services.dashboard.web import WebServer
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery
from shared.bus.streams import BUCKETS, STREAMS
from shared.clock import wall_ns
from shared.messages import Bbo, Command, CommandReply, RiskState, TradingState, schema_hash
from shared.testing.samples import START_NS, account, decision, heartbeat, week


class Quiet:
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class World:
    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.bus = MemoryBus(self.broker, service="dashboard")
        self.service = DashboardService(self.bus, DashboardConfig(), venue="sandbox", web=lambda _: Quiet())
        self.web = WebServer(self.service, DashboardConfig(), mode="sandbox")
        self.commands: list[Command] = []

    async def answer(self, delivery: Delivery) -> CommandReply:
        assert isinstance(delivery.message, Command)
        self.commands.append(delivery.message)
        return CommandReply(ok=True, detail="halted: <b>by</b> you", correlation_id="", result="{}")

    def client(self, host: str = "127.0.0.1") -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.web.app), base_url=f"http://{host}:8080")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.bus.connect()
    await made.bus.bootstrap(STREAMS, BUCKETS)
    yield made
    await made.service.drain()
    await made.bus.close()


def token_in(html: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', html)
    assert found is not None
    return found[1]


async def test_the_page_renders_before_anything_was_heard(world: World) -> None:
    async with world.client() as client:
        answer = await client.get("/")
    assert answer.status_code == 200
    assert "risk was not heard of" in answer.text


async def test_the_page_shows_what_the_bus_said_and_recalls_the_past(world: World) -> None:
    await world.bus.publish("decision.rebalancer.cascade", decision(3, "upside", "H is far up"), message_id="d3")
    await world.service.start()
    for message in week(START_NS):
        world.service.hear(message)
    async with world.client() as client:
        page, state = await client.get("/"), await client.get("/api/state")
    assert "H is far up" in page.text and "RIVER-USDT" in page.text
    assert msgspec.json.decode(state.content)["trading"] == "active"


async def test_a_long_past_is_recalled_from_its_newest_part_and_its_start(world: World) -> None:
    service = DashboardService(world.bus, DashboardConfig(recall_max=5), venue="sandbox", web=lambda _: Quiet())
    for step in range(40):
        await world.bus.publish("acct.sandbox", account(step), message_id=f"a{step}")
    await service.start()
    assert service.board.start_equity == account(0).equity_usdt
    assert [point.at_ns for point in service.board.equity[-6:]] == [
        account(step).as_of_ns for step in (9, 35, 36, 37, 38, 39)
    ]
    await service.drain()


async def test_quotes_are_followed_where_a_venue_is_listened_to(world: World) -> None:
    service = DashboardService(world.bus, DashboardConfig(), venue="sandbox", web=lambda _: Quiet(), has_quotes=True)
    await service.start()
    world.bus.publish_lossy("md.bbo.sandbox.H-USDT", Bbo("sandbox", "H-USDT", 1.0, 1.0, 1.1, 1.0, 1, 1, 1))
    async with asyncio.timeout(5):
        while "H-USDT" not in service.board.tickers:  # noqa: ASYNC110 - the bus sets no event
            await asyncio.sleep(0.01)
    await service.drain()


async def test_what_is_heard_while_the_past_is_told_comes_after_it(world: World) -> None:
    for step in range(5):
        await world.bus.publish("acct.sandbox", account(step), message_id=f"a{step}")
    world.service.hear(account(9))
    await world.service.start()
    assert [point.at_ns for point in world.service.board.equity] == [
        account(step).as_of_ns for step in (0, 1, 2, 3, 4, 9)
    ]


async def test_texts_from_messages_are_escaped(world: World) -> None:
    world.service.board.apply(decision(1, "upside", "<script>alert(1)</script>"))
    async with world.client() as client:
        html = (await client.get("/")).text
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


async def test_halt_is_a_command_with_user_and_reason(world: World) -> None:
    responding = await world.bus.respond("cmd.risk.halt", world.answer)
    async with world.client() as client:
        token = token_in((await client.get("/")).text)
        answer = await client.post("/trading/halt", data={"token": token, "reason": "too wild"})
        notice = await client.get(answer.headers["location"])
    await responding.stop()
    assert answer.status_code == 303
    assert [(c.verb, c.reason) for c in world.commands] == [("halt", "too wild")]
    assert world.commands[0].user.startswith("dashboard:")
    assert "halted: &lt;b&gt;by&lt;/b&gt; you" in notice.text


async def test_resume_without_a_reason_is_not_sent(world: World) -> None:
    async with world.client() as client:
        token = token_in((await client.get("/")).text)
        answer = await client.post("/trading/resume", data={"token": token, "reason": "  "})
    assert "reason" in answer.headers["location"]
    assert world.commands == []


@pytest.mark.parametrize(
    ("mode", "schema", "resumes"), [("live", "other", False), ("live", "", True), ("paper", "other", True)]
)
async def test_real_money_is_not_resumed_by_mixed_builds(world: World, mode: str, schema: str, resumes: bool) -> None:
    web = WebServer(world.service, DashboardConfig(), mode=mode)
    beat = msgspec.structs.replace(heartbeat("execution", wall_ns()), schema_hash=schema or schema_hash())
    long_gone = msgspec.structs.replace(heartbeat("risk", 0), schema_hash="other", instance="7")
    world.service.board.apply(beat)
    world.service.board.apply(long_gone)
    responding = await world.bus.respond("cmd.risk.resume", world.answer)
    transport = httpx.ASGITransport(web.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        token = token_in((await client.get("/")).text)
        answer = await client.post("/trading/resume", data={"token": token, "reason": "looked at it"})
    await responding.stop()
    assert bool(world.commands) is resumes
    assert ("execution+speak" in answer.headers["location"]) is not resumes


async def test_a_risk_service_that_does_not_answer_is_no_success(world: World) -> None:
    async with world.client() as client:
        token = token_in((await client.get("/")).text)
        answer = await client.post("/trading/halt", data={"token": token})
    assert "did+not+answer" in answer.headers["location"]


@pytest.mark.parametrize(
    ("headers", "data", "status"),
    [
        ({}, {"token": "forged"}, 403),
        ({"origin": "http://evil.example"}, {"token": "any"}, 403),
        ({"host": "evil.example"}, {"token": "any"}, 421),
    ],
)
async def test_foreign_forms_are_refused(
    world: World, headers: dict[str, str], data: dict[str, str], status: int
) -> None:
    async with world.client() as client:
        answer = await client.post("/trading/halt", data=data, headers=headers)
    assert answer.status_code == status
    assert world.commands == []


async def test_a_page_from_before_a_restart_is_answered_with_one_that_works(world: World) -> None:
    responding = await world.bus.respond("cmd.risk.halt", world.answer)
    async with world.client() as client:
        refused = await client.post("/trading/halt", data={"token": "of the last run", "reason": "now"})
        assert world.commands == []
        assert (refused.status_code, "Press halt again" in refused.text) == (403, True)
        await client.post("/trading/halt", data={"token": token_in(refused.text), "reason": "now"})
    await responding.stop()
    assert [command.verb for command in world.commands] == ["halt"]


async def test_an_open_page_gets_the_token_of_this_run_and_a_beat(world: World) -> None:
    async with world.client() as client:
        token = token_in((await client.get("/")).text)
    stream = world.web.events()
    first = await anext(stream)
    assert first == f"event: token\ndata: {token}\n\n"
    pushed = [await anext(stream) for _ in range(8)]
    await stream.aclose()
    assert pushed[-1].startswith("event: beat\n")


async def test_why_trading_is_halted_stands_beside_the_state(world: World) -> None:
    world.service.hear(RiskState(TradingState.HALTED, "risk", "daily loss beyond 5 %", "c", START_NS))
    await world.service.start()
    async with world.client() as client:
        header = (await client.get("/")).text.partition("<main>")[0]
    assert "daily loss beyond 5 % (risk)" in header.replace('title="daily loss beyond 5 % (risk)"', "")


async def test_an_unknown_command_is_not_found(world: World) -> None:
    async with world.client() as client:
        token = token_in((await client.get("/")).text)
        answer = await client.post("/trading/withdraw", data={"token": token, "reason": "x"})
    assert answer.status_code == 404


async def test_the_page_may_not_be_framed_and_loads_nothing_from_elsewhere(world: World) -> None:
    async with world.client() as client:
        answer = await client.get("/")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in re.sub(r"http://www\.w3\.org", "", answer.text)
    assert "https://" not in answer.text

"""The users of the stack on a real server: each may do its work, and nothing of another's."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from nats.aio.client import Client

from shared.bus.nats import NatsBus
from shared.bus.port import Delivery
from shared.bus.streams import BUCKETS, STREAMS
from shared.errors import BusUnavailableError, ConfigError
from shared.messages import CommandReply, Message
from shared.testing.nats import RealNats
from tests.contract.bus.conftest import note, until, until_true
from tests.contract.bus.test_durable import Worker

pytestmark = pytest.mark.nats


class Stack:
    """Connect as any user of the stack."""

    def __init__(self, server: RealNats) -> None:
        self.server = server
        self.fatal: list[BaseException] = []
        self._buses: list[NatsBus] = []

    async def user(self, name: str) -> NatsBus:
        bus = NatsBus(self.server.url, service=name, nkey_file=self.server.seed(name), on_fatal=self.fatal.append)
        await bus.connect()
        self._buses.append(bus)
        return bus

    async def close(self) -> None:
        await asyncio.gather(*(bus.close() for bus in self._buses))


@pytest.fixture
async def stack(secured_nats_server: RealNats) -> AsyncIterator[Stack]:
    stack = Stack(secured_nats_server)
    await (await stack.user("admin")).bootstrap(STREAMS, BUCKETS)
    yield stack
    await stack.close()
    assert stack.fatal == []


MAY_PUBLISH = [
    ("market_data", "md.bar.4h.sandbox.A-USDT"),
    ("market_data", "md.instrument.sandbox.A-USDT"),
    ("rebalancer", "ord.intent.cascade.sandbox.A-USDT"),
    ("rebalancer", "decision.rebalancer.cascade"),
    ("rebalancer", "risk.halt"),
    ("risk", "ord.approved.sandbox.A-USDT"),
    ("risk", "ord.refused.cascade"),
    ("risk", "risk.state"),
    ("risk", "audit.risk"),
    ("execution", "ord.event.cascade.sandbox.A-USDT"),
    ("execution", "acct.sandbox"),
]

MAY_NOT_PUBLISH = [
    *[(user, "ord.approved.sandbox.A-USDT") for user in ("rebalancer", "execution", "market_data", "recorder")],
    *[(user, "ord.refused.cascade") for user in ("rebalancer", "execution")],
    *[(user, "risk.state") for user in ("rebalancer", "execution", "dashboard", "cli")],
    *[(user, "acct.sandbox") for user in ("rebalancer", "risk", "dashboard")],
    *[(user, "md.bar.4h.sandbox.A-USDT") for user in ("rebalancer", "risk", "execution", "dashboard")],
    ("rebalancer", "ord.event.cascade.sandbox.A-USDT"),
    ("rebalancer", "ord.intent.other.sandbox.A-USDT"),
    ("execution", "ord.intent.cascade.sandbox.A-USDT"),
    ("dashboard", "ord.intent.cascade.sandbox.A-USDT"),
    ("dashboard", "risk.halt"),
    ("cli", "risk.halt"),
    ("recorder", "risk.halt"),
    ("rebalancer", "audit.risk"),
    ("rebalancer", "decision.risk.cascade"),
    ("admin", "ord.approved.sandbox.A-USDT"),
]


@pytest.mark.timeout(60)
async def test_each_user_may_publish_its_own_and_nothing_of_another(stack: Stack) -> None:
    users = {name: await stack.user(name) for name in {user for user, _ in MAY_PUBLISH + MAY_NOT_PUBLISH}}
    for number, (user, subject) in enumerate(MAY_PUBLISH):
        assert not (await users[user].publish(subject, note(number), message_id=str(number))).duplicate
    stored = {spec.name: len(await users["dashboard"].history(spec.name, ">")) for spec in STREAMS}
    for number, (user, subject) in enumerate(MAY_NOT_PUBLISH):
        with pytest.raises(BusUnavailableError, match=f"{user} may not publish"):
            await users[user].publish(subject, note(number), message_id=f"no-{number}", timeout_s=5.0)
        users[user].publish_lossy(subject, note(number))
    await until(lambda: sum(users[user].counters()["denied"] for user in users) == 2 * len(MAY_NOT_PUBLISH))
    assert {spec.name: len(await users["dashboard"].history(spec.name, ">")) for spec in STREAMS} == stored


async def test_every_service_can_beat_report_and_answer(stack: Stack) -> None:
    dashboard = await stack.user("dashboard")
    heard = Worker()
    await dashboard.subscribe("hb.>", heard)
    await dashboard.subscribe("progress.>", heard)
    for number, name in enumerate(("market_data", "rebalancer", "risk", "execution", "recorder")):
        bus = await stack.user(name)

        async def answer(delivery: Delivery) -> Message:
            return CommandReply(ok=True, detail="", correlation_id="", result="{}")

        await bus.respond(f"cmd.{name}.*", answer)
        reply = await dashboard.request(f"cmd.{name}.ping", note(0))
        assert isinstance(reply, CommandReply)
        bus.publish_lossy(f"hb.{name}.0", note(number))
        bus.publish_lossy(f"progress.{name}", note(number))
        assert bus.counters()["denied"] == 0
    await until(lambda: len(heard.handled) == 10)
    assert dashboard.counters()["denied"] == 0


@pytest.mark.parametrize(
    ("user", "streams"),
    [
        ("rebalancer", ("MD_BARS", "ORDERS", "ACCOUNTS")),
        ("risk", ("MD_BARS", "ORDERS", "ACCOUNTS", "RISK")),
        ("execution", ("MD_BARS", "ORDERS", "RISK")),
        ("recorder", ("MD_BARS", "ORDERS", "ACCOUNTS", "RISK", "DECISIONS", "AUDIT")),
    ],
)
async def test_a_service_consumes_what_it_needs(stack: Stack, user: str, streams: tuple[str, ...]) -> None:
    bus = await stack.user(user)
    market, execution = await stack.user("market_data"), await stack.user("execution")
    for stream in streams:
        await bus.consume(stream, user, worker := Worker())
        if stream == "MD_BARS":
            await market.publish("md.closed.4h.sandbox", note(1), message_id="1")
            await until(lambda worker=worker: worker.handled == [1])  # type: ignore[misc]
        if stream == "ORDERS":
            await execution.publish("ord.event.cascade.sandbox.A-USDT", note(2), message_id="2")
            await until(lambda worker=worker: worker.handled == [2])  # type: ignore[misc]
    assert bus.counters()["denied"] == 0


@pytest.mark.parametrize(
    ("user", "stream", "own"),
    [("rebalancer", "ORDERS", "ord.intent.cascade.sandbox.A-USDT"), ("dashboard", "DEAD", "dead.dashboard")],
)
async def test_an_answer_to_a_lookup_is_no_approval_wherever_it_is_sent(
    stack: Stack, user: str, stream: str, own: str
) -> None:
    bus, execution, risk = await stack.user(user), await stack.user("execution"), await stack.user("risk")
    approved = "ord.approved.sandbox.A-USDT"
    assert bus.publish_lossy(own, note(1))
    await until_true(lambda: _has(bus, stream, 1))
    # Sent with an approval's subject as the place to answer to.
    before = await bus.last_sequence("ORDERS") if user == "rebalancer" else 0
    assert bus._connection.send(f"$JS.API.DIRECT.GET.{stream}", b'{"seq":1}', reply=approved)
    await until_true(lambda: _has(risk, "ORDERS", before + 1))
    await risk.publish(approved, note(2), message_id="real")
    await execution.consume("ORDERS", "execution", worker := Worker(), filters=(approved,))
    await until(lambda: worker.handled != [])
    assert worker.handled == [2]
    assert execution.counters()["dead_lettered"] == 1


async def _has(bus: NatsBus, stream: str, sequence: int) -> bool:
    return await bus.last_sequence(stream) >= sequence


async def test_state_is_kept_under_the_services_own_keys(stack: Stack) -> None:
    rebalancer, risk = await stack.user("rebalancer"), await stack.user("risk")
    own = await rebalancer.key_value("state")
    assert await own.create("rebalancer.plan", b"1") is not None
    foreign = await risk.key_value("state")
    assert (await foreign.get("rebalancer.plan")) is not None
    with pytest.raises(BusUnavailableError, match="may not publish"):
        await foreign.put("rebalancer.plan", b"2")


@pytest.mark.parametrize("stream", ["RISK", "DECISIONS", "AUDIT", "DEAD"])
async def test_a_strategy_cannot_have_the_server_repeat_its_frames_as_approvals(stack: Stack, stream: str) -> None:
    await _cannot_make_consumer(stack, stream)


async def test_the_server_refuses_to_repeat_intents_as_approvals(stack: Stack) -> None:
    await _cannot_make_consumer(stack, "ORDERS")


async def _cannot_make_consumer(stack: Stack, stream: str) -> None:
    raw = Client()

    async def silent(error: Exception) -> None: ...

    await raw.connect(
        stack.server.url,
        nkeys_seed=str(stack.server.seed("rebalancer")),
        inbox_prefix="_INBOX.rebalancer",
        error_cb=silent,
    )
    request = {
        "stream_name": stream,
        "config": {"durable_name": "evil", "ack_policy": "none", "deliver_subject": "ord.approved.sandbox.A-USDT"},
    }
    try:
        answer = await raw.request(f"$JS.API.CONSUMER.CREATE.{stream}.evil", msgspec.json.encode(request), timeout=0.5)
    except TimeoutError:
        return
    finally:
        await raw.close()
    assert b'"error"' in answer.data


async def test_a_user_cannot_listen_in_on_anothers_inbox(stack: Stack) -> None:
    rebalancer = await stack.user("rebalancer")
    for subject in ("_INBOX.risk.>", "_INBOX.>", ">", "cmd.risk.>", "ord.approved.>"):
        with pytest.raises(BusUnavailableError, match="may not subscribe"):
            await rebalancer.subscribe(subject, Worker())


async def test_a_stranger_is_refused_with_a_clear_message(stack: Stack) -> None:
    bus = NatsBus(stack.server.url, service="stranger", on_fatal=stack.fatal.append)
    with pytest.raises(ConfigError, match="CASCADE_NKEY_FILE"):
        await asyncio.wait_for(bus.connect(), 10)


async def test_services_may_not_change_streams(stack: Stack) -> None:
    risk = await stack.user("risk")
    with pytest.raises(BusUnavailableError):
        await risk.bootstrap((msgspec.structs.replace(STREAMS[1], max_messages=1),), ())

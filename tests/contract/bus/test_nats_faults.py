"""What only a real server can do to a client: die, refuse, go silent; and what a client does to itself."""

import asyncio
import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from nats.aio.client import Client

from shared.bus.nats import NatsBus
from shared.bus.nats_connection import DeafError, NatsConnection
from shared.bus.port import Delivery
from shared.errors import BusUnavailableError, ConfigError
from shared.messages import Progress, encode
from shared.testing.nats import RealNats
from tests.contract.bus.conftest import SPECS, flush, note, until
from tests.contract.bus.test_durable import Worker

pytestmark = pytest.mark.nats


@pytest.fixture
def fatal() -> list[BaseException]:
    return []


async def connected(server: RealNats, fatal: list[BaseException], service: str = "test") -> NatsBus:
    bus = NatsBus(server.url, service=service, on_fatal=fatal.append)
    await bus.connect()
    return bus


async def test_a_killed_server_keeps_everything_it_confirmed_and_consumers_go_on(
    nats_server: RealNats, fatal: list[BaseException]
) -> None:
    publisher, consumer = await connected(nats_server, fatal), await connected(nats_server, fatal, "worker")
    await publisher.bootstrap(SPECS, ())
    worker = Worker()
    await consumer.consume("ORDERS", "worker", worker)
    confirmed: list[int] = []
    ended = asyncio.Event()

    async def publish() -> None:
        for number in itertools.count(1):
            if ended.is_set():
                return
            await publisher.publish("ord.a", note(number), message_id=f"id-{number}", timeout_s=20.0)
            confirmed.append(number)

    publishing = asyncio.create_task(publish())
    for _ in range(3):
        seen = len(confirmed)
        await until(lambda seen=seen: len(confirmed) >= seen + 100)  # type: ignore[misc]
        await nats_server.kill_while_running()
        await nats_server.start_while_running()
    ended.set()
    await publishing
    stored = [d.message.close_time_ns for d in await publisher.history("ORDERS", "ord.>", limit=100_000)]  # type: ignore[union-attr]
    assert stored == confirmed, "each confirmed message once, in order, none lost"
    await until(lambda: worker.handled[-1:] == confirmed[-1:])
    assert sorted(set(worker.handled)) == confirmed
    firsts = list(dict.fromkeys(worker.handled))
    assert firsts == confirmed, "nothing may overtake"
    assert publisher.counters()["reconnects"] == 3
    await asyncio.gather(publisher.close(), consumer.close())
    assert fatal == []


async def test_a_batch_keeps_its_order_over_a_server_kill(nats_server: RealNats, fatal: list[BaseException]) -> None:
    bus = await connected(nats_server, fatal)
    await bus.bootstrap(SPECS, ())
    items = [("ord.a", note(number), f"id-{number}") for number in range(2_000)]
    publishing = asyncio.create_task(bus.publish_all(items, timeout_s=25.0))
    await until(lambda: bus.counters()["published"] > 300)
    await nats_server.kill_while_running()
    await nats_server.start_while_running()
    acks = await publishing
    assert [ack.sequence for ack in acks] == list(range(1, 2_001))
    stored = await bus.history("ORDERS", "ord.>", limit=3_000)
    assert [d.message.close_time_ns for d in stored] == list(range(2_000))  # type: ignore[union-attr]
    await bus.close()


async def test_a_client_started_before_the_server_connects_when_it_comes(
    nats_server: RealNats, fatal: list[BaseException]
) -> None:
    await nats_server.kill_while_running()
    bus = NatsBus(nats_server.url, service="early", on_fatal=fatal.append)
    connecting = asyncio.create_task(bus.connect())
    await asyncio.sleep(0.05)
    assert not connecting.done()
    await nats_server.start_while_running()
    await asyncio.wait_for(connecting, 10)
    assert bus.is_connected
    await bus.close()


async def test_connecting_can_be_cancelled(nats_server: RealNats, fatal: list[BaseException]) -> None:
    await nats_server.kill_while_running()
    bus = NatsBus(nats_server.url, service="early", on_fatal=fatal.append)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bus.connect(), 0.2)
    await bus.close()


async def test_a_process_killed_while_consuming_loses_and_reorders_nothing(
    nats_server: RealNats, fatal: list[BaseException], tmp_path: Path
) -> None:
    bus = await connected(nats_server, fatal)
    await bus.bootstrap(SPECS, ())
    path = tmp_path / "handled"
    script = Path(__file__).with_name("consumer_process.py")
    total = 1_500

    def handled() -> list[int]:
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(script), nats_server.url, str(path)])

    process = start()
    try:
        publishing = asyncio.create_task(
            bus.publish_all([("ord.a", note(n), str(n)) for n in range(total)], timeout_s=25.0)
        )
        for mark in (100, 500, 1_000):
            await until(lambda mark=mark: len(handled()) >= mark)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait(5)
            process = start()
        await publishing
        await until(lambda: handled()[-1:] == [total - 1])
    finally:
        process.kill()
        process.wait(5)
    assert list(dict.fromkeys(handled())) == list(range(total)), "first deliveries are complete and in order"
    await bus.close()


async def test_a_long_handler_is_not_given_its_message_twice(nats_server: RealNats, fatal: list[BaseException]) -> None:
    bus = await connected(nats_server, fatal)
    await bus.bootstrap(SPECS, ())
    worker, running, overlapped = Worker(), 0, False

    async def slow(delivery: Delivery) -> None:
        nonlocal running, overlapped
        running += 1
        overlapped = overlapped or running > 1
        await asyncio.sleep(1.0 if not worker.handled else 0.0)  # longer than the server waits for acknowledgements
        await worker(delivery)
        running -= 1

    await bus.consume("ORDERS", "slow", slow, ack_wait_s=0.3)
    await bus.publish_all([("ord.a", note(n), str(n)) for n in range(20)])
    await until(lambda: len(worker.handled) >= 20)
    await bus.publish("ord.a", note(20), message_id="20")
    await until(lambda: worker.handled[-1:] == [20])
    assert worker.handled == list(range(21))
    assert not overlapped
    await bus.close()


async def test_a_handler_is_not_cancelled_by_a_reconnection(nats_server: RealNats, fatal: list[BaseException]) -> None:
    bus = await connected(nats_server, fatal)
    await bus.bootstrap(SPECS, ())
    begun, release, worker = asyncio.Event(), asyncio.Event(), Worker()

    async def slow(delivery: Delivery) -> None:
        begun.set()
        await release.wait()
        await worker(delivery)

    await bus.consume("ORDERS", "slow", slow)
    await bus.publish_all([("ord.a", note(n), str(n)) for n in range(3)])
    await asyncio.wait_for(begun.wait(), 5)
    await nats_server.kill_while_running()
    await nats_server.start_while_running()
    await until(lambda: bus.counters()["reconnects"] == 1)
    release.set()
    await until(lambda: len(worker.handled) >= 3)
    await bus.publish("ord.a", note(3), message_id="3")
    await until(lambda: worker.handled[-1:] == [3])
    assert worker.handled == [0, 1, 2, 3], "what was handled while away is acknowledged, not handled again"
    await bus.close()


async def test_a_deleted_consumer_is_made_again_and_goes_on_where_it_was(
    nats_server: RealNats, fatal: list[BaseException]
) -> None:
    bus = await connected(nats_server, fatal)
    await bus.bootstrap(SPECS, ())
    worker = Worker()
    await bus.consume("ORDERS", "vanishing", worker)
    await bus.publish_all([("ord.a", note(n), str(n)) for n in range(5)])
    await until(lambda: len(worker.handled) == 5)
    admin = Client()
    await admin.connect(nats_server.url)
    await admin.jetstream().delete_consumer("ORDERS", "vanishing")
    await admin.close()
    await bus.publish("ord.a", note(5), message_id="5")
    await until(lambda: len(worker.handled) >= 6)
    assert worker.handled == [0, 1, 2, 3, 4, 5]
    await bus.close()


async def test_a_raising_callback_does_not_deafen_the_client(
    nats_server: RealNats, fatal: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*arguments: object, **values: object) -> None:
        raise RuntimeError("the log is full")

    monkeypatch.setattr("shared.bus.nats_connection._log.warning", explode, raising=False)
    monkeypatch.setattr("shared.bus.nats_connection._log.info", explode, raising=False)
    monkeypatch.setattr(NatsConnection, "_on_denied", explode)

    bus = await connected(nats_server, fatal)
    worker = Worker()
    await bus.subscribe("md.>", worker)
    client = bus._connection._client
    assert client is not None
    await client._process_err('permissions violation for publish to "x"')
    bus.publish_lossy("md.a", note(1))
    await until(lambda: worker.handled == [1])
    await nats_server.kill_while_running()
    await nats_server.start_while_running()
    await until(lambda: bus.is_connected)
    bus.publish_lossy("md.a", note(2))
    await until(lambda: worker.handled == [1, 2])
    assert bus.counters()["callback_errors"] >= 2
    await bus.close()
    assert fatal == []


async def test_a_raising_fatal_callback_does_not_deafen_the_client(nats_server: RealNats) -> None:
    def explode(error: BaseException) -> None:
        raise RuntimeError("the reporter is broken too")

    bus = NatsBus(nats_server.url, service="test", on_fatal=explode)
    await bus.connect()
    heard: list[int] = []

    async def fragile(delivery: Delivery) -> None:
        assert isinstance(delivery.message, Progress)
        heard.append(delivery.message.close_time_ns)
        raise ValueError("bug")

    await bus.subscribe("md.>", fragile)
    bus.publish_lossy("md.a", note(1))
    bus.publish_lossy("md.a", note(2))
    await until(lambda: heard == [1, 2])
    assert bus.counters()["callback_errors"] == 2
    await bus.close()


async def test_what_was_not_written_before_a_disconnection_does_not_arrive_after_it(
    nats_server: RealNats, fatal: list[BaseException]
) -> None:
    listener, bus = await connected(nats_server, fatal, "listener"), await connected(nats_server, fatal)
    worker = Worker()
    await listener.subscribe("md.>", worker)
    client = bus._connection._client
    assert client is not None
    stale = encode(note(1))
    frame = b"PUB md.x %d\r\n%b\r\n" % (len(stale), stale)
    client._pending.append(frame)
    client._pending_data_size += len(frame)
    await client._process_op_err(ConnectionResetError())
    await until(lambda: bus.counters()["reconnects"] == 1)
    bus.publish_lossy("md.x", note(2))
    await until(lambda: bool(worker.handled))
    assert worker.handled == [2]
    await asyncio.gather(bus.close(), listener.close())


async def test_the_watchdog_reports_a_deaf_client(nats_server: RealNats, fatal: list[BaseException]) -> None:
    bus = NatsBus(nats_server.url, service="deaf", on_fatal=fatal.append)
    bus._connection.watchdog.interval_s = 0.05
    await bus.connect()
    await until(lambda: bus._connection.watchdog.heard >= 3)
    assert fatal == [], "a client that hears is not deaf"
    client = bus._connection._client
    assert client is not None
    assert client._reading_task is not None
    client._reading_task.cancel()
    await until(lambda: bool(fatal))
    assert isinstance(fatal[0], DeafError)
    assert bus.is_connected, "which is what makes the watchdog necessary"
    await bus.close()


async def test_a_disconnection_is_not_deafness(nats_server: RealNats, fatal: list[BaseException]) -> None:
    bus = NatsBus(nats_server.url, service="patient", on_fatal=fatal.append)
    watchdog = bus._connection.watchdog
    watchdog.interval_s = 0.05
    await bus.connect()
    await until(lambda: watchdog.heard >= 1)
    await nats_server.kill_while_running()
    await asyncio.sleep(0.5)  # ten beats: twice what a deaf client is granted
    await nats_server.start_while_running()
    heard = watchdog.heard
    await until(lambda: watchdog.heard >= heard + 3)
    assert fatal == []
    await bus.close()


async def test_a_connection_closed_for_good_is_fatal(nats_server: RealNats, fatal: list[BaseException]) -> None:
    bus = await connected(nats_server, fatal)
    client = bus._connection._client
    assert client is not None
    await client._process_err("unknown protocol operation")
    await until(lambda: bool(fatal))
    assert isinstance(fatal[0], BusUnavailableError)
    await bus.close()


async def test_requests_under_way_fail_at_once_when_the_connection_breaks(
    nats_server: RealNats, fatal: list[BaseException]
) -> None:
    bus = await connected(nats_server, fatal)
    silent = Client()
    await silent.connect(nats_server.url)
    asked = asyncio.Event()

    async def say_nothing(message: object) -> None:
        asked.set()

    await silent.subscribe("cmd.silent", cb=say_nothing)
    await flush(silent)
    asking = asyncio.create_task(bus.request("cmd.silent", note(1), timeout_s=20.0))
    await asyncio.wait_for(asked.wait(), 5)
    await silent.close()
    await nats_server.kill_while_running()
    with pytest.raises(BusUnavailableError):
        await asyncio.wait_for(asking, 5)
    await bus.close()


async def test_a_stream_with_a_changed_configuration_is_updated(
    nats_server: RealNats, fatal: list[BaseException]
) -> None:
    bus = await connected(nats_server, fatal)
    await bus.bootstrap(SPECS, ("state",))
    await bus.publish_all([("small.a", note(n), str(n)) for n in range(8)])
    from msgspec.structs import replace

    changed = tuple(replace(spec, max_messages=3) if spec.name == "SMALL" else spec for spec in SPECS)
    await bus.bootstrap(changed, ("state",))
    assert [d.stream_sequence for d in await bus.history("SMALL", "small.>")] == [6, 7, 8]
    client = Client()
    await client.connect(nats_server.url)
    info = await client.jetstream().stream_info("ORDERS")
    assert info.config.deny_delete
    assert info.config.allow_direct
    assert info.config.duplicate_window == 0.5
    await client.close()
    await bus.close()


async def test_a_server_that_is_too_old_is_refused_with_its_version() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"A","version":"2.13.9","max_payload":1048576,"headers":true}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    old = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = old.sockets[0].getsockname()[1]
    bus = NatsBus(f"nats://127.0.0.1:{port}", service="risk", on_fatal=print)
    with pytest.raises(ConfigError, match=r"is nats-server 2\.13\.9; Cascade needs 2\.14\.0 or later"):
        await asyncio.wait_for(bus.connect(), 10)
    old.close()

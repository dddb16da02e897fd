"""One websocket of one client: frame faults, and every reason for which it is cut."""

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import WSMsgType

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.wire.socket import ClientSocket, SocketRules, kill_sockets
from tests.unit.sandbox_exchange.wire.rig import running, until

DEPTH = "depth"


async def frames(client: aiohttp.ClientWebSocketResponse, count: int) -> list[str]:
    return [str(await client.receive_str(timeout=5)) for _ in range(count)]


def post(socket: ClientSocket, *payloads: str, route: str = DEPTH, symbol: str = "BTCUSDT") -> None:
    for payload in payloads:
        socket.post(payload, route=route, symbol=symbol)


async def test_frames_arrive_in_order_and_whole() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        post(socket, *(str(number) for number in range(5000)))
        assert await frames(client, 5000) == [str(number) for number in range(5000)]


async def test_text_and_binary_arrive_as_what_they_are() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        await socket.send("text")
        await socket.send(b"\x01binary", route=DEPTH)
        assert (await client.receive(timeout=5)).type is WSMsgType.TEXT
        assert (await client.receive(timeout=5)).data == b"\x01binary"


async def test_a_frame_is_dropped() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.FRAME_DROP, after=1)
        post(socket, "1", "2", "3")
        assert await frames(client, 2) == ["1", "3"]


async def test_a_frame_comes_twice() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.FRAME_DUPLICATE)
        post(socket, "1", "2")
        assert await frames(client, 3) == ["1", "1", "2"]


async def test_a_frame_comes_after_the_next_one_of_its_stream() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.FRAME_REORDER, after=1)
        post(socket, "1", "2")
        post(socket, "other", symbol="HUSDT")
        post(socket, "3", "4")
        assert await frames(client, 5) == ["1", "other", "3", "2", "4"]


async def test_answers_are_never_spoilt() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        for name in (FaultName.FRAME_DROP, FaultName.FRAME_DUPLICATE, FaultName.SOCKET_KILL):
            rig.arm(name, times=None)
        socket.post("ack")
        assert await frames(client, 1) == ["ack"]


async def test_reports_have_their_own_faults() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.FRAME_DROP, times=None)
        rig.arm(FaultName.REPORT_REORDER)
        rig.arm(FaultName.REPORT_DUPLICATE, after=1)
        for payload in ("new", "filled", "balance"):
            socket.post(payload, route="orders", report=True)
        assert await frames(client, 4) == ["filled", "new", "balance", "balance"]


async def test_a_fault_keeps_to_its_stream() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.FRAME_DROP, route="trade", symbol="BTCUSDT")
        post(socket, "depth")
        post(socket, "trade of h", route="trade", symbol="HUSDT")
        post(socket, "trade", "next", route="trade")
        assert await frames(client, 3) == ["depth", "trade of h", "next"]


async def ended(client: aiohttp.ClientWebSocketResponse, timeout_s: float = 5) -> int | None:
    """Read to the end, and return the close code."""
    with contextlib.suppress(aiohttp.ClientConnectionError):
        async with asyncio.timeout(timeout_s):
            async for _ in client:
                pass
    return client.close_code


async def test_a_kill_comes_without_a_word() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.SOCKET_KILL)
        post(socket, "never")
        assert await ended(client) in {None, 1006}
        assert socket.cut_reason == "killed"
        await until(lambda: not rig.venue.sockets)


async def test_the_admin_kills_by_path() -> None:
    async with running() as rig, rig.socket() as (client, _):
        assert kill_sockets(rig.venue, "user") == 0
        assert kill_sockets(rig.venue, "public") == 1
        assert await ended(client) in {None, 1006}


async def test_a_silent_socket_stays_open_and_says_nothing_more() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.SOCKET_SILENT)
        post(socket, "1", "2")
        await client.send_str("are you there")
        await client.ping()
        await until(lambda: rig.heard)
        with pytest.raises(TimeoutError):
            await client.receive(timeout=0.3)
        assert socket.is_open
        async with rig.socket() as (other, live):
            post(live, "3")
            assert await frames(other, 1) == ["3"]


async def test_a_websocket_ping_is_answered_unless_a_fault_says_no() -> None:
    async with running() as rig, rig.socket(autoping=False) as (client, _):
        await client.ping(b"1")
        assert (await client.receive(timeout=5)).type is WSMsgType.PONG
        rig.arm(FaultName.PONG_MISSING)
        await client.ping(b"2")
        await client.ping(b"3")
        answer = await client.receive(timeout=5)
        assert (answer.type, answer.data) == (WSMsgType.PONG, b"3")


async def cut_by(rules: SocketRules, reason: str) -> None:
    async with running(rules) as one, one.socket() as (client, socket):
        assert await ended(client) == 1001
        assert socket.cut_reason == reason


async def test_a_socket_has_its_age() -> None:
    await cut_by(SocketRules(age_max_s=0.2), "age")


async def test_a_socket_that_nobody_uses_is_cut() -> None:
    await cut_by(SocketRules(idle_max_s=0.2), "idle")


async def test_a_socket_without_a_subscription_is_cut() -> None:
    await cut_by(SocketRules(unsubscribed_max_s=0.2), "unsubscribed")


async def test_a_subscription_keeps_a_socket() -> None:
    async with running(SocketRules(unsubscribed_max_s=0.2)) as rig, rig.socket() as (client, socket):
        socket.has_subscription = True
        with pytest.raises(TimeoutError):
            await client.receive(timeout=0.6)
        assert socket.is_open


async def test_the_age_fault_cuts_sooner() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.SOCKET_AGE, parameter=0.2)
        assert await ended(client) == 1001
        assert socket.cut_reason == "age"
        assert rig.venue.faults.fired == {FaultName.SOCKET_AGE: 1}


async def test_maintenance_closes_sockets() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        rig.arm(FaultName.MAINTENANCE, times=None)
        assert await ended(client) == 1001
        assert socket.cut_reason == "maintenance"


async def test_a_client_without_pongs_is_cut_and_one_with_them_stays() -> None:
    rules = SocketRules(ping_every_s=0.1, pong_within_s=0.3)
    async with running(rules) as rig, rig.socket(autoping=False) as (client, socket), rig.socket() as (good, kept):
        reading = asyncio.create_task(ended(good, 1.5))
        await ended(client)
        assert socket.cut_reason == "no_pong"
        assert kept.is_open
        reading.cancel()


async def test_a_client_that_talks_too_much_is_cut() -> None:
    async with running(SocketRules(inbound_max_per_s=5)) as rig, rig.socket() as (client, socket):
        for number in range(20):
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await client.send_str(str(number))
        assert await ended(client) == 1001
        assert socket.cut_reason == "too_many_messages"
        assert len(rig.heard) <= 10, "five a second; the clock may turn once between them"


async def test_a_message_that_is_too_long_ends_the_connection() -> None:
    async with running() as rig, rig.socket() as (client, _):
        await client.send_str("x" * 100_000)
        assert await ended(client) == 1009
        assert rig.heard == []


@pytest.mark.parametrize("limit", ["frames", "bytes"])
async def test_a_client_that_does_not_read_is_cut_and_not_thinned(limit: str) -> None:
    rules = SocketRules(queue_frames_max=200) if limit == "frames" else SocketRules(queue_bytes_max=1_000_000)
    async with running(rules) as rig, rig.socket(max_msg_size=0) as (client, socket):
        number = 0
        while socket.is_open:
            post(socket, f"{number:08d}" + "x" * 20_000)
            number += 1
            # The system's own buffers take a few megabytes, the queue its limit: a hundred are far beyond both.
            assert number < 5000
            await asyncio.sleep(0)
        assert socket.cut_reason == "slow_client"
        seen: list[int] = []
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async for message in client:
                seen.append(int(message.data[:8]))  # noqa: PERF401 - what came before the end counts
        assert seen == list(range(len(seen))), "what arrived has no hole"
        await until(lambda: not rig.venue.sockets)


async def test_a_fast_client_survives_a_burst() -> None:
    async with running() as rig, rig.socket() as (client, socket):
        post(socket, *(str(number) for number in range(40_000)), route="trade")
        assert await frames(client, 40_000) == [str(number) for number in range(40_000)]
        assert socket.is_open


async def test_the_venue_forgets_a_client_that_left() -> None:
    async with running() as rig:
        async with rig.socket() as (_, socket):
            assert len(rig.venue.sockets) == 1
        await until(lambda: not rig.venue.sockets)
        assert not socket.is_open
        post(socket, "into the void")

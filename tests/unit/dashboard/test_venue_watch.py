"""The sandbox exchange stands among the services of a stack that has one, though it is on no bus."""

import asyncio

import pytest

from services.dashboard.__main__ import venue_health_url
from services.dashboard.config import DashboardConfig
from services.dashboard.core.board import Board
from services.dashboard.core.rows import SERVICES, ServiceRow, service_rows
from services.dashboard.venue_watch import NAME, VenueWatch
from services.sandbox_exchange.app import start
from services.sandbox_exchange.config import SandboxConfig, Source
from shared.clock import NANOSECONDS_PER_SECOND, wall_ns
from shared.config import Settings
from shared.messages import Heartbeat


def board_with_a_venue() -> Board:
    return Board(venue="mexc", equity_points_max=10, decisions_max=10, also=(NAME,))


def row_of(board: Board, now_ns: int) -> ServiceRow:
    return next(row for row in service_rows(board, now_ns) if row.name == NAME)


async def test_a_running_venue_is_ready_and_a_dead_one_is_silent() -> None:
    board, heard = board_with_a_venue(), asyncio.Queue[Heartbeat]()
    assert row_of(board, wall_ns()).state == "not heard of"
    sandbox = await start(SandboxConfig(source=Source.STILL, symbols=("HUSDT",)))
    watch = VenueWatch(sandbox.admin_url.removesuffix("/admin") + "/readyz", interval_s=0.01)
    watch.start(heard.put_nowait)
    try:
        board.apply(await asyncio.wait_for(heard.get(), 20))
        row = row_of(board, wall_ns())
        assert (row.state, row.tone, row.detail) == ("ready", "good", "running")
        asked = [one.route for one in sandbox.venue.requests]
        assert asked == [], "looking at the venue must not count as a client's request"
    finally:
        await sandbox.close()
        await watch.stop()
    assert row_of(board, wall_ns() + 60 * NANOSECONDS_PER_SECOND).state == "silent"


async def test_a_venue_that_answers_nonsense_or_nothing_tells_nothing() -> None:
    heard: list[Heartbeat] = []
    asked = asyncio.Queue[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        nonsense = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
        writer.write(nonsense if asked.qsize() % 2 else b"")
        asked.put_nowait(b"asked")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    watch = VenueWatch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/readyz", interval_s=0.001)
    watch.start(heard.append)
    for _ in range(4):
        await asyncio.wait_for(asked.get(), 20)
    await watch.stop()
    server.close()
    await server.wait_closed()
    assert heard == []


def test_a_stack_without_a_venue_of_its_own_lists_none() -> None:
    board = Board(venue="mexc", equity_points_max=10, decisions_max=10)
    assert [row.name for row in service_rows(board, 0)] == list(SERVICES)


@pytest.mark.parametrize(
    ("tree", "configured", "url"),
    [
        ({"stack": {"mode": "sandbox"}, NAME: {"admin_port": 9600}}, None, "http://127.0.0.1:9600/readyz"),
        ({"stack": {"mode": "sandbox"}}, "http://sandbox:9100/readyz", "http://sandbox:9100/readyz"),
        ({"stack": {"mode": "sandbox"}}, None, None),
        ({"stack": {"mode": "replay"}, NAME: {"admin_port": 9600}}, "http://sandbox:9100/readyz", None),
    ],
)
def test_where_the_venue_is_asked(tree: dict[str, object], configured: str | None, url: str | None) -> None:
    config = DashboardConfig(venue_health_url=configured)
    assert venue_health_url(Settings(tree), config) == url  # type: ignore[arg-type]

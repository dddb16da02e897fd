"""A NATS server whose disk was full: noticed once there is space again, and only once."""

import asyncio
from pathlib import Path

import pytest

from services.cli.supervisor.probe import SPACE_MIN_BYTES, NatsProbe

FULL = "[1] 2026/11/21 09:31:39 [ERR] JetStream failed to store a msg: write 1.blk: no space left on device\n"


async def test_a_server_is_stuck_once_for_each_full_disk(tmp_path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO {}\r\n")
        await writer.drain()
        writer.close()

    log, free = tmp_path / "nats.log", [0]
    log.write_text(FULL, encoding="utf-8")  # of an earlier run
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        probe = NatsProbe(log, free_bytes=lambda _: free[0])
        free[0] = SPACE_MIN_BYTES
        assert (await probe(port)).ready
        with log.open("a", encoding="utf-8") as more:
            more.write(FULL)
        free[0] = SPACE_MIN_BYTES - 1
        assert (await probe(port)).ready
        free[0] = SPACE_MIN_BYTES
        stuck = await probe(port)
        assert (stuck.is_stuck, stuck.ready) == (True, False)
        assert (await probe(port)).ready
        log.write_text("", encoding="utf-8")
        assert (await probe(port)).ready
        log.write_text(FULL, encoding="utf-8")
        assert (await probe(port)).is_stuck


@pytest.mark.parametrize("has_log", [True, False])
async def test_a_silent_server_is_silent_whatever_its_log_says(tmp_path: Path, has_log: bool) -> None:
    probe = NatsProbe(tmp_path / "nats.log", free_bytes=lambda _: SPACE_MIN_BYTES)
    if has_log:
        (tmp_path / "nats.log").write_text(FULL, encoding="utf-8")
    assert not (await probe(1)).answered

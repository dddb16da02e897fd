"""kill -9 the real recorder under load: streams are recorded exactly once, ticks end where the last write ended."""

import asyncio
import itertools
import time
from collections.abc import Callable

import pytest

from shared.bus import subjects
from shared.messages import AccountSnapshot, Command, CommandReply, Side, Trade
from shared.store.duck import open_store
from shared.testing import samples
from shared.testing.recorder import RecorderProcess

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

INSTRUMENT = "TAO-USDT"
KILLS = 3


def account(number: int) -> AccountSnapshot:
    return samples.account(1, ledger_sequence=number)


class Load:
    """Publish accounts (kept in a stream) and trades (not kept) until told to stop."""

    def __init__(self, execution, market_data) -> None:
        self._execution, self._market_data = execution, market_data
        self.accounts = 0
        self.trades = 0
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        await asyncio.gather(self._durable(), self._lossy())

    async def _durable(self) -> None:
        while not self._stop.is_set():
            step = self.accounts + 1
            await self._execution.publish(
                subjects.account("sandbox"), account(step), message_id=f"account-{step}", timeout_s=20
            )
            self.accounts = step

    async def _lossy(self) -> None:
        while not self._stop.is_set():
            for _ in range(20):
                number = self.trades + 1
                trade = Trade(
                    "sandbox", INSTRUMENT, f"t{number}", Side.BUY, 1.5, 2.0, samples.START_NS, samples.START_NS, number
                )
                assert self._market_data.publish_lossy(subjects.trade("sandbox", INSTRUMENT), trade)
                self.trades = number
            await asyncio.sleep(0.01)


async def test_nothing_of_a_stream_is_lost_or_doubled_and_ticks_only_at_the_end_of_a_life(
    stack, recorder: RecorderProcess
) -> None:
    load = Load(await stack.bus("execution"), await stack.bus("market_data"))
    running = asyncio.create_task(load.run())
    for life in range(KILLS + 1):
        await asyncio.to_thread(recorder.start)
        await rows_grow(recorder, "trades")
        if life < KILLS:
            await asyncio.to_thread(recorder.kill)
    load.stop()
    await running
    await catches_up(stack, recorder, load.accounts)
    lost_counted = await asyncio.to_thread(recorder.metric, "lost_rows_total", reason="before_arrival")
    assert await asyncio.to_thread(recorder.terminate) == 0
    with open_store(recorder.store_root) as reader:
        accounts = list(reader.read_messages("accounts"))
        numbers = [row[0] for row in reader.query("SELECT sequence FROM trades ORDER BY sequence").rows]
    assert accounts == [account(step) for step in range(1, load.accounts + 1)]
    assert len(numbers) == len(set(numbers))
    holes = [(before, after) for before, after in itertools.pairwise(numbers) if after != before + 1]
    assert len(holes) <= KILLS, "a loss in the middle of a life"
    assert numbers[-1] == load.trades
    assert lost_counted <= sum(after - before - 1 for before, after in holes)


async def test_sigterm_keeps_everything_that_was_published(stack, recorder: RecorderProcess) -> None:
    await asyncio.to_thread(recorder.start)
    load = Load(await stack.bus("execution"), await stack.bus("market_data"))
    running = asyncio.create_task(load.run())
    await until(lambda: load.accounts > 50 and load.trades > 500)
    load.stop()
    await running
    # What the recorder answers after the last trade tells that the trades have reached it.
    assert (await command(stack, "status")).ok
    assert await asyncio.to_thread(recorder.terminate) == 0
    with open_store(recorder.store_root) as reader:
        assert len(list(reader.read_messages("accounts"))) >= 1
        ((trades,),) = reader.query("SELECT count(*) FROM trades").rows
    assert trades == load.trades
    await asyncio.to_thread(recorder.start)
    await catches_up(stack, recorder, load.accounts)
    with open_store(recorder.store_root) as reader:
        accounts = list(reader.read_messages("accounts"))
    assert accounts == [account(step) for step in range(1, load.accounts + 1)]


async def test_the_servers_death_and_return_lose_nothing_of_a_stream(
    stack, recorder: RecorderProcess, secured_nats_server
) -> None:
    await asyncio.to_thread(recorder.start)
    load = Load(await stack.bus("execution"), _Nowhere())
    running = asyncio.create_task(load.run())
    await until(lambda: load.accounts > 20)
    await secured_nats_server.kill_while_running()
    await secured_nats_server.start_while_running()
    before = load.accounts
    await until(lambda: load.accounts > before + 20, timeout_s=40)
    load.stop()
    await running
    assert await asyncio.to_thread(grown_to, recorder, load.accounts)
    assert await asyncio.to_thread(recorder.terminate) == 0
    with open_store(recorder.store_root) as reader:
        accounts = list(reader.read_messages("accounts"))
    assert accounts == [account(step) for step in range(1, load.accounts + 1)]


class _Nowhere:
    def publish_lossy(self, subject: str, message: Trade) -> bool:
        return True


async def command(stack, verb: str) -> CommandReply:
    cli = await stack.bus("cli")
    request = Command(verb, "tester", "test", "c", "{}", 1)
    reply = await cli.request(subjects.command("recorder", verb), request, timeout_s=20)
    assert isinstance(reply, CommandReply)
    return reply


async def catches_up(stack, recorder: RecorderProcess, newest: int) -> None:
    """Wait until the last account published is in the store: a fast publisher leaves a backlog in the stream."""
    count = "SELECT coalesce(max(ledger_sequence), 0) FROM accounts"
    async with asyncio.timeout(60):
        while True:
            assert (await command(stack, "flush")).ok
            with open_store(recorder.store_root) as reader:
                ((last,),) = reader.query(count).rows
            if last >= newest:
                return
            await asyncio.sleep(0.1)


async def rows_grow(recorder: RecorderProcess, table: str) -> None:
    """Wait until this process has written rows of a table twice."""
    seen: set[float] = set()
    async with asyncio.timeout(40):
        while len(seen - {0.0}) < 2:
            seen.add(await asyncio.to_thread(recorder.metric, "rows_total", table=table))
            await asyncio.sleep(0.02)


def grown_to(recorder: RecorderProcess, rows: int) -> bool:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if recorder.metric("rows_total", table="accounts") >= rows:
            return True
        time.sleep(0.05)
    return False


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail("the condition did not come true in time")

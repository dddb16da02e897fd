"""Measure ticks from NATS through the recorder, as a process of its own, into QuestDB, and what an outage costs.

    python tests/benchmarks/questdb_stack.py [--ticks 1000000] [--outage 20] [--rate 1000] [--json]

`flood`: batches of 50 trades, as many as the recorder takes without a loss (the publisher waits while too many are on
their way; core NATS would drop them), until every one is visible; the recorder's memory along the way, its settings the
default ones.
`latency`: one tick at a time, published until a reader sees it, with the recorder's shortest flush interval (50 ms).
`outage`: QuestDB is killed for `--outage` seconds under `--rate` ticks a second, and the recorder once in the middle;
then every row that the recorder took must be there once. `--outage 600` is the ten minutes that must lose nothing.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from shared.bus import subjects
from shared.bus.nats import NatsBus
from shared.bus.permissions import roles
from shared.bus.server import find_server
from shared.bus.streams import BUCKETS, STREAMS
from shared.errors import ConfigError, StoreUnavailableError
from shared.messages import Side, Trade, TradeBatch
from shared.messages.trade_batch import packed
from shared.store.questdb.server import HTTP_PASSWORD, find_jar, find_java, password_file
from shared.store.questdb.sink import QuestdbSink
from shared.testing.nats import RealNats
from shared.testing.questdb import RealQuestdb
from shared.testing.recorder import RecorderProcess
from shared.testing.ticks import START_NS

BATCH = 50
ON_THE_WAY_MAX = 180_000
SCRAPE_INTERVAL_S = 0.2
STEP_NS = 100_000
WARM_TICKS = 200_000
QUERY_TIMEOUT_S = 120.0
FLUSH_INTERVAL_S, FLOOD_INTERVAL_S = 0.05, 2.0
SAMPLES = 20
PRICES = packed("d", (400 + number % 64 / 64 for number in range(64 + BATCH)))
QUANTITIES = packed("d", (number % 8 / 8 + 1 for number in range(8 + BATCH)))


def trade(venue: str, number: int, since_ns: int) -> Trade:
    now_ns = since_ns + number * STEP_NS
    return Trade(
        venue, "TAO-USDT", str(number), Side.BUY, 400 + number % 64 / 64, number % 8 / 8 + 1, now_ns, now_ns, number
    )


def batch(venue: str, first: int, since_ns: int) -> TradeBatch:
    """Return the trades from number `first` on; the publisher must not be what is measured."""
    now_ns, numbers = since_ns + first * STEP_NS, range(first, first + BATCH)
    times_ns = packed("q", range(now_ns, now_ns + BATCH * STEP_NS, STEP_NS))
    return TradeBatch(
        venue, "TAO-USDT", tuple(map(str, numbers)), b"\1" * BATCH, PRICES[8 * (first % 64) :][: 8 * BATCH],
        QUANTITIES[8 * (first % 8) :][: 8 * BATCH], times_ns, times_ns, packed("q", numbers),
    )  # fmt: skip


def memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def visible(sink: QuestdbSink, venue: str) -> int:
    return int(str(sink._query(f"SELECT count() FROM trades WHERE venue = '{venue}'")[0][0]))


def checked(sink: QuestdbSink, venue: str) -> tuple[int, int, int]:
    """Return how many rows of a venue there are, the sum of their numbers, and how many numbers."""
    asked = f"SELECT count(), sum(sequence), count_distinct(sequence) FROM trades WHERE venue = '{venue}'"
    answer = sink._ask(asked, QUERY_TIMEOUT_S)["dataset"]
    ((found, total, distinct),) = msgspec.convert(answer, list[tuple[int, int, int]])
    return found, total, distinct


async def until(condition: Callable[[], bool], timeout_s: float = 600) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if await asyncio.to_thread(condition):
                return
        except StoreUnavailableError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit("it never became true")
        await asyncio.sleep(0.05)


async def flood(
    bus: NatsBus, recorder: RecorderProcess, server: RealQuestdb, sink: QuestdbSink, *, venue: str, ticks: int
) -> dict[str, float | list[float]]:
    """Publish `ticks` trades as fast as the recorder takes them."""
    subject, since_ns = subjects.trade(venue, "TAO-USDT"), START_NS + 3_600_000_000_000 * (venue != "warm")
    memory: list[float] = []
    own_s, server_s = processor_s(recorder.pid), processor_s(server.pid)
    began = time.perf_counter()
    before = taken = await asyncio.to_thread(recorder.metric, "rows_total", table="trades")
    for first in range(1, ticks + 1, BATCH):
        bus.publish_lossy(subject, batch(venue, first, since_ns))
        if first % (20 * BATCH) == 1:
            await asyncio.sleep(0)
        # A scrape costs the recorder milliseconds, so few of them.
        while first + before - taken > ON_THE_WAY_MAX:
            await asyncio.sleep(SCRAPE_INTERVAL_S)
            taken = await asyncio.to_thread(recorder.metric, "rows_total", table="trades")
        if (first - 1) % max(BATCH, ticks // SAMPLES // BATCH * BATCH) == 0:
            memory.append(round(memory_mib(recorder.pid), 1))
    last = (ticks + BATCH - 1) // BATCH * BATCH
    await until(lambda: recorder.metric("questdb_spool_rows") == 0 and sink.condition().lag == 0)
    await until(lambda: visible(sink, venue) == last, 60)
    took_s = time.perf_counter() - began
    found, total, distinct = checked(sink, venue)
    memory.append(round(memory_mib(recorder.pid), 1))
    return {
        "ticks": last,
        "rows_per_s": round(last / took_s),
        "lost": last - found,
        "doubled": found - distinct,
        "checksum_is_right": float(total == last * (last + 1) // 2),
        "recorder_cpu_us_a_row": round((processor_s(recorder.pid) - own_s) / last * 1e6, 2),
        "server_cpu_us_a_row": round((processor_s(server.pid) - server_s) / last * 1e6, 2),
        "memory_mib": memory,
        "memory_grew_mib_over_the_last_half": round(memory[-1] - memory[len(memory) // 2], 1),
    }


async def latency(bus: NatsBus, sink: QuestdbSink, n: int = 60) -> dict[str, float]:
    """Publish one tick at a time; time until a reader sees it."""
    later_ns = START_NS + 5 * 86_400 * 1_000_000_000
    took = []
    for number in range(1, n + 1):
        began = time.perf_counter()
        bus.publish_lossy(subjects.trade("latency", "TAO-USDT"), trade("latency", number, later_ns))
        asked = "SELECT count() FROM trades WHERE ts >= '2026-01-06' AND venue = 'latency'"
        while (await asyncio.to_thread(sink._query, asked)) != [[number]]:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.002)
        took.append((time.perf_counter() - began) * 1_000)
        await asyncio.sleep(0.03)
    took.sort()
    return {"median_ms": round(statistics.median(took), 1), "p95_ms": round(took[int(0.95 * n) - 1], 1)}


async def outage(
    bus: NatsBus, recorder: RecorderProcess, server: RealQuestdb, sink: QuestdbSink, *, outage_s: float, rate: int
) -> dict[str, float]:
    """Kill the server under load, the recorder in the middle of it, and count what is there in the end."""
    subject, later_ns = subjects.trade("outage", "TAO-USDT"), START_NS + 6 * 86_400 * 1_000_000_000
    published, stop = 0, asyncio.Event()
    may_publish = asyncio.Event()
    may_publish.set()

    async def load() -> None:
        nonlocal published
        while not stop.is_set():
            await may_publish.wait()
            for _ in range(max(1, rate // 20)):
                published += 1
                bus.publish_lossy(subject, trade("outage", published, later_ns))
            await asyncio.sleep(0.05)

    loading = asyncio.create_task(load())
    await asyncio.sleep(2)
    await asyncio.to_thread(server.kill)
    began = time.monotonic()
    await asyncio.sleep(outage_s / 2)
    # A recorder that is not there takes no ticks: nobody promises those. What it has taken must come through.
    may_publish.clear()
    await until(lambda: recorder.metric("backlog_rows") == 0)
    await asyncio.sleep(1)
    spool_at_kill = await asyncio.to_thread(recorder.metric, "questdb_spool_rows")
    await asyncio.to_thread(recorder.kill)
    await asyncio.to_thread(recorder.start)
    may_publish.set()
    await asyncio.sleep(max(0.0, outage_s - (time.monotonic() - began)))
    spool_rows = await asyncio.to_thread(recorder.metric, "questdb_spool_rows")
    spool_bytes = await asyncio.to_thread(recorder.metric, "questdb_spool_bytes")
    memory = memory_mib(recorder.pid)
    lasted_s = time.monotonic() - began
    await asyncio.to_thread(server.start)
    back = time.monotonic()
    stop.set()
    await loading
    await until(lambda: visible(sink, "outage") >= published)
    drained_s = time.monotonic() - back
    found, total, distinct = checked(sink, "outage")
    return {
        "outage_s": round(lasted_s, 1),
        "published": published,
        "visible": found,
        "lost": published - distinct,
        "doubled": found - distinct,
        "checksum_is_right": float(total == published * (published + 1) // 2),
        "dropped": await asyncio.to_thread(recorder.metric, "questdb_rows_total", kind="dropped"),
        "spool_rows_at_the_kill": spool_at_kill,
        "spool_rows_at_the_end": spool_rows,
        "spool_mib": round(spool_bytes / 2**20, 1),
        "recorder_memory_mib": round(memory, 1),
        "all_visible_after_s": round(drained_s, 1),
    }


async def measure(options: argparse.Namespace, folder: Path, server: RealQuestdb) -> dict[str, object]:
    (folder / "nats").mkdir()
    nats = RealNats(folder / "nats", find_server(), roles())
    nats.start()
    sink = server.sink(60)
    buses: list[NatsBus] = []
    flooded = RecorderProcess(nats, folder / "state", flush_interval_s=FLOOD_INTERVAL_S)
    recorder = RecorderProcess(nats, folder / "state", flush_interval_s=FLUSH_INTERVAL_S)
    found: dict[str, object] = {}
    try:
        for user in ("admin", "market_data"):
            buses.append(NatsBus(nats.url, service=user, nkey_file=nats.seed(user), on_fatal=_fail))
            await buses[-1].connect()
        await buses[0].bootstrap(STREAMS, BUCKETS)
        if options.ticks:
            await asyncio.to_thread(flooded.start)
            await until(lambda: flooded.metric("questdb_ready") == 1)
            # The first rows pay for imports, and for the server's compiler.
            await flood(buses[1], flooded, server, sink, venue="warm", ticks=WARM_TICKS)
            found["flood"] = await flood(buses[1], flooded, server, sink, venue="flood", ticks=options.ticks)
            await asyncio.to_thread(flooded.terminate)
        await asyncio.to_thread(recorder.start)
        await until(lambda: recorder.metric("questdb_ready") == 1)
        if options.ticks:
            found["latency"] = await latency(buses[1], sink)
        if options.outage:
            found["outage"] = await outage(buses[1], recorder, server, sink, outage_s=options.outage, rate=options.rate)
        await asyncio.to_thread(recorder.terminate)
    finally:
        for bus in buses:
            await bus.close()
        flooded.kill()
        recorder.kill()
        nats.kill()
        sink.close()
    return found


def _fail(error: BaseException) -> None:
    raise error


def main() -> int:
    """Run everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--outage", type=float, default=20.0, help="seconds")
    parser.add_argument("--rate", type=int, default=1_000, help="ticks a second during the outage")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        java, jar = find_java(), find_jar()
    except ConfigError as error:
        sys.stdout.write(f"skipped: {error}\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="cascade-bench-") as folder:
        server = RealQuestdb(Path(folder) / "server", java, jar)
        os.environ["CASCADE_RECORDER__QUESTDB_URL"] = server.url
        os.environ["CASCADE_RECORDER__QUESTDB_PASSWORD_FILE"] = str(password_file(server.directory, HTTP_PASSWORD))
        server.start()
        try:
            found = asyncio.run(measure(options, Path(folder), server))
        finally:
            server.kill()
    lines = [json.dumps(found)] if options.json else [f"{name}: {figures}" for name, figures in found.items()]
    sys.stdout.write("\n".join([*lines, f"load {os.getloadavg()[0]:.1f}"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How much the recorder takes, and how much of what has no stream a kill -9 costs.

    python tests/benchmarks/recorder.py [--kills 6] [--interval 2.0] [--rate 2000] [--json]

Needs a nats-server, as the stack does. Numbers only; the promises are in tests/integration/recorder.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from shared.bus import subjects
from shared.bus.nats import NatsBus
from shared.bus.permissions import roles
from shared.bus.server import find_server
from shared.bus.streams import BUCKETS, STREAMS
from shared.messages import Side, Trade, TradeBatch
from shared.store.duck import open_store
from shared.store.parquet import ParquetStore
from shared.store.port import Batch, Row
from shared.testing import samples
from shared.testing.nats import RealNats
from shared.testing.recorder import RecorderProcess

BATCH_ROWS = 10_000
BURST_TRADES = 300_000
SUBJECT = subjects.trade("sandbox", "TAO-USDT")


def trade(number: int) -> Trade:
    return Trade(
        "sandbox", "TAO-USDT", f"t{number}", Side.BUY, 400.0 + number % 100 / 100, 2.0, samples.START_NS,
        samples.START_NS, number,
    )  # fmt: skip


def store_rates(directory: Path) -> dict[str, float]:
    """Measure the store alone: rows a second written durably, and read back as messages."""
    store = ParquetStore(directory, lambda: samples.START_NS)
    store.open()
    rows = [Row(trade(number), SUBJECT, samples.START_NS) for number in range(BATCH_ROWS)]
    began = time.perf_counter()
    sizes = [store.append(Batch("trades", "2026-01-01", rows)).bytes for _ in range(20)]
    write_s = time.perf_counter() - began
    small = [Row(samples.account(1), "acct.sandbox", 1, "ACCOUNTS", 1, 1)]
    began = time.perf_counter()
    for _ in range(200):
        store.append(Batch("accounts", "2026-01-01", small))
    small_s = time.perf_counter() - began
    store.close()
    with open_store(directory) as reader:
        began = time.perf_counter()
        read = sum(1 for _ in reader.read_messages("trades"))
        read_s = time.perf_counter() - began
    return {
        "store_write_rows_per_s": round(20 * BATCH_ROWS / write_s),
        "store_bytes_per_trade": round(statistics.mean(sizes) / BATCH_ROWS, 1),
        "store_one_row_file_ms": round(small_s / 200 * 1_000, 2),
        "store_read_messages_per_s": round(read / read_s),
    }


async def process_rates(recorder: RecorderProcess, bus: NatsBus) -> dict[str, float]:
    """Measure the process: a burst of trades in batches of 50, as market data sends them."""
    await asyncio.to_thread(recorder.start)
    began = time.perf_counter()
    for first in range(1, BURST_TRADES + 1, 50):
        bus.publish_lossy(SUBJECT, TradeBatch.of([trade(number) for number in range(first, first + 50)]))
        if first % 2_500 == 1:
            await asyncio.sleep(0)
    sent_s = time.perf_counter() - began
    settled = -1.0
    while (rows := await asyncio.to_thread(recorder.metric, "rows_total", table="trades")) != settled or not rows:
        settled = rows
        ended = time.perf_counter()
        await asyncio.sleep(2.5)
    lost = await asyncio.to_thread(recorder.metric, "lost_rows_total", reason="no_room")
    flushes = await asyncio.to_thread(recorder.metric, "flush_seconds_count")
    flush_s = await asyncio.to_thread(recorder.metric, "flush_seconds_sum")
    await asyncio.to_thread(recorder.terminate)
    return {
        "burst_published_per_s": round(BURST_TRADES / sent_s),
        "burst_recorded": rows,
        "burst_counted_lost": lost,
        "burst_rows_per_s_at_least": round(rows / (ended - began)),
        "burst_mean_flush_ms": round(flush_s / flushes * 1_000, 1),
    }


async def windows(
    recorder: RecorderProcess, bus: NatsBus, durable: NatsBus, *, kills: int, interval_s: float, rate: int
) -> dict[str, float | list[float]]:
    """Measure for each kill how old the oldest lost trade was."""
    published: list[float] = []
    accounts = 0
    stop = asyncio.Event()

    async def trades() -> None:
        while not stop.is_set():
            for _ in range(max(1, rate // 100)):
                published.append(time.monotonic())
                bus.publish_lossy(SUBJECT, trade(BURST_TRADES + len(published)))
            await asyncio.sleep(0.01)

    async def snapshots() -> None:
        nonlocal accounts
        while not stop.is_set():
            message = samples.account(1, ledger_sequence=accounts + 1)
            await durable.publish(subjects.account("sandbox"), message, message_id=f"a{accounts + 1}")
            accounts += 1

    running = asyncio.gather(trades(), snapshots())
    found: list[float] = []
    for kill in range(kills):
        await asyncio.to_thread(recorder.start)
        # Another moment of the interval each time.
        await asyncio.sleep(2 * interval_s + interval_s * kill / kills)
        killed_at = time.monotonic()
        await asyncio.to_thread(recorder.kill)
        with open_store(recorder.store_root) as reader:
            ((newest,),) = reader.query("SELECT max(sequence) FROM trades").rows
        assert isinstance(newest, int)
        found.append(round(killed_at - published[newest - BURST_TRADES], 3))
    stop.set()
    await running
    await asyncio.to_thread(recorder.start)
    while await asyncio.to_thread(recorder.metric, "backlog_rows"):  # noqa: ASYNC110 - it happens in another process
        await asyncio.sleep(0.2)
    await asyncio.to_thread(recorder.terminate)
    with open_store(recorder.store_root) as reader:
        ((kept, distinct, raw),) = reader.query(
            "SELECT count(*), count(DISTINCT ledger_sequence), (SELECT count(*) FROM raw.accounts) FROM accounts"
        ).rows
    return {
        "flush_interval_s": interval_s,
        "lost_window_s_max": max(found),
        "lost_window_s_each": found,
        "durable_published": accounts,
        "durable_recorded": float(str(kept)),
        "durable_distinct": float(str(distinct)),
        "durable_redelivered_rows_hidden": float(str(raw)) - float(str(kept)),
    }


async def measure(options: argparse.Namespace, directory: Path) -> dict[str, object]:
    results: dict[str, object] = dict(store_rates(directory / "alone"))
    (directory / "nats").mkdir()
    server = RealNats(directory / "nats", find_server(), roles())
    server.start()
    buses = []
    try:
        for user in ("admin", "market_data", "execution"):
            bus = NatsBus(server.url, service=user, nkey_file=server.seed(user), on_fatal=_fail)
            await bus.connect()
            buses.append(bus)
        await buses[0].bootstrap(STREAMS, BUCKETS)
        recorder = RecorderProcess(server, directory / "state", flush_interval_s=options.interval)
        results |= await process_rates(recorder, buses[1])
        results |= await windows(
            recorder, buses[1], buses[2], kills=options.kills, interval_s=options.interval, rate=options.rate
        )
    finally:
        for bus in buses:
            await bus.close()
        server.kill()
    return results


def _fail(error: BaseException) -> None:
    raise error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--interval", type=float, default=2.0, help="flush_interval_s")
    parser.add_argument("--rate", type=int, default=2_000, help="trades a second while the recorder is killed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cascade-bench-") as directory:
        results = asyncio.run(measure(options, Path(directory)))
    lines = [json.dumps(results)] if options.json else [f"{name:36} {value}" for name, value in results.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

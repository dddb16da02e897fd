"""Measure the writer to QuestDB on a real server: rows a second, tick to visible, memory; baseline is `Sender.row`.

    python tests/benchmarks/questdb_writer.py [--rows 2000000] [--json]

A row counts when it is visible to a reader; lost = offered - visible. The baseline sends the same trades one
`Sender.row` at a time into the same table; both take turns, lap by lap. Most of the cost is the server's own: parsing,
deduplication and six materialised views, on the same cores; the processor time a row hardly depends on what else runs.
"""

import argparse
import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import msgspec
from questdb import Sender, TimestampNanos

from shared.errors import ConfigError
from shared.messages import Trade
from shared.store.port import Row
from shared.store.questdb_options import WriterOptions
from shared.store.questdb_server import HTTP_PASSWORD, USER, find_jar, find_java, password_file
from shared.store.questdb_sink import QuestdbSink
from shared.store.questdb_writer import QuestdbWriter
from shared.testing.questdb import RealQuestdb
from shared.testing.ticks import rows_of, trades

BLOCK = 100_000
PART = 2_000
LAP_BLOCKS = 3
SHIFT_NS = 3_600 * 1_000_000_000


def rss_mib() -> float:
    """Return what this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def server_cpu_s(server: RealQuestdb) -> float:
    """Return the processor time that the server has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def visible(sink: QuestdbSink, table: str, venue: str) -> int:
    (row,) = sink._query(f"SELECT count() FROM {table} WHERE venue = '{venue}'")
    return int(str(row[0]))


def wait_for(condition: Callable[[], bool], timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it never became visible")
        time.sleep(0.01)


def shifted(rows: list[Row], block: int) -> list[Row]:
    """Return the same trades an hour later for each block, as new rows with new ids."""
    replace = msgspec.structs.replace
    return [
        replace(row, message=replace(row.message, ts_event_ns=row.message.ts_event_ns + block * SHIFT_NS))
        for row in rows
    ]


class Lap:
    """Hand out the next rows, made outside the clock: a market would have made them."""

    def __init__(self, venue: str) -> None:
        self._rows = rows_of(trades(BLOCK, venue=venue))

    def rows(self) -> list[Row]:
        self._rows = shifted(self._rows, 1)
        return self._rows


class Contender:
    """Time laps into the same table, its views included, until every row is visible."""

    def __init__(self, server: RealQuestdb, sink: QuestdbSink, venue: str, send: Callable[[list[Row]], None]) -> None:
        self._server, self._sink, self._venue, self._send = server, sink, venue, send
        self._laps = Lap(venue)
        self.made, self.rates = 0, list[float]()
        self.own_us, self.server_us = list[float](), list[float]()

    def lap(self, blocks: int) -> None:
        parts = [self._laps.rows() for _ in range(blocks)]
        gc.collect()
        own_s, server_s = time.process_time(), server_cpu_s(self._server)
        began = time.perf_counter()
        for rows in parts:
            self._send(rows)
        self.made += blocks * BLOCK
        wait_for(lambda: visible(self._sink, "trades", self._venue) >= self.made)
        self.rates.append(blocks * BLOCK / (time.perf_counter() - began))
        # What the last lap left to do is not the next one's.
        wait_for(lambda: self._sink.condition().lag == 0)
        microseconds = 1e6 / (blocks * BLOCK)
        self.own_us.append((time.process_time() - own_s) * microseconds)
        self.server_us.append((server_cpu_s(self._server) - server_s) * microseconds)

    def figures(self) -> dict[str, float]:
        return {
            "rows": self.made,
            "rows_per_s_median": statistics.median(self.rates),
            "rows_per_s_best": max(self.rates),
            "own_cpu_us_a_row": statistics.median(self.own_us),
            "server_cpu_us_a_row": statistics.median(self.server_us),
            "lost": self.made - visible(self._sink, "trades", self._venue),
        }


def compare(server: RealQuestdb, sink: QuestdbSink, directory: Path, total: int) -> dict[str, dict[str, float]]:
    """Let the writer and the naive client take turns, so that what else the machine does hits both."""
    writer = QuestdbWriter(
        server.sink(60), directory, WriterOptions(flush_interval_s=0.05, rows_max=50_000, pending_max=400_000)
    )
    writer.start()
    password = password_file(server.directory, HTTP_PASSWORD).read_text()
    sender = Sender.from_conf(f"http::addr=127.0.0.1:{server.ports.http};username={USER};password={password};")
    sender.establish()

    def offer(rows: list[Row]) -> None:
        for start in range(0, BLOCK, PART):
            part = rows[start : start + PART]
            while (taken := writer.offer(part)) < len(part):
                part = part[taken:]
                time.sleep(0.001)

    def send_rows(rows: list[Row]) -> None:
        for row in rows:
            one = row.message
            assert isinstance(one, Trade)
            sender.row(
                "trades",
                symbols={"venue": one.venue, "instrument": one.instrument, "side": one.side.value},
                columns={
                    "trade_id": one.trade_id,
                    "price": one.price,
                    "quantity": one.quantity,
                    "ts_recv_ns": one.ts_recv_ns,
                    "sequence": one.sequence,
                },
                at=TimestampNanos(one.ts_event_ns),
            )
        sender.flush()

    ours, naive = Contender(server, sink, "writer", offer), Contender(server, sink, "naive", send_rows)
    memory = []
    for contender in (ours, naive):
        contender.lap(1)
        for figures in (contender.rates, contender.own_us, contender.server_us):
            figures.clear()
    gc.freeze()
    while ours.made < total:
        naive.lap(LAP_BLOCKS)
        ours.lap(LAP_BLOCKS)
        memory.append(rss_mib())
    refused = writer.status.refused_rows
    writer.close()
    sender.close()
    found = ours.figures() | {"refused": refused, "memory_first_mib": memory[0], "memory_last_mib": memory[-1]}
    found["times_naive"] = statistics.median(a / b for a, b in zip(ours.rates, naive.rates, strict=True))
    return {"naive": naive.figures(), "writer": found}


def latency(server: RealQuestdb, sink: QuestdbSink, directory: Path, n: int = 150) -> dict[str, float]:
    """Offer one tick at a time; time until a reader sees it."""
    writer = QuestdbWriter(server.sink(), directory, WriterOptions(flush_interval_s=0.005))
    writer.start()
    took: list[float] = []
    for number, row in enumerate(rows_of(trades(n, venue="latency"))):
        began = time.perf_counter()
        writer.offer([row])
        while visible(sink, "trades", "latency") <= number:
            time.sleep(0.001)
        took.append((time.perf_counter() - began) * 1_000)
    writer.close()
    ordered = sorted(took)
    return {
        "median_ms": statistics.median(ordered),
        "p99_ms": ordered[int(0.99 * len(ordered)) - 1],
        "largest_ms": ordered[-1],
    }


def main() -> int:
    """Run everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        java, jar = find_java(), find_jar()
    except ConfigError as error:
        sys.stdout.write(f"skipped: {error}\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        server = RealQuestdb(Path(folder) / "server", java, jar)
        server.start()
        try:
            sink = server.sink()
            sink.prepare()
            found = compare(server, sink, Path(folder) / "spool", max(options.rows, 5 * BLOCK))
            found["latency"] = latency(server, sink, Path(folder) / "spool-latency")
            sink.close()
        finally:
            server.kill()
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    for name, figures in found.items():
        told = ", ".join(f"{key} {value:,.1f}" for key, value in figures.items())
        sys.stdout.write(f"{name}: {told}\n")
    return int(found["writer"]["lost"] != 0)


if __name__ == "__main__":
    sys.exit(main())

"""Measure the writer to QuestDB on a real server: rows a second, tick to visible, memory.

    python tests/benchmarks/questdb_writer.py [--rows 2000000] [--json]

A row counts when it is visible to a reader; lost = offered - visible. Market time only goes on, as a live market's.
All take turns, lap by lap, into the same table with the same keys and views, so what else the machine does hits all:
`naive` sends one `Sender.row` at a time; `each_commit` is the writer with views that the server makes anew at every
commit, as it would by itself; `writer` is ours; `ceiling` sends line protocol that was made outside the clock: what
the server takes at all. The processor time a row (the bars' share included) hardly depends on what else runs.
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
from typing import NamedTuple

import msgspec
from questdb import Sender, TimestampNanos

from shared.errors import ConfigError
from shared.messages import Trade
from shared.store.port import Row
from shared.store.questdb.frame import frame_of, pandas_of
from shared.store.questdb.options import WriterOptions
from shared.store.questdb.schema import FIRST_VIEW, FIRST_VIEW_REFRESH, TIME
from shared.store.questdb.server import HTTP_PASSWORD, USER, find_jar, find_java, password_file
from shared.store.questdb.sink import QuestdbSink
from shared.store.questdb.writer import QuestdbWriter
from shared.store.tables import TABLE_BY_NAME
from shared.testing.questdb import RealQuestdb
from shared.testing.ticks import rows_of, trades

BLOCK = 100_000
PART = 2_000
LAP_BLOCKS = 3
STEP_NS = 100_000  # ten thousand trades a second of market time
SPAN_NS = BLOCK * STEP_NS


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


def visible(sink: QuestdbSink, table: str, venue: str, since: str = "2026-01-01") -> int:
    (row,) = sink._query(f"SELECT count() FROM {table} WHERE ts >= '{since}' AND venue = '{venue}'")
    return int(str(row[0]))


def wait_for(condition: Callable[[], bool], timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it never became visible")
        time.sleep(0.005)


class Market:
    """Hand out the next rows, made outside the clock: a market would have made them. Time only goes on."""

    def __init__(self) -> None:
        self._rows = rows_of(trades(BLOCK, step_ns=STEP_NS))
        self._block = 0

    def rows(self, venue: str) -> list[Row]:
        self._block += 1
        shift_ns, first = self._block * SPAN_NS, self._block * BLOCK
        replace = msgspec.structs.replace
        return [
            Row(
                replace(
                    row.message,
                    venue=venue,
                    trade_id=str(first + number),
                    ts_event_ns=row.message.ts_event_ns + shift_ns,  # type: ignore[attr-defined] # these are trades
                ),
                row.subject,
                row.recorded_at_ns,
            )
            for number, row in enumerate(self._rows)
        ]


class Around(NamedTuple):
    """Hold what all share."""

    server: RealQuestdb
    sink: QuestdbSink
    market: Market


class Contender[T]:
    """Time laps into one table until every row is visible; `made` turns rows into what `send` takes, off the clock."""

    def __init__(
        self,
        around: Around,
        venue: str,
        *,
        send: Callable[[T], None],
        made: Callable[[list[Row]], T],
        flush: Callable[[], object],
        views: str = FIRST_VIEW_REFRESH,
    ) -> None:
        self._server, self._sink, self._market, self._venue = around.server, around.sink, around.market, venue
        self._send, self._made, self._flush, self._views = send, made, flush, views
        self.sent, self.rates = 0, list[float]()
        self.own_us, self.server_us = list[float](), list[float]()

    def lap(self, blocks: int) -> None:
        self._sink._execute(f'ALTER MATERIALIZED VIEW "{FIRST_VIEW}" SET REFRESH {self._views}')
        parts = [self._made(self._market.rows(self._venue)) for _ in range(blocks)]
        gc.collect()
        own_s, server_s = time.process_time(), server_cpu_s(self._server)
        began = time.perf_counter()
        for part in parts:
            self._send(part)
        self._flush()
        self.sent += blocks * BLOCK
        wait_for(lambda: self._sink.condition().lag == 0)
        if visible(self._sink, "trades", self._venue) != self.sent:
            wait_for(lambda: visible(self._sink, "trades", self._venue) >= self.sent)
        self.rates.append(blocks * BLOCK / (time.perf_counter() - began))
        own_s = time.process_time() - own_s
        # What this lap left to do is not the next one's, and the bars are part of its cost.
        wait_for(self._sink.refresh)
        wait_for(lambda: self._bars() == self.sent)
        microseconds = 1e6 / (blocks * BLOCK)
        self.own_us.append(own_s * microseconds)
        self.server_us.append((server_cpu_s(self._server) - server_s) * microseconds)

    def _bars(self) -> int:
        ((found,),) = self._sink._query(f"SELECT sum(trades) FROM trades_1d WHERE venue = '{self._venue}'")
        return int(str(found or 0))

    def forget(self) -> None:
        for figures in (self.rates, self.own_us, self.server_us):
            figures.clear()

    def figures(self) -> dict[str, float]:
        return {
            "rows": self.sent,
            "rows_per_s_median": statistics.median(self.rates),
            "rows_per_s_best": max(self.rates),
            "own_cpu_us_a_row": statistics.median(self.own_us),
            "server_cpu_us_a_row": statistics.median(self.server_us),
            "lost": self.sent - visible(self._sink, "trades", self._venue),
        }


def compare(server: RealQuestdb, sink: QuestdbSink, directory: Path, total: int) -> dict[str, dict[str, float]]:
    """Let all take turns, so that what else the machine does hits all."""
    writer = QuestdbWriter(server.sink(60), directory, WriterOptions(pending_max=400_000))
    writer.start()
    password = password_file(server.directory, HTTP_PASSWORD).read_text()
    sender = Sender.from_conf(
        f"http::addr=127.0.0.1:{server.ports.http};username={USER};password={password};protocol_version=2;"
    )
    sender.establish()

    def offer(rows: list[Row]) -> None:
        for start in range(0, BLOCK, PART):
            part = rows[start : start + PART]
            while (taken := writer.offer(part)) < len(part):
                part = part[taken:]
                time.sleep(0.001)

    def flush() -> None:
        if not writer.flush(300):
            raise SystemExit("the writer did not get rid of its rows")

    def encoded(rows: list[Row]) -> Callable[[], None]:
        buffer = sender.new_buffer()
        buffer.dataframe(pandas_of(frame_of(TABLE_BY_NAME["trades"], rows)[0]), table_name="trades", at=TIME)
        return lambda: sender.flush(buffer)

    around = Around(server, sink, Market())
    naive = Contender(around, "naive", send=lambda rows: send_rows(sender, rows), made=list[Row], flush=sender.flush)
    each_commit = Contender(around, "each_commit", send=offer, made=list[Row], flush=flush, views="IMMEDIATE")
    ours = Contender(around, "writer", send=offer, made=list[Row], flush=flush)
    ceiling = Contender(around, "ceiling", send=lambda send: send(), made=encoded, flush=sender.flush)
    contenders: dict[str, Contender[list[Row]] | Contender[Callable[[], None]]] = {
        "naive": naive, "each_commit": each_commit, "writer": ours, "ceiling": ceiling
    }  # fmt: skip
    # The server's compiler needs its time.
    for contender in contenders.values():
        contender.lap(LAP_BLOCKS)
        contender.forget()
    gc.freeze()
    memory = []
    while ours.sent < total:
        for contender in contenders.values():
            contender.lap(LAP_BLOCKS)
        memory.append(rss_mib())
    status = writer.status
    writer.close()
    sender.close()
    found = {name: contender.figures() for name, contender in contenders.items()}
    found["writer"] |= {"refused": status.refused_rows, "dropped": status.dropped_rows}
    found["writer"] |= {"memory_first_mib": memory[0], "memory_last_mib": memory[-1]}
    for name, contender in contenders.items():
        if contender is not ours:
            ratios = [a / b for a, b in zip(ours.rates, contender.rates, strict=True)]
            found["writer"][f"times_{name}"] = statistics.median(ratios)
    return found


def send_rows(sender: Sender, rows: list[Row]) -> None:
    """Send as an example of the client does."""
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


def latency(server: RealQuestdb, sink: QuestdbSink, directory: Path, n: int = 150) -> dict[str, float]:
    """Offer one tick at a time to a table that holds millions; time until a reader sees it."""
    writer = QuestdbWriter(server.sink(), directory, WriterOptions(flush_interval_s=0.005))
    writer.start()
    took: list[float] = []
    later_ns = 90 * 86_400 * 1_000_000_000
    since = "2026-03-01"
    for number, row in enumerate(rows_of(trades(n, venue="latency"))):
        assert isinstance(row.message, Trade)
        late = msgspec.structs.replace(row.message, ts_event_ns=row.message.ts_event_ns + later_ns)
        began = time.perf_counter()
        writer.offer([msgspec.structs.replace(row, message=late)])
        while visible(sink, "trades", "latency", since) <= number:
            time.sleep(0.001)
        took.append((time.perf_counter() - began) * 1_000)
        time.sleep(0.02)
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
            found = compare(server, sink, Path(folder) / "spool", max(options.rows, 2 * LAP_BLOCKS * BLOCK))
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

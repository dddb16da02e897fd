"""Measure what keeping one order on the disk costs the sandbox venue, by how much it has to remember.

Run `python tests/benchmarks/sandbox_state.py [ORDERS …]`. Each row is a venue with so many ended orders, each with one
execution. An order that fills is placed and kept, in turns: `whole`, the state in one piece as it was before decision
32, and `rows`, what changed. Medians in milliseconds, both with their fsync; below, what one fsync of 4 KiB takes.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.model import HOUSE, Account, Market, OrderKind, PlaceOrder
from services.sandbox_exchange.files import write_file
from services.sandbox_exchange.state_file import StateFile, log_of, read_rows
from shared.messages import Instrument, Side

SYMBOL = "BTCUSDT"
GRID = Instrument("BTC-USDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), Decimal(0))
PRICE, QUANTITY = Decimal(100), Decimal("0.1")
TIMES = 15


def venue_with(orders: int) -> SandboxExchange:
    """Return a venue that filled so many orders of one account."""
    exchange = SandboxExchange(history_max=10_000_000)
    exchange.list_market(Market(SYMBOL, GRID))
    exchange.open_account(Account("trader", "key", "secret"), {"USDT": Decimal(10) ** 12}, 0)
    for number in range(orders):
        trade(exchange, number)
    return exchange


def trade(exchange: SandboxExchange, now_ns: int) -> None:
    """Fill one order."""
    for account, side in ((HOUSE, Side.SELL), ("trader", Side.BUY)):
        exchange.place(PlaceOrder(account, SYMBOL, side, OrderKind.LIMIT, quantity=QUANTITY, price=PRICE), now_ns)


def median_ms(run: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Return the median time of a call, after `before`, which is not counted."""
    times: list[float] = []
    for _ in range(TIMES):
        before()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def row(orders: int, folder: Path) -> str:
    """Return one venue's figures."""
    exchange, file, piece = venue_with(orders), StateFile(folder / f"{orders}.state"), folder / "piece"
    file.create(exchange.take_changes().puts)
    whole = median_ms(lambda: write_file(piece, exchange.dump()), lambda: trade(exchange, orders))
    file.write(exchange.take_changes())
    rows = median_ms(lambda: file.write(exchange.take_changes()), lambda: trade(exchange, orders))
    size = file.path.stat().st_size + log_of(file.path).stat().st_size
    file.close()
    start = time.perf_counter()
    read_rows(file.path)
    read_s = time.perf_counter() - start
    ratio = f"{whole / rows:,.0f}x"
    return f"{orders:>10,}{whole:>12.2f}{rows:>12.2f}{ratio:>9}{size / 1e6:>12.1f}{read_s:>10.2f}"


def main() -> None:
    """Print the table."""
    counts = [int(one) for one in sys.argv[1:]] or [0, 500, 5_000, 50_000]
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        lines = [f"{'orders':>10}{'whole, ms':>12}{'rows, ms':>12}{'ratio':>9}{'file, MB':>12}{'read, s':>10}"]
        lines += [row(count, folder) for count in counts]
        with (folder / "probe").open("wb", buffering=0) as probe:
            fsync = median_ms(lambda: os.fsync(probe.fileno()), lambda: probe.write(bytes(4096)))
        lines.append(f"one fsync: {fsync:.2f} ms")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

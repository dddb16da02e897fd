"""Binance's frames per second and core: ours against ccxt.pro on the same frames, in one run.

Run: python -m tests.benchmarks.binance_frames [frames]. Real frames (CASCADE_TEST_DATA) where they are, else made-up
ones. Both sides get each frame as the text that a socket gives, after the snapshot, and end with the same book: ccxt
through its `handle_message`, we through `MarketWire.on_frame` to the sink, so that both decode, build and hand over.
CPU time counts, not the wall clock; each row is the best of three.
"""

import asyncio
import gzip
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ccxt.pro
import msgspec

from shared.exchange.binance.feed import DepthAnswer, MarketFeed
from shared.exchange.binance.stream import MarketWire, stream_names
from shared.exchange.live.book import Applied
from shared.exchange.port import Streams
from shared.messages import Bar, Bbo, BookSnapshot, FeedState, Instrument, Trade

RECORDING = "hftbacktest_raw/spot_btcusdt_20240808.gz"
MARKET = {
    "id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "baseId": "BTC", "quoteId": "USDT",
    "type": "spot", "spot": True, "active": True, "linear": None, "inverse": None, "contract": False, "swap": False,
    "future": False, "option": False, "margin": False, "settle": None, "settleId": None,
    "precision": {"price": 0.01, "amount": 0.00001}, "limits": {}, "info": {},
}  # fmt: skip
LEVELS = 20


class CountingSink:
    """Count what is handed over."""

    def __init__(self) -> None:
        self.trades = self.books = 0

    def on_trades(self, trades: Sequence[Trade]) -> None:
        self.trades += len(trades)

    def on_bbo(self, bbo: Bbo) -> None:
        pass

    def on_book(self, book: BookSnapshot) -> None:
        self.books += 1

    def on_venue_bar(self, bar: Bar) -> None:
        pass

    def on_instrument(self, instrument: Instrument) -> None:
        pass

    def on_status(self, instrument: str | None, state: FeedState, reason: str) -> None:
        pass


def recorded() -> tuple[str, list[str], list[str]] | None:
    """Return the snapshot, the depth frames that follow it, and the trade frames, or None without the recording."""
    folder = os.environ.get("CASCADE_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
    path = Path(folder) / RECORDING
    if not path.exists():
        return None
    snapshot, depth, trades = "", [], []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            body = line.split(" ", 1)[1].strip()
            if body.startswith('{"lastUpdateId"'):
                snapshot = body
                continue
            frame = body.partition('"data":')[2][:-1]
            if "@depth" in body[:40]:
                depth.append(frame)
            elif "@trade" in body[:40]:
                trades.append(frame)
    version = json.loads(snapshot)["lastUpdateId"]
    return snapshot, [one for one in depth if json.loads(one)["u"] > version], trades


def made_up(count: int) -> tuple[str, list[str], list[str]]:
    """Return a snapshot of 1000 levels a side, depth frames of 20 changes, and trade frames."""
    draw = random.Random(7)
    bids = [[f"{60_000 - step * 0.01:.2f}", f"{draw.random() + 0.1:.5f}"] for step in range(1, 1_001)]
    asks = [[f"{60_000 + step * 0.01:.2f}", f"{draw.random() + 0.1:.5f}"] for step in range(1, 1_001)]
    depth, trades, version = [], [], 1_000
    for number in range(count):
        changes = [
            [[row[0], f"{draw.random() + 0.1:.5f}"] for row in draw.sample(side[: 10 * LEVELS], LEVELS // 2)]
            for side in (bids, asks)
        ]
        event = {"e": "depthUpdate", "E": 1_723_161_255_208 + number, "s": "BTCUSDT", "U": version + 1}
        version += LEVELS
        depth.append(json.dumps({**event, "u": version, "b": changes[0], "a": changes[1]}, separators=(",", ":")))
        trade = {"e": "trade", "E": event["E"], "s": "BTCUSDT", "t": number + 1, "p": "60000.01", "q": "0.00100"}
        trades.append(json.dumps({**trade, "T": event["E"], "m": True, "M": True}, separators=(",", ":")))
    return json.dumps({"lastUpdateId": 1_000, "bids": bids, "asks": asks}), depth, trades


def ours(snapshot: str, frames: list[str]) -> tuple[float, float]:
    """Return the seconds of CPU and the best bid (0 for none) after the frames."""
    sink = CountingSink()
    feed = MarketFeed("binance", "BTC-USDT", Streams(), sink, stale_after_s=60.0, want_snapshot=lambda *_: None)
    wire = MarketWire(stream_names("BTCUSDT", Streams()), {"BTCUSDT": feed}, lambda _: None)
    wire.on_up()
    answer = msgspec.json.decode(snapshot, type=DepthAnswer, strict=False)
    if feed.on_snapshot(answer, 5_000, feed.epoch) is not Applied.DONE:
        raise SystemExit("the snapshot does not fit")
    take = wire.on_frame
    start = time.process_time()
    for frame in frames:
        take(frame)
    spent = time.process_time() - start
    if sink.trades + sink.books != len(frames) + 1:
        raise SystemExit(f"{sink.trades} trades and {sink.books} books of {len(frames)} frames")
    book = feed.book()
    return spent, book.bids[0][0] if book else 0.0


async def theirs(snapshot: str, frames: list[str]) -> tuple[float, float]:
    """Return the seconds of CPU and the best bid (0 for none) after the frames."""
    exchange = ccxt.pro.binance({"options": {"tradesLimit": 100_000}})
    exchange.set_markets([MARKET])
    client = exchange.client("wss://stream.binance.com:9443/ws/0")
    client.subscriptions = {}
    symbol = "BTC/USDT"
    exchange.orderbooks[symbol] = exchange.order_book({}, 1_000)
    parsed = exchange.parse_order_book(json.loads(snapshot), symbol)
    parsed["nonce"] = json.loads(snapshot)["lastUpdateId"]
    exchange.orderbooks[symbol].reset(parsed)
    start = time.process_time()
    for frame in frames:
        # What ccxt's websocket client does with a text frame.
        exchange.handle_message(client, json.loads(frame))
    spent = time.process_time() - start
    bids = exchange.orderbooks[symbol]["bids"]
    if symbol in exchange.trades and len(exchange.trades[symbol]) != min(len(frames), 100_000):
        raise SystemExit(f"ccxt kept {len(exchange.trades[symbol])} of {len(frames)} trades")
    best = float(bids[0][0]) if bids else 0.0
    await exchange.close()
    return spent, best


def best_of(run: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """Return the fewest of three seconds, and what the last run saw."""
    results = [run() for _ in range(3)]
    return min(spent for spent, _ in results), results[-1][1]


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    found = recorded()
    snapshot, depth, trades = found or made_up(count)
    source = "recorded BTCUSDT" if found else "made-up"
    lines = [f"{source + ' frames':<34}{'frames/s':>12}{'µs/frame':>10}{'x ccxt':>8}"]
    for name, frames in (("depth", depth[:count]), ("trade", trades[:count])):
        peer, peer_bid = best_of(lambda frames=frames: asyncio.run(theirs(snapshot, frames)))  # type: ignore[misc]
        own, own_bid = best_of(lambda frames=frames: ours(snapshot, frames))  # type: ignore[misc]
        if peer_bid != own_bid:
            raise SystemExit(f"the books disagree: {peer_bid} against {own_bid}")
        for label, spent in ((f"ccxt.pro {name}", peer), (f"cascade {name}", own)):
            rate = len(frames) / spent
            lines.append(f"{label:<34}{rate:>12,.0f}{1e6 / rate:>10.1f}{peer / spent:>8.1f}")
    lines.append(f"{len(depth[:count])} depth frames, {len(trades[:count])} trade frames, CPU time of one core")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

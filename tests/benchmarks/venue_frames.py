"""Frames per second and core: our MEXC adapter against ccxt.pro on the same frames, and an order's round trip.

Run: python -m tests.benchmarks.venue_frames [frames] [orders]. Frames are made before the clock starts and handed to
both as a socket would; both end with typed trades, or with the best 20 levels of a book. Each row is the best of three.
The round trip goes to one sandbox venue, by turns, over a connection that is kept open.
"""

import asyncio
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import ccxt.pro
from ccxt.protobuf.mexc import PushDataV3ApiWrapper_pb2

from shared.exchange.live.config import WireConfig
from shared.exchange.mexc import MexcVenue
from shared.exchange.mexc.feed import MarketFeed
from shared.exchange.mexc.frames import PublicWire
from shared.exchange.mexc.words import DEALS, DEPTH
from shared.exchange.port import OrderRequest
from shared.messages import Bar, Bbo, BookSnapshot, FeedState, Instrument, OrderType, Side, Trade
from shared.testing.sandbox import Sandbox, running_sandbox

MARKET, SYMBOL, TOKEN = "BTCUSDT", "BTC/USDT", "BTC-USDT"
LEVELS_PER_SIDE, DEALS_PER_FRAME, BOOK_LEVELS, SNAPSHOT_LEVELS = 10, 5, 20, 1_000
FIRST_VERSION, START_MS = 1_000, 1_760_000_000_000
ORDERS_EVERY_S = 0.25  # the adapter keeps to MEXC's 12 orders a second; its wait is not what is measured


class Sink:
    """Count what arrives."""

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


def snapshot() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return bids and asks, a cent apart."""
    bids = [(f"{70_000 - number / 100:.2f}", "1.5") for number in range(SNAPSHOT_LEVELS)]
    return bids, [(f"{70_000.01 + number / 100:.2f}", "1.5") for number in range(SNAPSHOT_LEVELS)]


def depth_frames(count: int, seed: int = 3) -> list[bytes]:
    """Return changes of 20 levels near the best; one in four removes its level, later ones bring it back."""
    source, frames = random.Random(seed), []
    for number in range(count):
        wrapper = _wrapper(DEPTH, number)
        body = wrapper.publicAggreDepths
        for sign, side in ((-1, body.bids), (1, body.asks)):
            for place in source.sample(range(2, 200), LEVELS_PER_SIDE):
                price = 70_000 - place / 100 if sign < 0 else 70_000.01 + place / 100
                quantity = "0" if source.random() < 0.25 else f"{source.random() * 5:.5f}"
                side.add(price=f"{price:.2f}", quantity=quantity)
        body.fromVersion, body.toVersion = str(FIRST_VERSION + number * 20 + 1), str(FIRST_VERSION + number * 20 + 20)
        frames.append(wrapper.SerializeToString())
    return frames


def deal_frames(count: int, deals: int, seed: int = 4) -> list[bytes]:
    """Return frames of `deals` trades."""
    source, frames = random.Random(seed), []
    for number in range(count):
        wrapper = _wrapper(DEALS, number)
        for _ in range(deals):
            price, quantity = f"{70_000 + source.random() * 50:.2f}", f"{source.random():.5f}"
            wrapper.publicAggreDeals.deals.add(
                price=price, quantity=quantity, tradeType=source.choice((1, 2)), time=START_MS + number
            )
        frames.append(wrapper.SerializeToString())
    return frames


def _wrapper(channel: str, number: int) -> Any:
    wrapper = PushDataV3ApiWrapper_pb2.PushDataV3ApiWrapper()
    wrapper.channel, wrapper.symbol = channel + MARKET, MARKET
    wrapper.createTime = wrapper.sendTime = START_MS + number
    return wrapper


def ours(frames: list[bytes]) -> tuple[float, int]:
    """Return seconds and how many trades or books came out."""
    sink = Sink()
    feed = MarketFeed(TOKEN, MARKET, sink, levels=BOOK_LEVELS, has_book=True, want_snapshot=lambda _: None)
    wire = PublicWire([DEPTH + MARKET], {MARKET: feed}, on_state=lambda *_: None, on_no=lambda *_: None)
    wire.on_up()
    bids, asks = ([(float(price), float(size)) for price, size in side] for side in snapshot())
    feed.on_snapshot(FIRST_VERSION, bids, asks, levels=SNAPSHOT_LEVELS, event_ms=0, recv_ns=0)
    sink.books, handle = 0, wire.on_frame
    start = time.perf_counter()
    for frame in frames:
        handle(frame)
    return time.perf_counter() - start, sink.trades + sink.books


async def theirs(frames: list[bytes]) -> tuple[float, int]:
    """Return seconds and how many trades or books came out, awaited as a program would."""
    exchange = ccxt.pro.mexc({"options": {"tradesLimit": 1_000_000}})
    try:
        exchange.set_markets([_ccxt_market()])
        client = exchange.client("ws://127.0.0.1:1/ws")
        bids, asks = snapshot()
        book = exchange.order_book({"bids": [], "asks": []}, SNAPSHOT_LEVELS)
        levels = {
            "bids": [[float(one) for one in row] for row in bids],
            "asks": [[float(one) for one in row] for row in asks],
        }
        book.reset({**levels, "nonce": FIRST_VERSION, "symbol": SYMBOL})
        exchange.orderbooks[SYMBOL] = book
        handle, count, is_depth = exchange.handle_message, 0, DEPTH.encode() in frames[0]
        start = time.perf_counter()
        for frame in frames:
            handle(client, frame)
            if is_depth:
                # What `watch_order_book` gives its caller.
                exchange.orderbooks[SYMBOL].limit()
                count += 1
        elapsed = time.perf_counter() - start
        trades = exchange.trades.get(SYMBOL)
        return elapsed, len(trades) if trades else count
    finally:
        await exchange.close()


def _ccxt_market() -> dict[str, Any]:
    return {
        "id": MARKET, "symbol": SYMBOL, "base": "BTC", "quote": "USDT", "baseId": "BTC", "quoteId": "USDT",
        "type": "spot", "spot": True, "active": True, "precision": {"amount": 1e-5, "price": 0.01}, "limits": {},
        "info": {},
    }  # fmt: skip


def best(run: Callable[[], tuple[float, int]], frames: int) -> tuple[float, int]:
    """Return microseconds a frame, the best of three, and what came out."""
    results = []
    for _ in range(3):
        gc.collect()
        results.append(run())
    return min(seconds for seconds, _ in results) / frames * 1e6, results[-1][1]


async def round_trips(venue: Sandbox, orders: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of resting limit orders, ours and ccxt's, sent by turns; each is cancelled at once."""
    config = WireConfig(
        venue="mexc", rest_url=venue.rest_url, ws_url=venue.ws_url, api_key=venue.api_key, secret=venue.secret
    )
    ours_ms, theirs_ms = [], []
    client = ccxt.pro.mexc({"apiKey": venue.api_key, "secret": venue.secret, "enableRateLimit": False})
    urls = client.urls["api"]
    urls["spot"] = {"public": venue.rest_url, "private": venue.rest_url}
    urls["contract"] = {"public": venue.rest_url + "/api/v1/contract", "private": venue.rest_url}
    adapter = MexcVenue(config)
    try:
        (instrument,) = await adapter.open([TOKEN], lambda _: None)
        await client.load_markets()
        best_bid = (await client.fetch_order_book(SYMBOL))["bids"][0][0]
        price = (Decimal(str(best_bid)) * Decimal("0.8")).quantize(instrument.tick_size)
        for number in range(orders):
            request = OrderRequest(
                f"bench-{number}", TOKEN, Side.BUY, OrderType.LIMIT, quantity=Decimal("0.001"), limit_price=price
            )
            ours_ms.append(await _timed(adapter.submit(request)))
            await adapter.cancel(request.client_order_id, TOKEN)
            await asyncio.sleep(ORDERS_EVERY_S)
            start = time.perf_counter()
            made = await client.create_order(SYMBOL, "limit", "buy", 0.001, float(price))
            theirs_ms.append((time.perf_counter() - start) * 1e3)
            await client.cancel_order(made["id"], SYMBOL)
            await asyncio.sleep(ORDERS_EVERY_S)
    finally:
        await adapter.close()
        await client.close()
    return ours_ms, theirs_ms


async def _timed(call: Any) -> float:
    start = time.perf_counter()
    await call
    return (time.perf_counter() - start) * 1e3


async def _orders(count: int) -> list[str]:
    async with running_sandbox("mexc", still=True, symbols=MARKET) as venue:
        ours_ms, theirs_ms = await round_trips(venue, count)
    rows = []
    for name, values in (("ours", ours_ms), ("ccxt", theirs_ms)):
        p50, p95 = statistics.median(values), statistics.quantiles(values, n=20)[-1]
        rows.append(f"order round trip, {name:<6}{len(values):>6} orders   p50 {p50:6.2f} ms   p95 {p95:6.2f} ms")
    return rows


def main() -> None:
    """Print the tables."""
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    orders = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    lines = [f"{'MEXC frames':<28}{'ours us':>10}{'frames/s':>11}{'ccxt us':>10}{'frames/s':>11}{'ratio':>8}"]
    for name, made in (
        ("depth, 20 levels", depth_frames(frames)),
        ("trades, 1 a frame", deal_frames(frames, 1)),
        (f"trades, {DEALS_PER_FRAME} a frame", deal_frames(frames, DEALS_PER_FRAME)),
    ):
        mine, out = best(lambda made=made: ours(made), len(made))
        other, other_out = best(lambda made=made: asyncio.run(theirs(made)), len(made))
        if out != other_out:
            raise SystemExit(f"{name}: {out} came out of ours, {other_out} of ccxt's")
        row = f"{name:<28}{mine:>10.1f}{1e6 / mine:>11,.0f}{other:>10.1f}{1e6 / other:>11,.0f}{other / mine:>8.1f}"
        lines.append(row)
    sys.stdout.write("\n".join(lines) + "\n")
    lines = asyncio.run(_orders(orders))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

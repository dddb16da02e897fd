"""A recorded market on the wire: frames byte for byte, the snapshot at its place, no orders."""

import asyncio

import msgspec
import pytest

from services.sandbox_exchange.binance import recording
from services.sandbox_exchange.markets.recorded import FrameKind, RecordedFrame, RecordedMarket, load_recorded
from shared.testing.data import data_file
from tests.unit.sandbox_exchange.binance.rig import SYMBOL, connected, rig

MS = 1_000_000


def frame(number: int, stream: str, data: bytes) -> RecordedFrame:
    kind = FrameKind(stream.split("@")[1])
    payload = b'{"stream":"%b","data":%b}' % (stream.encode(), data)
    return RecordedFrame(number * MS, kind, stream, payload, data)


def diff(number: int, first: int, last: int) -> RecordedFrame:
    body = '{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":%d,"u":%d,"b":[["100.00","%d.0"]],"a":[]}'
    return frame(number, "btcusdt@depth@100ms", (body % (first, last, number)).encode())


@pytest.fixture
def small() -> RecordedMarket:
    frames = [diff(0, 1, 4), diff(1, 5, 8), frame(2, "btcusdt@trade", b'{"e":"trade","s":"BTCUSDT"}'), diff(3, 9, 12)]
    snapshot = b'{"lastUpdateId":6,"bids":[["100.00","7.0"]],"asks":[["101.00","7.0"]]}'
    return RecordedMarket(SYMBOL, snapshot, 2, 2 * MS, frames)


async def test_frames_and_snapshot_are_the_recorded_bytes(small) -> None:
    async with rig([small]) as venue, connected(venue, "/stream?streams=btcusdt@depth@100ms/btcusdt@trade") as stream:
        async with venue.session.get(f"{venue.base}/api/v3/depth?symbol={SYMBOL}&limit=1000") as answer:
            assert await answer.read() == small.snapshot_bytes
        texts = [(await stream.socket.receive(5)).data.encode() for _ in small.frames]
        assert texts == [one.payload for one in small.frames]


async def test_raw_connection_gets_the_inner_object_of_its_stream_alone(small) -> None:
    async with rig([small]) as venue, connected(venue, "/ws/btcusdt@trade") as stream:
        await venue.get("/api/v3/depth", symbol=SYMBOL)
        assert (await stream.socket.receive(5)).data == '{"e":"trade","s":"BTCUSDT"}'


async def test_snapshot_that_never_comes_is_an_unknown_outcome(small, monkeypatch) -> None:
    monkeypatch.setattr(recording, "SNAPSHOT_WAIT_S", 0.1)
    async with rig([small]) as venue:
        status, body = await venue.get("/api/v3/depth", symbol=SYMBOL)
        assert (status, body["code"]) == (504, -1007)


async def test_recorded_market_is_listed_and_takes_no_orders(small) -> None:
    async with rig([small]) as venue:
        _, info = await venue.get("/api/v3/exchangeInfo", symbol=SYMBOL)
        assert info["symbols"][0]["baseAsset"] == "BTC"
        status, body = await venue.order(quantity="0.01", price="50000")
        assert (status, body) == (400, {"code": -1013, "msg": "Market is closed."})


async def test_recording_starts_anew_when_everybody_has_left(small) -> None:
    async with rig([small]) as venue:
        for _ in range(2):
            async with connected(venue, "/ws/btcusdt@depth@100ms") as stream:
                await venue.get("/api/v3/depth", symbol=SYMBOL)
                assert [(await stream.next())["u"] for _ in range(3)] == [4, 8, 12]
            async with asyncio.timeout(5):
                while venue.venue.sockets:  # noqa: ASYNC110 - the venue tells nobody
                    await asyncio.sleep(0.01)


class Diff(msgspec.Struct):
    first: int = msgspec.field(name="U")
    last: int = msgspec.field(name="u")
    bids: list[tuple[str, str]] = msgspec.field(name="b")
    asks: list[tuple[str, str]] = msgspec.field(name="a")


class Best(msgspec.Struct):
    last: int = msgspec.field(name="u")
    bid: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")


async def test_real_recording_rebuilt_over_the_wire_equals_its_own_best_prices() -> None:
    recorded = load_recorded(data_file("hftbacktest_raw/spot_btcusdt_20240808.gz"))
    names = "btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade"
    counts = dict.fromkeys(FrameKind, 0)
    book: tuple[dict[float, float], dict[float, float]] | None = None
    last = dropped = applied = 0
    tops: dict[int, tuple[float, ...]] = {}
    held: list[Diff] = []
    best: dict[int, tuple[float, ...]] = {}
    async with rig([recorded]) as venue, connected(venue, f"/stream?streams={'/'.join(names)}") as stream:

        async def snapshot() -> dict:
            return (await venue.get("/api/v3/depth", symbol=SYMBOL, limit=1000))[1]

        asked = asyncio.create_task(snapshot())
        for _ in recorded.frames:
            text = (await stream.socket.receive(10)).data.encode()
            kind = FrameKind(text.partition(b"@")[2].partition(b'"')[0].partition(b"@")[0].decode())
            counts[kind] += 1
            data = text.partition(b',"data":')[2][:-1]
            if kind is FrameKind.BOOK_TICKER:
                quote = msgspec.json.decode(data, type=Best)
                best[quote.last] = tuple(map(float, (quote.bid, quote.bid_quantity, quote.ask, quote.ask_quantity)))
            elif kind is FrameKind.DEPTH:
                held.append(msgspec.json.decode(data, type=Diff))
            if book is None and asked.done():
                body = asked.result()
                last = body["lastUpdateId"]
                book = tuple({float(p): float(q) for p, q in body[side]} for side in ("bids", "asks"))
            for one in held if book is not None else []:
                if one.last <= last:
                    dropped += 1
                    continue
                assert one.first <= last + 1
                for side, levels in zip(book, (one.bids, one.asks), strict=True):
                    for price, quantity in levels:
                        side[float(price)] = float(quantity)
                        if not float(quantity):
                            del side[float(price)]
                last, applied = one.last, applied + 1
                bid, ask = max(book[0]), min(book[1])
                tops[last] = bid, book[0][bid], ask, book[1][ask]
            if book is not None:
                held.clear()
    assert counts == {FrameKind.DEPTH: 3_451, FrameKind.BOOK_TICKER: 28_040, FrameKind.TRADE: 9_757}
    assert (dropped, applied, last) == (2, 3_449, 50_093_421_584)
    compared = set(tops) & set(best)
    assert len(compared) == 564
    assert [tops[one] for one in compared] == [best[one] for one in compared]

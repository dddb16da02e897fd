"""Market streams: depth sequence rules, pace, names, limits, the end of a connection's life."""

import asyncio
from decimal import Decimal

import aiohttp
import msgspec
import pytest

from services.sandbox_exchange.binance import sockets, usage
from services.sandbox_exchange.binance.market_socket import STREAMS_MAX
from services.sandbox_exchange.binance.periodic import Periodic
from services.sandbox_exchange.binance.stream_names import Kind, parse_stream
from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.wire.limits import Charge
from shared.messages import Side
from tests.unit.sandbox_exchange.binance.rig import SYMBOL, Reader, Rig, connected, rig

D = Decimal


class LocalBook:
    """Follow a book as Binance's documentation says; a broken rule is an error."""

    def __init__(self, snapshot: dict) -> None:
        self.last = snapshot["lastUpdateId"]
        self.bids = {D(p): D(q) for p, q in snapshot["bids"]}
        self.asks = {D(p): D(q) for p, q in snapshot["asks"]}
        self.is_first = True

    def apply(self, diff: dict) -> None:
        if diff["u"] <= self.last:
            return
        if self.is_first:
            assert diff["U"] <= self.last + 1 <= diff["u"], "the first diff must straddle the snapshot"
        else:
            assert diff["U"] == self.last + 1, f"gap: {diff['U']} after {self.last}"
        self.is_first = False
        for side, levels in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, quantity in levels:
                side[D(price)] = D(quantity)
                if not D(quantity):
                    del side[D(price)]
        self.last = diff["u"]

    def equals(self, venue: Rig) -> bool:
        truth = venue.exchange.depth(SYMBOL)
        return self.last == truth.version and self.bids == dict(truth.bids) and self.asks == dict(truth.asks)


def stir(venue: Rig, times: int = 20) -> None:
    """Change many levels, some of them several times."""
    for number in range(times):
        venue.strike(Side.BUY, "0.07")
        venue.house(Side.SELL, "0.07", str(60_001 + number % 5))
        venue.house(Side.BUY, "0.01", str(59_000 + number))


def is_diff(frame: dict) -> bool:
    return frame.get("e") == "depthUpdate"


async def follow(venue: Rig, stream: Reader, book: LocalBook) -> None:
    """Apply diffs until the book is the venue's."""
    version = venue.exchange.depth(SYMBOL).version
    while book.last < version:
        book.apply(await stream.until(is_diff))


@pytest.mark.parametrize("name", ["btcusdt@depth@100ms", "btcusdt@depth"])
async def test_diffs_follow_each_other_and_rebuild_the_book(name) -> None:
    async with rig() as venue, connected(venue, "/ws") as stream:
        assert await stream.ask("SUBSCRIBE", [name]) == {"result": None, "id": 1}
        stir(venue)
        _, snapshot = await venue.get("/api/v3/depth", symbol=SYMBOL, limit=5000)
        book = LocalBook(snapshot)
        stir(venue)
        await follow(venue, stream, book)
        stir(venue)
        await follow(venue, stream, book)
        assert book.equals(venue) and not book.is_first


async def test_straddling_snapshot_lies_inside_a_diff_and_is_still_followed() -> None:
    async with rig() as venue, connected(venue, "/ws") as stream:
        await stream.ask("SUBSCRIBE", ["btcusdt@depth@100ms"])
        venue.arm(FaultName.SNAPSHOT_STRADDLE)
        stir(venue)
        _, snapshot = await venue.get("/api/v3/depth", symbol=SYMBOL, limit=5000)
        diff = await stream.until(is_diff)
        assert diff["U"] <= snapshot["lastUpdateId"] < diff["u"]
        book = LocalBook(snapshot)
        book.apply(diff)
        assert book.equals(venue)


async def test_stale_snapshot_is_the_book_that_was() -> None:
    async with rig() as venue:
        before = venue.exchange.depth(SYMBOL)
        stir(venue)
        behind = venue.exchange.depth(SYMBOL).version - before.version
        venue.arm(FaultName.SNAPSHOT_STALE, parameter=behind)
        _, stale = await venue.get("/api/v3/depth", symbol=SYMBOL, limit=5000)
        assert stale["lastUpdateId"] == before.version
        assert [(D(p), D(q)) for p, q in stale["bids"]] == list(before.bids)
        assert [(D(p), D(q)) for p, q in stale["asks"]] == list(before.asks)
        assert (await venue.get("/api/v3/depth", symbol=SYMBOL))[1]["lastUpdateId"] > before.version


async def test_dropped_diff_leaves_a_gap_that_the_rules_notice() -> None:
    async with rig() as venue, connected(venue, "/ws/btcusdt@depth@100ms") as stream:
        _, snapshot = await venue.get("/api/v3/depth", symbol=SYMBOL, limit=5000)
        book = LocalBook(snapshot)
        stir(venue, 2)
        await follow(venue, stream, book)
        venue.arm(FaultName.FRAME_DROP, route="depth", symbol=SYMBOL)
        stir(venue, 2)
        async with asyncio.timeout(5):
            while FaultName.FRAME_DROP not in venue.venue.faults.fired:  # noqa: ASYNC110 - the venue tells nobody
                await asyncio.sleep(0.02)
        stir(venue, 2)
        with pytest.raises(AssertionError, match="gap"):
            await follow(venue, stream, book)


async def test_every_stream_tells_what_the_venue_holds() -> None:
    names = [
        "trade",
        "aggTrade",
        "bookTicker",
        "depth5",
        "depth20@100ms",
        "kline_1m",
        "ticker",
        "miniTicker",
        "avgPrice",
    ]
    half_past = 1_795_262_430_000_000_000
    async with (
        rig(clock=lambda: half_past) as venue,
        connected(venue, "/stream?streams=!ticker@arr") as stream,
    ):
        streams = [f"btcusdt@{name}" for name in names]
        await stream.ask("SUBSCRIBE", streams)
        assert set((await stream.ask("LIST_SUBSCRIPTIONS"))["result"]) == {*streams, "!ticker@arr"}
        venue.strike(Side.BUY, "0.25")
        found = {}
        for name in streams:
            found[name] = (await stream.until(lambda frame, name=name: frame.get("stream") == name))["data"]
        assert found["btcusdt@trade"]["p"] == "60001.00000000" and found["btcusdt@trade"]["m"] is False
        assert found["btcusdt@aggTrade"]["f"] == found["btcusdt@aggTrade"]["l"] == found["btcusdt@trade"]["t"]
        assert found["btcusdt@bookTicker"]["b"] == "59999.00000000"
        assert len(found["btcusdt@depth5"]["bids"]) == 5 and len(found["btcusdt@depth20@100ms"]["asks"]) == 20
        assert found["btcusdt@kline_1m"]["k"]["v"] == "0.25000000"
        assert found["btcusdt@ticker"]["c"] == found["btcusdt@miniTicker"]["c"] == "60001.00000000"
        everything = await stream.until(lambda frame: frame.get("stream") == "!ticker@arr")
        assert {one["s"] for one in everything["data"]} == {"BTCUSDT", "ETHUSDT"}


async def test_closed_candle_is_told_once_as_closed() -> None:
    minute = 1_795_262_400_000_000_000
    times = [minute + 59_900_000_000]
    async with rig(clock=lambda: times[0]) as venue, connected(venue, "/ws/btcusdt@kline_1m") as stream:
        venue.strike(Side.BUY, "0.25")
        times[0] = minute + 60_100_000_000
        told = [(await stream.next())["k"] for _ in range(2)]
        assert [(one["t"], one["x"], one["v"]) for one in told] == [
            (minute // 10**6, True, "0.25000000"),
            (minute // 10**6 + 60_000, False, "0.00000000"),
        ]
        venue.strike(Side.BUY, "0.01")
        assert (await stream.next())["k"]["v"] == "0.01000000"


async def test_seconds_of_a_still_market_stop_no_other_stream() -> None:
    second = 1_795_262_400_000_000_000
    times = [second + 100_000_000]
    async with (
        rig(clock=lambda: times[0]) as venue,
        connected(venue, "/stream?streams=btcusdt@kline_1s/btcusdt@ticker") as stream,
    ):
        for _ in range(2):
            assert (await stream.next())["stream"] == "btcusdt@ticker"
        venue.strike(Side.BUY, "0.25")

        async def told_next() -> dict:
            return (await stream.until(lambda frame: frame["stream"] == "btcusdt@kline_1s"))["data"]["k"]

        told = await told_next()
        assert (told["i"], told["t"], told["v"], told["x"]) == ("1s", second // 10**6, "0.25000000", False)
        times[0] = second + 2_100_000_000
        rows = [await told_next() for _ in range(3)]
        assert [(one["t"] - second // 10**6, one["x"]) for one in rows] == [(0, True), (1_000, True), (2_000, False)]
        status, found = await venue.get("/api/v3/klines", symbol=SYMBOL, interval="1s")
        assert status == 200
        assert [(row[0] - second // 10**6, row[5]) for row in found] == [
            (0, "0.25000000"), (1_000, "0.00000000"), (2_000, "0.00000000"),
        ]  # fmt: skip


async def test_paced_streams_tell_nothing_twice() -> None:
    async with rig(clock=lambda: 1_795_262_430_000_000_000) as venue:
        venue.strike(Side.BUY, "0.25")
        periodic = Periodic(venue.venue)
        for name in ("btcusdt@kline_1m", "btcusdt@depth5"):
            stream = parse_stream(name)
            assert stream is not None
            assert [len(periodic.frames_of(stream)) for _ in range(3)] == [1, 0, 0]
        venue.strike(Side.BUY, "0.25")
        assert len(periodic.frames_of(stream)) == 1


async def test_book_ticker_tells_each_change_of_the_best_prices_once() -> None:
    async with rig() as venue, connected(venue, "/ws/btcusdt@bookTicker") as stream:
        assert (await stream.next())["a"] == "60001.00000000"
        venue.house(Side.BUY, "1", "59000.5")  # deep in the book: nothing to tell
        await venue.get("/api/v3/ping")
        venue.house(Side.SELL, "1", "60000.5")
        told = await stream.next()
        assert (told["a"], told["A"], told["u"]) == (
            "60000.50000000",
            "1.00000000",
            venue.exchange.depth(SYMBOL).version,
        )


async def test_a_burst_of_trades_arrives_complete_and_in_order() -> None:
    burst = 5_000
    async with rig() as venue, connected(venue, "/ws/btcusdt@trade") as stream:
        venue.house(Side.SELL, "20", "60000.01")
        for _ in range(burst):
            venue.strike(Side.BUY, "0.001")
        ids = [(await stream.next())["t"] for _ in range(burst)]
        assert ids == list(range(ids[0], ids[0] + burst))


async def test_unsubscribed_stream_is_silent_and_unknown_market_is_accepted() -> None:
    async with rig() as venue, connected(venue, "/ws") as stream:
        names = ["btcusdt@trade", "nopeusdt@trade", "BTCUSDT@trade"]
        assert (await stream.ask("SUBSCRIBE", names))["result"] is None
        assert (await stream.ask("UNSUBSCRIBE", ["btcusdt@trade"], 2))["id"] == 2
        venue.strike(Side.BUY, "0.01")
        assert (await stream.ask("LIST_SUBSCRIPTIONS", None, "x"))["result"] == names[1:]
        assert stream.kept == []


async def test_a_connection_has_1024_streams_and_five_messages_a_second() -> None:
    async with rig() as venue, connected(venue, "/ws") as stream:
        many = [f"coin{number}usdt@trade" for number in range(STREAMS_MAX + 1)]
        assert (await stream.ask("SUBSCRIBE", many))["error"]["code"] == 2
        assert (await stream.ask("SUBSCRIBE", many[:-1]))["result"] is None
        for number in range(20):
            if stream.socket.closed:
                break
            await stream.socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        async with asyncio.timeout(5):
            while (await stream.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert stream.socket.closed


async def test_refused_and_ignored_subscriptions() -> None:
    async with rig() as venue, connected(venue, "/ws") as stream:
        venue.arm(FaultName.SUBSCRIBE_REFUSED, route="depth")
        assert (await stream.ask("SUBSCRIBE", ["btcusdt@depth"]))["error"] == {
            "code": 2,
            "msg": "Invalid request: invalid stream",
        }
        venue.arm(FaultName.SUBSCRIBE_IGNORED)
        await stream.socket.send_str('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":7}')
        assert (await stream.ask("LIST_SUBSCRIPTIONS", None, 8))["result"] == []
        assert stream.kept == []


async def test_old_connection_is_told_before_it_is_cut() -> None:
    async with rig() as venue, connected(venue, "/ws/btcusdt@depth") as stream:
        venue.arm(FaultName.SOCKET_AGE, parameter=0.0)
        told = await stream.until(lambda frame: frame.get("e") == "serverShutdown")
        assert told["E"] > 0
        assert (await stream.socket.receive(5)).type is aiohttp.WSMsgType.CLOSE


async def test_server_pings_and_cuts_who_never_answers(monkeypatch) -> None:
    quick = msgspec.structs.replace(sockets.MARKET_RULES, ping_every_s=0.2, pong_within_s=0.2)
    monkeypatch.setattr("services.sandbox_exchange.binance.market_socket.MARKET_RULES", quick)
    async with rig() as venue, venue.session.ws_connect(venue.ws_base + "/ws", autoping=False) as socket:
        assert (await socket.receive(5)).type is aiohttp.WSMsgType.PING
        async with asyncio.timeout(5):
            while (await socket.receive()).type is aiohttp.WSMsgType.PING:
                pass
        assert socket.closed


async def test_connections_are_limited() -> None:
    async with rig(clock=lambda: 10**18) as venue:
        many = Charge(usage.CONNECTIONS, "127.0.0.1", usage.RULES[usage.CONNECTIONS].weight_max)
        venue.venue.limits.charge("127.0.0.1", [many], venue.venue.now_ns())
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await venue.session.ws_connect(venue.ws_base + "/ws")
        assert refused.value.status == 429


@pytest.mark.parametrize(
    ("name", "kind", "route", "every", "levels"),
    [
        ("btcusdt@depth", Kind.DIFF, "depth", 10, 0),
        ("btcusdt@depth@100ms", Kind.DIFF, "depth@100ms", 1, 0),
        ("btcusdt@depth20@100ms", Kind.PARTIAL, "depth20@100ms", 1, 20),
        ("btcusdt@trade", Kind.TRADE, "trade", 0, 0),
        ("1inchusdt@bookTicker", Kind.BOOK_TICKER, "bookTicker", 0, 0),
    ],
)
def test_stream_names_say_kind_pace_and_levels(name, kind, route, every, levels) -> None:
    parsed = parse_stream(name)
    assert parsed is not None
    assert (parsed.kind, parsed.route, parsed.every_ticks, parsed.levels) == (kind, route, every, levels)


@pytest.mark.parametrize(
    "name", ["", "btcusdt", "@trade", "btcusdt@depth7", "btcusdt@kline_7m", "btcusdt@depth@5ms", "x@y@z"]
)
def test_nonsense_names_no_stream(name) -> None:
    assert parse_stream(name) is None

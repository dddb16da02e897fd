"""One market's frames: trades once each, books only while whole, states as they are."""

import json

import pytest

from shared.exchange.binance.feed import DepthAnswer, MarketFeed
from shared.exchange.binance.frames import BookTickerFrame, DepthFrame, Kline, KlineFrame, TradeFrame, decode
from shared.exchange.binance.stream import STREAMS_PER_MESSAGE, MarketWire, stream_names
from shared.exchange.live.book import Applied
from shared.exchange.port import Streams
from shared.messages import FeedState, Side
from shared.testing.market_sink import RecordingSink

NOW_MS = 1_723_161_255_208
BOOK = DepthAnswer(10, [(99.0, 1.0), (98.0, 2.0)], [(101.0, 1.0), (102.0, 2.0)])


class Rig:
    """A feed, what it told, and how often it wanted a snapshot."""

    def __init__(self, streams: Streams | None = None, stale_after_s: float = 60.0) -> None:
        self.sink, self.wanted = RecordingSink(), list[str]()
        self.feed = MarketFeed(
            "binance", "BTC-USDT", streams or Streams(), self.sink, stale_after_s=stale_after_s,
            want_snapshot=lambda _, why: self.wanted.append(why),
        )  # fmt: skip

    def live(self) -> "Rig":
        self.feed.on_up()
        assert self.feed.on_snapshot(BOOK, 1_000, self.feed.epoch) is Applied.DONE
        return self


def trade(number: int, *, buyer_rests: bool = True) -> TradeFrame:
    return TradeFrame("BTCUSDT", number, 100.0, 0.5, NOW_MS, buyer_rests)


def depth(first: int, last: int, bids: list[tuple[float, float]] | None = None) -> DepthFrame:
    return DepthFrame(NOW_MS, "BTCUSDT", first, last, bids or [(99.0, 3.0)], [])


def test_trades_come_once_in_order_with_the_takers_side() -> None:
    rig = Rig().live()
    for frame in (trade(5), trade(5), trade(6, buyer_rests=False), trade(4)):
        rig.feed.on_trade(frame)
    assert [(one.trade_id, one.side, one.sequence) for one in rig.sink.trades] == [
        ("5", Side.SELL, 5), ("6", Side.BUY, 6)
    ]  # fmt: skip
    assert rig.sink.trades[0].ts_event_ns == NOW_MS * 1_000_000


def test_trade_that_was_overtaken_is_told_and_one_that_is_lost_is_counted() -> None:
    rig = Rig().live()
    for number in (5, 8, 7, 7, 9):
        rig.feed.on_trade(trade(number))
    assert [one.trade_id for one in rig.sink.trades] == ["5", "8", "7", "9"]
    assert rig.feed.trades_lost == 1


def test_long_outage_does_not_fill_the_memory() -> None:
    rig = Rig().live()
    rig.feed.on_trade(trade(5))
    rig.feed.on_trade(trade(10_000_000))
    assert rig.feed.trades_lost == 9_999_994
    assert len(rig.feed._missing_trades) <= 1_000


def test_gap_freezes_the_market_and_asks_for_a_snapshot() -> None:
    rig = Rig().live()
    rig.feed.on_depth(depth(12, 12))
    assert rig.feed.book() is None
    assert rig.sink.states("BTC-USDT") == [FeedState.FROZEN, FeedState.LIVE, FeedState.FROZEN]
    assert rig.wanted == ["subscribed", "gap at update 12"]
    books = len(rig.sink.books)
    rig.feed.on_depth(depth(13, 13))
    assert len(rig.sink.books) == books
    assert rig.feed.on_snapshot(DepthAnswer(11, BOOK.bids, BOOK.asks), 1_000, rig.feed.epoch) is Applied.DONE
    assert rig.feed.builder.version == 13
    assert rig.sink.states("BTC-USDT")[-1] is FeedState.LIVE


def test_snapshot_of_an_older_connection_is_not_taken() -> None:
    rig = Rig()
    rig.feed.on_up()
    epoch = rig.feed.epoch
    rig.feed.on_down("cut")
    assert rig.feed.on_snapshot(BOOK, 1_000, epoch) is Applied.TOO_OLD
    rig.feed.on_up()
    assert rig.feed.on_snapshot(BOOK, 1_000, epoch) is Applied.TOO_OLD
    assert rig.feed.book() is None


def test_lost_connection_takes_the_book_away_at_once() -> None:
    rig = Rig().live()
    assert rig.feed.book() is not None
    rig.feed.on_down("cut")
    assert rig.feed.book() is None
    assert rig.sink.states("BTC-USDT")[-1] is FeedState.STALE


@pytest.mark.parametrize("is_ticker_first", [True, False])
def test_book_that_differs_from_the_venues_best_prices_is_thrown_away(is_ticker_first: bool) -> None:
    rig = Rig().live()
    frames = [BookTickerFrame(11, "BTCUSDT", 99.0, 2.5, 101.0, 1.0), depth(11, 11)]
    for frame in frames if is_ticker_first else reversed(frames):
        (rig.feed.on_ticker if isinstance(frame, BookTickerFrame) else rig.feed.on_depth)(frame)  # type: ignore[operator]
    assert rig.feed.contradictions == 1 and rig.feed.book() is None
    assert rig.sink.states("BTC-USDT")[-1] is FeedState.FROZEN


def test_book_that_equals_the_venues_best_prices_is_proven() -> None:
    rig = Rig().live()
    rig.feed.on_ticker(BookTickerFrame(11, "BTCUSDT", 99.0, 3.0, 101.0, 1.0))
    rig.feed.on_ticker(BookTickerFrame(12, "BTCUSDT", 99.5, 3.0, 101.0, 1.0))
    rig.feed.on_depth(depth(11, 11))
    assert (rig.feed.proofs, rig.feed.contradictions) == (1, 0)


@pytest.mark.parametrize(
    "frame",
    [
        BookTickerFrame(11, "B", 101.0, 1.0, 99.0, 1.0), BookTickerFrame(11, "B", 99.0, 1.0, 99.0, 1.0),
        BookTickerFrame(11, "B", 0.0, 0.0, 99.0, 1.0), BookTickerFrame(11, "B", 98.0, 1.0, float("inf"), 1.0),
        BookTickerFrame(11, "B", float("nan"), 1.0, 99.0, 1.0), BookTickerFrame(11, "B", -1.0, 1.0, 99.0, 1.0),
    ],
)  # fmt: skip
def test_best_prices_that_cannot_be_are_dropped(frame: BookTickerFrame) -> None:
    rig = Rig().live()
    rig.feed.on_ticker(frame)
    assert rig.sink.bbos == []


def test_older_best_prices_do_not_follow_newer_ones() -> None:
    rig = Rig().live()
    for update in (12, 11, 12, 13):
        rig.feed.on_ticker(BookTickerFrame(update, "B", 99.0, float(update), 101.0, 1.0))
    assert [bbo.bid_quantity for bbo in rig.sink.bbos] == [12.0, 13.0]


def test_only_closed_candles_are_told_once() -> None:
    rig = Rig(Streams(bar_timeframe="1m")).live()
    start = NOW_MS // 60_000 * 60_000
    for is_closed, opened in ((False, start), (True, start), (True, start), (True, start - 60_000)):
        candle = Kline(opened, opened + 59_999, "BTCUSDT", "1m", 1.0, 2.0, 3.0, 0.5, 10.0, 15.0, is_closed)
        rig.feed.on_kline(KlineFrame(candle))
    assert [(bar.open_time_ns, bar.close_time_ns) for bar in rig.sink.bars] == [
        (start * 1_000_000, (start + 60_000) * 1_000_000)
    ]


def test_silent_market_is_stale_though_its_socket_is_open() -> None:
    rig = Rig(stale_after_s=1e-9).live()
    rig.feed.check_age()
    assert rig.sink.states("BTC-USDT")[-1] is FeedState.STALE
    assert rig.feed.book() is None


@pytest.mark.parametrize(
    "text",
    [
        '{"e":"trade","E":1,"s":"A","t":1,"p":"0","q":"1","T":1723161255208,"m":true}',
        '{"e":"trade","E":1,"s":"A","t":1,"p":"1","q":"-1","T":1723161255208,"m":true}',
        '{"e":"trade","E":1,"s":"A","t":1,"p":"NaN","q":"1","T":1723161255208,"m":true}',
        '{"e":"trade","E":1,"s":"A","t":1,"p":"1","q":"","T":1723161255208,"m":true}',
        '{"e":"trade","E":1,"s":"A","t":1,"p":"1","q":"1","T":1723161255,"m":true}',
        '{"e":"trade","E":1,"s":"A","t":1,"p":"1","q":"1","T":1723161255208000,"m":true}',
        '{"e":"depthUpdate","E":1723161255208000,"s":"A","U":1,"u":1,"b":[],"a":[]}',
        '{"e":"depthUpdate","E":1723161255208,"s":"A","U":1,"u":1,"b":[["x","1"]],"a":[]}',
        '{"e":"depthUpdate","E":1723161255208,"s":"A","U":1', "<html>", "", "[]", "1", '{"u":1,"s":"A"}',
    ],
)  # fmt: skip
def test_frame_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_frames_are_understood_in_any_order_of_their_fields_and_wrapped() -> None:
    plain = '{"e":"trade","E":1,"s":"A","t":1,"p":"1.5","q":"2","T":1723161255208,"m":true}'
    shuffled = json.dumps(dict(sorted(json.loads(plain).items(), reverse=True)))
    wrapped = json.dumps({"stream": "a@trade", "data": json.loads(plain)})
    assert decode(plain) == decode(shuffled) == decode(wrapped) == decode(plain.encode())


class FakeSocket:
    """Take the wire's complaints."""

    def __init__(self) -> None:
        self.pongs, self.failures = 0, list[str]()

    def pong(self) -> None:
        self.pongs += 1

    def fail(self, reason: str) -> None:
        self.failures.append(reason)


def wired(count: int = 1) -> tuple[MarketWire, FakeSocket, dict[str, MarketFeed]]:
    feeds = {f"A{number}USDT": Rig().feed for number in range(count)}
    names = [name for symbol in feeds for name in stream_names(symbol, Streams(bar_timeframe="1m"))]
    wire, socket = MarketWire(names, feeds, lambda _: None), FakeSocket()
    wire.socket = socket  # type: ignore[assignment]
    return wire, socket, feeds


def test_wire_is_settled_when_every_message_was_acknowledged() -> None:
    wire, socket, _ = wired(100)
    texts = wire.greet()
    assert len(texts) == -(-400 // STREAMS_PER_MESSAGE) and not wire.is_settled
    for text in texts:
        assert not wire.is_settled
        wire.on_frame(json.dumps({"result": None, "id": json.loads(text)["id"]}))
    assert wire.is_settled and socket.failures == []


@pytest.mark.parametrize(
    "reply", [{"error": {"code": 2, "msg": "Invalid request"}, "id": 1}, {"code": 2, "msg": "Invalid request", "id": 1}]
)
def test_refused_subscription_gives_the_connection_up(reply: dict[str, object]) -> None:
    wire, socket, _ = wired()
    wire.greet()
    wire.on_frame(json.dumps(reply))
    assert not wire.is_settled
    assert socket.failures == ["a subscription was refused: Invalid request"]


def test_answered_ping_proves_the_socket_and_its_subscriptions() -> None:
    wire, socket, _ = wired()
    wire.greet()
    number = json.loads(wire.ping())["id"]
    wire.on_frame(json.dumps({"result": list(wire.names), "id": number}))
    assert (socket.pongs, socket.failures) == (1, [])
    number = json.loads(wire.ping())["id"]
    wire.on_frame(json.dumps({"result": list(wire.names[1:]), "id": number}))
    assert socket.failures and "a0usdt@trade" in socket.failures[0]


def test_announced_shutdown_is_believed() -> None:
    wire, socket, _ = wired()
    wire.on_frame('{"e":"serverShutdown","E":1770123456789}')
    assert socket.failures

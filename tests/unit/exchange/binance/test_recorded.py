"""Known answers: raw frames of the real venue through our decoder, feed and book builder."""

import gzip
from collections.abc import Iterator

import msgspec
import pytest

from shared.exchange.binance.feed import DepthAnswer, MarketFeed
from shared.exchange.binance.frames import BookTickerFrame, DepthFrame, KlineFrame, TradeFrame, UnknownFrame, decode
from shared.exchange.live.book import Applied, BookBuilder
from shared.exchange.port import Streams
from shared.messages import FeedState
from shared.testing.data import data_file
from shared.testing.market_sink import RecordingSink

BTC = "hftbacktest_raw/spot_btcusdt_20240808.gz"


def btc_lines() -> Iterator[str]:
    with gzip.open(data_file(BTC), "rt") as lines:
        for line in lines:
            yield line.split(" ", 1)[1]


def test_recorded_btcusdt_book_equals_the_venues_own_best_prices_564_times() -> None:
    builder, counts, compared = BookBuilder(), dict.fromkeys(Applied, 0), 0
    tickers: dict[int, tuple[float, float, float, float]] = {}
    for line in btc_lines():
        if line.startswith('{"lastUpdateId"'):
            kept = counts[Applied.BUFFERED]
            answer = msgspec.json.decode(line, type=DepthAnswer, strict=False)
            assert answer.last_update_id == 50093239218
            # As other builders do, and as the known answers were computed: the snapshot is taken for the whole book.
            assert builder.snapshot(answer.last_update_id, answer.bids, answer.asks) is Applied.DONE
            continue
        frame = decode(line)
        if isinstance(frame, BookTickerFrame):
            tickers[frame.u] = (frame.b, frame.B, frame.a, frame.A)
        elif isinstance(frame, DepthFrame):
            outcome = builder.apply(frame.U, frame.u, frame.b, frame.a)
            counts[outcome] += 1
            if outcome is Applied.DONE and frame.u in tickers:
                compared += 1
                assert builder.best() == tickers[frame.u]
    # Of the diffs that waited for the snapshot two were older; what applied then counts with the rest.
    dropped = 2
    assert kept >= dropped
    assert counts[Applied.DONE] + kept - dropped == 3_449
    assert counts[Applied.GAP] + counts[Applied.CROSSED] + counts[Applied.OLD] + counts[Applied.MALFORMED] == 0
    assert compared == 564
    assert builder.version == 50093421584
    assert builder.best() == (61685.99, 1.0087, 61686.00, 2.29327)
    assert builder.level_counts == (1_209, 2_196)


def test_recorded_btcusdt_trades_and_books_pass_through_the_feed_complete() -> None:
    sink, wanted = RecordingSink(), []
    feed = MarketFeed(
        "binance", "BTC-USDT", Streams(), sink, stale_after_s=60.0, want_snapshot=lambda _, why: wanted.append(why)
    )
    feed.on_up()
    for line in btc_lines():
        if line.startswith('{"lastUpdateId"'):
            answer = msgspec.json.decode(line, type=DepthAnswer, strict=False)
            assert feed.on_snapshot(answer, 5_000, feed.epoch) is Applied.DONE
            continue
        frame = decode(line)
        if isinstance(frame, TradeFrame):
            feed.on_trade(frame)
        elif isinstance(frame, DepthFrame):
            feed.on_depth(frame)
        elif isinstance(frame, BookTickerFrame):
            feed.on_ticker(frame)
    assert wanted == ["subscribed"]
    assert [int(trade.trade_id) for trade in sink.trades] == list(range(3735683259, 3735693016))
    assert sum(trade.quantity for trade in sink.trades) == pytest.approx(212.03315, abs=1e-6)
    assert feed.trades_lost == 0
    assert feed.state is FeedState.LIVE
    assert (feed.proofs, feed.contradictions) == (564, 0)
    assert all(book.bids[0][0] < book.asks[0][0] and len(book.bids) == len(book.asks) == 20 for book in sink.books)
    last = feed.book()
    assert last is not None
    assert (last.bids[0], last.asks[0]) == ((61685.99, 1.0087), (61686.00, 2.29327))


def test_recorded_snapshot_of_1000_levels_is_used_up_and_a_deeper_one_is_asked_for() -> None:
    """The price leaves the snapshot's range within the recording: from there nobody knows the book's best levels."""
    sink, wanted = RecordingSink(), []
    feed = MarketFeed(
        "binance", "BTC-USDT", Streams(), sink, stale_after_s=60.0, want_snapshot=lambda _, why: wanted.append(why)
    )
    feed.on_up()
    for line in btc_lines():
        if line.startswith('{"lastUpdateId"'):
            feed.on_snapshot(msgspec.json.decode(line, type=DepthAnswer, strict=False), 1_000, feed.epoch)
            continue
        frame = decode(line)
        if isinstance(frame, DepthFrame):
            feed.on_depth(frame)
    assert [why.split(" ")[0] for why in wanted] == ["subscribed", "exhausted"]
    assert feed.book() is None


@pytest.mark.parametrize(("symbol", "diffs"), [("NKNUSDT", 150), ("LRCBTC", 15), ("BLZETH", 10), ("RUNEEUR", 2)])
def test_recorded_diffs_of_thin_markets_have_no_gap(symbol: str, diffs: int) -> None:
    builder, counts = BookBuilder(), dict.fromkeys(Applied, 0)
    answer = _cryptofeed_snapshot(symbol)
    for frame in _cryptofeed_frames():
        if isinstance(frame, DepthFrame) and frame.s == symbol:
            if not builder.is_whole and frame.u > answer.last_update_id:
                assert builder.snapshot(answer.last_update_id, answer.bids, answer.asks) is Applied.DONE
            counts[builder.apply(frame.U, frame.u, frame.b, frame.a)] += 1
    assert sum(counts.values()) == diffs
    assert counts[Applied.DONE] + counts[Applied.OLD] + counts[Applied.BUFFERED] == diffs
    assert builder.is_whole


def test_recorded_cryptofeed_frames_are_all_understood() -> None:
    kinds = [type(frame) for frame in _cryptofeed_frames()]
    counts = [kinds.count(kind) for kind in (DepthFrame, BookTickerFrame, KlineFrame, UnknownFrame)]
    # The unknown ones are aggregated trades, which nothing here subscribes to.
    assert counts == [177, 84, 2, 2]


def _cryptofeed_frames() -> Iterator[object]:
    with gzip.open(data_file("cryptofeed_raw/BINANCE.ws.1.0.gz"), "rt") as lines:
        for line in lines:
            text = line.partition(": ")[2].strip()
            if text.startswith("{"):
                yield decode(text)


def _cryptofeed_snapshot(symbol: str) -> DepthAnswer:
    with gzip.open(data_file("cryptofeed_raw/BINANCE.http.0.0.gz"), "rt") as lines:
        for line in lines:
            if f"symbol={symbol}&" in line:
                body = line.partition(" -> ")[2].partition(": ")[2]
                return msgspec.json.decode(body.strip(), type=DepthAnswer, strict=False)
    raise AssertionError(f"no snapshot of {symbol}")

"""MEXC's frames made by hand, and a sink that keeps what comes."""

from collections.abc import Sequence

from ccxt.protobuf.mexc import PushDataV3ApiWrapper_pb2

from shared.messages import FeedState
from shared.testing.market_sink import RecordingSink

MARKET, TOKEN, START_MS = "BTCUSDT", "BTC-USDT", 1_760_000_000_000
Changes = Sequence[tuple[str, str]]


class Sink(RecordingSink):
    """Keep what comes, and tell the states of this file's market."""

    def states(self, instrument: str | None = TOKEN) -> list[FeedState]:
        return super().states(instrument)


def wrapper_of(sent_ms: int = START_MS, symbol: str = MARKET) -> "PushDataV3ApiWrapper_pb2.PushDataV3ApiWrapper":
    wrapper = PushDataV3ApiWrapper_pb2.PushDataV3ApiWrapper()
    wrapper.symbol, wrapper.createTime, wrapper.sendTime = symbol, sent_ms, sent_ms
    return wrapper


def depth(first: int | str, last: int | str, bids: Changes = (), asks: Changes = (), sent_ms: int = START_MS) -> bytes:
    wrapper = wrapper_of(sent_ms)
    body = wrapper.publicAggreDepths
    body.fromVersion, body.toVersion = str(first), str(last)
    for side, changes in ((body.bids, bids), (body.asks, asks)):
        for price, quantity in changes:
            side.add(price=price, quantity=quantity)
    return wrapper.SerializeToString()


def deals(trades: Sequence[tuple[str, str, int]], sent_ms: int = START_MS) -> bytes:
    wrapper = wrapper_of(sent_ms)
    for price, quantity, side in trades:
        wrapper.publicAggreDeals.deals.add(price=price, quantity=quantity, tradeType=side, time=sent_ms - 1)
    return wrapper.SerializeToString()


def ticker(bid: str, bid_quantity: str, ask: str, ask_quantity: str) -> bytes:
    wrapper = wrapper_of()
    body = wrapper.publicAggreBookTicker
    body.bidPrice, body.bidQuantity, body.askPrice, body.askQuantity = bid, bid_quantity, ask, ask_quantity
    return wrapper.SerializeToString()

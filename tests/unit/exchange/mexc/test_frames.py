"""What MEXC says on its sockets, and what is not to be believed of it."""

from decimal import Decimal

import pytest

from shared.exchange.mexc.account_stream import AccountWire
from shared.exchange.mexc.feed import MarketFeed
from shared.exchange.mexc.frames import ChannelWords, PublicWire
from shared.exchange.mexc.words import DEALS, DEPTH, PRIVATE
from shared.exchange.port import StreamState, VenueOrder, VenueReport, VenueTrade
from shared.messages import FeedState, Liquidity, OrderState, OrderType
from tests.unit.exchange.mexc.frames_of import MARKET, START_MS, TOKEN, Sink, deals, depth, ticker, wrapper_of

CHANNELS = [DEPTH + MARKET, DEALS + MARKET]


def wire_of(sink: Sink) -> tuple[PublicWire, MarketFeed, list[str]]:
    refused: list[str] = []
    feed = MarketFeed(TOKEN, MARKET, sink, levels=5, has_book=False, want_snapshot=lambda _: None)
    wire = PublicWire(
        CHANNELS, {MARKET: feed}, on_state=lambda *_: None, on_no=lambda _, channel, __: refused.append(channel)
    )
    return wire, feed, refused


def ack(channel: str) -> str:
    return f'{{"id":0,"code":0,"msg":"{channel}"}}'


def refusal(channel: str) -> str:
    return f'{{"id":0,"code":0,"msg":"Not Subscribed successfully! [{channel}].  Reason： Blocked!"}}'


def test_each_channel_is_asked_for_by_itself_and_must_be_acknowledged() -> None:
    words = ChannelWords(CHANNELS)
    assert len(words.greet()) == 2
    words.on_text(ack(CHANNELS[0]))
    assert not words.is_settled
    words.on_text(ack(CHANNELS[1]))
    assert words.is_settled
    words.greet()
    assert not words.is_settled


def test_one_reply_may_acknowledge_several_channels() -> None:
    words = ChannelWords(CHANNELS)
    words.on_text(ack(",".join(CHANNELS)))
    assert words.is_settled


def test_a_refused_channel_stops_its_market_until_it_is_accepted() -> None:
    sink = Sink()
    wire, _, refused = wire_of(sink)
    wire.greet()
    wire.on_frame(ack(CHANNELS[0]))
    wire.on_frame(refusal(CHANNELS[1]))
    assert wire.is_settled
    assert refused == [CHANNELS[1]]
    wire.on_up()
    assert sink.states() == [FeedState.STALE]
    wire.on_frame(ack(CHANNELS[1]))
    assert sink.states() == [FeedState.STALE, FeedState.LIVE]


@pytest.mark.parametrize("text", ["Invalid listen key", "<html></html>", '{"id":0,"code":500,"msg":"no"}', "[]"])
def test_a_reply_that_is_none_means_a_new_connection(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        ChannelWords(CHANNELS).on_text(text)


def test_a_pong_is_told() -> None:
    words, pongs = ChannelWords(CHANNELS), []
    words.on_pong = lambda: pongs.append(1)
    words.on_text('{"id":0,"code":0,"msg":"PONG"}')
    assert pongs == [1]


@pytest.mark.parametrize(
    "quote",
    [
        ("", "", "2", "1"), ("1", "1", "", ""), ("2", "1", "1", "1"), ("1", "1", "1", "1"), ("nan", "1", "2", "1"),
        ("1", "0", "2", "1"), ("-1", "1", "2", "1"), ("1", "1", "inf", "1"), ("x", "1", "2", "1"),
    ],
)  # fmt: skip
def test_a_quote_that_no_market_can_have_is_left_out(quote: tuple[str, str, str, str]) -> None:
    sink = Sink()
    wire, feed, _ = wire_of(sink)
    wire.on_frame(ticker(*quote))
    wire.on_frame(ticker("1", "5", "2", "6"))
    assert [(one.bid_price, one.bid_quantity, one.ask_price, one.ask_quantity) for one in sink.bbos] == [(1, 5, 2, 6)]
    assert feed.rejected == 1


def test_trades_that_no_market_can_have_are_left_out_and_the_others_stay() -> None:
    sink = Sink()
    wire, feed, _ = wire_of(sink)
    bad = [("0", "1", 1), ("nan", "1", 1), ("1", "-1", 1), ("1e400", "1", 1), ("1", "1", 7), ("", "1", 2)]
    wire.on_frame(deals([*bad, ("1.5", "2", 2)]))
    assert [(one.price, one.quantity, one.side.value) for one in sink.trades] == [(1.5, 2.0, "sell")]
    assert feed.rejected == len(bad)


def test_what_is_unknown_is_counted_and_what_is_no_protobuf_is_refused() -> None:
    wire, _, _ = wire_of(Sink())
    wire.on_frame(wrapper_of().SerializeToString())
    other = wrapper_of(symbol="OTHER")
    other.publicAggreDeals.deals.add(price="1", quantity="1", tradeType=1, time=1)
    wire.on_frame(other.SerializeToString())
    kline = wrapper_of()
    kline.publicSpotKline.interval = "Min1"
    wire.on_frame(kline.SerializeToString())
    assert wire.unread == 3
    with pytest.raises(ValueError, match="no protobuf"):
        wire.on_frame(depth(1, 2)[:-1] + b"\xff\xff")


def test_a_market_is_stale_by_the_age_of_its_data_and_not_by_its_socket() -> None:
    sink = Sink()
    wire, feed, _ = wire_of(sink)
    wire.on_up()
    feed.on_age(feed.heard_ns + 31_000_000_000, 30_000_000_000)
    wire.on_frame(deals([("1", "1", 1)]))
    feed.on_age(feed.heard_ns, 30_000_000_000)
    assert sink.states() == [FeedState.LIVE, FeedState.STALE, FeedState.LIVE]


def account_wire() -> tuple[AccountWire, list[VenueReport], list[tuple[str, str]]]:
    reports: list[VenueReport] = []
    missing: list[tuple[str, str]] = []
    return AccountWire({MARKET: TOKEN}, reports.append, lambda *what: missing.append(what)), reports, missing


def deal_frame(**changes: object) -> bytes:
    wrapper = wrapper_of()
    told = {
        "price": "70000.5", "quantity": "0.002", "amount": "140.001", "tradeType": 1, "tradeId": "T1",
        "clientOrderId": "mine", "orderId": "C02__1", "feeAmount": "0.07", "feeCurrency": "USDT", "time": START_MS,
    }  # fmt: skip
    for name, value in {**told, **changes}.items():
        setattr(wrapper.privateDeals, name, value)
    return wrapper.SerializeToString()


def test_an_execution_is_told_exactly_and_its_maker_flag_is_false_when_absent() -> None:
    wire, reports, _ = account_wire()
    wire.on_frame(deal_frame())
    wire.on_frame(deal_frame(tradeId="T2", isMaker=True, clientOrderId=""))
    first, second = reports
    assert isinstance(first, VenueTrade)
    assert isinstance(second, VenueTrade)
    assert (first.fill.price, first.fill.quantity, first.fill.fee) == (
        Decimal("70000.5"), Decimal("0.002"), Decimal("0.07"),
    )  # fmt: skip
    assert first.fill.liquidity is Liquidity.TAKER
    assert (second.fill.liquidity, second.client_order_id) == (Liquidity.MAKER, None)


def test_a_fee_that_was_not_said_is_asked_for_and_a_zero_fee_is_zero() -> None:
    wire, reports, missing = account_wire()
    wire.on_frame(deal_frame(feeAmount="", feeCurrency=""))
    wire.on_frame(deal_frame(feeAmount="0.1", feeCurrency=""))
    assert missing == [(TOKEN, "C02__1")] * 2
    assert reports == []
    wire.on_frame(deal_frame(feeAmount="0", feeCurrency=""))
    assert [one.fill.fee for one in reports if isinstance(one, VenueTrade)] == [Decimal(0)]


@pytest.mark.parametrize(
    "changes",
    [{"price": "nan"}, {"quantity": "0"}, {"tradeId": ""}, {"orderId": "<html>"}, {"tradeType": 3}, {"price": "-1"}],
)
def test_an_execution_that_cannot_be_is_no_report(changes: dict[str, object]) -> None:
    wire, reports, _ = account_wire()
    with pytest.raises(ValueError, match=r"\S"):
        wire.on_frame(deal_frame(**changes))
    assert reports == []


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (1, OrderState.ACCEPTED), (2, OrderState.FILLED), (3, OrderState.PARTIALLY_FILLED), (4, OrderState.CANCELED),
        (5, OrderState.CANCELED),
    ],
)  # fmt: skip
def test_an_order_is_told_with_its_executed_amounts_and_not_its_notional(status: int, state: OrderState) -> None:
    wire, reports, _ = account_wire()
    wrapper = wrapper_of()
    body = wrapper.privateOrders
    body.id, body.clientId, body.price, body.quantity, body.amount = "C02__1", "mine", "10", "3", "30"
    body.orderType, body.tradeType, body.status, body.createTime = 1, 2, status, START_MS
    body.cumulativeQuantity, body.cumulativeAmount = "1.5", "15.5"
    wire.on_frame(wrapper.SerializeToString())
    (order,) = reports
    assert isinstance(order, VenueOrder)
    assert (order.state, order.type, order.filled_quantity, order.filled_quote) == (
        state, OrderType.LIMIT, Decimal("1.5"), Decimal("15.5"),
    )  # fmt: skip


def test_a_stream_tells_up_and_down_once_each_and_is_refused_as_a_whole() -> None:
    wire, reports, _ = account_wire()
    wire.on_down("not yet")
    wire.on_down("not yet")
    wire.on_up()
    wire.on_down("cut")
    assert [one.is_live for one in reports if isinstance(one, StreamState)] == [False, True, False]
    with pytest.raises(ValueError, match="refused"):
        wire.on_frame(refusal(PRIVATE[0]))

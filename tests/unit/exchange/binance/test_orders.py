"""Orders, reports, filters and the account's stream, from hand-made answers."""

import hashlib
import hmac
import json
from decimal import Decimal

import msgspec
import pytest

from shared.errors import ConfigError, UnknownOutcomeError
from shared.exchange.binance.endpoints import rest_url, stream_url, ws_api_url
from shared.exchange.binance.orders import (
    ExecutionReport,
    OrderRow,
    TradeRow,
    check_answer,
    order_of,
    reports_of,
    trade_of,
)
from shared.exchange.binance.rules import SymbolInfo, rules_of
from shared.exchange.binance.user import UserWire
from shared.exchange.live.config import WireConfig
from shared.exchange.port import OrderRequest, VenueOrder, VenueTrade
from shared.messages import Liquidity, OrderState, OrderType, Side, TimeInForce

NOW = 1_723_161_255_208
FULL = {
    "symbol": "BTCUSDT", "orderId": 28, "orderListId": -1, "clientOrderId": "mine", "transactTime": NOW,
    "price": "0.00000000", "origQty": "10.00000000", "executedQty": "10.00000000", "origQuoteOrderQty": "0.000000",
    "cummulativeQuoteQty": "40010.00000000", "status": "FILLED", "timeInForce": "IOC", "type": "LIMIT", "side": "SELL",
    "workingTime": NOW, "selfTradePreventionMode": "NONE",
    "fills": [
        {"price": "4000.00", "qty": "1.0", "commission": "4.0", "commissionAsset": "USDT", "tradeId": 56},
        {"price": "4001.1111", "qty": "9.0", "commission": "19.9", "commissionAsset": "USDT", "tradeId": 57},
    ],
}  # fmt: skip
REPORT = {
    "e": "executionReport", "E": NOW, "s": "BTCUSDT", "c": "mine", "S": "SELL", "o": "LIMIT", "f": "IOC",
    "q": "10.00000000", "p": "3999.00", "P": "0", "F": "0", "g": -1, "C": "", "x": "TRADE", "X": "PARTIALLY_FILLED",
    "r": "NONE", "i": 28, "l": "1.00000000", "z": "1.00000000", "L": "4000.00000000", "n": "4.0", "N": "USDT",
    "T": NOW, "t": 56, "v": 3, "I": 8641984, "w": False, "m": False, "M": False, "O": NOW, "Z": "4000.0", "Y": "4000.0",
    "Q": "0.00000000", "W": NOW, "V": "NONE",
}  # fmt: skip
ASKED = OrderRequest("mine", "BTC-USDT", Side.SELL, OrderType.MARKET, quantity=Decimal(10), price_bound=Decimal(3999))


def row(**changes: object) -> OrderRow:
    return msgspec.convert({**FULL, **changes}, OrderRow, strict=False)


def report(**changes: object) -> ExecutionReport:
    return msgspec.json.decode(json.dumps({**REPORT, **changes}), type=ExecutionReport, strict=False)


def test_an_execution_is_the_same_by_every_way() -> None:
    answered = order_of(row(), "BTC-USDT", asked=ASKED).fills[0]
    streamed, order = reports_of(report(), "BTC-USDT", ASKED)
    listed = trade_of(
        TradeRow("BTCUSDT", 56, 28, Decimal(4000), Decimal(1), Decimal(4), "USDT", NOW, False, False), "BTC-USDT"
    )
    assert isinstance(streamed, VenueTrade) and isinstance(order, VenueOrder)
    assert answered == streamed.fill == listed.fill == order.fills[0]
    assert answered.fill_id == "BTCUSDT-28-56" and answered.liquidity is Liquidity.TAKER
    assert (streamed.client_order_id, listed.client_order_id) == ("mine", None)
    assert streamed.sequence == listed.sequence == NOW


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("NEW", OrderState.ACCEPTED, ""), ("PENDING_NEW", OrderState.ACCEPTED, ""),
        ("PARTIALLY_FILLED", OrderState.PARTIALLY_FILLED, ""), ("FILLED", OrderState.FILLED, ""),
        ("CANCELED", OrderState.CANCELED, "canceled"), ("PENDING_CANCEL", OrderState.PENDING_CANCEL, ""),
        ("REJECTED", OrderState.REJECTED, "rejected"), ("EXPIRED", OrderState.EXPIRED, "expired"),
        ("EXPIRED_IN_MATCH", OrderState.EXPIRED, "expired_in_match"),
    ],
)  # fmt: skip
def test_every_status_has_its_state(status: str, state: OrderState, reason: str) -> None:
    order = order_of(row(status=status), "BTC-USDT")
    assert (order.state, order.reason) == (state, reason)


def test_a_bounded_market_order_is_called_one_while_it_is_remembered_and_else_what_the_wire_says() -> None:
    order = order_of(row(), "BTC-USDT", asked=ASKED)
    assert (order.type, order.limit_price) == (OrderType.MARKET, None)
    order = order_of(row(), "BTC-USDT")
    assert (order.type, order.time_in_force, order.limit_price) == (OrderType.LIMIT, TimeInForce.IOC, row().price)
    plain = OrderRequest("mine", "BTC-USDT", Side.SELL, OrderType.LIMIT, Decimal(10), limit_price=Decimal(5))
    order = order_of(row(price="5"), "BTC-USDT", asked=plain)
    assert (order.type, order.limit_price, order.time_in_force) == (OrderType.LIMIT, 5, TimeInForce.IOC)
    maker = order_of(row(type="LIMIT_MAKER", timeInForce="GTC", price="5"), "BTC-USDT")
    assert (maker.type, maker.time_in_force) == (OrderType.LIMIT, TimeInForce.POST_ONLY)
    assert order_of(row(type="LIMIT", timeInForce="GTC", price="5"), "BTC-USDT").type is OrderType.LIMIT


def test_order_by_quote_amount_has_no_quantity_of_its_own() -> None:
    order = order_of(row(type="MARKET", timeInForce="GTC", origQuoteOrderQty="50000"), "BTC-USDT")
    assert (order.quantity, order.quote_amount, order.filled_quantity) == (None, 50_000, 10)


def test_cancels_answer_names_the_order_and_not_the_cancel() -> None:
    order = order_of(row(origClientOrderId="mine", clientOrderId="cancel-7", status="CANCELED"), "BTC-USDT")
    assert order.client_order_id == "mine"
    told = reports_of(report(x="CANCELED", X="CANCELED", c="cancel-7", C="mine", t=-1, l="0"), "BTC-USDT")
    assert [one.client_order_id for one in told] == ["mine"]
    assert isinstance(told[0], VenueOrder) and told[0].fills == ()


@pytest.mark.parametrize(
    "changes", [{"clientOrderId": "other"}, {"symbol": "ETHUSDT"}, {"side": "BUY"}, {"orderId": 0}, {"status": "NOVEL"}]
)
def test_answer_about_another_order_is_not_believed(changes: dict[str, object]) -> None:
    check_answer(row(), ASKED, "BTCUSDT")
    with pytest.raises(UnknownOutcomeError):
        check_answer(row(**changes), ASKED, "BTCUSDT")


@pytest.mark.parametrize("missing", ["orderId", "status", "clientOrderId", "executedQty"])
def test_answer_with_a_hole_is_no_answer(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        msgspec.convert({name: value for name, value in FULL.items() if name != missing}, OrderRow, strict=False)


INFO = {
    "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "quoteAssetPrecision": 8,
    "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"], "isSpotTradingAllowed": True,
    "quoteOrderQtyMarketAllowed": True, "somethingNew": [1],
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "0.00000000", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.0", "stepSize": "0.00001000"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "81.9", "stepSize": "0.00000000"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "maxNotional": "9000000.0"},
        {"filterType": "ICEBERG_PARTS", "limit": 10},
    ],
}  # fmt: skip


def test_filters_become_rules() -> None:
    rules = rules_of(msgspec.convert(INFO, SymbolInfo, strict=False))
    grid = rules.instrument
    assert (grid.symbol, str(grid.tick_size), str(grid.step_size), grid.notional_min) == (
        "BTC-USDT", "0.01", "0.00001", 5
    )  # fmt: skip
    assert (rules.price_max, rules.market_quantity_min, rules.market_quantity_max) == (None, None, Decimal("81.9"))
    assert rules.quote_step == Decimal("1e-8") and rules.is_trading and rules.takes_market_orders


@pytest.mark.parametrize("status", ["BREAK", "HALT", "CANCEL_ONLY", "END_OF_DAY", "AUCTION_MATCH"])
def test_market_that_does_not_trade_takes_no_orders(status: str) -> None:
    assert not rules_of(msgspec.convert({**INFO, "status": status}, SymbolInfo, strict=False)).is_trading


@pytest.mark.parametrize("kind", ["PRICE_FILTER", "LOT_SIZE"])
def test_market_without_a_tick_or_a_step_is_refused(kind: str) -> None:
    filters = [one for one in INFO["filters"] if one["filterType"] != kind]  # type: ignore[attr-defined, index]
    with pytest.raises(ConfigError):
        rules_of(msgspec.convert({**INFO, "filters": filters}, SymbolInfo, strict=False))


class FakeSocket:
    def __init__(self) -> None:
        self.pongs, self.failures = 0, list[str]()

    def pong(self) -> None:
        self.pongs += 1

    def fail(self, reason: str) -> None:
        self.failures.append(reason)


class Account:
    """An account's wire with what it told."""

    def __init__(self) -> None:
        self.reports: list[ExecutionReport] = []
        self.states: list[tuple[bool, str]] = []
        config = WireConfig(venue="binance", api_key="key", secret="secret")
        self.wire = UserWire(config, lambda: NOW, self.reports.append, lambda *state: self.states.append(state))
        self.socket = FakeSocket()
        self.wire.socket = self.socket  # type: ignore[assignment]

    def hear(self, message: object) -> None:
        self.wire.on_frame(json.dumps(message))


def test_subscription_is_signed_over_its_sorted_parameters() -> None:
    account = Account()
    request = json.loads(account.wire.greet()[0])
    assert request["method"] == "userDataStream.subscribe.signature"
    params = request["params"]
    signature = params.pop("signature")
    text = f"apiKey=key&recvWindow={params['recvWindow']}&timestamp={NOW}"
    assert signature == hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()
    assert not account.wire.is_settled
    account.hear({"id": request["id"], "status": 200, "result": {"subscriptionId": 0}})
    assert account.wire.is_settled


def test_every_event_of_an_order_is_told_at_once() -> None:
    account = Account()
    account.hear({"subscriptionId": 0, "event": REPORT})
    account.hear(REPORT)
    account.hear({"subscriptionId": 0, "event": {"e": "outboundAccountPosition", "B": []}})
    assert [one.t for one in account.reports] == [56, 56]
    assert account.socket.failures == []


@pytest.mark.parametrize("kind", ["eventStreamTerminated", "serverShutdown"])
def test_end_of_the_stream_is_believed(kind: str) -> None:
    account = Account()
    account.hear({"subscriptionId": 0, "event": {"e": kind, "E": NOW}})
    assert account.socket.failures


def test_refused_subscription_says_why_and_never_settles() -> None:
    account = Account()
    account.wire.greet()
    account.hear({"id": 1, "status": 401, "error": {"code": -2015, "msg": "Invalid API-key"}})
    assert not account.wire.is_settled and account.wire.refusal == "-2015 Invalid API-key"
    account.wire.greet()
    account.hear({"id": 2, "status": 400, "error": {"code": -1021, "msg": "Timestamp"}})
    assert account.wire.is_clock_off and account.wire.refusal is None


def test_adapter_never_mixes_the_real_venue_with_another_one() -> None:
    real = WireConfig(venue="binance")
    assert rest_url(real).endswith("api.binance.com") and stream_url(real).startswith("wss://stream.binance.com")
    box = WireConfig(venue="binance", rest_url="http://127.0.0.1:1/", ws_url="ws://127.0.0.1:1")
    assert (rest_url(box), stream_url(box), ws_api_url(box)) == (
        "http://127.0.0.1:1", "ws://127.0.0.1:1/ws", "ws://127.0.0.1:1/ws-api/v3"
    )  # fmt: skip
    half = WireConfig(venue="binance", rest_url="http://127.0.0.1:1")
    for address in (stream_url, ws_api_url):
        with pytest.raises(ConfigError):
            address(half)

"""A new order as Binance takes it in: its parameters, their combinations, their precision.

In: parameters. Out: the venue's request. Never: an order with a parameter that does not belong to its type.
"""

from decimal import Decimal

from services.sandbox_exchange.binance.errors import ApiError, missing
from services.sandbox_exchange.binance.market_data import market_of
from services.sandbox_exchange.binance.operation import Call
from services.sandbox_exchange.binance.params import Params
from services.sandbox_exchange.binance.symbols import decimals_of, precision_of
from services.sandbox_exchange.binance.words import KINDS, SELF_TRADES, SIDES, TIMES_IN_FORCE
from services.sandbox_exchange.core.model import Market, OrderKind, PlaceOrder
from shared.matching import SelfTradePrevention
from shared.messages import TimeInForce

NOT_OFFERED = {
    "STOP_LOSS": "Stop loss orders are not supported for this symbol.",
    "STOP_LOSS_LIMIT": "Stop loss limit orders are not supported for this symbol.",
    "TAKE_PROFIT": "Take profit orders are not supported for this symbol.",
    "TAKE_PROFIT_LIMIT": "Take profit limit orders are not supported for this symbol.",
}


COMMON_NAMES = {"timestamp", "recvWindow", "signature", "apiKey", "returnRateLimits"}
ORDER_NAMES = COMMON_NAMES | {
    "symbol",
    "side",
    "type",
    "timeInForce",
    "quantity",
    "quoteOrderQty",
    "price",
    "newClientOrderId",
    "strategyId",
    "strategyType",
    "stopPrice",
    "trailingDelta",
    "icebergQty",
    "newOrderRespType",
    "selfTradePreventionMode",
    "computeCommissionRates",
}
REPLACE_NAMES = ORDER_NAMES | {
    "cancelReplaceMode",
    "cancelNewClientOrderId",
    "cancelOrigClientOrderId",
    "cancelOrderId",
    "cancelRestrictions",
    "orderRateLimitExceededMode",
}


def read_new_order(call: Call) -> PlaceOrder:
    """Return the order that the parameters ask for, or raise Binance's error for what is wrong with them."""
    market, params = market_of(call), call.params
    params.require_known(REPLACE_NAMES if params.has("cancelReplaceMode") else ORDER_NAMES)
    if market.symbol in call.feed.recorded:
        raise ApiError(-1013, "Market is closed.")
    side = params.word("side", SIDES, ApiError(-1117, "Invalid side."))
    if params.text("type") in NOT_OFFERED:
        raise ApiError(-2010, NOT_OFFERED[params.text("type")])
    kind = params.word("type", KINDS, ApiError(-1116, "Invalid orderType."))
    if params.has("icebergQty"):
        raise ApiError(-2010, "Iceberg orders are not supported for this symbol.")
    if params.has("trailingDelta"):
        raise ApiError(-2010, "Trailing stop orders are not supported for this symbol.")
    _refuse(params, "stopPrice")
    quantity, quote_amount, price = (_amount(params, name, market) for name in ("quantity", "quoteOrderQty", "price"))
    if kind is OrderKind.MARKET:
        _check_market_amounts(params, quantity, quote_amount)
    else:
        _refuse(params, "quoteOrderQty")
        for name, value in (("quantity", quantity), ("price", price)):
            if value is None:
                raise missing(name)
    return PlaceOrder(
        account=call.account.name,
        symbol=market.symbol,
        side=side,
        kind=kind,
        quantity=quantity,
        quote_amount=quote_amount,
        price=price,
        time_in_force=_time_in_force(params, kind),
        client_order_id=params.client_id_or_none("newClientOrderId"),
        self_trade=_self_trade(params),
    )


def _check_market_amounts(params: Params, quantity: Decimal | None, quote_amount: Decimal | None) -> None:
    _refuse(params, "price")
    if quantity is None and quote_amount is None:
        raise ApiError(-1102, "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!")
    if quantity is not None and quote_amount is not None:
        raise ApiError(-1106, "Parameter 'quoteOrderQty' sent when not required.")


def _time_in_force(params: Params, kind: OrderKind) -> TimeInForce:
    if kind is OrderKind.LIMIT:
        return params.word("timeInForce", TIMES_IN_FORCE, ApiError(-1115, "Invalid timeInForce."))
    _refuse(params, "timeInForce")
    return TimeInForce.GTC


def _self_trade(params: Params) -> SelfTradePrevention:
    word = params.text_or_none("selfTradePreventionMode") or "NONE"
    if word not in SELF_TRADES:
        raise ApiError(-1130, "Data sent for parameter 'selfTradePreventionMode' is not valid.")
    return SELF_TRADES[word]


def _refuse(params: Params, name: str) -> None:
    if params.has(name):
        raise ApiError(-1106, f"Parameter '{name}' sent when not required.")


def _amount(params: Params, name: str, market: Market) -> Decimal | None:
    value = params.amount_or_none(name)
    if value is not None and decimals_of(value) > precision_of(market):
        raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
    return value

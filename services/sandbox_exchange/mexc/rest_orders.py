"""Signed REST endpoints that place, cancel and look up orders.

In: a request whose account is known. Out: orders in MEXC's words. Never: a second order under a client order id that
was used before in that market, unless a fault lets it in; an answer that hides what was executed, unless a fault does.
"""

from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import Permission, PlaceOrder, Refusal, RefusalCode, VenueOrder
from services.sandbox_exchange.mexc import errors, payloads
from services.sandbox_exchange.mexc.errors import ApiError, missing
from services.sandbox_exchange.mexc.order_requests import order_request
from services.sandbox_exchange.mexc.params import Params
from services.sandbox_exchange.mexc.rest import Call, Endpoint
from services.sandbox_exchange.mexc.words import DAY_NS, Payload, milliseconds, order_id_of
from shared.matching import FeeMode

BATCH_MAX = 20
ORDERS_DEFAULT, ORDERS_MAX = 500, 1_000
ORDERS_DAYS_MAX = 7
PLACE_ROUTE = "POST /api/v3/order"
HALF = 0.5


def create(call: Call) -> object:
    """Place an order."""
    order = _place(call, call.params)
    return payloads.created(order, _tick(call, order.symbol))


def create_test(call: Call) -> object:
    """Look whether an order would be taken."""
    request = _request(call, call.params)
    try:
        call.exchange.check(request)
    except Refusal as refusal:
        raise _order_error(call, refusal, request) from None
    return {}


def create_many(call: Call) -> object:
    """Place up to twenty orders of one market; each is taken or refused by itself."""
    items = _batch(call.params)
    call.charge(("orders", len(items)))
    answers: list[Payload] = []
    for item in items:
        try:
            order = _place(call, Params(item))
            answers.append(payloads.created(order, _tick(call, order.symbol)))
        except ApiError as error:
            answers.append({"newClientOrderId": item.get("newClientOrderId"), "msg": error.message, "code": error.code})
    return answers


def _batch(params: Params) -> list[dict[str, str]]:
    try:
        items = msgspec.json.decode(params.text("batchOrders"), type=list[dict[str, str | int | float | None]])
    except msgspec.DecodeError:
        raise missing("batchOrders") from None
    if not 0 < len(items) <= BATCH_MAX or len({item.get("symbol") for item in items}) > 1:
        raise missing("batchOrders")
    return [{name: str(value) for name, value in item.items() if value is not None} for item in items]


def _request(call: Call, params: Params) -> PlaceOrder:
    request = order_request(params, call.account.name)
    if request.symbol not in call.exchange.markets:
        raise ApiError(*errors.SYMBOL_UNKNOWN)
    return request


def _place(call: Call, params: Params) -> VenueOrder:
    request = _request(call, params)
    symbol = request.symbol

    def take(name: FaultName) -> float | None:
        fault = call.venue.take(name, route=call.route, symbol=symbol)
        return None if fault is None else HALF if fault.parameter is None else fault.parameter

    is_twice = request.client_order_id is not None and _is_known(call, request)
    is_accepted = is_twice and take(FaultName.DUPLICATE_ID_ACCEPT) is not None
    if is_twice and not is_accepted:
        raise ApiError(*errors.CODES[RefusalCode.CLIENT_ID_TAKEN])
    try:
        if not is_accepted:
            call.exchange.check(request)  # a refused order uses up no fault
        fraction = take(FaultName.PARTIAL_FILL)
        order, _ = call.exchange.place(
            request,
            call.now_ns,
            fill_fraction=None if fraction is None else Decimal(repr(fraction)),
            accept_duplicate_id=is_accepted,
            fee_mode=FeeMode.THIRD if take(FaultName.FEE_THIRD_ASSET) is not None else None,
        )
    except Refusal as refusal:
        raise _order_error(call, refusal, request) from None
    if fault := call.venue.take(FaultName.ORDER_NOT_FOUND, route=call.route, symbol=symbol):
        call.state.hide_order(order.order_id, fault.parameter, call.now_ns)
    return order


def _is_known(call: Call, request: PlaceOrder) -> bool:
    try:
        call.exchange.order(request.account, request.symbol, client_order_id=request.client_order_id)
    except Refusal:
        return False
    return True


def _order_error(call: Call, refusal: Refusal, request: PlaceOrder) -> ApiError:
    market = call.exchange.markets[request.symbol]
    least = f"{market.instrument.notional_min:f}{market.instrument.quote}"
    return errors.of_order_refusal(refusal, request, market.status, least)


def query(call: Call) -> object:
    """Answer with an order."""
    market = call.market()
    order = _find(call, market.symbol, errors.ORDER_NOT_FOUND)
    if fault := call.venue.take(FaultName.ORDER_NOT_FOUND, route=call.route, symbol=market.symbol):
        call.state.hide_order(order.order_id, fault.parameter, call.now_ns)
    if call.state.is_hidden(order.order_id, call.now_ns):
        raise ApiError(*errors.ORDER_NOT_FOUND)
    return payloads.order(order, market.instrument.tick_size)


def cancel(call: Call) -> object:
    """Cancel an order; one that rests no more is unknown."""
    market = call.market()
    order = _find(call, market.symbol, errors.CANCEL_UNKNOWN)
    try:
        order = call.exchange.cancel(call.account.name, market.symbol, call.now_ns, order_id=order.order_id)
    except Refusal as refusal:
        if refusal.code is RefusalCode.ORDER_UNKNOWN:
            raise ApiError(*errors.CANCEL_UNKNOWN) from None
        raise
    return _cancelled(call, order)


def _find(call: Call, symbol: str, unknown: tuple[int, str]) -> VenueOrder:
    word, client_id = call.params.text_or_none("orderId"), call.params.text_or_none("origClientOrderId")
    if word is None and client_id is None:
        raise ApiError(700004, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    order_id = None if word is None else order_id_of(word)
    if word is not None and order_id is None:
        raise ApiError(*unknown)
    try:
        return call.exchange.order(
            call.account.name, symbol, order_id=order_id, client_order_id=client_id if order_id is None else None
        )
    except Refusal:
        raise ApiError(*unknown) from None


def cancel_open(call: Call) -> object:
    """Cancel every order of up to five markets."""
    symbols = _symbols(call)
    orders = [one for name in symbols for one in call.exchange.cancel_all(call.account.name, name, call.now_ns)]
    return [_cancelled(call, one) for one in orders]


def cancel_everything(call: Call) -> object:
    """Cancel every order of the account."""
    call.exchange.cancel_all(call.account.name, None, call.now_ns)
    return {"code": 200, "msg": "success"}


def open_orders(call: Call) -> object:
    """Answer with the resting orders of up to five markets, oldest first."""
    found = [one for name in _symbols(call) for one in call.exchange.open_orders(call.account.name, name)]
    return [payloads.order(one, _tick(call, one.symbol)) for one in found if _is_seen(call, one)]


def all_orders(call: Call) -> object:
    """Answer with a market's orders of a time span (the last day; seven days at most), newest first."""
    symbol, limit = call.market().symbol, call.params.limit(ORDERS_DEFAULT, ORDERS_MAX)
    start, end = time_span(call, ORDERS_DAYS_MAX)
    found = call.exchange.orders(call.account.name, symbol)
    chosen = [one for one in found if start <= milliseconds(one.created_ns) <= end and _is_seen(call, one)]
    return [payloads.order(one, _tick(call, symbol)) for one in reversed(chosen[-limit:])]


def time_span(call: Call, days_max: int) -> tuple[int, int]:
    """Return the first and the last millisecond that are asked for: by default the last day."""
    day = milliseconds(DAY_NS)
    start, end = call.params.whole_or_none("startTime"), call.params.whole_or_none("endTime")
    if end is None:
        end = milliseconds(call.now_ns) if start is None else min(milliseconds(call.now_ns), start + days_max * day)
    if start is None:
        start = end - day
    if end - start > days_max * day:
        raise ApiError(400, f"The time span cannot be longer than {days_max} days")
    return start, end


def _is_seen(call: Call, order: VenueOrder) -> bool:
    return not call.state.is_hidden(order.order_id, call.now_ns)


def _symbols(call: Call) -> list[str]:
    names = call.params.text("symbol").split(",")
    if len(names) > 5 or any(name not in call.exchange.markets for name in names):
        raise ApiError(*errors.SYMBOL_UNKNOWN)
    return names


def _tick(call: Call, symbol: str) -> Decimal:
    return call.exchange.markets[symbol].instrument.tick_size


def _cancelled(call: Call, order: VenueOrder) -> Payload:
    row = payloads.order(order, _tick(call, order.symbol))
    return {"symbol": row.pop("symbol"), "origClientOrderId": row["clientOrderId"], **row}


TRADE, READ = Permission.TRADE, Permission.READ
ENDPOINTS = (
    Endpoint("POST", "/api/v3/order", 1, create, TRADE, ("orders",)),
    Endpoint("POST", "/api/v3/order/test", 1, create_test, TRADE),
    Endpoint("POST", "/api/v3/batchOrders", 10, create_many, TRADE, ("batches",)),
    Endpoint("DELETE", "/api/v3/order", 1, cancel, TRADE, ("orders",)),
    Endpoint("DELETE", "/api/v3/openOrders", 1, cancel_open, TRADE, ("orders",)),
    Endpoint("DELETE", "/api/v3/order/all", 1, cancel_everything, TRADE, ("orders",)),
    Endpoint("GET", "/api/v3/order", 2, query, READ),
    Endpoint("GET", "/api/v3/openOrders", 3, open_orders, READ),
    Endpoint("GET", "/api/v3/allOrders", 10, all_orders, READ),
)

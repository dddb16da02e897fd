"""Orders: place, test, cancel, replace, look up.

In: signed calls. Out: Binance's answers. Never: an answer that the ledger does not hold, unless a fault says so.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

from services.sandbox_exchange.binance import reports
from services.sandbox_exchange.binance.errors import ApiError, of_refusal, unknown_order_sent
from services.sandbox_exchange.binance.market_data import market_of
from services.sandbox_exchange.binance.new_order import read_new_order
from services.sandbox_exchange.binance.operation import Call
from services.sandbox_exchange.binance.words import Payload, milliseconds
from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import (
    AccountTrade,
    OrderKind,
    PlaceOrder,
    Refusal,
    RefusalCode,
    VenueOrder,
)
from shared.clock import NANOSECONDS_PER_SECOND
from shared.matching import FeeMode

NOT_FOUND_S = 1.0
PARTIAL_FRACTION = 0.5
LOOKUP_MS_MAX = 24 * 3_600_000
NEITHER_DONE = "Order cancel-replace failed."
RESPONSES = {"ACK", "RESULT", "FULL"}


def place(call: Call) -> Payload:
    """Place an order."""
    request = read_new_order(call)
    response = call.params.text_or_none("newOrderRespType") or _usual_response(request)
    if response not in RESPONSES:
        raise ApiError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
    order, trades = _execute(call, request)
    if response == "FULL":
        return reports.placed_with_fills(order, trades)
    return reports.placed(order) if response == "RESULT" else reports.acknowledged(order)


def _usual_response(request: PlaceOrder) -> str:
    return "ACK" if request.kind is OrderKind.LIMIT_MAKER else "FULL"


def _execute(call: Call, request: PlaceOrder) -> tuple[VenueOrder, Sequence[AccountTrade]]:
    venue, symbol = call.venue, request.symbol
    part = venue.take(FaultName.PARTIAL_FILL, route=call.route, symbol=symbol)
    double = venue.take(FaultName.DUPLICATE_ID_ACCEPT, route=call.route, symbol=symbol)
    third = venue.take(FaultName.FEE_THIRD_ASSET, route=call.route, symbol=symbol)
    fraction = None if part is None else Decimal(str(PARTIAL_FRACTION if part.parameter is None else part.parameter))
    order, trades = venue.exchange.place(
        request,
        call.now_ns,
        fill_fraction=fraction,
        accept_duplicate_id=double is not None,
        fee_mode=FeeMode.THIRD if third else None,
    )
    if hidden := venue.take(FaultName.ORDER_NOT_FOUND, route=call.route, symbol=symbol):
        seconds = NOT_FOUND_S if hidden.parameter is None else hidden.parameter
        call.memory.hide(order, call.now_ns + int(seconds * NANOSECONDS_PER_SECOND))
    return order, trades


def test(call: Call) -> Payload:
    """Check an order and place none."""
    call.venue.exchange.check(read_new_order(call))
    return {}


def cancel(call: Call) -> Payload:
    """Cancel one order."""
    market_of(call)
    order = _found(call, "Unknown order sent.", -2011)
    client_id = call.params.client_id_or_none("newClientOrderId") or reports.cancel_client_id(order)
    _check_restrictions(call, order)
    call.memory.note_cancel(order.order_id, client_id)
    try:
        ended = call.venue.exchange.cancel(call.account.name, order.symbol, call.now_ns, order_id=order.order_id)
    except Refusal as refusal:
        if refusal.code is RefusalCode.ORDER_UNKNOWN:
            raise unknown_order_sent() from None
        raise
    return reports.canceled(ended, client_id)


def _check_restrictions(call: Call, order: VenueOrder) -> None:
    wanted = call.params.text_or_none("cancelRestrictions")
    if wanted is None:
        return
    statuses = {"ONLY_NEW": "new", "ONLY_PARTIALLY_FILLED": "partially_filled"}
    if wanted not in statuses:
        raise ApiError(-1145, "`cancelRestrictions` has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`.")
    if order.status.value != statuses[wanted]:
        raise ApiError(-2011, "Order was not canceled due to cancel restrictions.")


def cancel_open(call: Call) -> list[Payload]:
    """Cancel every open order of a market; -2011 when there is none."""
    market = market_of(call)
    ended = call.venue.exchange.cancel_all(call.account.name, market.symbol, call.now_ns)
    if not ended:
        raise unknown_order_sent()
    return [reports.canceled(one, reports.cancel_client_id(one)) for one in ended]


def replace(call: Call) -> Payload:
    """Cancel an order and place another; -2022 when neither was done, -2021 when only one of them was."""
    mode = call.params.text("cancelReplaceMode")
    if mode not in {"STOP_ON_FAILURE", "ALLOW_FAILURE"}:
        raise ApiError(-1130, "Data sent for parameter 'cancelReplaceMode' is not valid.")
    read_new_order(call)
    names = {"orderId": "cancelOrderId", "origClientOrderId": "cancelOrigClientOrderId"}
    first = call.with_names({**names, "newClientOrderId": "cancelNewClientOrderId"})
    cancel_answer, is_canceled = _attempt(cancel, first)
    if not is_canceled and mode == "STOP_ON_FAILURE":
        raise ReplaceError(-2022, NEITHER_DONE, ("FAILURE", "NOT_ATTEMPTED"), cancel_answer, None)
    place_answer, is_placed = _attempt(place, call)
    results = ("SUCCESS" if is_canceled else "FAILURE", "SUCCESS" if is_placed else "FAILURE")
    if is_canceled and is_placed:
        return {
            "cancelResult": results[0],
            "newOrderResult": results[1],
            "cancelResponse": cancel_answer,
            "newOrderResponse": place_answer,
        }
    if is_canceled or is_placed:
        raise ReplaceError(-2021, "Order cancel-replace partially failed.", results, cancel_answer, place_answer)
    raise ReplaceError(-2022, NEITHER_DONE, results, cancel_answer, place_answer)


class ReplaceError(ApiError):
    """Say which half of a cancel-replace failed, and how."""

    def __init__(
        self, code: int, words: str, results: tuple[str, str], cancel_answer: Payload, place_answer: Payload | None
    ) -> None:
        super().__init__(code, words, status=409 if code == -2021 else 400)
        self.data: Payload = {
            "cancelResult": results[0],
            "newOrderResult": results[1],
            "cancelResponse": cancel_answer,
            "newOrderResponse": place_answer,
        }


def _attempt(run: Callable[[Call], Payload], call: Call) -> tuple[Payload, bool]:
    try:
        return run(call), True
    except Refusal as refusal:
        error = of_refusal(refusal)
    except ApiError as caught:
        error = caught
    return {"code": error.code, "msg": error.text}, False


def query(call: Call) -> Payload:
    """Return one order."""
    market_of(call)
    return reports.described(_found(call, "Order does not exist.", -2013))


def _found(call: Call, words: str, code: int) -> VenueOrder:
    params, venue = call.params, call.venue
    symbol, order_id = params.symbol(), params.whole_or_none("orderId")
    client_id = params.client_id_or_none("origClientOrderId")
    if order_id is None and client_id is None:
        raise ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    try:
        order = venue.exchange.order(call.account.name, symbol, order_id=order_id, client_order_id=client_id)
    except Refusal as refusal:
        if refusal.code is RefusalCode.ORDER_UNKNOWN:
            raise ApiError(code, words) from None
        raise
    is_other = client_id is not None and order.client_order_id != client_id
    if is_other or call.memory.is_hidden(order, call.now_ns) or _overlooks(call, symbol):
        raise ApiError(code, words)
    return order


def _overlooks(call: Call, symbol: str) -> bool:
    """Tell whether a fault makes this one look-up miss; a fault that names no route waits for an order's creation."""
    armed = call.venue.standing(FaultName.ORDER_NOT_FOUND, route=call.route, symbol=symbol)
    if armed is None or armed.route is None:
        return False
    return call.venue.take(FaultName.ORDER_NOT_FOUND, route=call.route, symbol=symbol) is not None


def open_orders(call: Call) -> list[Payload]:
    """Return the resting orders, of one market or of all."""
    symbol = market_of(call).symbol if call.params.has("symbol") else None
    orders = call.venue.exchange.open_orders(call.account.name, symbol)
    return [reports.described(one) for one in orders if not call.memory.is_hidden(one, call.now_ns)]


def all_orders(call: Call) -> list[Payload]:
    """Return every order of a market: from an id on, of a time, or the newest."""
    market, params = market_of(call), call.params
    from_id, limit = params.whole_or_none("orderId"), params.limit(500, 1_000)
    start, end = _times(call)
    chosen = [
        one
        for one in call.venue.exchange.orders(call.account.name, market.symbol)
        if (from_id is None or one.order_id >= from_id)
        and (start is None or milliseconds(one.created_ns) >= start)
        and (end is None or milliseconds(one.created_ns) <= end)
        and not call.memory.is_hidden(one, call.now_ns)
    ]
    chosen = chosen[-limit:] if from_id is None and start is None else chosen[:limit]
    return [reports.described(one) for one in chosen]


def own_trades(call: Call) -> list[Payload]:
    """Return the account's executions in a market: of an order, from an id on, of a time, or the newest."""
    market, params = market_of(call), call.params
    order_id, from_id = params.whole_or_none("orderId"), params.whole_or_none("fromId")
    limit = params.limit(500, 1_000)
    start, end = _times(call)
    chosen = [
        one
        for one in call.venue.exchange.account_trades(call.account.name, market.symbol)
        if (order_id is None or one.order_id == order_id)
        and (from_id is None or one.trade_id >= from_id)
        and (start is None or milliseconds(one.time_ns) >= start)
        and (end is None or milliseconds(one.time_ns) <= end)
    ]
    chosen = chosen[-limit:] if from_id is None and start is None else chosen[:limit]
    return [reports.own_trade(one) for one in chosen]


def _times(call: Call) -> tuple[int | None, int | None]:
    start, end = call.params.whole_or_none("startTime"), call.params.whole_or_none("endTime")
    if start is not None and end is not None and not 0 <= end - start <= LOOKUP_MS_MAX:
        raise ApiError(-1127, "More than 24 hours between startTime and endTime.")
    return start, end

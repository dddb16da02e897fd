"""MEXC's refusals: a code, a text and an HTTP status.

In: a refusal of the venue, or a reason of the wire. Out: `{"code":..,"msg":..}`. Never: a code that MEXC does not have.
"""

import msgspec
from aiohttp import web

from services.sandbox_exchange.core.model import PlaceOrder, Refusal, RefusalCode, TradingStatus
from services.sandbox_exchange.mexc.words import Payload
from shared.messages import Side


class ApiError(Exception):
    """Refuse a request in MEXC's words."""

    def __init__(self, code: int, message: str, *, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status

    @property
    def body(self) -> Payload:
        """Return the answer's content."""
        return {"code": self.code, "msg": self.message}


def missing(name: str) -> ApiError:
    """Return the refusal of a request without a parameter that it needs, or with one that makes no sense."""
    return ApiError(700004, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str, legal: str) -> ApiError:
    """Return the refusal of characters that a parameter must not have."""
    return ApiError(700008, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


SYMBOL_UNKNOWN = (-1121, "Invalid symbol.")
ORDER_NOT_FOUND = (-2013, "Order does not exist.")
CANCEL_UNKNOWN = (-2011, "Unknown order sent.")
OPEN_ORDERS_MAX = (30029, "Cannot exceed the maximum order limit")
CODES = {
    RefusalCode.SYMBOL_UNKNOWN: SYMBOL_UNKNOWN,
    RefusalCode.SIDE_NOT_ALLOWED: (30001, "The current transaction direction is not allowed to place an order"),
    RefusalCode.MALFORMED: (700004, "Mandatory parameter was not sent, was empty/null, or malformed."),
    RefusalCode.PRICE_GRID: (30010, "no valid trade price"),
    RefusalCode.QUANTITY_GRID: (10096, "amount decimal places is too long"),
    RefusalCode.QUANTITY_MIN: (30002, "The minimum transaction volume cannot be less than the minimum quantity"),
    RefusalCode.QUANTITY_MAX: (30003, "The maximum transaction volume cannot be greater than the maximum quantity"),
    RefusalCode.NOTIONAL_MAX: (30003, "The maximum transaction volume cannot be greater than the maximum amount"),
    RefusalCode.WOULD_TAKE: (30041, "current order type can not place order"),
    RefusalCode.CLIENT_ID_TAKEN: (603, "Repeated request"),
    RefusalCode.ORDER_UNKNOWN: ORDER_NOT_FOUND,
    RefusalCode.ORDERS_MAX: OPEN_ORDERS_MAX,
    RefusalCode.PERMISSION: (704, "Please enable API Key trading information write access"),
}
STATUS_CODES = {
    TradingStatus.CANCEL_ONLY: (30000, "suspended transaction for the symbol"),
    TradingStatus.PAUSED: (30016, "trading disabled"),
    TradingStatus.DELISTED: (30014, "invalid symbol"),
}


def of_refusal(refusal: Refusal) -> ApiError:
    """Return a refusal of the venue in MEXC's words."""
    code, message = CODES.get(refusal.code, (500, "Internal error"))
    return ApiError(code, message)


def of_order_refusal(
    refusal: Refusal, request: PlaceOrder, status: TradingStatus | None, minimum: object = None
) -> ApiError:
    """Return why an order was refused; `status` is its market's, `minimum` the least notional."""
    if refusal.code is RefusalCode.MARKET_NOT_TRADING and status in STATUS_CODES:
        return ApiError(*STATUS_CODES[status])
    if refusal.code is RefusalCode.BALANCE:
        return ApiError(30004, "Insufficient position") if request.side is Side.BUY else ApiError(30005, "Oversold")
    if refusal.code is RefusalCode.NOTIONAL_MIN:
        return ApiError(30002, f"The minimum transaction volume cannot be less than：{minimum}")
    return of_refusal(refusal)


def answer(error: ApiError) -> web.Response:
    """Return a refusal as an HTTP answer."""
    return web.Response(body=msgspec.json.encode(error.body), status=error.status, content_type="application/json")


def refuse(status: int, reason: str) -> web.Response:
    """Return the answer to a request that was not even looked at; see `wire.http`."""
    if status == 418:
        return web.Response(status=status, text="banned", content_type="text/plain")  # the ban comes from the gateway
    if status == 502:
        return web.Response(status=status, text="<html>502 Bad Gateway</html>", content_type="text/html")
    code, message = {
        429: (429, "Too Many Requests"),
        413: (513, "Invalid request, please try again later"),
        500: (500, "Internal error"),
        503: (503, "service not available, please try again"),
        504: (504, "Gateway Time-out"),
    }.get(status, (500, "Internal error"))
    if reason == "maintenance":
        code, message = 604, "Sorry, this feature is under maintenance"
    return answer(ApiError(code, message, status=status))

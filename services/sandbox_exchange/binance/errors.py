"""Binance's refusals: its codes, its words, its HTTP statuses.

In: refusals of the venue, and what is wrong with a request. Out: the answer's code, text and status.
Never: a refusal without one of Binance's own codes.
"""

from collections.abc import Callable

from services.sandbox_exchange.core.model import Refusal, RefusalCode

PUBLIC_LIMIT_TEXT = (
    "Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API."
)
BAN_TEXT = (
    "Way too much request weight used; IP banned until {until_ms}. "
    "Please use WebSocket Streams for live updates to avoid bans."
)


class ApiError(Exception):
    """Answer a request with one of Binance's errors; nothing was executed."""

    def __init__(self, code: int, text: str, *, status: int = 400) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text, self.status = code, text, status


def filter_failure(name: str) -> ApiError:
    """Return the error of an order that a filter of its market does not let through."""
    return ApiError(-1013, f"Filter failure: {name}")


def missing(name: str) -> ApiError:
    """Return the error of a parameter that is not there, empty or malformed."""
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str, legal: str) -> ApiError:
    """Return the error of a parameter with characters that it must not have."""
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


_REFUSALS: dict[RefusalCode, Callable[[], ApiError]] = {
    RefusalCode.SYMBOL_UNKNOWN: lambda: ApiError(-1121, "Invalid symbol."),
    RefusalCode.MARKET_NOT_TRADING: lambda: ApiError(-1013, "Market is closed."),
    RefusalCode.SIDE_NOT_ALLOWED: lambda: ApiError(-2010, "This symbol is restricted for this account."),
    RefusalCode.MALFORMED: lambda: ApiError(-1014, "Unsupported order combination."),
    RefusalCode.PRICE_GRID: lambda: filter_failure("PRICE_FILTER"),
    RefusalCode.QUANTITY_GRID: lambda: filter_failure("LOT_SIZE"),
    RefusalCode.QUANTITY_MIN: lambda: filter_failure("LOT_SIZE"),
    RefusalCode.QUANTITY_MAX: lambda: filter_failure("LOT_SIZE"),
    RefusalCode.NOTIONAL_MIN: lambda: filter_failure("NOTIONAL"),
    RefusalCode.NOTIONAL_MAX: lambda: filter_failure("NOTIONAL"),
    RefusalCode.BALANCE: lambda: ApiError(-2010, "Account has insufficient balance for requested action."),
    RefusalCode.WOULD_TAKE: lambda: ApiError(-2010, "Order would immediately match and take."),
    RefusalCode.CLIENT_ID_TAKEN: lambda: ApiError(-2010, "Duplicate order sent."),
    RefusalCode.ORDER_UNKNOWN: lambda: ApiError(-2013, "Order does not exist."),
    RefusalCode.ORDERS_MAX: lambda: filter_failure("MAX_NUM_ORDERS"),
    RefusalCode.PERMISSION: lambda: ApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401),
}


def of_refusal(refusal: Refusal) -> ApiError:
    """Return Binance's words for a refusal of the venue."""
    return _REFUSALS[refusal.code]()


def unknown_order_sent() -> ApiError:
    """Return the error of a cancel that found nothing to cancel."""
    return ApiError(-2011, "Unknown order sent.")

"""What an answer or an exception proves about an order. The wrong answer here sends an order twice, or loses one."""

import inspect
from collections.abc import Sequence

import aiohttp
import ccxt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.binance.codes import CODES
from shared.exchange.live.outcome import (
    CCXT_VERDICTS,
    Answer,
    Outcome,
    is_operating,
    judge_answer,
    judge_exception,
    safe_text,
)
from shared.exchange.port import VenueRejectCode as Code

CLASSES: Sequence[type[Exception]] = [
    each for _, each in inspect.getmembers(ccxt, inspect.isclass) if issubclass(each, ccxt.BaseError)
]
# Of these alone a definite no follows without the venue's own code.
DEFINITE = {
    "AccountNotEnabled", "AccountSuspended", "AddressPending", "ArgumentsRequired", "AuthenticationError", "BadRequest",
    "BadSymbol", "ContractUnavailable", "InsufficientFunds", "InvalidAddress", "InvalidOrder",
    "ManualInteractionNeeded", "MarginModeAlreadySet", "MarketClosed", "NoChange", "NotSupported", "OperationRejected",
    "OrderImmediatelyFillable", "OrderNotFillable", "PermissionDenied", "RestrictedLocation",
}  # fmt: skip
NOTHING_SENT = {"InvalidNonce", "InvalidProxySettings"}


def test_every_class_of_ccxt_is_listed() -> None:
    assert {each.__name__ for each in CLASSES} == set(CCXT_VERDICTS)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_ccxt_class_has_its_verdict(kind: type[Exception]) -> None:
    verdict = judge_exception(kind("binance GET https://x/api?signature=abc"))
    expected = Outcome.UNKNOWN
    if kind.__name__ in DEFINITE:
        expected = Outcome.REJECTED
    elif kind.__name__ in NOTHING_SENT:
        expected = Outcome.NOT_ASKED
    assert verdict.outcome is expected
    assert (verdict.code is not None) == (expected is Outcome.REJECTED)
    assert "signature" not in verdict.detail
    assert is_operating(kind("x"))


@pytest.mark.parametrize(
    "kind", [each for each in CLASSES if issubclass(each, ccxt.NetworkError)], ids=lambda k: k.__name__
)
def test_trouble_on_the_network_is_never_a_refusal(kind: type[Exception]) -> None:
    assert judge_exception(kind("x")).outcome is not Outcome.REJECTED


def test_class_of_a_later_ccxt_is_judged_by_its_parent() -> None:
    later = type("DelistedSoon", (ccxt.MarketClosed,), {"__module__": "ccxt.base.errors"})
    assert judge_exception(later("x")).code is Code.MARKET_CLOSED


def chained(cause: Exception, outer: type[Exception] = ccxt.ExchangeNotAvailable) -> Exception:
    error = outer("binance POST")
    error.__cause__ = cause
    return error


CONNECTOR = aiohttp.ClientConnectorError(
    aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None), OSError("refused")
)


@pytest.mark.parametrize("cause", [CONNECTOR, aiohttp.ConnectionTimeoutError("connect")])
def test_without_a_connection_nothing_was_asked(cause: Exception) -> None:
    assert judge_exception(chained(cause)).outcome is Outcome.NOT_ASKED
    assert judge_exception(cause).outcome is Outcome.NOT_ASKED
    # A cancel may have gone out on the connection before, whose reset made aiohttp try again.
    assert judge_exception(chained(cause), is_idempotent=True).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "cause",
    [
        aiohttp.ServerDisconnectedError(), aiohttp.ClientOSError(104, "reset"), ConnectionResetError("reset"),
        aiohttp.SocketTimeoutError("read"), TimeoutError(), aiohttp.ClientPayloadError("half"), KeyError("orderId"),
        ValueError("no JSON"), TypeError("None"),
    ],
    ids=lambda cause: type(cause).__name__,
)  # fmt: skip
def test_failure_after_the_connection_leaves_the_outcome_unknown(cause: Exception) -> None:
    assert judge_exception(cause).outcome is Outcome.UNKNOWN
    assert judge_exception(chained(cause)).outcome is Outcome.UNKNOWN
    assert is_operating(cause)


def test_programmer_error_is_none_of_the_venues() -> None:
    assert not is_operating(AssertionError("x"))
    assert not is_operating(NotImplementedError("x"))


BINANCE = [
    (400, -2010, "Account has insufficient balance for requested action.", Outcome.REJECTED, Code.BALANCE),
    (400, -2010, "Order would immediately match and take.", Outcome.REJECTED, Code.POST_ONLY_WOULD_TAKE),
    (400, -2010, "Market is closed.", Outcome.REJECTED, Code.MARKET_CLOSED),
    (400, -2010, "Duplicate order sent.", Outcome.REJECTED, Code.REQUEST_MALFORMED),
    (400, -1013, "Filter failure: NOTIONAL", Outcome.REJECTED, Code.NOTIONAL_MIN),
    (400, -1013, "Filter failure: MIN_NOTIONAL", Outcome.REJECTED, Code.NOTIONAL_MIN),
    (400, -1013, "Filter failure: LOT_SIZE", Outcome.REJECTED, Code.QUANTITY_MIN),
    (400, -1013, "Filter failure: PRICE_FILTER", Outcome.REJECTED, Code.PRECISION),
    (400, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE", Outcome.REJECTED, Code.PRICE_BAND),
    (400, -1013, "Filter failure: MAX_NUM_ORDERS", Outcome.REJECTED, Code.ORDERS_MAX),
    (400, -1111, "Precision is over the maximum defined for this asset.", Outcome.REJECTED, Code.PRECISION),
    (400, -1121, "Invalid symbol.", Outcome.REJECTED, Code.INSTRUMENT_UNKNOWN),
    (401, -2015, "Invalid API-key, IP, or permissions for action.", Outcome.REJECTED, Code.PERMISSION),
    (400, -1022, "Signature for this request is not valid.", Outcome.REJECTED, Code.PERMISSION),
    (400, -1102, "Mandatory parameter 'side' was not sent", Outcome.REJECTED, Code.REQUEST_MALFORMED),
    (400, -1021, "Timestamp for this request is outside of the recvWindow.", Outcome.NOT_ASKED, None),
    (400, -1003, "Too much request weight used", Outcome.NOT_ASKED, None),
    (400, -1015, "Too many new orders", Outcome.NOT_ASKED, None),
    (429, -1003, "Too much request weight used", Outcome.NOT_ASKED, None),
    (418, -1003, "IP banned", Outcome.NOT_ASKED, None),
    (403, None, "<html>", Outcome.UNKNOWN, None),
    (429, None, "<html>", Outcome.UNKNOWN, None),
    (418, None, "", Outcome.UNKNOWN, None),
    (429, -1007, "Timeout waiting for response from backend server.", Outcome.UNKNOWN, None),
    (504, -1007, "Timeout waiting for response from backend server.", Outcome.UNKNOWN, None),
    (400, -1007, "Timeout", Outcome.UNKNOWN, None),
    (400, -1006, "An unexpected response was received", Outcome.UNKNOWN, None),
    (400, -1000, "An unknown error occurred", Outcome.UNKNOWN, None),
    (400, -1001, "Internal error", Outcome.UNKNOWN, None),
    (500, -1000, "", Outcome.UNKNOWN, None),
    (503, None, "Service Unavailable.", Outcome.UNKNOWN, None),
    (503, -2010, "Account has insufficient balance", Outcome.UNKNOWN, None),
    (200, None, "<html>", Outcome.UNKNOWN, None),
    (200, None, "{", Outcome.UNKNOWN, None),
    (302, None, "", Outcome.UNKNOWN, None),
    (404, None, "not found", Outcome.UNKNOWN, None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "message", "outcome", "reject"), BINANCE)
def test_binance_answer_has_its_verdict(
    status: int, code: int | None, message: str, outcome: Outcome, reject: Code | None
) -> None:
    verdict = judge_answer(Answer(status, code, message), CODES)
    assert (verdict.outcome, verdict.code) == (outcome, reject)
    kinds = {Outcome.REJECTED: RejectedError, Outcome.UNKNOWN: UnknownOutcomeError, Outcome.NOT_ASKED: UnavailableError}
    assert type(verdict.error()) is kinds[outcome]


@settings(deadline=None)
@given(status=st.integers(500, 599), code=st.one_of(st.none(), st.integers(-9999, 9999)), message=st.text(max_size=20))
def test_server_error_is_always_unknown(status: int, code: int | None, message: str) -> None:
    assert judge_answer(Answer(status, code, message), CODES).outcome is Outcome.UNKNOWN


@settings(deadline=None)
@given(status=st.integers(100, 399), message=st.text(max_size=20))
def test_answer_without_a_code_is_never_a_refusal(status: int, message: str) -> None:
    assert judge_answer(Answer(status, None, message), CODES).outcome is not Outcome.REJECTED


@settings(deadline=None)
@given(st.text(max_size=400), st.text(alphabet="0123456789abcdef", min_size=8, max_size=64))
def test_text_for_logs_has_no_query_string(text: str, secret: str) -> None:
    shown = safe_text(f"{text} https://api/order?symbol=A&signature={secret} {text}")
    assert f"signature={secret}" not in shown
    assert len(shown) <= 241 and "\n" not in shown

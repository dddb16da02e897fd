"""What an answer, or no answer, says about a request that changes something. Pure.

In: an HTTP answer with the venue's own code, or the exception that came instead. Out: one of three verdicts.
Never: a guess. What is not proven to be a refusal, or proven never to have left, is UNKNOWN.

The venue's own code decides where there is one: ccxt's class for it depends on the address, and on words in a text.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

import aiohttp
import msgspec

from shared.errors import CascadeError, RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.port import VenueRejectCode

DETAIL_MAX = 240
SERVER_ERROR = 500
CLIENT_ERROR = 400
_QUERY = re.compile(r"\?\S*")
# What a body that is no answer makes of a parser.
_UNPARSABLE = (TypeError, KeyError, IndexError, AttributeError, ValueError, ArithmeticError, RecursionError)


class Outcome(StrEnum):
    """Name what is known about a request."""

    REJECTED = "rejected"  # a definite no: nothing happened, and the same request will be refused again
    NOT_ASKED = "not_asked"  # nothing happened, for a reason that has nothing to do with the request
    UNKNOWN = "unknown"  # it may have happened


class Verdict(msgspec.Struct, frozen=True):
    """State what is known; `code` is set for REJECTED alone. `detail` has no query string: it may hold a signature."""

    outcome: Outcome
    detail: str
    code: VenueRejectCode | None = None

    def error(self) -> CascadeError:
        """Return the error to raise."""
        if self.outcome is Outcome.REJECTED:
            return RejectedError((self.code or VenueRejectCode.REQUEST_MALFORMED).value, self.detail)
        return UnavailableError(self.detail) if self.outcome is Outcome.NOT_ASKED else UnknownOutcomeError(self.detail)


class Answer(msgspec.Struct, frozen=True):
    """State an HTTP answer that is no success; `code` is the venue's own, None where the body has none."""

    status: int
    code: int | None
    message: str
    retry_after_s: float | None = None


class CodeTable(msgspec.Struct, frozen=True):
    """State what a venue's codes prove. `texts` (lower case) refine a code by words in its message.

    `refusing_statuses` are HTTP statuses under which a venue has done nothing, if the body has a code of its own: a
    bare page may be anybody's between us. `unlisted_client` is the verdict on a code that no set names, under a status
    from 400 to 499.
    """

    rejected: Mapping[int, VenueRejectCode]
    not_asked: frozenset[int]
    unknown: frozenset[int]
    texts: tuple[tuple[int, str, VenueRejectCode], ...] = ()
    refusing_statuses: frozenset[int] = frozenset()
    unlisted_client: Outcome = Outcome.UNKNOWN


def judge_answer(answer: Answer, table: CodeTable) -> Verdict:
    """Return what an HTTP answer proves."""
    detail = safe_text(f"{answer.status} {answer.code if answer.code is not None else ''} {answer.message}")
    code = answer.code
    if answer.status in table.refusing_statuses and code is not None and code not in table.unknown:
        return Verdict(Outcome.NOT_ASKED, detail)
    if answer.status >= SERVER_ERROR or code in table.unknown:
        return Verdict(Outcome.UNKNOWN, detail)
    if code is None:
        # A proxy's page, or half an answer: who wrote it, and after what, nobody knows.
        return Verdict(Outcome.UNKNOWN, detail)
    if code in table.not_asked:
        return Verdict(Outcome.NOT_ASKED, detail)
    text = answer.message.lower()
    for number, words, reject_code in table.texts:
        if number == code and words in text:
            return Verdict(Outcome.REJECTED, detail, reject_code)
    if code in table.rejected:
        return Verdict(Outcome.REJECTED, detail, table.rejected[code])
    if answer.status >= CLIENT_ERROR and table.unlisted_client is not Outcome.UNKNOWN:
        is_rejected = table.unlisted_client is Outcome.REJECTED
        return Verdict(table.unlisted_client, detail, VenueRejectCode.REQUEST_MALFORMED if is_rejected else None)
    return Verdict(Outcome.UNKNOWN, detail)


def judge_exception(error: BaseException, *, is_idempotent: bool = False) -> Verdict:
    """Return what an exception of ccxt, of aiohttp or of a parser proves, when no answer can be read from it.

    aiohttp sends an idempotent method (a cancel's DELETE) a second time when a kept connection is reset: that no
    connection was made then proves nothing about the first time.
    """
    detail = safe_text(f"{type(error).__name__}: {error}")
    if not is_idempotent and _never_left(error):
        return Verdict(Outcome.NOT_ASKED, detail)
    for kind in type(error).__mro__:
        if kind.__module__.startswith("ccxt") and kind.__name__ in CCXT_VERDICTS:
            outcome, code = CCXT_VERDICTS[kind.__name__]
            return Verdict(outcome, detail, code)
    return Verdict(Outcome.UNKNOWN, detail)


def is_operating(error: BaseException) -> bool:
    """Tell whether an exception is one that a venue can cause, and not one of ours alone."""
    kinds = (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, *_UNPARSABLE)
    return isinstance(error, kinds) or any(kind.__module__.startswith("ccxt") for kind in type(error).__mro__)


def safe_text(text: str) -> str:
    """Return one short line without query strings."""
    short = " ".join(_QUERY.sub("?…", text).split())
    return short if len(short) <= DETAIL_MAX else short[:DETAIL_MAX] + "…"


def _never_left(error: BaseException) -> bool:
    """Tell whether no connection was made, so that not a byte was sent. ccxt keeps the cause."""
    seen: BaseException | None = error
    while seen is not None:
        # A refused or unresolved address, a failed handshake, or no connection in time; a reset is another class.
        if isinstance(seen, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return True
        seen = seen.__cause__
    return False


def _reject(code: VenueRejectCode) -> tuple[Outcome, VenueRejectCode]:
    return Outcome.REJECTED, code


_MALFORMED = _reject(VenueRejectCode.REQUEST_MALFORMED)
_PERMISSION = _reject(VenueRejectCode.PERMISSION)
_CLOSED = _reject(VenueRejectCode.MARKET_CLOSED)
_UNKNOWN = (Outcome.UNKNOWN, None)
_NOT_ASKED = (Outcome.NOT_ASKED, None)

# Every class of ccxt 4.5.90; one that comes later is judged by the class that it derives from.
CCXT_VERDICTS: Mapping[str, tuple[Outcome, VenueRejectCode | None]] = {
    "BaseError": _UNKNOWN,
    # MEXC's HTTP 500 and every code that ccxt does not know arrive as the plain class.
    "ExchangeError": _UNKNOWN,
    "AuthenticationError": _PERMISSION,
    "PermissionDenied": _PERMISSION,
    "AccountNotEnabled": _PERMISSION,
    "AccountSuspended": _PERMISSION,
    "ArgumentsRequired": _MALFORMED,
    "BadRequest": _MALFORMED,
    "BadSymbol": _reject(VenueRejectCode.INSTRUMENT_UNKNOWN),
    "OperationRejected": _MALFORMED,
    "NoChange": _MALFORMED,
    "MarginModeAlreadySet": _MALFORMED,
    "MarketClosed": _CLOSED,
    "ManualInteractionNeeded": _PERMISSION,
    "RestrictedLocation": _PERMISSION,
    "InsufficientFunds": _reject(VenueRejectCode.BALANCE),
    "InvalidAddress": _MALFORMED,
    "AddressPending": _MALFORMED,
    "InvalidOrder": _MALFORMED,
    # What is not found, or is there already, tells that an order of this id may live.
    "OrderNotFound": _UNKNOWN,
    "OrderNotCached": _UNKNOWN,
    "DuplicateOrderId": _UNKNOWN,
    "CancelPending": _UNKNOWN,
    "OrderImmediatelyFillable": _reject(VenueRejectCode.POST_ONLY_WOULD_TAKE),
    "OrderNotFillable": _MALFORMED,
    "ContractUnavailable": _CLOSED,
    "NotSupported": _MALFORMED,
    "InvalidProxySettings": _NOT_ASKED,
    "ExchangeClosedByUser": _UNKNOWN,
    "UnsubscribeError": _UNKNOWN,
    "OperationFailed": _UNKNOWN,
    "NetworkError": _UNKNOWN,
    # Without the raw answer nobody knows which limit it was, and whether the order was counted and done.
    "DDoSProtection": _UNKNOWN,
    "RateLimitExceeded": _UNKNOWN,
    "ExchangeNotAvailable": _UNKNOWN,
    "OnMaintenance": _UNKNOWN,
    # A timestamp or nonce that the venue did not take: it looked no further.
    "InvalidNonce": _NOT_ASKED,
    "ChecksumError": _UNKNOWN,
    "RequestTimeout": _UNKNOWN,
    "BadResponse": _UNKNOWN,
    "NullResponse": _UNKNOWN,
}

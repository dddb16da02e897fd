"""What can go wrong with any HTTP request, once for all venues.

In: a venue's request handler. Out: the same handler behind bans, latency, maintenance, refusals, hangs and resets;
"after" faults let it execute and spoil only the answer. Never: a venue's own words: `refuse` writes those.

`refuse(status, reason)` is called with: 429 and 418 `too many requests`, 403 `forbidden`, 413 `body too large`, 500 and
502 and others `internal error`, 503 `maintenance` or `unavailable`. Retry-After is added here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, NoReturn
from urllib.parse import parse_qsl

from aiohttp import web

from services.sandbox_exchange.core.faults import Fault, FaultName
from services.sandbox_exchange.wire.context import NO_ANSWER, RequestSeen, Venue, abort, client_of
from services.sandbox_exchange.wire.limits import TooManyRequestsError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refuse = Callable[[int, str], web.Response]

BODY_BYTES_MAX = 64 * 1024
RETRY_AFTER_429_S = 1.0
RETRY_AFTER_418_S = 120.0
HANG_S = 60.0
HANG_STEP_S = 0.02
REPLY_DELAY_S = 0.3
CREATE_ROUTE = "POST /api/v3/order"
TOO_MANY = "too many requests"
HTML = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser.</body></html>"


def with_faults(venue: Venue, route: str, handler: Handler, *, refuse: Refuse) -> Handler:
    """Return the handler of `route` (`POST /api/v3/order`) behind everything that can go wrong with it."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if (request.content_length or 0) > BODY_BYTES_MAX:
            return _seen(_Asked(venue, request, route, None), _too_large(refuse))
        symbol = request.query.get("symbol") if venue.faults.is_quiet else await symbol_of(request)
        asked = _Asked(venue, request, route, symbol)
        try:
            refused = await _before(asked, refuse)
            answer = refused or await _spoil(asked, refuse, await _run(venue, handler, request, refuse))
        except web.HTTPRequestEntityTooLarge:
            answer = _too_large(refuse)
        except _NoAnswerError:
            _seen(asked, web.Response(status=NO_ANSWER))
            return web.Response()  # goes nowhere: the connection is gone
        return _seen(asked, answer)

    return guarded


async def symbol_of(request: web.Request) -> str | None:
    """Return the `symbol` parameter of a request's query or form, or None. The body stays readable."""
    if "symbol" in request.query:
        return request.query["symbol"]
    if not request.can_read_body or request.content_type == "application/json":
        return None
    text = (await request.read()).decode("utf-8", errors="replace")
    return dict(parse_qsl(text)).get("symbol")


def too_many(refuse: Refuse, status: int, retry_after_s: float) -> web.Response:
    """Return the venue's refusal with Retry-After in whole seconds."""
    answer = refuse(status, TOO_MANY)
    answer.headers["Retry-After"] = str(max(1, -(-int(retry_after_s * 1000) // 1000)))
    return answer


class _NoAnswerError(Exception):
    """The client gets no answer at all."""


class _Asked(NamedTuple):
    venue: Venue
    request: web.Request
    route: str
    symbol: str | None

    def take(self, name: FaultName) -> Fault | None:
        return self.venue.take(name, route=self.route, symbol=self.symbol)


async def _run(venue: Venue, handler: Handler, request: web.Request, refuse: Refuse) -> web.StreamResponse:
    try:
        answer = await handler(request)
    except TooManyRequestsError as error:
        return too_many(refuse, error.verdict.status, error.verdict.retry_after_s)
    await venue.settle()
    return answer


async def _before(asked: _Asked, refuse: Refuse) -> web.StreamResponse | None:
    """Return what answers a request that is not executed, or None to execute it."""
    venue, client = asked.venue, client_of(asked.request)
    if banned_s := venue.limits.banned_s(client, venue.now_ns()):
        venue.count("requests_while_banned")
        return too_many(refuse, 418, banned_s)
    if venue.faults.is_quiet:
        return None
    if fault := asked.take(FaultName.LATENCY):
        await asyncio.sleep(fault.parameter or 0.0)
    if asked.take(FaultName.MAINTENANCE):
        return refuse(503, "maintenance")
    if fault := asked.take(FaultName.HTTP_429):
        return too_many(refuse, 429, _parameter(fault, RETRY_AFTER_429_S))
    if fault := asked.take(FaultName.HTTP_418):
        seconds = _parameter(fault, RETRY_AFTER_418_S)
        venue.limits.ban(client, seconds, venue.now_ns())
        return too_many(refuse, 418, seconds)
    if asked.take(FaultName.HTTP_403):
        return web.Response(status=403, text=HTML, content_type="text/html")
    if fault := asked.take(FaultName.HTTP_5XX):
        return _broken(refuse, int(_parameter(fault, 500)))
    if fault := asked.take(FaultName.TIMEOUT_BEFORE):
        await _hang(asked.request, _parameter(fault, HANG_S))
    if asked.take(FaultName.RESET_BEFORE):
        _reset(asked.request)
    for name in (FaultName.HTML_200, FaultName.EMPTY_200):
        standing = venue.standing(name, route=asked.route, symbol=asked.symbol)
        if standing is not None and standing.parameter == 0 and asked.take(name):
            return _nonsense(name)
    return None


async def _spoil(asked: _Asked, refuse: Refuse, answer: web.StreamResponse) -> web.StreamResponse:
    """Return the answer to a request that was executed, or what stands in its place."""
    if asked.venue.faults.is_quiet:
        return answer
    if fault := asked.take(FaultName.HTTP_5XX_AFTER):
        return _broken(refuse, int(_parameter(fault, 503)))
    if fault := asked.take(FaultName.TIMEOUT_AFTER):
        await _hang(asked.request, _parameter(fault, HANG_S))
    if asked.take(FaultName.RESET_AFTER):
        _reset(asked.request)
    for name in (FaultName.HTML_200, FaultName.EMPTY_200):
        if asked.take(name):
            return _nonsense(name)
    if asked.route == CREATE_ROUTE and (fault := asked.take(FaultName.FILL_BEFORE_REPLY)):
        await asyncio.sleep(_parameter(fault, REPLY_DELAY_S))
    return answer


def _parameter(fault: Fault, default: float) -> float:
    return default if fault.parameter is None else fault.parameter


def _broken(refuse: Refuse, status: int) -> web.Response:
    return refuse(status, "unavailable" if status == 503 else "internal error")


def _nonsense(name: FaultName) -> web.Response:
    if name is FaultName.HTML_200:
        return web.Response(text=HTML, content_type="text/html")
    return web.Response(text="{}", content_type="application/json")


def _too_large(refuse: Refuse) -> web.Response:
    answer = refuse(413, "body too large")
    answer.force_close()
    return answer


async def _hang(request: web.Request, seconds: float) -> NoReturn:
    """Give no answer for so long, or until the client has gone; then end the connection."""
    for _ in range(int(seconds / HANG_STEP_S)):
        await asyncio.sleep(HANG_STEP_S)
        if request.transport is None or request.transport.is_closing():
            break
    _reset(request)


def _reset(request: web.Request) -> NoReturn:
    """End the connection as a crashed server does: reset, not closed."""
    abort(request.transport)
    raise _NoAnswerError


def _seen(asked: _Asked, answer: web.StreamResponse) -> web.StreamResponse:
    venue, status = asked.venue, answer.status
    venue.requests.append(RequestSeen(venue.now_ns(), asked.route, asked.symbol, client_of(asked.request), status))
    venue.count("http_unanswered" if status == NO_ANSWER else f"http_{status // 100}xx")
    return answer

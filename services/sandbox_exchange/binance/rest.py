"""Binance's REST: from an HTTP request to an answer with its headers.

In: HTTP requests. Out: JSON answers, errors with Binance's codes, weights and order counts in the headers.
Never: an operation for a request that was not charged, or whose key and signature were not looked at.
"""

import inspect

import msgspec
from aiohttp import web

from services.sandbox_exchange.binance import auth, usage
from services.sandbox_exchange.binance.endpoints import HTTP
from services.sandbox_exchange.binance.errors import BAN_TEXT, PUBLIC_LIMIT_TEXT, ApiError, of_refusal
from services.sandbox_exchange.binance.feed import Feed
from services.sandbox_exchange.binance.memory import Memory
from services.sandbox_exchange.binance.operation import Call, Endpoint, Security
from services.sandbox_exchange.binance.params import Params
from services.sandbox_exchange.binance.trading import ReplaceError
from services.sandbox_exchange.binance.words import Payload
from services.sandbox_exchange.core.model import Account, Permission, Refusal
from services.sandbox_exchange.wire.context import Venue, client_of
from services.sandbox_exchange.wire.http import Handler, too_many, with_faults
from services.sandbox_exchange.wire.limits import TooManyRequestsError

BUSY = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
MAINTENANCE_CODE = 1  # what Binance answers with while the whole system is under maintenance


def refuse(status: int, reason: str) -> web.Response:
    """Return Binance's answer where a request did not get as far as its endpoint."""
    if status == 429:
        error = ApiError(-1003, PUBLIC_LIMIT_TEXT.format(limit=usage.RULES[usage.WEIGHT].weight_max))
    elif status == 418:
        error = ApiError(-1003, BAN_TEXT.format(until_ms="the time in Retry-After"))
    elif status == 413:
        error = ApiError(-1013, "The request is rejected by the API: its body is too large.")
    elif reason == "maintenance":
        error = ApiError(MAINTENANCE_CODE, "System is under maintenance.")
    elif status in {503, 504}:
        error = ApiError(-1007, BUSY)
    else:
        error = ApiError(-1000, "An unknown error occurred while processing the request.")
    return _json({"code": error.code, "msg": error.text}, status)


def rest_routes(venue: Venue, feed: Feed, memory: Memory) -> list[web.RouteDef]:
    """Return the routes of every HTTP request."""
    found: list[web.RouteDef] = []
    for route, endpoint in HTTP.items():
        method, _, path = route.partition(" ")
        guarded = with_faults(venue, route, _handler(venue, feed, memory, route, endpoint), refuse=refuse)
        found.append(web.route(method, path, guarded))
    return found


def _handler(venue: Venue, feed: Feed, memory: Memory, route: str, endpoint: Endpoint) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        headers: dict[str, str] = {}
        try:
            query = request.raw_path.partition("?")[2]
            body = await _form(request)
            params = Params.of_forms(query, body)
            used = usage.charge_weight(venue, client_of(request), endpoint.weight_of(params))
            headers["X-MBX-USED-WEIGHT"] = headers["X-MBX-USED-WEIGHT-1M"] = str(used)
            account = _authenticated(venue, endpoint, request, params=params, query=query, body=body)
            if account is not None and endpoint.orders:
                usage.charge_orders(venue, client_of(request), account.name, endpoint.orders)
                headers |= _order_headers(venue, account)
            answer = endpoint.run(Call(venue, feed, memory, params=params, route=route, account=account))
            if inspect.isawaitable(answer):
                answer = await answer
        except ApiError as error:
            return _json(error_payload(error), error.status, headers)
        except Refusal as refusal:
            worded = of_refusal(refusal)
            return _json(error_payload(worded), worded.status, headers)
        return _json(answer, 200, headers)

    return handle


def limited(venue: Venue, connect: Handler) -> Handler:
    """Return the handler of a websocket behind the limit of connections."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            usage.charge_connection(venue, client_of(request))
        except TooManyRequestsError as error:
            return too_many(refuse, error.verdict.status, error.verdict.retry_after_s)
        return await connect(request)

    return guarded


def error_payload(error: ApiError) -> Payload:
    """Return an error's object."""
    payload: Payload = {"code": error.code, "msg": error.text}
    if isinstance(error, ReplaceError):
        payload["data"] = error.data
    return payload


async def _form(request: web.Request) -> str:
    if request.method == "GET":
        return ""
    try:
        return (await request.read()).decode("ascii")
    except UnicodeDecodeError:
        raise ApiError(-1100, "Illegal characters found in a parameter.") from None


def _authenticated(
    venue: Venue, endpoint: Endpoint, request: web.Request, *, params: Params, query: str, body: str
) -> Account | None:
    if endpoint.security is Security.NONE:
        return None
    api_key = request.headers.get("X-MBX-APIKEY")
    account = auth.key_owner(venue.exchange.accounts, api_key, client_of(request), venue.now_ns())
    if endpoint.security is Security.KEY:
        return account
    signed, signature = auth.split_signature(query, body)
    auth.check_time(params, venue.now_ns())
    auth.check_signature(account.secret, signed, signature)
    auth.require(account, Permission.TRADE if endpoint.trades else Permission.READ)
    return account


def _order_headers(venue: Venue, account: Account) -> dict[str, str]:
    now_ns = venue.now_ns()
    soon, day = (venue.limits.used(name, account.name, now_ns) for name, _, _ in usage.ORDER_WINDOWS)
    return {"X-MBX-ORDER-COUNT-10S": str(soon), "X-MBX-ORDER-COUNT-1D": str(day)}


def _json(answer: object, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(answer), status=status, headers=headers, content_type="application/json"
    )

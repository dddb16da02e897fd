"""One REST request: limits, who asks, the answer or the refusal.

In: an endpoint's description and its function. Out: an aiohttp handler. Never: an answer to a request that is not
allowed to ask; a refusal without MEXC's code.
"""

from collections.abc import Callable

import msgspec
from aiohttp import web

from services.sandbox_exchange.core.model import Account, Market, Permission, Refusal
from services.sandbox_exchange.mexc import auth, errors
from services.sandbox_exchange.mexc.errors import ApiError
from services.sandbox_exchange.mexc.params import Params
from services.sandbox_exchange.mexc.state import MexcState
from services.sandbox_exchange.wire.context import client_of
from services.sandbox_exchange.wire.http import Handler, with_faults
from services.sandbox_exchange.wire.limits import Charge, Rule

RULES = {"ip": Rule(500, 10), "uid": Rule(500, 10), "orders": Rule(12, 1), "batches": Rule(2, 1)}


class Call:
    """Hold one request: what was asked, by whom, when."""

    def __init__(self, state: MexcState, request: web.Request, route: str) -> None:
        self.state, self.request, self.route = state, request, route
        self.venue, self.exchange = state.venue, state.venue.exchange
        self.now_ns = state.venue.now_ns()
        self.raw_query = request.raw_path.partition("?")[2].partition("#")[0]
        self.params = Params.of_query(self.raw_query)
        self._account: Account | None = None

    @property
    def account(self) -> Account:
        """Return who asks; public endpoints do not know."""
        assert self._account is not None
        return self._account

    def identify(self, permission: Permission) -> None:
        """Find out who asks, or refuse."""
        api_key = self.request.headers.get("X-MEXC-APIKEY")
        account = auth.key_owner(self.exchange.accounts, api_key, client_of(self.request), self.now_ns)
        auth.check_signature(account.secret, self.raw_query)
        auth.check_time(self.params, self.now_ns)
        auth.require(account, permission)
        self._account = account

    def market(self, name: str = "symbol") -> Market:
        """Return the market that a parameter names."""
        market = self.exchange.markets.get(self.params.text(name))
        if market is None:
            raise ApiError(*errors.SYMBOL_UNKNOWN)
        return market

    def markets(self) -> list[Market]:
        """Return the markets that `symbol` or `symbols` name, or all."""
        words = self.params.text_or_none("symbol") or self.params.text_or_none("symbols")
        if words is None:
            return list(self.exchange.markets.values())
        try:
            return [self.exchange.markets[word] for word in words.strip("[]").replace('"', "").split(",")]
        except KeyError:
            raise ApiError(*errors.SYMBOL_UNKNOWN) from None

    def charge(self, *weights: tuple[str, int]) -> None:
        """Count against limits of the account, of this endpoint where the limit is one's; all of them at once."""
        name = self.account.name
        keys = {"uid": f"{name}|{self.route}"}
        self.venue.charge(self.request, [Charge(rule, keys.get(rule, name), weight) for rule, weight in weights])


Answer = Callable[[Call], object]


class Endpoint(msgspec.Struct, frozen=True):
    """Describe an endpoint; `permission` is None for a public one, `rules` are limits beside the weight's."""

    method: str
    path: str
    weight: int
    answer: Answer
    permission: Permission | None = None
    rules: tuple[str, ...] = ()


def route_def(state: MexcState, endpoint: Endpoint) -> web.RouteDef:
    """Return the route of an endpoint."""
    route = f"{endpoint.method} {endpoint.path}"

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return _answer(state, endpoint, request, route)
        except ApiError as error:
            return errors.answer(error)
        except Refusal as refusal:
            return errors.answer(errors.of_refusal(refusal))

    handler: Handler = with_faults(state.venue, route, handle, refuse=errors.refuse)
    return web.RouteDef(endpoint.method, endpoint.path, handler, {"allow_head": False} if route[:4] == "GET " else {})


def _answer(state: MexcState, endpoint: Endpoint, request: web.Request, route: str) -> web.Response:
    call = Call(state, request, route)
    by_address = Charge("ip", f"{client_of(request)}|{route}", endpoint.weight)
    if endpoint.permission is None:
        state.venue.charge(request, [by_address])
    else:
        try:
            call.identify(endpoint.permission)
        except ApiError:
            state.venue.charge(request, [by_address])
            raise
        call.charge(("uid", endpoint.weight), *((rule, 1) for rule in endpoint.rules))
    return web.Response(body=msgspec.json.encode(endpoint.answer(call)), content_type="application/json")

"""Binance's ws-api: requests and answers over a websocket, and the user data stream.

In: JSON requests. Out: answers with the same id, the account's events. Never: an answer to another request's id.

`session.logon` takes an HMAC signature here; the real venue wants an Ed25519 key for it.
"""

import asyncio
import inspect
from collections.abc import Mapping

import msgspec
from aiohttp import web

from services.sandbox_exchange.binance import auth, usage
from services.sandbox_exchange.binance.endpoints import WS_API
from services.sandbox_exchange.binance.errors import ApiError, missing, of_refusal
from services.sandbox_exchange.binance.feed import Feed
from services.sandbox_exchange.binance.memory import Memory
from services.sandbox_exchange.binance.operation import Call, Endpoint, Security
from services.sandbox_exchange.binance.params import Params
from services.sandbox_exchange.binance.rest import BUSY, error_payload, limited
from services.sandbox_exchange.binance.sockets import API_RULES, BinanceSocket
from services.sandbox_exchange.binance.user_stream import Subscription, UserStreams
from services.sandbox_exchange.binance.words import Payload, milliseconds
from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import Account, Permission, Refusal
from services.sandbox_exchange.wire.context import NO_ANSWER, RequestSeen, Venue, client_of
from services.sandbox_exchange.wire.limits import TooManyRequestsError

CONNECT_WEIGHT, SUBSCRIBE_WEIGHT = 2, 2
REPLY_DELAY_S = 0.3
LIMIT_WORDS = "Too much request weight used; please use WebSocket Streams for live updates."


class _Request(msgspec.Struct):
    method: str = ""
    id: int | str | None = None
    params: dict[str, msgspec.Raw] = {}


class _NoAnswerError(Exception):
    """The client gets no answer to this request."""


class ApiSocket:
    """Be one client's ws-api connection."""

    def __init__(self, venue: Venue, feed: Feed, memory: Memory, users: UserStreams, client: str) -> None:
        self._venue, self._feed, self._memory, self._users = venue, feed, memory, users
        self._client = client
        self._session: Account | None = None
        self._session_since_ms = 0
        self._subscriptions: dict[int, Subscription] = {}
        self._next_number = 0
        self.socket = BinanceSocket(venue, API_RULES, path="ws-api", wrapped=True)

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Serve the connection."""
        try:
            return await self.socket.run(request, self._receive)
        finally:
            for one in self._subscriptions.values():
                self._users.remove(one)

    async def _receive(self, text: str | bytes) -> None:
        request = _Request()
        counts: list[Payload] = []
        answer: Payload
        try:
            request = _decode(text)
            result = await self._answered(request, counts)
            answer = {"id": request.id, "status": 200, "result": result}
        except ApiError as error:
            answer = {"id": request.id, "status": error.status, "error": error_payload(error)}
        except Refusal as refusal:
            worded = of_refusal(refusal)
            answer = {"id": request.id, "status": worded.status, "error": error_payload(worded)}
        except TooManyRequestsError as refused:
            data: Payload = {
                "serverTime": milliseconds(self._venue.now_ns()),
                "retryAfter": milliseconds(self._venue.now_ns()) + refused.verdict.retry_after_s * 1000,
            }
            error_of: Payload = {"code": -1003, "msg": LIMIT_WORDS, "data": data}
            answer = {"id": request.id, "status": refused.verdict.status, "error": error_of}
        except _NoAnswerError:
            self._seen(request, NO_ANSWER)
            return
        self._seen(request, answer["status"])
        if request.params.get("returnRateLimits") != msgspec.Raw(b"false"):
            answer["rateLimits"] = counts
        self.socket.post(msgspec.json.encode(answer).decode())

    def _seen(self, request: _Request, status: object) -> None:
        """Let the admin page count the request; its route is the method's name."""
        symbol = request.params.get("symbol")
        named = None if symbol is None else _text_of(symbol)
        code = status if isinstance(status, int) else NO_ANSWER
        self._venue.requests.append(
            RequestSeen(self._venue.now_ns(), request.method.removeprefix("v3/"), named, self._client, code)
        )

    async def _answered(self, request: _Request, counts: list[Payload]) -> object:
        name = request.method.removeprefix("v3/")
        values = {key: _text_of(raw) for key, raw in request.params.items()}
        params = Params(values)
        endpoint = WS_API.get(name)
        weight = SUBSCRIBE_WEIGHT if endpoint is None else endpoint.weight_of(params)
        counts.append(usage.weight_count(usage.charge_weight(self._venue, self._client, weight)))
        if endpoint is None:
            return self._session_request(name, values)
        account = self._account(endpoint, values)
        if account is not None and endpoint.orders:
            usage.charge_orders(self._venue, self._client, account.name, endpoint.orders)
            counts[:0] = usage.order_counts(self._venue, account.name, self._venue.now_ns())
        self._fail_before(name, values.get("symbol"))
        answer = endpoint.run(Call(self._venue, self._feed, self._memory, params=params, route=name, account=account))
        if inspect.isawaitable(answer):
            answer = await answer
        await self._fail_after(name, values.get("symbol"))
        return answer

    def _fail_before(self, name: str, symbol: str | None) -> None:
        take = self._venue.take
        if fault := take(FaultName.HTTP_5XX, route=name, symbol=symbol):
            raise ApiError(-1000, "An unknown error occurred while processing the request.", status=_status(fault, 500))
        if take(FaultName.TIMEOUT_BEFORE, route=name, symbol=symbol):
            raise _NoAnswerError
        if name == "ping" and take(FaultName.PONG_MISSING, route=self.socket.path):
            raise _NoAnswerError

    async def _fail_after(self, name: str, symbol: str | None) -> None:
        take = self._venue.take
        if fault := take(FaultName.HTTP_5XX_AFTER, route=name, symbol=symbol):
            raise ApiError(-1007, BUSY, status=_status(fault, 503))
        if take(FaultName.TIMEOUT_AFTER, route=name, symbol=symbol):
            raise _NoAnswerError
        if name == "order.place" and take(FaultName.FILL_BEFORE_REPLY, route=name, symbol=symbol):
            await asyncio.sleep(REPLY_DELAY_S)

    def _session_request(self, name: str, values: Mapping[str, str]) -> object:
        match name:
            case "session.logon":
                self._session = self._signed(values)
                self._session_since_ms = milliseconds(self._venue.now_ns())
                return self._session_status()
            case "session.status":
                return self._session_status()
            case "session.logout":
                self._session = None
                return self._session_status()
            case "userDataStream.subscribe.signature":
                return self._subscribe(self._signed(values))
            case "userDataStream.subscribe":
                if self._session is None:
                    raise ApiError(-1002, "You are not authorized to execute this request.", status=401)
                return self._subscribe(self._session)
            case "userDataStream.unsubscribe":
                return self._unsubscribe(Params(values).whole_or_none("subscriptionId"))
            case "session.subscriptions":
                return [{"subscriptionId": number} for number in self._subscriptions]
        raise ApiError(-1000, "This method is not supported.") if name else missing("method")

    def _subscribe(self, account: Account) -> Payload:
        auth.require(account, Permission.READ)
        if self._venue.take(FaultName.SUBSCRIBE_REFUSED, route="userDataStream"):
            raise ApiError(-1099, "Not found, authenticated, or authorized", status=401)
        if self._venue.take(FaultName.SUBSCRIBE_IGNORED, route="userDataStream"):
            raise _NoAnswerError
        number, self._next_number = self._next_number, self._next_number + 1
        subscription = Subscription(number, account.name, self.socket, self._ended)
        self._subscriptions[number] = subscription
        self._users.add(subscription)
        self.socket.has_subscription = True
        return {"subscriptionId": number}

    def _unsubscribe(self, number: int | None) -> Payload:
        chosen = list(self._subscriptions) if number is None else [number]
        for one in chosen:
            subscription = self._subscriptions.get(one)
            if subscription is None:
                raise ApiError(-1130, "Data sent for parameter 'subscriptionId' is not valid.")
            self._users.end(subscription)
        return {}

    def _ended(self, number: int) -> None:
        self._subscriptions.pop(number, None)

    def _session_status(self) -> Payload:
        is_on = self._session is not None
        return {
            "apiKey": None if self._session is None else self._session.api_key,
            "authorizedSince": self._session_since_ms if is_on else None,
            "connectedSince": milliseconds(self._venue.now_ns()) - int(self.socket.age_s * 1000),
            "returnRateLimits": True,
            "serverTime": milliseconds(self._venue.now_ns()),
            "userDataStream": bool(self._subscriptions),
        }

    def _account(self, endpoint: Endpoint, values: Mapping[str, str]) -> Account | None:
        if endpoint.security is Security.NONE:
            return None
        if endpoint.security is Security.KEY:
            return auth.key_owner(
                self._venue.exchange.accounts, values.get("apiKey"), self._client, self._venue.now_ns()
            )
        account = self._signed(values)
        auth.require(account, Permission.TRADE if endpoint.trades else Permission.READ)
        return account

    def _signed(self, values: Mapping[str, str]) -> Account:
        now_ns = self._venue.now_ns()
        if "apiKey" not in values and self._session is not None:
            auth.check_time(Params(values), now_ns)
            return self._session
        account = auth.key_owner(self._venue.exchange.accounts, values.get("apiKey"), self._client, now_ns)
        signature = Params(values).text("signature")
        auth.check_time(Params(values), now_ns)
        signed = "&".join(f"{name}={values[name]}" for name in sorted(values) if name != "signature")
        auth.check_signature(account.secret, signed, signature)
        return account


def _status(fault: object, default: int) -> int:
    parameter = getattr(fault, "parameter", None)
    return default if parameter is None else int(parameter)


def _text_of(raw: msgspec.Raw) -> str:
    """Return a parameter as it was signed: a string's content, or the JSON text of anything else."""
    text = bytes(raw)
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()


def _decode(text: str | bytes) -> _Request:
    try:
        return msgspec.json.decode(text, type=_Request)
    except msgspec.ValidationError as error:
        raise ApiError(-1102, f"Malformed request: {error}") from None
    except msgspec.DecodeError:
        raise ApiError(-1135, "Invalid JSON Request") from None


def api_routes(venue: Venue, feed: Feed, memory: Memory, users: UserStreams) -> list[web.RouteDef]:
    """Return the route of the ws-api."""

    async def serve(request: web.Request) -> web.StreamResponse:
        return await ApiSocket(venue, feed, memory, users, client_of(request)).run(request)

    return [web.get("/ws-api/v3", limited(venue, serve))]

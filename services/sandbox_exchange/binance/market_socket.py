"""A market stream connection: `/ws`, `/ws/<streams>`, `/stream?streams=`.

In: a client's SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS and properties. Out: acknowledgements, frames.
Never: more than 1024 streams on a connection; a frame of a stream that was not subscribed.
"""

import msgspec
from aiohttp import web

from services.sandbox_exchange.binance.feed import Feed
from services.sandbox_exchange.binance.frames import Frame
from services.sandbox_exchange.binance.rest import limited
from services.sandbox_exchange.binance.sockets import MARKET_RULES, BinanceSocket
from services.sandbox_exchange.binance.stream_names import StreamName, parse_stream
from services.sandbox_exchange.binance.words import Payload
from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.wire.context import Venue

STREAMS_MAX = 1024
METHODS = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
ID_LENGTH_MAX = 36


class _Request(msgspec.Struct):
    method: str | None = None
    params: list[str | bool] | None = None
    id: int | str | None = None


class RequestError(Exception):
    """Answer a stream request with an error."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


class MarketSocket:
    """Be one client's market stream connection."""

    def __init__(self, venue: Venue, feed: Feed, *, combined: bool) -> None:
        self._venue, self._feed = venue, feed
        self._combined = combined
        self._streams: dict[str, StreamName] = {}
        self.socket = BinanceSocket(venue, MARKET_RULES, path="public", wrapped=False)

    def take(self, frame: Frame, stream: StreamName) -> None:
        """Send a frame."""
        self.socket.post(frame.text(combined=self._combined), route=stream.route, symbol=stream.symbol)

    async def run(self, request: web.Request, first: list[str]) -> web.StreamResponse:
        """Serve the connection; `first` are the streams that its address names, of which unknown ones are ignored."""
        for name in first:
            if parse_stream(name) is not None:
                self._subscribe([name])
        try:
            return await self.socket.run(request, self._receive)
        finally:
            for stream in self._streams.values():
                self._feed.unsubscribe(stream, self)

    async def _receive(self, text: str | bytes) -> None:
        request_id: int | str | None = None
        try:
            request = _decode(text)
            request_id = request.id
            result = self._answer(request)
        except RequestError as error:
            self._post({"error": {"code": error.code, "msg": error.words}, "id": request_id})
            return
        if result is not _SILENCE:
            self._post({"result": result, "id": request_id})

    def _answer(self, request: _Request) -> object:
        if isinstance(request.id, str) and len(request.id) > ID_LENGTH_MAX:
            raise RequestError(2, "Invalid request: request ID must be an unsigned integer")
        params = request.params or []
        match request.method:
            case "SUBSCRIBE" | "UNSUBSCRIBE":
                names = [one for one in params if isinstance(one, str)]
                if not names or len(names) != len(params):
                    raise RequestError(2, "Invalid request: missing or malformed `params`")
                return self._change(names, is_new=request.method == "SUBSCRIBE")
            case "LIST_SUBSCRIPTIONS":
                return list(self._streams)
            case "SET_PROPERTY":
                self._set_property(params)
                return None
            case "GET_PROPERTY":
                if params != ["combined"]:
                    raise RequestError(0, "Unknown property")
                return self._combined
            case None:
                raise RequestError(2, "Invalid request: missing field `method` at line 1 column 1")
        raise RequestError(
            2, f"Invalid request: unknown variant `{request.method}`, expected one of {METHODS} at line 1 column 1"
        )

    def _change(self, names: list[str], *, is_new: bool) -> object:
        streams = {name: parse_stream(name) for name in names}
        for one in streams.values():
            symbol = None if one is None else one.symbol
            route = "" if one is None else one.route
            if is_new and self._venue.take(FaultName.SUBSCRIBE_REFUSED, route=route, symbol=symbol):
                raise RequestError(2, "Invalid request: invalid stream")
            if is_new and self._venue.take(FaultName.SUBSCRIBE_IGNORED, route=route, symbol=symbol):
                return _SILENCE
        if any(one is None for one in streams.values()):
            raise RequestError(2, "Invalid request: invalid stream")
        if is_new and len(set(self._streams) | set(streams)) > STREAMS_MAX:
            raise RequestError(2, f"Invalid request: more than {STREAMS_MAX} streams")
        if is_new:
            # The acknowledgement goes out before the first frame: frames come in later turns of the loop.
            self._subscribe(names)
        else:
            self._unsubscribe(names)
        return None

    def _subscribe(self, names: list[str]) -> None:
        for name in names:
            stream = parse_stream(name)
            if stream is not None and name not in self._streams and len(self._streams) < STREAMS_MAX:
                self._streams[name] = stream
                self._feed.subscribe(stream, self)
        self.socket.has_subscription = bool(self._streams)

    def _unsubscribe(self, names: list[str]) -> None:
        for name in names:
            stream = self._streams.pop(name, None)
            if stream is not None:
                self._feed.unsubscribe(stream, self)
        self.socket.has_subscription = bool(self._streams)

    def _set_property(self, params: list[str | bool]) -> None:
        if len(params) != 2:
            raise RequestError(2, "Invalid request: too many parameters")
        name, value = params
        if not isinstance(name, str):
            raise RequestError(2, "Invalid request: property name must be a string")
        if name != "combined":
            raise RequestError(0, "Unknown property")
        if not isinstance(value, bool):
            raise RequestError(1, "Invalid value type: expected Boolean")
        self._combined = value

    def _post(self, answer: Payload) -> None:
        self.socket.post(msgspec.json.encode(answer).decode())


_SILENCE = object()


def _decode(text: str | bytes) -> _Request:
    try:
        return msgspec.json.decode(text, type=_Request)
    except msgspec.ValidationError as error:
        raise RequestError(2, f"Invalid request: {error}") from None
    except msgspec.DecodeError:
        raise RequestError(3, "Invalid JSON: expected value at line 1 column 1") from None


def market_routes(venue: Venue, feed: Feed) -> list[web.RouteDef]:
    """Return the routes of the market streams."""

    async def raw(request: web.Request) -> web.StreamResponse:
        return await MarketSocket(venue, feed, combined=False).run(request, request.match_info["rest"].split("/"))

    async def combined(request: web.Request) -> web.StreamResponse:
        return await MarketSocket(venue, feed, combined=True).run(request, request.query.get("streams", "").split("/"))

    return [
        web.get("/ws{rest:(/.*)?}", limited(venue, raw)),
        web.get("/stream/ws{rest:(/.*)?}", limited(venue, raw)),
        web.get("/stream", limited(venue, combined)),
    ]

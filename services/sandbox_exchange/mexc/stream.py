"""The websocket endpoint: one client's subscriptions, pings, acknowledgements.

In: JSON messages. Out: text acknowledgements in MEXC's form; the frames come from the feeds.
Never: more than thirty subscriptions; a private channel without a valid listen key.
"""

import msgspec
from aiohttp import web

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.mexc.channels import Channel, channel_of
from services.sandbox_exchange.mexc.state import MexcState
from services.sandbox_exchange.wire.context import client_of
from services.sandbox_exchange.wire.socket import ClientSocket, SocketRules

SUBSCRIPTIONS_MAX = 30
RULES = SocketRules(age_max_s=86_400.0, idle_max_s=60.0, unsubscribed_max_s=30.0, inbound_max_per_s=100)
INVALID_KEY = "Invalid listen key"


class ClientMessage(msgspec.Struct):
    """Hold what a client sends."""

    method: str
    params: list[str] = []
    id: int = 0


class Session:
    """Serve one websocket."""

    def __init__(self, state: MexcState, socket: ClientSocket, listen_key: str | None) -> None:
        self._state, self._socket, self._key = state, socket, listen_key
        self._account = None if listen_key is None else state.private.open(socket, listen_key)
        self._channels: dict[str, Channel] = {}

    @property
    def is_refused(self) -> bool:
        """Tell whether the listen key is not valid."""
        return self._key is not None and self._account is None

    async def receive(self, data: str | bytes) -> None:
        """Take one message."""
        if self._key is not None and self._account is not None:
            self._state.private.check(self._socket, self._key)
        try:
            message = msgspec.json.decode(data, type=ClientMessage)
        except msgspec.DecodeError:
            self._reply(0, "invalid message")
            return
        method = message.method.upper()
        if method == "PING":
            if not self._state.venue.take(FaultName.PONG_MISSING, route=self._socket.path):
                self._reply(message.id, "PONG")
        elif method == "SUBSCRIPTION":
            self._subscribe(message)
        elif method == "UNSUBSCRIPTION":
            self._unsubscribe(message)
        else:
            self._reply(message.id, f"unknown method {message.method[:32]}")

    def close(self) -> None:
        """Listen to nothing any more."""
        for name, channel in self._channels.items():
            if not channel.kind.is_private:
                self._state.public.unsubscribe(self._socket, name)
        self._channels.clear()
        if self._key is not None and self._account is not None:
            self._state.private.close(self._socket, self._account, self._key)

    def _subscribe(self, message: ClientMessage) -> None:
        accepted: list[Channel] = []
        for name in message.params:
            channel = channel_of(name)
            symbol = None if channel is None else channel.symbol
            if self._state.venue.take(FaultName.SUBSCRIBE_IGNORED, route=name, symbol=symbol):
                continue
            is_refused = self._state.venue.take(FaultName.SUBSCRIBE_REFUSED, route=name, symbol=symbol) is not None
            if channel is None or is_refused or not self._is_allowed(channel):
                self._reply(message.id, f"Not Subscribed successfully! [{name}].  Reason： Blocked! ")
                continue
            accepted.append(channel)
            self._channels.setdefault(name, channel)
        self._socket.has_subscription = bool(self._channels)
        if accepted:
            self._reply(message.id, ",".join(one.name for one in accepted))
        for channel in accepted:
            self._listen(channel)

    def _is_allowed(self, channel: Channel) -> bool:
        if channel.name not in self._channels and len(self._channels) >= SUBSCRIPTIONS_MAX:
            return False
        if channel.kind.is_private:
            return self._account is not None
        return channel.symbol in self._state.venue.exchange.markets

    def _listen(self, channel: Channel) -> None:
        self._state.venue.count(f"subscribed_{channel.kind}")
        if not channel.kind.is_private:
            if channel.symbol is not None:
                self._state.books.watch(channel.symbol)
            self._state.public.subscribe(self._socket, channel)
        elif self._account is not None and self._key is not None:
            self._state.private.subscribe(self._socket, self._account, self._key, channel)

    def _unsubscribe(self, message: ClientMessage) -> None:
        for name in message.params:
            channel = self._channels.pop(name, None)
            if channel is None:
                continue
            if not channel.kind.is_private:
                self._state.public.unsubscribe(self._socket, name)
            elif self._account is not None:
                self._state.private.unsubscribe(self._socket, self._account, channel)
        self._socket.has_subscription = bool(self._channels)
        self._reply(message.id, ",".join(message.params))

    def _reply(self, message_id: int, text: str) -> None:
        body = {"id": message_id, "code": 0, "msg": text}
        self._socket.post(msgspec.json.encode(body).decode())


def stream_route(state: MexcState) -> web.RouteDef:
    """Return the route of the websocket."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if state.venue.limits.banned_s(client_of(request), state.venue.now_ns()):
            return web.Response(status=403, text="banned")
        key = request.query.get("listenKey")
        socket = ClientSocket(state.venue, RULES, path="public" if key is None else "user")
        session = Session(state, socket, key)
        if session.is_refused:
            socket.post(INVALID_KEY)
            socket.finish("invalid_listen_key")
        try:
            return await socket.run(request, session.receive)
        finally:
            session.close()

    return web.get("/ws", handle, allow_head=False)

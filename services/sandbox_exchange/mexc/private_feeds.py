"""Private streams: an account's orders, executions and balances, told as they change.

In: the exchange's events, sockets that were opened with a listen key. Out: frames to the account's own sockets.
Never: another account's report; a report on a socket whose key has ended.
"""

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import HoldingChanged, OrderChanged
from services.sandbox_exchange.mexc import frames
from services.sandbox_exchange.mexc.channels import Channel, ChannelKind
from services.sandbox_exchange.mexc.listen_keys import SOCKETS_MAX, ListenKeys
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.socket import ClientSocket

EXPIRED = "listen_key_expired"
ROUTES = {kind: f"spot@{kind}" for kind in ChannelKind if kind.is_private}


class PrivateFeeds:
    """Hold the sockets of listen keys, and what each listens to."""

    def __init__(self, venue: Venue, keys: ListenKeys) -> None:
        self._venue, self._keys = venue, keys
        self._by_key: dict[str, list[ClientSocket]] = {}
        self._listening: dict[str, dict[ChannelKind, dict[ClientSocket, str]]] = {}

    def open(self, socket: ClientSocket, key: str) -> str | None:
        """Take in a socket and return its account; None when its key is not valid or has too many sockets."""
        if self._venue.take(FaultName.LISTEN_KEY_EXPIRED, route=socket.path):
            self.expire(key)
        account = self._keys.owner(key, self._venue.now_ns())
        sockets = self._by_key.setdefault(key, [])
        if account is None or len(sockets) >= SOCKETS_MAX:
            return None
        sockets.append(socket)
        return account

    def check(self, socket: ClientSocket, key: str) -> None:
        """End a socket whose key has ended meanwhile."""
        if self._venue.take(FaultName.LISTEN_KEY_EXPIRED, route=socket.path):
            self.expire(key)
        elif self._keys.owner(key, self._venue.now_ns()) is None:
            socket.finish(EXPIRED)

    def close(self, socket: ClientSocket, account: str, key: str) -> None:
        """Forget a socket."""
        if socket in self._by_key.get(key, []):
            self._by_key[key].remove(socket)
        for sockets in self._listening.get(account, {}).values():
            sockets.pop(socket, None)

    def subscribe(self, socket: ClientSocket, account: str, key: str, channel: Channel) -> None:
        """Let a socket listen to a channel of its account."""
        self._listening.setdefault(account, {}).setdefault(channel.kind, {})[socket] = key

    def unsubscribe(self, socket: ClientSocket, account: str, channel: Channel) -> None:
        """Let a socket listen to a channel no more."""
        self._listening.get(account, {}).get(channel.kind, {}).pop(socket, None)

    def expire(self, key: str) -> None:
        """End a key and its sockets."""
        self._keys.expire(key)
        for socket in self._by_key.pop(key, []):
            socket.finish(EXPIRED)

    def on_holding(self, event: HoldingChanged) -> None:
        """Tell an account what it holds."""
        if self._listeners(event.account, ChannelKind.ACCOUNT):
            payload = frames.holding(event, self._venue.now_ns())
            self._post(event.account, ChannelKind.ACCOUNT, payload, None)

    def on_order(self, event: OrderChanged) -> None:
        """Tell an account how an order stands, and of the execution that changed it."""
        order, trade, now_ns = event.order, event.trade, self._venue.now_ns()
        if self._listeners(order.account, ChannelKind.ORDERS):
            tick = self._venue.exchange.markets[order.symbol].instrument.tick_size
            payload = frames.order(order, trade, tick, now_ns)
            self._post(order.account, ChannelKind.ORDERS, payload, order.symbol)
        if trade is not None and self._listeners(order.account, ChannelKind.OWN_DEALS):
            self._post(order.account, ChannelKind.OWN_DEALS, frames.own_deal(trade, now_ns), order.symbol)

    def _listeners(self, account: str, kind: ChannelKind) -> dict[ClientSocket, str]:
        return self._listening.get(account, {}).get(kind, {})

    def _post(self, account: str, kind: ChannelKind, payload: bytes, symbol: str | None) -> None:
        listeners, now_ns = self._listeners(account, kind), self._venue.now_ns()
        if self._venue.take(FaultName.LISTEN_KEY_EXPIRED, route=ROUTES[kind], symbol=symbol):
            for key in set(listeners.values()):
                self.expire(key)
        for socket, key in list(listeners.items()):
            if self._keys.owner(key, now_ns) is None:
                socket.finish(EXPIRED)
            else:
                socket.post(payload, route=ROUTES[kind], symbol=symbol, report=True)

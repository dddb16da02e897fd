"""What Binance's websockets have in common: when they are cut, and what is said before.

In: a client's socket. Out: rules, and a last word. Never: a cut by age without the event that announces it.
"""

import msgspec

from services.sandbox_exchange.binance.words import milliseconds
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.socket import ClientSocket, SocketRules

AGE_MAX_S = 86_400.0
MARKET_RULES = SocketRules(
    age_max_s=AGE_MAX_S, ping_every_s=20.0, pong_within_s=60.0, inbound_max_per_s=5, queue_frames_max=200_000
)
API_RULES = SocketRules(age_max_s=AGE_MAX_S, ping_every_s=20.0, pong_within_s=60.0)


class BinanceSocket(ClientSocket):
    """Be a client's socket that says `serverShutdown` before its age ends it."""

    def __init__(self, venue: Venue, rules: SocketRules, *, path: str, wrapped: bool) -> None:
        super().__init__(venue, rules, path=path)
        self._clock, self._wrapped = venue.now_ns, wrapped

    def finish(self, reason: str) -> None:
        """Announce the end, then end."""
        if self.cut_reason is None and reason in {"age", "maintenance"}:
            event: object = {"e": "serverShutdown", "E": milliseconds(self._clock())}
            self.post(msgspec.json.encode({"event": event} if self._wrapped else event).decode())
        super().finish(reason)

"""One request, whichever way it came: by HTTP or over the ws-api.

In: who asks, what, and when. Out: what the operation's function needs, and how it is guarded and weighed.
Never: a request that trades for a key that may not.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum

import msgspec

from services.sandbox_exchange.binance.feed import Feed
from services.sandbox_exchange.binance.memory import Memory
from services.sandbox_exchange.binance.params import Params
from services.sandbox_exchange.core.model import Account
from services.sandbox_exchange.wire.context import Venue


class Security(StrEnum):
    """Name what a request must bring: nothing, a key, or a key and a signature."""

    NONE = "none"
    KEY = "key"
    SIGNED = "signed"


class Call:
    """Hold one request."""

    def __init__(
        self, venue: Venue, feed: Feed, memory: Memory, *, params: Params, route: str, account: Account | None
    ) -> None:
        self.venue, self.feed, self.memory = venue, feed, memory
        self.params, self.route = params, route
        self.now_ns = venue.now_ns()
        self._account = account

    @property
    def account(self) -> Account:
        """Return who asks; only signed requests have one."""
        assert self._account is not None, f"{self.route} is not signed"
        return self._account

    def with_names(self, names: Mapping[str, str]) -> "Call":
        """Return the same request with its parameters read under other names."""
        params = self.params.renamed(names)
        return Call(self.venue, self.feed, self.memory, params=params, route=self.route, account=self._account)


Operation = Callable[[Call], object | Awaitable[object]]
Weigh = Callable[[Params], int]


class Endpoint(msgspec.Struct, frozen=True):
    """Describe a request: what answers it, what it must bring, what it weighs, and whether it places orders."""

    run: Operation
    security: Security = Security.NONE
    weight: int | Weigh = 1
    trades: bool = False
    orders: int = 0

    def weight_of(self, params: Params) -> int:
        """Return what a request with these parameters weighs."""
        return self.weight if isinstance(self.weight, int) else self.weight(params)

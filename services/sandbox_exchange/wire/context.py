"""The venue that a wire module speaks for: the exchange, its faults, its clock, its limits, its open sockets.

One process is one venue. In: requests' questions. Out: the venue's time, faults that go off now, counts for the admin.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

import msgspec
from aiohttp import web

from services.sandbox_exchange.core.faults import Fault, FaultName, Faults
from services.sandbox_exchange.core.port import Exchange
from services.sandbox_exchange.wire.fault_places import Places
from services.sandbox_exchange.wire.limits import Charge, Limits, TooManyRequestsError, Verdict
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns, wall_ns

REQUESTS_KEPT = 20_000
NO_ANSWER = 599  # the status of a request that was never answered, in `requests`


class RequestSeen(msgspec.Struct, frozen=True):
    """Record a request that reached the venue, for tests that count them; `status` 599 means that none answered it."""

    time_ns: int
    route: str
    symbol: str | None
    client: str
    status: int


class OpenSocket(Protocol):
    """Be a client's websocket, as the venue's other parts see it."""

    @property
    def path(self) -> str:
        """Return what it was opened for: `public`, `user`, …"""
        ...

    @property
    def age_s(self) -> float:
        """Return the seconds since it was opened."""
        ...

    def cut(self, reason: str) -> None:
        """End it as a crashed server does."""
        ...


class Venue:
    """Hold what all connections of one venue share.

    `limits` has no rules, and `places` (where faults can go off) no routes, until the venue's wire module sets them.

    `settle` returns when what changed for clients is kept; it is awaited before any client hears of it.
    """

    def __init__(
        self, name: str, exchange: Exchange, faults: Faults, *, clock: Callable[[], int] = wall_ns, seed: int = 0
    ) -> None:
        self.name = name
        self.seed = seed
        self.exchange = exchange
        self.faults = faults
        self.limits = Limits({})
        self.places = Places()
        self.sockets: set[OpenSocket] = set()
        self.requests: deque[RequestSeen] = deque(maxlen=REQUESTS_KEPT)
        self.counts: dict[str, int] = {}
        self.settle: Callable[[], Awaitable[None]] = _keeps_nothing
        self._clock = clock
        self._started_ns = monotonic_ns()

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the venue started, by which fault schedules go."""
        return (monotonic_ns() - self._started_ns) / NANOSECONDS_PER_SECOND

    def now_ns(self) -> int:
        """Return the venue's time: the machine's, plus the skew that a fault gives it."""
        now_ns = self._clock()
        if self.faults.is_quiet:
            return now_ns
        skew = self.standing(FaultName.CLOCK_SKEW)
        return now_ns if skew is None else now_ns + int((skew.parameter or 0.0) * NANOSECONDS_PER_SECOND)

    def take(self, name: FaultName, *, route: str = "", symbol: str | None = None) -> Fault | None:
        """Return the fault that makes this occasion go wrong, or None; counts it as used."""
        if self.faults.is_quiet:
            return None
        return self.faults.take(name, route=route, symbol=symbol, elapsed_s=self.elapsed_s)

    def standing(self, name: FaultName, *, route: str = "", symbol: str | None = None) -> Fault | None:
        """Return the fault of that name that is armed now, or None, without using it up: for states, not occasions."""
        if self.faults.is_quiet:
            return None
        return self.faults.standing(name, route=route, symbol=symbol, elapsed_s=self.elapsed_s)

    def charge(self, request: web.Request, charges: Sequence[Charge]) -> Verdict:
        """Count a request against the venue's limits. Raises TooManyRequestsError, which `with_faults` answers."""
        verdict = self.limits.charge(client_of(request), charges, self.now_ns())
        if not verdict.is_allowed:
            raise TooManyRequestsError(verdict)
        return verdict

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter that the metrics and the admin page show."""
        self.counts[what] = self.counts.get(what, 0) + number


async def _keeps_nothing() -> None:
    return


def client_of(request: web.Request) -> str:
    """Return the address that limits and bans go by."""
    return request.remote or "unknown"


def abort(transport: asyncio.BaseTransport | None) -> None:
    """End a connection as a crashed server does: reset, not closed; what was not sent yet is lost."""
    if transport is None or transport.is_closing():
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cast(asyncio.WriteTransport, transport).abort()  # uvloop's transports are none by class

"""Where a fault can go off at a venue: its requests, its streams, its sockets, its markets.

In: a fault that somebody wants to arm. Out: nothing, or a refusal that names the places there are.
Never: a switch that waits for an occasion that cannot come.
"""

from collections.abc import Iterable

import msgspec

from services.sandbox_exchange.core.faults import Fault, FaultName
from shared.errors import InputError

_OF_STREAMS = frozenset(
    {
        FaultName.FRAME_DROP, FaultName.FRAME_DUPLICATE, FaultName.FRAME_REORDER, FaultName.SOCKET_KILL,
        FaultName.SOCKET_SILENT, FaultName.SUBSCRIBE_REFUSED, FaultName.SUBSCRIBE_IGNORED, FaultName.REPORT_DUPLICATE,
        FaultName.REPORT_REORDER, FaultName.REPORT_DROP,
    }
)  # fmt: skip
_OF_SOCKETS = frozenset({FaultName.PONG_MISSING, FaultName.SOCKET_AGE})
_OF_BOTH = frozenset({FaultName.MAINTENANCE, FaultName.LISTEN_KEY_EXPIRED})


class Places(msgspec.Struct, frozen=True):
    """List a venue's routes: requests (`POST /api/v3/order`), streams, and what its sockets are opened for."""

    requests: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()

    def of(self, name: FaultName) -> tuple[str, ...]:
        """Return the routes at which a fault of that name can go off; none for one that concerns the whole venue."""
        if name is FaultName.CLOCK_SKEW:
            return ()
        if name in _OF_STREAMS:
            return self.streams
        if name in _OF_SOCKETS:
            return self.sockets
        return (*self.requests, *self.streams, *self.sockets) if name in _OF_BOTH else self.requests


def check_place(fault: Fault, places: Places, symbols: Iterable[str]) -> None:
    """Raise InputError, which names what there is, for a fault that could never go off."""
    known = tuple(symbols)
    if fault.symbol is not None and fault.symbol not in known:
        raise InputError(f"{fault.name}: no market {fault.symbol!r}: its markets are {', '.join(known)}")
    if fault.route is None:
        return
    routes = places.of(fault.name)
    if not routes:
        raise InputError(f"{fault.name}: it concerns the whole venue: leave the route out")
    if not any(_is_at(fault.route, one, places) for one in routes):
        raise InputError(f"{fault.name}: never goes off at {fault.route!r}: its routes are {', '.join(routes)}")


def _is_at(wanted: str, route: str, places: Places) -> bool:
    # A stream may be named as clients subscribe to it, with its pace and its market.
    return route.startswith(wanted) or (route in places.streams and wanted.startswith(f"{route}@"))

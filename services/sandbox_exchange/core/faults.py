"""What can go wrong on purpose, and when: the switches that an admin or a seeded schedule sets.

In: switches with conditions; questions of the wire modules "does this go wrong now?". Out: yes with a parameter, or no.
Never: chance without a seed: the generator is handed in.
"""

from collections.abc import Callable
from enum import StrEnum
from math import isfinite

import msgspec


class FaultName(StrEnum):
    """Name what goes wrong; `parameter` in brackets."""

    # Book and trade frames
    FRAME_DROP = "frame_drop"
    FRAME_DUPLICATE = "frame_duplicate"
    FRAME_REORDER = "frame_reorder"
    SNAPSHOT_STALE = "snapshot_stale"  # [versions behind]: the REST snapshot is that old
    SNAPSHOT_STRADDLE = "snapshot_straddle"  # the REST snapshot's version lies inside a streamed diff's range
    # Sockets
    SOCKET_KILL = "socket_kill"  # closed without a word, when the next frame would go out
    SOCKET_SILENT = "socket_silent"  # open, but nothing comes any more
    PONG_MISSING = "pong_missing"
    SUBSCRIBE_REFUSED = "subscribe_refused"
    SUBSCRIBE_IGNORED = "subscribe_ignored"
    LISTEN_KEY_EXPIRED = "listen_key_expired"
    SOCKET_AGE = "socket_age"  # [seconds]: the venue's 24 h cut, sooner
    # HTTP; `after execution` means that the order was placed or cancelled and only the answer is wrong
    HTTP_429 = "http_429"  # [Retry-After seconds]
    HTTP_418 = "http_418"  # [Retry-After seconds, 120]: the client is banned that long, or until switches are disarmed
    HTTP_403 = "http_403"
    HTTP_5XX = "http_5xx"  # [status, 500]: nothing was executed
    HTTP_5XX_AFTER = "http_5xx_after"  # [status, 503]: after execution
    TIMEOUT_BEFORE = "timeout_before"  # [seconds]: nothing was executed, no answer comes
    TIMEOUT_AFTER = "timeout_after"  # [seconds]: executed, no answer comes
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    HTML_200 = "html_200"  # [0: nothing was executed]; executed unless it says so
    EMPTY_200 = "empty_200"  # likewise
    MAINTENANCE = "maintenance"  # with times None until disarmed; closes the sockets too
    LATENCY = "latency"  # [seconds] before each answer
    # Orders
    ORDER_NOT_FOUND = "order_not_found"  # [seconds]: a created order is not found that long
    FILL_BEFORE_REPLY = "fill_before_reply"  # the stream tells fills before the create request is answered
    PARTIAL_FILL = (
        "partial_fill"  # [fraction]: only that part of an order fills at once, the rest rests or is cancelled
    )
    REPORT_DUPLICATE = "report_duplicate"  # an order or fill report of the user stream comes twice
    REPORT_REORDER = "report_reorder"  # ... after the one that follows it
    REPORT_DROP = "report_drop"
    DUPLICATE_ID_ACCEPT = "duplicate_id_accept"  # a client order id in use is accepted again
    FEE_THIRD_ASSET = "fee_third_asset"
    BALANCE_STALE = "balance_stale"  # the balances before the last change
    # Clock
    CLOCK_SKEW = "clock_skew"  # [seconds]: the venue's clock is ahead by that, until disarmed


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Set a switch: skip the first `after` occasions, then go wrong `times` times (None: until disarmed).

    `route` narrows it to one request (`POST /api/v3/order`) or one stream (`spot@public.aggre.depth`, `depth`), each as
    a prefix; `symbol` to one market. `probability` is drawn for each occasion. `from_s` and `until_s` bound it in
    seconds since the server started, for a schedule.
    """

    name: FaultName
    route: str | None = None
    symbol: str | None = None
    after: int = 0
    times: int | None = 1
    probability: float = 1.0
    parameter: float | None = None
    from_s: float | None = None
    until_s: float | None = None

    def __post_init__(self) -> None:
        if self.after < 0:
            raise ValueError(f"after must be 0 or more occasions to skip, got {self.after}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times must be 1 or more, or null for `until disarmed`, got {self.times}")
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability must lie above 0 and at most at 1, got {self.probability}")
        if self.parameter is not None and not isfinite(self.parameter):
            raise ValueError(f"parameter must be a finite number, got {self.parameter}")
        if self.parameter is not None and self.parameter < 0 and self.name is not FaultName.CLOCK_SKEW:
            raise ValueError(f"parameter of {self.name} must not be negative, got {self.parameter}")
        if self.from_s is not None and self.until_s is not None and self.until_s <= self.from_s:
            raise ValueError(f"until_s must be later than from_s ({self.from_s}), got {self.until_s}")


class Faults:
    """Hold the armed switches. `draw` gives numbers from 0 to below 1, seeded by whoever makes this."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._armed: dict[FaultName, dict[int, _Switch]] = {}
        self._next_id = 1
        self.fired: dict[FaultName, int] = {}
        self.is_quiet = True  # nothing is armed: the wire asks this first, for every frame

    @property
    def armed(self) -> dict[int, Fault]:
        """Return the switches that may still go off, by id."""
        return dict(sorted((n, one.fault) for group in self._armed.values() for n, one in group.items()))

    def arm(self, fault: Fault) -> int:
        """Set a switch and return its id."""
        number, self._next_id = self._next_id, self._next_id + 1
        self._armed.setdefault(fault.name, {})[number] = _Switch(fault, left=fault.times, skip=fault.after)
        self.is_quiet = False
        return number

    def disarm(self, number: int | None = None) -> None:
        """Take one switch, or all of them, back; an unknown id changes nothing."""
        for name, group in list(self._armed.items()):
            for each in list(group) if number is None else [number]:
                self._drop(name, each)

    def standing(
        self, name: FaultName, *, route: str = "", symbol: str | None = None, elapsed_s: float = 0.0
    ) -> Fault | None:
        """Return the first switch of that name that is armed and concerns this, without using it up."""
        for one in self._armed.get(name, {}).values():
            if _concerns(one.fault, route, symbol, elapsed_s):
                return one.fault
        return None

    def take(
        self, name: FaultName, *, route: str = "", symbol: str | None = None, elapsed_s: float = 0.0
    ) -> Fault | None:
        """Return the switch that makes this occasion go wrong, or None; counts it as used."""
        for number, one in list(self._armed.get(name, {}).items()):
            fault = one.fault
            if fault.until_s is not None and elapsed_s >= fault.until_s:
                self._drop(name, number)
                continue
            if not _concerns(fault, route, symbol, elapsed_s):
                continue
            if one.skip:
                one.skip -= 1
                continue
            if fault.probability < 1.0 and self._draw() >= fault.probability:
                continue
            if one.left is not None:
                one.left -= 1
                if one.left == 0:
                    self._drop(name, number)
            self.fired[name] = self.fired.get(name, 0) + 1
            return fault
        return None

    def _drop(self, name: FaultName, number: int) -> None:
        group = self._armed.get(name, {})
        group.pop(number, None)
        if not group:
            self._armed.pop(name, None)
        self.is_quiet = not self._armed


class _Switch(msgspec.Struct):
    fault: Fault
    left: int | None
    skip: int


def _concerns(fault: Fault, route: str, symbol: str | None, elapsed_s: float) -> bool:
    return (
        (fault.route is None or route.startswith(fault.route))
        and (fault.symbol is None or symbol is None or fault.symbol == symbol)
        and (fault.from_s is None or elapsed_s >= fault.from_s)
        and (fault.until_s is None or elapsed_s < fault.until_s)
    )

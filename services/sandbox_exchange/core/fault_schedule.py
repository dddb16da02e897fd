"""Faults over time: written down in a file, or drawn from a seed.

In: the content of a file, or a generator of numbers. Out: the switches to arm at the start, each with its seconds.
Never: a chance that the same seed does not give again.
"""

from collections.abc import Callable, Sequence

import msgspec

from services.sandbox_exchange.core.faults import Fault, FaultName, Faults

CHAOS_DURATION_S = 3_600.0
CHAOS_EVERY_S = 5.0

# What an hour of a venue's bad day is made of: each passes by itself, so that a correct client gets through.
_BAD_DAY: tuple[tuple[FaultName, float, int], ...] = (
    # name, parameter, most occasions
    (FaultName.FRAME_DROP, 0.0, 3),
    (FaultName.FRAME_DUPLICATE, 0.0, 3),
    (FaultName.FRAME_REORDER, 0.0, 3),
    (FaultName.SNAPSHOT_STALE, 5.0, 2),
    (FaultName.SNAPSHOT_STRADDLE, 0.0, 2),
    (FaultName.SOCKET_KILL, 0.0, 2),
    (FaultName.SOCKET_SILENT, 0.0, 1),
    (FaultName.PONG_MISSING, 0.0, 1),
    (FaultName.SUBSCRIBE_IGNORED, 0.0, 1),
    (FaultName.LISTEN_KEY_EXPIRED, 0.0, 1),
    (FaultName.HTTP_429, 1.0, 3),
    (FaultName.HTTP_5XX, 502.0, 2),
    (FaultName.HTTP_5XX_AFTER, 503.0, 2),
    (FaultName.TIMEOUT_BEFORE, 12.0, 1),
    (FaultName.TIMEOUT_AFTER, 12.0, 1),
    (FaultName.RESET_BEFORE, 0.0, 2),
    (FaultName.RESET_AFTER, 0.0, 2),
    (FaultName.HTML_200, 1.0, 1),
    (FaultName.EMPTY_200, 1.0, 1),
    (FaultName.LATENCY, 0.5, 20),
    (FaultName.ORDER_NOT_FOUND, 2.0, 2),
    (FaultName.FILL_BEFORE_REPLY, 0.3, 2),
    (FaultName.PARTIAL_FILL, 0.5, 2),
    (FaultName.REPORT_DUPLICATE, 0.0, 3),
    (FaultName.REPORT_REORDER, 0.0, 3),
    (FaultName.REPORT_DROP, 0.0, 1),
)


class FaultSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """List the faults of a run; `seed` decides those with a probability. It is what a faults file contains."""

    faults: tuple[Fault, ...]
    seed: int = 0

    def arm(self, faults: Faults) -> tuple[int, ...]:
        """Arm every switch, and return their ids."""
        return tuple(faults.arm(one) for one in self.faults)


def chaos(
    draw: Callable[[], float],
    *,
    duration_s: float = CHAOS_DURATION_S,
    every_s: float = CHAOS_EVERY_S,
    names: Sequence[FaultName] = (),
) -> FaultSchedule:
    """Return faults drawn by `draw` (numbers from 0 to below 1), on average one each `every_s` seconds.

    `names` narrows the choice. A fault that found no occasion within five times `every_s` is over.
    """
    choice = [one for one in _BAD_DAY if not names or one[0] in names]
    drawn: list[Fault] = []
    at_s = 0.0
    while choice:
        at_s += every_s * (0.5 + draw())
        if at_s >= duration_s:
            break
        name, parameter, most = choice[int(draw() * len(choice))]
        times = 1 + int(draw() * most)
        until_s = at_s + 5 * every_s
        drawn.append(Fault(name=name, parameter=parameter or None, times=times, from_s=at_s, until_s=until_s))
    return FaultSchedule(faults=tuple(drawn))

"""Notice that this computer slept, that this process was stopped, or that somebody set the clock.

In: looks, from a loop that turns often. Out: by how much the wall clock moved too far between two of them.
After a pause a connection may be dead without a sign, since ages on the monotonic clock stood still with everything.
"""

from collections.abc import Callable

from shared.clock import NANOSECONDS_PER_SECOND, wall_ns

PAUSE_MIN_S = 10.0
SET_BACK_MIN_S = 1.0


class PauseWatch:
    """Compare looks that are at most `every_s` apart while all is well."""

    def __init__(self, *, every_s: float = 0.0, now_ns: Callable[[], int] = wall_ns) -> None:
        self._every_s, self._now_ns = every_s, now_ns
        self._seen_ns = now_ns()

    def look(self) -> float:
        """Return the seconds by which the clock moved too far since the last look, negative for back; 0.0 for none.

        A process that had no processor for ten seconds cannot tell that from a pause, and says so likewise.
        """
        now_ns = self._now_ns()
        moved_s, self._seen_ns = (now_ns - self._seen_ns) / NANOSECONDS_PER_SECOND, now_ns
        if -SET_BACK_MIN_S < moved_s < self._every_s + PAUSE_MIN_S:
            return 0.0
        return moved_s


def told(pause_s: float) -> str:
    """Return what a pause means, for a log or an operator."""
    if pause_s < 0:
        return f"this computer's clock was set back by {-pause_s:.0f} s"
    return f"this computer slept for {pause_s:.0f} s, or its clock was set"

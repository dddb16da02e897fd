"""When files may be merged: not while rows flood in, but at least once in a while. Pure."""

from shared.clock import NANOSECONDS_PER_SECOND

# A flood shows at each write; between two of them lies less than this.
CALM_NS = 3 * NANOSECONDS_PER_SECOND
PATIENCE_NS = 60 * NANOSECONDS_PER_SECOND


class Housekeeping:
    """Say when to merge: merging costs as much as recording, and a flood needs the processor itself."""

    def __init__(self) -> None:
        self._flooded_ns: int | None = None
        self._done_ns: int | None = None

    def saw_flood(self, now_ns: int) -> None:
        """Take note that so much waited that it was written before its time."""
        self._flooded_ns = now_ns

    def is_due(self, now_ns: int) -> bool:
        """Tell whether to merge now: in a calm always, in a flood once in `PATIENCE_NS`."""
        is_calm = self._flooded_ns is None or now_ns - self._flooded_ns > CALM_NS
        if not is_calm and self._done_ns is not None and now_ns - self._done_ns < PATIENCE_NS:
            return False
        self._done_ns = now_ns
        return True

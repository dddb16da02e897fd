"""Tell how a live feed does, on `md.status.<venue>`: the whole of it, and each market that is not live.

In: reports. Out: statuses, each second. Never: a market called live again only because nothing was said of it.
"""

from collections.abc import Callable, Iterable

from services.market_data.desk import FeedReport
from services.market_data.guard import QualityGuard
from services.market_data.ticks import Trust
from shared.bus import subjects
from shared.bus.port import Bus
from shared.messages import FeedState, MarketStatus

# A market that is live is said to be so when it becomes it, and then every so many reports.
LIVE_AGAIN = 10


class Announcer:
    """Send the statuses of one venue."""

    def __init__(self, bus: Bus, venue: str, guard: QualityGuard) -> None:
        self._bus, self._venue, self._guard = bus, venue, guard
        self._told_live: dict[str, int] = {}

    def send_all(self, report: FeedReport, markets: Iterable[str], trust: Callable[[str], Trust], now_ns: int) -> None:
        """Send how the feed does, then each market that is not live; one that is live now and then."""
        self.send(None, report.state, report.reason, now_ns)
        # A market that was released once may be halted by the venue now: it is not said to be live in between.
        self._guard.send_status(now_ns, untrusted=report.stale)
        for name in markets:
            if name in report.frozen:
                self._told_live.pop(name, None)
            elif name in report.stale:
                self._told_live.pop(name, None)
                self.send(name, trust(name).state, report.stale[name], now_ns)
            else:
                told = self._told_live.get(name, 0)
                self._told_live[name] = (told + 1) % LIVE_AGAIN
                if not told:
                    self.send(name, FeedState.LIVE, report.unproven.get(name, ""), now_ns)

    def send(self, market: str | None, state: FeedState, reason: str, at_ns: int) -> None:
        """Send the status of a market or (None) of the whole feed."""
        status = MarketStatus(self._venue, market, state, reason, at_ns)
        self._bus.publish_lossy(subjects.status(self._venue), status)

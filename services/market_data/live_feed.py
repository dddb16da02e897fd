"""A live venue's market as a feed: what it is, not what comes next.

In: the venue, the instruments. Out: what the step publisher needs to know. Never: a step, which only time brings.
"""

import msgspec

from services.market_data.core.feed import MarketStep
from shared.messages import Instrument


class LiveFeed(msgspec.Struct, frozen=True):
    """Describe a live feed; its steps are made by `live.py`."""

    venue: str
    mode: str
    timeframe: str
    instruments: tuple[Instrument, ...]
    first_open_ns: int = 0

    @property
    def description(self) -> str:
        """Return a few words for people."""
        return f"{self.venue} ({self.mode}), {len(self.instruments)} markets, {self.timeframe} bars"

    @property
    def identity(self) -> dict[str, str]:
        """Return what makes this feed this feed."""
        return {"feed": "live", "venue": self.venue, "mode": self.mode, "timeframe": self.timeframe}

    def step(self, number: int) -> MarketStep | None:
        """Return None: nobody knows a live market's steps by number."""
        del number
        return None

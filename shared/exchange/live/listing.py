"""Whether markets trade, and on which grids, looked at again and again.

In: a question for what the venue lists. Out: each halt with its reason, its end, each changed grid, once.
Never: a market taken for halted because the venue did not answer, or for trading because it did not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns
from shared.errors import RejectedError, UnavailableError
from shared.exchange.live.filters import MarketRules
from shared.exchange.port import VenueRejectCode
from shared.messages import Instrument, Side

# A market that is halted is looked at more often: nothing trades until its end is noticed.
HALTED_INTERVAL_S = 5.0
# Two looks are at least that far apart, however many refusals ask for one.
SPACE_S = 1.0
# An order waits so long for a look before it is refused by the last one.
LOOK_TIMEOUT_S = 3.0
MAINTENANCE = "maintenance"
# Refusals that say that a market is not, or not any more, what we know of it.
DOUBTFUL = frozenset(
    {
        VenueRejectCode.MARKET_CLOSED, VenueRejectCode.INSTRUMENT_UNKNOWN, VenueRejectCode.PRECISION,
        VenueRejectCode.QUANTITY_MIN, VenueRejectCode.NOTIONAL_MIN, VenueRejectCode.PRICE_BAND,
    }
)  # fmt: skip

Ask = Callable[[Sequence[str]], Awaitable[Mapping[str, MarketRules]]]


class Listing:
    """Watch markets (bus tokens). `ask` returns the rules of those that are listed, and may raise UnavailableError.

    `on_halt` learns of a reason, or of an empty one when the market trades; `on_grid` of a definition that is new.
    """

    def __init__(
        self, known: Mapping[str, MarketRules], ask: Ask, *, interval_s: float,
        on_halt: Callable[[str, str], None] = lambda *_: None, on_grid: Callable[[Instrument], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._ask, self._interval_s, self._on_halt, self._on_grid = ask, interval_s, on_halt, on_grid
        self._grids = {token: rules.instrument for token, rules in known.items()}
        self._halts = dict.fromkeys(known, "")
        self._urge = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looked_ns = monotonic_ns()
        for token, rules in known.items():
            self._tell(token, halt_of(rules))

    def look_soon(self) -> None:
        """Look at once: somebody has reason to doubt what is known."""
        self._urge.set()

    def on_refused(self, error: Exception) -> None:
        """Look at once if a refused order says that a market is not what it was."""
        if isinstance(error, RejectedError) and error.code in DOUBTFUL:
            self._urge.set()

    async def before_refusal(self) -> None:
        """Look once more, unless that was done within a second: an order is about to be refused for what is known.

        Returns with what was known before when no answer comes in time; asking has its turn among all requests.
        """
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S), self._looking:
                if monotonic_ns() - self._looked_ns >= SPACE_S * NANOSECONDS_PER_SECOND:
                    await self._look()
        except TimeoutError:
            self._urge.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            is_halted = any(self._halts.values())
            try:
                async with asyncio.timeout(min(HALTED_INTERVAL_S, self._interval_s) if is_halted else self._interval_s):
                    await self._urge.wait()
            except TimeoutError:
                pass
            self._urge.clear()
            await self.look()
            await asyncio.sleep(min(SPACE_S, self._interval_s))

    async def look(self) -> None:
        """Look once; what cannot be asked for stays as it is, unless the venue says that it is being maintained."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        try:
            listed = await self._ask(tuple(self._grids))
        except (UnavailableError, RejectedError) as error:
            if MAINTENANCE in str(error).lower():
                for token in self._grids:
                    self._tell(token, "the venue is under maintenance")
            return
        finally:
            self._looked_ns = monotonic_ns()
        for token, before in self._grids.items():
            rules = listed.get(token)
            if rules is not None and rules.instrument != before:
                self._grids[token] = rules.instrument
                self._on_grid(rules.instrument)
            self._tell(token, halt_of(rules))

    def _tell(self, token: str, reason: str) -> None:
        if reason != self._halts[token]:
            self._halts[token] = reason
            self._on_halt(token, reason)


def takes_orders(rules: MarketRules, side: Side) -> bool:
    """Tell whether a market trades, on that side too."""
    return rules.is_trading and side in rules.sides


def halt_of(rules: MarketRules | None) -> str:
    """Return why nothing trades in a market; empty when it trades."""
    if rules is None:
        return "the venue does not list the market any more"
    if rules.is_trading and rules.sides:
        return ""
    return f"the market is not trading (the venue says {rules.status or 'so'})"

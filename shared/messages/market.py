"""Market data: what a venue says happened. Prices and sizes are floats; `*_ns` are nanoseconds UTC.

`sequence` rises by one for each message of a subject, so that a consumer sees a gap.
`Trade` and `Bbo` hold only text and numbers, so no collector need look at the many of them.
Bars are always closed bars. `BarsClosed` follows the last bar of its close time: the set is complete then.
"""

from enum import StrEnum

from shared.messages.base import Message, Side
from shared.messages.instrument import Instrument


class Trade(Message, frozen=True, gc=False):
    """Report one trade of the venue; `side` is the taker's."""

    venue: str
    instrument: str
    trade_id: str
    side: Side
    price: float
    quantity: float
    ts_event_ns: int
    ts_recv_ns: int
    sequence: int


class Bbo(Message, frozen=True, gc=False):
    """Report the best bid and the best ask; sizes in base units."""

    venue: str
    instrument: str
    bid_price: float
    bid_quantity: float
    ask_price: float
    ask_quantity: float
    ts_event_ns: int
    ts_recv_ns: int
    sequence: int


class BookSnapshot(Message, frozen=True):
    """Report the book's best levels, each `(price, quantity)`, bids descending, asks ascending."""

    venue: str
    instrument: str
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    ts_event_ns: int
    ts_recv_ns: int
    sequence: int


class Bar(Message, frozen=True):
    """Report one closed bar; `volume` in base units, `quote_volume` in quote units where the venue gives it."""

    venue: str
    instrument: str
    timeframe: str
    open_time_ns: int
    close_time_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None
    ts_recv_ns: int
    sequence: int


class BarsClosed(Message, frozen=True):
    """Say that every bar of `close_time_ns` has been published: decisions on bars are made on this message.

    `instruments` have a bar at this time, `missing` are expected and have none. `step` counts from 1 in a feed.
    `final` marks the end of a replay.
    """

    venue: str
    timeframe: str
    close_time_ns: int
    instruments: tuple[str, ...]
    missing: tuple[str, ...]
    step: int
    final: bool


class InstrumentDefinition(Message, frozen=True):
    """Announce an instrument and its grid; the last one of a subject is in force."""

    venue: str
    instrument: Instrument
    ts_event_ns: int


class FeedState(StrEnum):
    """Name how far a feed can be trusted."""

    LIVE = "live"
    STALE = "stale"
    FROZEN = "frozen"
    ENDED = "ended"


# The reason of an instrument's LIVE after an operator's release. What it was worth before the freeze says nothing any
# more about what it is worth now: see `MarketStatus`.
RELEASED = "released by an operator"


class MarketStatus(Message, frozen=True):
    """Report the state of a feed, of one instrument or (`None`) of the whole venue, and why."""

    venue: str
    instrument: str | None
    state: FeedState
    reason: str
    ts_event_ns: int

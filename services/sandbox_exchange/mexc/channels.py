"""The names of MEXC's streams.

In: a channel's name as a client sends it. Out: what is wanted of which market, or None. Never: a guess.
"""

from enum import StrEnum

import msgspec

from services.sandbox_exchange.mexc.words import STREAM_INTERVALS_NS

PERIODS_S = {"10ms": 0.01, "100ms": 0.1}
LIMIT_LEVELS = {"5": 5, "10": 10, "20": 20}
LIMIT_PERIOD_S = 0.1
KLINE_PERIOD_S = 0.2


class ChannelKind(StrEnum):
    """Name what a channel carries; the value is the name's second part."""

    DEPTH = "public.aggre.depth.v3.api.pb"
    DEALS = "public.aggre.deals.v3.api.pb"
    BOOK_TICKER = "public.aggre.bookTicker.v3.api.pb"
    LIMIT_DEPTH = "public.limit.depth.v3.api.pb"
    KLINE = "public.kline.v3.api.pb"
    ORDERS = "private.orders.v3.api.pb"
    OWN_DEALS = "private.deals.v3.api.pb"
    ACCOUNT = "private.account.v3.api.pb"

    @property
    def is_private(self) -> bool:
        """Tell whether only an account's owner may listen."""
        return self.value.startswith("private.")


class Channel(msgspec.Struct, frozen=True):
    """Describe a channel; `interval` is the candles' (`Min1`), `levels` a limited book's."""

    name: str
    kind: ChannelKind
    symbol: str | None = None
    period_s: float = 0.0
    interval: str = ""
    levels: int = 0

    @property
    def interval_ns(self) -> int:
        """Return the candles' length."""
        return STREAM_INTERVALS_NS[self.interval]


def channel_of(name: str) -> Channel | None:
    """Return the channel that a name means; None for one that does not exist."""
    parts = name.split("@")
    if len(parts) < 2 or parts[0] != "spot" or parts[1] not in list(ChannelKind):
        return None
    kind, rest = ChannelKind(parts[1]), parts[2:]
    if kind.is_private:
        return Channel(name, kind) if not rest else None
    if len(rest) != 2:
        return None
    first, second = rest
    if kind is ChannelKind.KLINE:
        known = second in STREAM_INTERVALS_NS
        return Channel(name, kind, first, KLINE_PERIOD_S, interval=second) if known else None
    if kind is ChannelKind.LIMIT_DEPTH:
        known = second in LIMIT_LEVELS
        return Channel(name, kind, first, LIMIT_PERIOD_S, levels=LIMIT_LEVELS[second]) if known else None
    return Channel(name, kind, second, PERIODS_S[first]) if first in PERIODS_S else None

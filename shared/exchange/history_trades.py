"""The public trades of a venue, through the unmodified ccxt.

In: a market and either a number to go on from or a stretch of time. Out: trades as the venue sent them, exact texts,
oldest first. Never: a page that could not be understood taken for an empty one; an order of trades that ccxt's parser
made up (it sorts ids as texts and turns trades of one millisecond around), so the venue's own rows are read.

Binance numbers its aggregates without a gap and serves all of them from any number on. MEXC gives no ids, at most the
newest thousand of a stretch of an hour, and only recent ones.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND
from shared.errors import InputError
from shared.exchange.history import CcxtHistory, RawCandle

TRADES_PER_PAGE = 1_000
NUMBERED = {"binance": "publicGetAggTrades", "binanceus": "publicGetAggTrades"}
RECENT = {"mexc": "spotPublicGetAggTrades"}


class RawTrade(msgspec.Struct, frozen=True):
    """Hold one trade, or an aggregate of trades, as the venue wrote it.

    `number` counts aggregates without a gap where the venue does; `first_id` and `last_id` are the trades in it. `side`
    is the taker's.
    """

    time_ns: int
    price: str
    quantity: str
    side: str
    number: int | None = None
    first_id: int | None = None
    last_id: int | None = None

    @property
    def trade_id(self) -> str | None:
        """Return the trade's own id, `first-last` for an aggregate of several, None where the venue gives none."""
        if self.first_id is None or self.last_id is None:
            return None
        return str(self.first_id) if self.first_id == self.last_id else f"{self.first_id}-{self.last_id}"

    @property
    def is_void(self) -> bool:
        """Tell whether this is a number that stands for no trade: Binance has some."""
        return self.first_id is not None and self.first_id < 0


class TradeSource(Protocol):
    """Give a venue's trades page by page. Every method raises UnavailableError after its last attempt."""

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        ...

    @property
    def is_numbered(self) -> bool:
        """Tell whether the venue numbers its trades and serves all of them; otherwise only recent ones."""
        ...

    async def now_ns(self) -> int:
        """Return the earlier of the venue's and this machine's time."""
        ...

    async def numbered(self, instrument: str, number: int | None, limit: int) -> list[RawTrade]:
        """Return up to `limit` trades from a number on, the newest ones without one."""
        ...

    async def between(self, instrument: str, start_ns: int, end_ns: int) -> list[RawTrade]:
        """Return trades of `[start_ns, end_ns)`; a page's fill of them where there are more."""
        ...

    async def minutes(self, instrument: str, start_ns: int, end_ns: int) -> list[RawCandle]:
        """Return the minutes' candles that open in `[start_ns, end_ns)`, as many as one answer holds."""
        ...


class CcxtTrades:
    """Ask a venue for trades over the connection, and at the pace, of its other history."""

    def __init__(self, history: CcxtHistory) -> None:
        self._history = history
        self.venue = history.venue
        self.is_numbered = self.venue in NUMBERED
        endpoint = NUMBERED.get(self.venue) or RECENT.get(self.venue)
        if endpoint is None:
            raise InputError(
                f"trades of {self.venue} cannot be downloaded so that nothing is missing; "
                f"those of {', '.join(NUMBERED)} (of any time) and {', '.join(RECENT)} (recent ones) can. "
                "Bring others in from files: cascade data import"
            )
        self._endpoint = endpoint

    async def now_ns(self) -> int:
        """Return the earlier of the venue's and this machine's time."""
        return await self._history.now_ns()

    async def numbered(self, instrument: str, number: int | None, limit: int) -> list[RawTrade]:
        """Return up to `limit` trades from a number on, the newest ones without one."""
        return await self._ask(instrument, {"limit": limit, **({} if number is None else {"fromId": number})})

    async def between(self, instrument: str, start_ns: int, end_ns: int) -> list[RawTrade]:
        """Return trades of `[start_ns, end_ns)`; a page's fill of them where there are more."""
        start_ms, end_ms = (-(-time_ns // NANOSECONDS_PER_MILLISECOND) for time_ns in (start_ns, end_ns))
        request = {"startTime": start_ms, "endTime": end_ms - 1, "limit": TRADES_PER_PAGE}
        rows = await self._ask(instrument, request)
        return [row for row in rows if start_ns <= row.time_ns < end_ns]

    async def minutes(self, instrument: str, start_ns: int, end_ns: int) -> list[RawCandle]:
        """Return the minutes' candles that open in `[start_ns, end_ns)`, as many as one answer holds."""
        return await self._history.page(instrument, "1m", start_ns, end_ns)

    async def _ask(self, instrument: str, request: Mapping[str, int]) -> list[RawTrade]:
        return await self._history.ask_endpoint(f"trades of {instrument}", self._endpoint, instrument, request, _trades)


def _trades(answer: object) -> list[RawTrade]:
    if not isinstance(answer, list):
        raise TypeError(f"trades are {type(answer).__name__}")
    return in_order([_trade(row) for row in answer])


def in_order(rows: Sequence[RawTrade]) -> list[RawTrade]:
    """Return trades oldest first: by their numbers, or turned around where the venue gives the newest first."""
    if all(row.number is not None for row in rows):
        return sorted(rows, key=lambda row: row.number or 0)
    newest_first = bool(rows) and rows[0].time_ns >= rows[-1].time_ns
    # Stable, so that trades of one millisecond keep the venue's order.
    return sorted(reversed(rows) if newest_first else rows, key=lambda row: row.time_ns)


def _trade(row: object) -> RawTrade:
    if not isinstance(row, Mapping):
        raise TypeError(f"a trade is {row!r:.60}")
    if not isinstance(row["m"], bool):
        raise TypeError(f"a trade's maker is {row['m']!r:.60}")
    return RawTrade(
        time_ns=int(row["T"]) * NANOSECONDS_PER_MILLISECOND,
        price=str(row["p"]),
        quantity=str(row["q"]),
        side="sell" if row["m"] else "buy",  # the buyer was the maker: the taker sold
        number=_whole(row.get("a")),
        first_id=_whole(row.get("f")),
        last_id=_whole(row.get("l")),
    )


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | str) else None

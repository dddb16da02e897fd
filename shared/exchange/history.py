"""The public history of a venue: markets, candles, tickers, through the unmodified ccxt.

In: a venue's name and what is wanted. Out: exact texts as the venue sent them, candles ascending and within the range.
Never: an open candle taken for a closed one (the caller compares with `now_ns`); a page that could not be understood
taken for an empty one. ccxt is imported when the first venue is opened: it costs a second and 110 MB.
"""

import asyncio
import difflib
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from types import ModuleType
from typing import Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND, wall_ns
from shared.domain.instruments import bus_symbol
from shared.errors import InputError, UnavailableError
from shared.exchange.pacing import Sleep, TokenBucket, backoff_s

T = TypeVar("T")

ATTEMPTS_MAX = 7
TIMEOUT_MS = 20_000
CALL_TIMEOUT_S = 60.0
RATE_MAX_PER_S = 10.0
PAGE_BARS_DEFAULT = 500
# MEXC documents 1000 and gives 500.
PAGE_BARS = {"mexc": 500}
RETRY_AFTER_MAX_S = 300.0
SUGGESTIONS = 3
BAR_FIELDS = 6
# What a body that is no answer (HTML, cut-off JSON, another shape) makes of ccxt's parsers.
_UNPARSABLE = (TypeError, KeyError, IndexError, AttributeError, ValueError)


class MarketFacts(msgspec.Struct, frozen=True):
    """State what a venue says about a spot market; texts are exact, None where the venue is silent."""

    instrument: str
    base: str
    quote: str
    is_active: bool
    listed_at_ns: int | None
    tick_size: str | None
    step_size: str | None


class TickerFacts(msgspec.Struct, frozen=True):
    """State a market's last day as texts, None where the venue is silent; `quote_volume` in quote units."""

    instrument: str
    last: str | None
    bid: str | None
    ask: str | None
    quote_volume: str | None


class RawCandle(msgspec.Struct, frozen=True):
    """Hold one candle as the venue wrote it."""

    open_time_ns: int
    open: str
    high: str
    low: str
    close: str
    volume: str


class CandleSource(Protocol):
    """Give a venue's candles page by page. Every method raises UnavailableError after its last attempt."""

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        ...

    @property
    def page_bars(self) -> int:
        """Return how many bars one request may ask for."""
        ...

    async def check(self, instruments: Sequence[str], timeframe: str) -> None:
        """Raise InputError, with suggestions, for what the venue does not have."""
        ...

    async def now_ns(self) -> int:
        """Return the earlier of the venue's and this machine's time."""
        ...

    async def page(self, instrument: str, timeframe: str, start_ns: int, end_ns: int) -> list[RawCandle]:
        """Return the candles that open in `[start_ns, end_ns)`, ascending; duplicates stay, open ones too."""
        ...


class CcxtHistory:
    """Ask a venue through ccxt; `base_url` sends every request to another host (a sandbox, a test)."""

    def __init__(
        self, venue: str, *, base_url: str | None = None, rate_per_s: float | None = None,
        attempts_max: int = ATTEMPTS_MAX, random: Random | None = None, sleep: Sleep = asyncio.sleep,
        clock_ns: Callable[[], int] = wall_ns, on_retry: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._venue = venue
        self._ccxt = importlib.import_module("ccxt.async_support")
        self._exchange = _exchange(self._ccxt, venue, base_url)
        self._attempts_max, self._random, self._sleep = attempts_max, random or Random(), sleep
        self._clock_ns, self._on_retry = clock_ns, on_retry
        rate = rate_per_s or min(RATE_MAX_PER_S, 500.0 / max(float(self._exchange.rateLimit), 1.0))
        self._bucket = TokenBucket(rate, burst=max(1.0, rate), sleep=sleep)
        self._symbols: dict[str, str] = {}

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        return self._venue

    @property
    def page_bars(self) -> int:
        """Return how many bars one request may ask for, as ccxt knows the venue."""
        if self._venue in PAGE_BARS:
            return PAGE_BARS[self._venue]
        features = (self._exchange.features or {}).get("spot") or {}
        limit = (features.get("fetchOHLCV") or {}).get("limit")
        # Above 1000 ccxt's figures are for futures on some venues.
        return min(int(limit), 1000) if limit else PAGE_BARS_DEFAULT

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def markets(self) -> list[MarketFacts]:
        """Return the venue's spot markets."""
        await self._load()
        return [
            _market_facts(instrument, self._exchange.market(symbol)) for instrument, symbol in self._symbols.items()
        ]

    async def tickers(self) -> list[TickerFacts]:
        """Return the last day of every spot market."""
        await self._load()
        answer = await self._ask("tickers", self._exchange.fetch_tickers, _tickers)
        names = {symbol: instrument for instrument, symbol in self._symbols.items()}
        return [_ticker_facts(names[symbol], ticker) for symbol, ticker in answer.items() if symbol in names]

    async def check(self, instruments: Sequence[str], timeframe: str) -> None:
        """Raise InputError, with suggestions, for what the venue does not have; trades have an empty timeframe."""
        known = self._exchange.timeframes or {}
        if timeframe and timeframe not in known:
            raise InputError(f"{self._venue} has no {timeframe} candles: choose one of {', '.join(known)}")
        await self._load()
        for instrument in instruments:
            if instrument not in self._symbols:
                close = difflib.get_close_matches(instrument, self._symbols, n=SUGGESTIONS, cutoff=0.5)
                some = f": did you mean {' or '.join(close)}?" if close else f" among its {len(self._symbols)} markets"
                raise InputError(f"{self._venue} has no spot market {instrument}{some}")

    async def now_ns(self) -> int:
        """Return the earlier of the venue's and this machine's time."""
        local_ns = self._clock_ns()
        if not self._exchange.has.get("fetchTime"):
            return local_ns
        venue_ms = await self._ask("time", self._exchange.fetch_time, _whole_number)
        return min(local_ns, venue_ms * NANOSECONDS_PER_MILLISECOND)

    async def page(self, instrument: str, timeframe: str, start_ns: int, end_ns: int) -> list[RawCandle]:
        """Return the candles that open in `[start_ns, end_ns)`, ascending; duplicates stay, open ones too."""
        await self._load()
        symbol = self._symbols[instrument]
        since_ms = -(-start_ns // NANOSECONDS_PER_MILLISECOND)
        until_ms = (end_ns - 1) // NANOSECONDS_PER_MILLISECOND

        async def call() -> object:
            found: object = await self._exchange.fetch_ohlcv(
                symbol, timeframe, since_ms, self.page_bars, {"until": until_ms}
            )
            return found

        rows = await self._ask(f"{timeframe} candles of {instrument}", call, _candles)
        return sorted((row for row in rows if start_ns <= row.open_time_ns < end_ns), key=lambda row: row.open_time_ns)

    async def ask_endpoint(
        self, what: str, endpoint: str, instrument: str, request: Mapping[str, int], parse: Callable[[object], T]
    ) -> T:
        """Return the parsed answer of one of the venue's own endpoints, by ccxt's name for it, about a market."""
        await self._load()
        asked = {"symbol": self._exchange.market(self._symbols[instrument])["id"], **request}

        async def call() -> object:
            found: object = await getattr(self._exchange, endpoint)(asked)
            return found

        return await self._ask(what, call, parse)

    async def _load(self) -> None:
        if self._symbols:
            return
        markets = await self._ask("markets", self._exchange.load_markets, _mapping)
        for symbol, market in markets.items():
            if isinstance(market, Mapping) and market.get("spot"):
                self._symbols[f"{market['base']}-{market['quote']}".upper()] = str(symbol)
        if not self._symbols:
            # ccxt keeps what it has loaded; an empty answer must not stay.
            self._exchange.markets = None
            raise UnavailableError(f"{self._venue} lists no spot market: try again later")

    async def _ask(self, what: str, call: Callable[[], Awaitable[object]], parse: Callable[[object], T]) -> T:
        """Return the parsed answer. Reads are safe to repeat, so everything but a definite no is tried again."""
        problem = ""
        for attempt in range(1, self._attempts_max + 1):
            await self._bucket.take()
            try:
                return parse(await asyncio.wait_for(call(), CALL_TIMEOUT_S))
            except (self._ccxt.BadSymbol, self._ccxt.BadRequest, self._ccxt.NotSupported) as error:
                raise InputError(f"{self._venue}, {what}: {_short(error)}") from error
            except (self._ccxt.AuthenticationError, self._ccxt.PermissionDenied) as error:
                raise InputError(f"{self._venue} refuses {what}: {_short(error)}") from error
            except (self._ccxt.BaseError, TimeoutError, OSError) as error:
                problem = _short(error)
                self._slow_down(error)
            except _UNPARSABLE as error:
                problem = f"an answer that cannot be understood ({_short(error)})"
            if attempt < self._attempts_max:
                self._on_retry(f"{self._venue}, {what}: {problem}; attempt {attempt + 1} of {self._attempts_max}")
                await self._sleep(backoff_s(attempt, self._random))
        raise UnavailableError(
            f"{self._venue} does not give {what} after {self._attempts_max} attempts: {problem}. "
            "What has come so far is kept: the same command goes on from there"
        )

    def _slow_down(self, error: Exception) -> None:
        if not isinstance(error, self._ccxt.RateLimitExceeded | self._ccxt.DDoSProtection):
            return
        headers = self._exchange.last_response_headers or {}
        asked = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
        if str(asked).isdigit():
            self._bucket.pause(min(float(asked), RETRY_AFTER_MAX_S))


def known_venue(venue: str) -> bool:
    """Tell whether ccxt knows a venue of this name."""
    return venue in importlib.import_module("ccxt").exchanges


def _exchange(ccxt: ModuleType, venue: str, base_url: str | None):  # type: ignore[no-untyped-def] # ccxt has no types
    if venue not in ccxt.exchanges:
        close = difflib.get_close_matches(venue, ccxt.exchanges, n=SUGGESTIONS)
        raise InputError(
            f"ccxt knows no venue {venue!r}{': did you mean ' + ' or '.join(close) + '?' if close else ''}"
        )
    exchange = getattr(ccxt, venue)(
        {
            "enableRateLimit": False,  # the token bucket here gives credit for idle time
            "timeout": TIMEOUT_MS,
            "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False},
        }
    )
    exchange.number = str  # texts keep every digit
    hook = exchange.on_rest_response

    def checked(code: int, *rest: object) -> object:
        body = hook(code, *rest)
        # ccxt makes an empty list of HTML or of a cut-off answer: a hole in history that nobody would see.
        if 200 <= code < 300 and not _is_json(body):
            raise ccxt.ExchangeNotAvailable(f"{venue} answers with something that is no JSON: {body:.60}")
        return body

    exchange.on_rest_response = checked
    if base_url is not None:
        exchange.urls["api"] = _elsewhere(exchange.urls["api"], base_url)
    return exchange


def _is_json(body: str) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return body[:1] in "[{"


def _elsewhere(urls: object, base_url: str) -> object:
    if isinstance(urls, Mapping):
        return {name: _elsewhere(url, base_url) for name, url in urls.items()}
    if isinstance(urls, str) and urls.startswith("http"):
        base = urlsplit(base_url)
        return urlunsplit((base.scheme, base.netloc, urlsplit(urls).path, "", ""))
    return urls


def _candles(answer: object) -> list[RawCandle]:
    if not isinstance(answer, list):
        raise TypeError(f"candles are {type(answer).__name__}")
    found = []
    for row in answer:
        if not isinstance(row, list) or len(row) < BAR_FIELDS or not isinstance(row[0], int):
            raise TypeError(f"a candle is {row!r:.60}")
        texts = ["" if value is None else str(value) for value in row[1:BAR_FIELDS]]
        found.append(RawCandle(row[0] * NANOSECONDS_PER_MILLISECOND, *texts))
    return found


def _mapping(answer: object) -> Mapping[object, object]:
    if not isinstance(answer, Mapping):
        raise TypeError(f"a table was expected, not {type(answer).__name__}")
    return answer


def _tickers(answer: object) -> Mapping[str, Mapping[str, object]]:
    return msgspec.convert(_mapping(answer), dict[str, dict[str, object]], strict=False)


def _whole_number(answer: object) -> int:
    if not isinstance(answer, int):
        raise TypeError(f"a time was expected, not {answer!r:.60}")
    return answer


def _market_facts(instrument: str, market: Mapping[str, object]) -> MarketFacts:
    precision = _mapping(market.get("precision") or {})
    created = market.get("created")
    return MarketFacts(
        instrument=bus_symbol(instrument),
        base=str(market["base"]),
        quote=str(market["quote"]),
        is_active=market.get("active") is not False,
        listed_at_ns=created * NANOSECONDS_PER_MILLISECOND if isinstance(created, int) else None,
        tick_size=_text(precision.get("price")),
        step_size=_text(precision.get("amount")),
    )


def _ticker_facts(instrument: str, ticker: Mapping[str, object]) -> TickerFacts:
    return TickerFacts(
        instrument=instrument,
        last=_text(ticker.get("last")),
        bid=_text(ticker.get("bid")),
        ask=_text(ticker.get("ask")),
        quote_volume=_text(ticker.get("quoteVolume")),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:160] + "…"

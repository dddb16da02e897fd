"""A venue's public history on a loopback port, in the shapes of MEXC's and Binance's spot API (both `/api/v3`).

In: requests of the unmodified ccxt. Out: markets, candles, tickers, time; faults as scripted, one for each request.
Candles are a function of market and time, so any range can be compared. The newest one is open and always different.
"""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web

from shared.config import timeframe_ns

INTERVALS = {"60m": "1h", "1W": "7d"}
PAGE_MAX = 500
PRICE = 1_000_000
HTML = "<html><body>Please wait while we check your browser</body></html>"


class FakeMarket(msgspec.Struct, frozen=True):
    """Describe a market: when it was listed, and ranges `[from, to)` in which no bar exists. Nanoseconds."""

    symbol: str
    base: str
    quote: str
    listed_ns: int
    holes: tuple[tuple[int, int], ...] = ()


class FakeKlines:
    """Serve markets as of `now_ns`; `faults` are taken one for each kline request.

    Faults: 429, 500, 503 (status), html, truncated, reset, empty, duplicate, drop (each third bar is left out), bad
    (a bar with a high below its low), shifted (times off the grid), hang.
    """

    def __init__(
        self, markets: Sequence[FakeMarket], now_ns: int, *, page_max: int = PAGE_MAX, venue: str = "mexc"
    ) -> None:
        self.markets = {market.symbol: market for market in markets}
        self.now_ns = now_ns
        self.page_max = page_max
        self._trading = "1" if venue == "mexc" else "TRADING"
        self.faults: deque[str] = deque()
        self.market_faults: deque[str] = deque()
        self.delay_s = 0.0
        self.requests: Counter[str] = Counter()
        self.asked: list[tuple[str, int, int]] = []
        self._numbers = itertools.count()
        self._asked = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_get("/api/v3/exchangeInfo", self._exchange_info)
        app.router.add_get("/api/v3/klines", self._klines)
        app.router.add_get("/api/v3/time", self._time)
        app.router.add_get("/api/v3/ticker/24hr", self._tickers)
        app.router.add_get("/{rest:.*}", self._other)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def asked_for(self, requests: int) -> None:
        """Wait until so many candle requests have come."""
        async with self._asked:
            await self._asked.wait_for(lambda: self.requests["klines"] >= requests)

    def bar(self, market: FakeMarket, open_ns: int, interval_ns: int) -> list[int | str]:
        """Return the candle of a time, in the venue's shape; an open one is different at each request."""
        seed = (open_ns // interval_ns * 7919 + sum(map(ord, market.symbol))) % 10_000
        is_open = open_ns + interval_ns > self.now_ns
        opened, close = PRICE + seed, PRICE + (seed * 31 + (next(self._numbers) if is_open else 0)) % 10_000
        high, low = max(opened, close) + seed % 7, min(opened, close) - seed % 5
        prices = [f"{price / 100:.2f}" for price in (opened, high, low, close)]
        closed_ms = (open_ns + interval_ns) // 1_000_000
        return [open_ns // 1_000_000, *prices, f"{seed}.12345678", closed_ms, f"{seed * 10}.5"]

    def exists(self, market: FakeMarket, open_ns: int) -> bool:
        """Tell whether the venue has a bar that opens at this time."""
        in_hole = any(begin <= open_ns < end for begin, end in market.holes)
        return market.listed_ns <= open_ns <= self.now_ns and not in_hole

    async def _exchange_info(self, request: web.Request) -> web.StreamResponse:
        self.requests["exchangeInfo"] += 1
        if self.market_faults:
            return await self._fault(request, self.market_faults.popleft(), "{}")
        symbols = [
            {
                "symbol": one.symbol, "status": self._trading, "baseAsset": one.base, "quoteAsset": one.quote,
                "baseAssetPrecision": 8, "quoteAssetPrecision": 8, "quotePrecision": 8, "baseSizePrecision": "0.0001",
                "quoteAmountPrecision": "1", "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
                "permissions": ["SPOT"], "orderTypes": ["LIMIT", "MARKET"], "maxQuoteAmount": "100000",
                "makerCommission": "0", "takerCommission": "0.0005",
                "filters": [
                    {"filterType": "PRICE_FILTER", "tickSize": "0.01"},
                    {"filterType": "LOT_SIZE", "stepSize": "0.0001", "minQty": "0.0001"},
                ],
            }
            for one in self.markets.values()
        ]  # fmt: skip
        return web.json_response({"timezone": "UTC", "serverTime": self.now_ns // 1_000_000, "symbols": symbols})

    async def _klines(self, request: web.Request) -> web.StreamResponse:
        self.requests["klines"] += 1
        async with self._asked:
            self._asked.notify_all()
        market = self.markets.get(request.query["symbol"])
        if market is None:
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        fault = self.faults.popleft() if self.faults else ""
        interval = request.query["interval"]
        interval_ns = timeframe_ns(INTERVALS.get(interval, interval))
        begin = int(request.query.get("startTime", "0")) * 1_000_000
        end = min(int(request.query.get("endTime", "9" * 13)) * 1_000_000, self.now_ns)
        limit = min(int(request.query.get("limit", self.page_max)), self.page_max)
        self.asked.append((interval, begin, end))
        first = -(-max(begin, market.listed_ns) // interval_ns) * interval_ns
        times = (time for time in range(first, end + 1, interval_ns) if self.exists(market, time))
        rows = [self.bar(market, time, interval_ns) for time in itertools.islice(times, limit)]
        if fault == "duplicate":
            rows = [row for row in rows for _ in range(2)]
        elif fault == "drop":
            rows = [row for at, row in enumerate(rows) if at % 3]
        elif fault == "bad" and rows:
            rows[0][2] = "0.01"
        elif fault == "shifted":
            rows = [[int(row[0]) + 1, *row[1:]] for row in rows]
        elif fault == "empty":
            rows = []
        elif fault:
            return await self._fault(request, fault, msgspec.json.encode(rows).decode())
        return web.json_response(rows)

    async def _fault(self, request: web.Request, fault: str, body: str) -> web.StreamResponse:
        if fault.isdigit():
            headers = {"Retry-After": "1"} if fault == "429" else {}
            return web.json_response({"code": int(fault), "msg": "fault"}, status=int(fault), headers=headers)
        if fault == "html":
            return web.Response(text=HTML, content_type="text/html")
        if fault == "truncated":
            return web.Response(text=body[: len(body) // 2], content_type="application/json")
        if fault == "hang":
            await asyncio.sleep(3600)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _time(self, _: web.Request) -> web.Response:
        return web.json_response({"serverTime": self.now_ns // 1_000_000})

    async def _tickers(self, _: web.Request) -> web.Response:
        self.requests["tickers"] += 1
        return web.json_response(
            [
                {
                    "symbol": one.symbol, "lastPrice": "10.00", "bidPrice": "9.99", "bidQty": "5", "askPrice": "10.01",
                    "askQty": "5", "openPrice": "9.50", "highPrice": "11", "lowPrice": "9", "volume": "1000",
                    "quoteVolume": str(10_000 * (at + 1)), "priceChange": "0.5", "priceChangePercent": "0.05",
                    "closeTime": self.now_ns // 1_000_000,
                }
                for at, one in enumerate(self.markets.values())
            ]
        )  # fmt: skip

    async def _other(self, request: web.Request) -> web.Response:
        self.requests[request.path] += 1
        if request.path.endswith("/contract/detail"):
            return web.json_response({"success": True, "code": 0, "data": []})
        return web.json_response({"code": -1, "msg": f"no {request.path} here"}, status=404)

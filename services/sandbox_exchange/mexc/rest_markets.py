"""Public REST endpoints: markets, books, trades, candles, tickers.

In: a request. Out: what everybody may know. Never: a book of another moment than its `lastUpdateId`, without a fault.
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import Depth, Kline, PublicTrade, TradingStatus
from services.sandbox_exchange.mexc import payloads
from services.sandbox_exchange.mexc.errors import ApiError, missing
from services.sandbox_exchange.mexc.rest import Call, Endpoint
from services.sandbox_exchange.mexc.words import DAY_NS, INTERVALS_NS, MARKET_WORDS, MINUTE_NS, Payload, milliseconds
from shared.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND
from shared.matching.exact import add, multiply

DEPTH_DEFAULT, DEPTH_MAX = 100, 5_000
TRADES_DEFAULT, TRADES_MAX = 500, 1_000
KLINES_MAX = 500
CALENDAR = {"1W": 7, "1M": 31}  # days at most; weeks start on Monday, months on the first
STALE_VERSIONS = 10
AVERAGE_MINUTES = 5


def ping(_call: Call) -> object:
    """Answer that the venue is there."""
    return {}


def time(call: Call) -> object:
    """Answer with the venue's time."""
    return {"serverTime": milliseconds(call.now_ns)}


def default_symbols(call: Call) -> object:
    """Answer with the symbols that may be traded through the API."""
    symbols = [one.symbol for one in call.exchange.markets.values() if one.status is TradingStatus.TRADING]
    return {"code": 200, "data": symbols, "msg": None}


def offline_symbols(call: Call) -> object:
    """Answer with the markets that are paused or delisted."""
    offline = [one for one in call.exchange.markets.values() if one.status is not TradingStatus.TRADING]
    return {"data": [{"symbol": one.symbol, "state": int(MARKET_WORDS[one.status])} for one in offline]}


def exchange_info(call: Call) -> object:
    """Answer with the markets and their filters."""
    return {
        "timezone": "CST",
        "serverTime": milliseconds(call.now_ns),
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [payloads.market(one) for one in call.markets()],
    }


def depth(call: Call) -> object:
    """Answer with a book; faults make it an older one."""
    symbol, limit = call.market().symbol, call.params.limit(DEPTH_DEFAULT, DEPTH_MAX)
    return payloads.depth(_faulty_depth(call, symbol, limit) or call.exchange.depth(symbol, limit), call.now_ns)


def _faulty_depth(call: Call, symbol: str, limit: int) -> Depth | None:
    history = call.state.books.watch(symbol)
    if fault := call.venue.take(FaultName.SNAPSHOT_STALE, route=call.route, symbol=symbol):
        behind = STALE_VERSIONS if fault.parameter is None else int(fault.parameter)
        return history.at(symbol, history.version - behind, limit)
    if call.venue.take(FaultName.SNAPSHOT_STRADDLE, route=call.route, symbol=symbol):
        version = call.state.public.straddled(symbol)
        return None if version is None else history.at(symbol, version, limit)
    return None


def trades(call: Call) -> object:
    """Answer with the last trades, newest first."""
    known = call.exchange.trades(call.market().symbol, call.params.limit(TRADES_DEFAULT, TRADES_MAX))
    return [payloads.trade(one) for one in reversed(known)]


def aggregated_trades(call: Call) -> object:
    """Answer with the last trades, joined where they are one, newest first."""
    symbol, limit = call.market().symbol, call.params.limit(TRADES_DEFAULT, TRADES_MAX)
    start, end = call.params.whole_or_none("startTime"), call.params.whole_or_none("endTime")
    if (start is None) != (end is None):
        raise missing("startTime" if start is None else "endTime")
    known = call.exchange.trades(symbol, 10 * TRADES_MAX)
    if start is not None and end is not None:
        known = [one for one in known if start <= milliseconds(one.time_ns) <= end]
    rows = payloads.aggregated_trades(known)
    rows.reverse()
    return rows[:limit]


def klines(call: Call) -> object:
    """Answer with candles, oldest first."""
    symbol, limit = call.market().symbol, call.params.limit(KLINES_MAX, KLINES_MAX)
    interval = call.params.text("interval")
    start, end = call.params.whole_or_none("startTime"), call.params.whole_or_none("endTime")
    start_ns = None if start is None else start * NANOSECONDS_PER_MILLISECOND
    end_ns = None if end is None else end * NANOSECONDS_PER_MILLISECOND - 1  # MEXC leaves out what opens at the end
    if interval in CALENDAR:
        found = _calendar_klines(call, symbol, interval, start_ns, end_ns)
        found = found[:limit] if start_ns is not None else found[-limit:]
    elif interval in INTERVALS_NS:
        found = list(
            call.exchange.klines(
                symbol, INTERVALS_NS[interval], start_ns=start_ns, end_ns=end_ns, limit=limit, now_ns=call.now_ns
            )
        )
    else:
        raise ApiError(-1121, "Invalid interval.")
    return [payloads.kline(one) for one in found]


def _calendar_klines(call: Call, symbol: str, word: str, start_ns: int | None, end_ns: int | None) -> list[Kline]:
    """Return weeks or months, made of days."""
    days = call.exchange.klines(
        symbol, DAY_NS, start_ns=None, end_ns=end_ns, limit=CALENDAR[word] * KLINES_MAX, now_ns=call.now_ns
    )
    found: list[Kline] = []
    for day in days:
        open_ns = _calendar_open(word, day.open_ns)
        if start_ns is not None and open_ns < start_ns:
            continue
        if found and found[-1].open_ns == open_ns:
            found[-1] = _joined(found[-1], day)
        else:
            found.append(_joined(None, day, open_ns, word))
    return found


def _calendar_open(word: str, time_ns: int) -> int:
    moment = datetime.fromtimestamp(time_ns // NANOSECONDS_PER_SECOND, UTC)
    first = moment - timedelta(days=moment.weekday()) if word == "1W" else moment.replace(day=1)
    return int(first.timestamp()) * NANOSECONDS_PER_SECOND


def _joined(whole: Kline | None, day: Kline, open_ns: int = 0, word: str = "") -> Kline:
    if whole is None:
        close_ns = _calendar_open(word, open_ns + (CALENDAR[word] + (0 if word == "1W" else 1)) * DAY_NS)
        return Kline(
            day.symbol,
            close_ns - open_ns,
            open_ns,
            close_ns,
            day.open,
            day.high,
            day.low,
            day.close,
            day.volume,
            day.quote_volume,
            day.trades,
            day.taker_buy_volume,
            day.taker_buy_quote,
        )
    return Kline(
        whole.symbol,
        whole.interval_ns,
        whole.open_ns,
        whole.close_ns,
        whole.open,
        max(whole.high, day.high),
        min(whole.low, day.low),
        day.close,
        add(whole.volume, day.volume),
        add(whole.quote_volume, day.quote_volume),
        whole.trades + day.trades,
        add(whole.taker_buy_volume, day.taker_buy_volume),
        add(whole.taker_buy_quote, day.taker_buy_quote),
    )


def average_price(call: Call) -> object:
    """Answer with the volume-weighted price of the last five minutes, or with the last price."""
    market = call.market()
    since_ns = call.now_ns - AVERAGE_MINUTES * MINUTE_NS
    known = call.exchange.trades(market.symbol, 10 * TRADES_MAX)
    recent = [one for one in known if one.time_ns >= since_ns] or list(known[-1:])
    return {"mins": AVERAGE_MINUTES, "price": format(_average(recent, market.instrument.tick_size), "f")}


def _average(trades: list[PublicTrade], tick: Decimal) -> Decimal:
    volume = sum((one.quantity for one in trades), Decimal(0))
    if not volume:
        return Decimal(0)
    quote = Decimal(0)
    for one in trades:
        quote = add(quote, multiply(one.price, one.quantity))
    return (quote / volume).quantize(tick.normalize(), ROUND_HALF_EVEN)


def ticker_24h(call: Call) -> object:
    """Answer with the last 24 hours of one market, or of several."""
    rows = [payloads.ticker(call.exchange.ticker(one.symbol, call.now_ns)) for one in call.markets()]
    return _one_or_all(call, rows)


def ticker_price(call: Call) -> object:
    """Answer with the last price of one market, or of several."""
    rows = [payloads.price_ticker(call.exchange.ticker(one.symbol, call.now_ns)) for one in call.markets()]
    return _one_or_all(call, rows)


def ticker_book(call: Call) -> object:
    """Answer with the best bid and ask of one market, or of several."""
    rows = [payloads.book_ticker(one.symbol, call.exchange.depth(one.symbol, 1)) for one in call.markets()]
    return _one_or_all(call, rows)


def _one_or_all(call: Call, rows: list[Payload]) -> object:
    return rows[0] if call.params.text_or_none("symbol") else rows


def contracts(_call: Call) -> object:
    """Answer that no futures are traded here."""
    return {"success": True, "code": 0, "data": []}


ENDPOINTS = (
    Endpoint("GET", "/api/v3/ping", 1, ping),
    Endpoint("GET", "/api/v3/time", 1, time),
    Endpoint("GET", "/api/v3/defaultSymbols", 1, default_symbols),
    Endpoint("GET", "/api/v3/symbol/offline", 10, offline_symbols),
    Endpoint("GET", "/api/v3/exchangeInfo", 25, exchange_info),
    Endpoint("GET", "/api/v3/depth", 3, depth),
    Endpoint("GET", "/api/v3/trades", 5, trades),
    Endpoint("GET", "/api/v3/historicalTrades", 5, trades),
    Endpoint("GET", "/api/v3/aggTrades", 1, aggregated_trades),
    Endpoint("GET", "/api/v3/klines", 1, klines),
    Endpoint("GET", "/api/v3/avgPrice", 1, average_price),
    Endpoint("GET", "/api/v3/ticker/24hr", 25, ticker_24h),
    Endpoint("GET", "/api/v3/ticker/price", 10, ticker_price),
    Endpoint("GET", "/api/v3/ticker/bookTicker", 10, ticker_book),
    Endpoint("GET", "/api/v1/contract/detail", 1, contracts),
)

"""Where the facts for a universe come from: a venue through ccxt, a CSV file, the catalogue.

In: a venue's name or a path. Out: markets with exact numbers, listing times, closes by time. Never: a number made up:
what is empty or unreadable is None, and the rules decide; a market twice.
"""

import asyncio
import csv
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from services.cli.catalogue import instant_ns
from shared.clock import wall_ns
from shared.domain.instruments import split_symbol
from shared.domain.universe import DAY_NS, Market
from shared.errors import InputError
from shared.exchange.history import CandleSource, CcxtHistory, MarketFacts, TickerFacts
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import check_timeframe

SYMBOL_COLUMNS = ("mexc_symbol", "symbol", "instrument", "pair")
# MEXC writes 1, Binance TRADING; without a status column a market is taken to trade.
TRADING = {"1", "TRADING", "ENABLED", "TRUE"}
# A daily candle opens at midnight, and a venue may have paused for a day or two.
AGE_MARGIN_DAYS = 5


type AgesAsked = Callable[[Sequence[str]], Mapping[str, int | None]]


def facts_of_venue(venue: str, url: str | None) -> list[Market]:
    """Return the venue's spot markets with their last day; raises UnavailableError and InputError."""
    markets, tickers = asyncio.run(_ask(venue, url))
    by_name = {ticker.instrument: ticker for ticker in tickers}
    silent = TickerFacts("", None, None, None, None)
    return [_market(one, by_name.get(one.instrument, silent)) for one in markets]


def ages_of_venue(venue: str, url: str | None, days: int, now_ns: int) -> AgesAsked:
    """Return who tells, for each name, when its first daily candle opened, looking back a little over `days`.

    MEXC and Binance do not say when they listed a spot market. Raises UnavailableError when the venue does not answer.
    """
    return lambda names: asyncio.run(
        _first_candles(venue, url, names, now_ns - (days + AGE_MARGIN_DAYS) * DAY_NS, now_ns)
    )


def no_ages(_: Sequence[str]) -> dict[str, int | None]:
    """Tell no listing time: a file says it itself, in the column `listed_at`, or nobody does."""
    return {}


def facts_of_file(path: Path) -> list[Market]:
    """Return the markets of a CSV file: a symbol, status, last_price, bid_price, ask_price, quote_volume_24h.

    A column `listed_at` (2025-01-31) is read where there is one. Raises InputError for a file that cannot be read,
    lacks a column or has a market twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            symbol = next((name for name in SYMBOL_COLUMNS if name in names), None)
            missing = {"last_price", "bid_price", "ask_price", "quote_volume_24h"} - set(names)
            if symbol is None or missing:
                lacks = ", ".join(sorted(missing | ({"symbol"} if symbol is None else set())))
                raise InputError(f"{path}: lacks the columns {lacks}")
            found: dict[str, Market] = {}
            for line, row in enumerate(reader, start=2):
                market = _row(path, line, row, symbol)
                if market.instrument in found:
                    raise InputError(f"{path} line {line}: {market.instrument} stands there twice")
                found[market.instrument] = market
            return list(found.values())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def read_closes(
    catalogue: Catalogue, venue: str, timeframe: str, instruments: Sequence[str]
) -> dict[str, dict[int, float]]:
    """Return the catalogue's closes by open time; an instrument that it does not have is left out."""
    found: dict[str, dict[int, float]] = {}
    keys = catalogue.series(table="bars", venue=venue, timeframe=check_timeframe(timeframe), instruments=instruments)
    for key in keys:
        table = catalogue.read(key, columns=["open_time_ns", "close"])
        found[key.instrument] = dict(zip(table["open_time_ns"].to_pylist(), table["close"].to_pylist(), strict=True))
    if not found:
        raise InputError(
            f"{catalogue.root} has no {timeframe} candles of {venue}: download some, or leave --max-correlation out"
        )
    return found


async def _ask(venue: str, url: str | None) -> tuple[list[MarketFacts], list[TickerFacts]]:
    source = CcxtHistory(venue, base_url=url)
    try:
        return await source.markets(), await source.tickers()
    finally:
        await source.close()


async def _first_candles(
    venue: str, url: str | None, names: Sequence[str], start_ns: int, now_ns: int
) -> dict[str, int | None]:
    source = CcxtHistory(venue, base_url=url)
    try:
        await source.check(names, "1d")
        return {name: await _first_candle(source, name, start_ns, now_ns) for name in names}
    finally:
        await source.close()


async def _first_candle(source: CandleSource, name: str, start_ns: int, now_ns: int) -> int | None:
    while start_ns < now_ns:
        until_ns = min(start_ns + source.page_bars * DAY_NS, now_ns)
        rows = await source.page(name, "1d", start_ns, until_ns)
        if rows:
            return rows[0].open_time_ns
        start_ns = until_ns
    return None


def _market(facts: MarketFacts, ticker: TickerFacts) -> Market:
    return Market(
        instrument=facts.instrument,
        base=facts.base.upper(),
        quote=facts.quote.upper(),
        is_active=facts.is_active,
        last=_number(ticker.last),
        bid=_number(ticker.bid),
        ask=_number(ticker.ask),
        quote_volume=_number(ticker.quote_volume),
        listed_at_ns=facts.listed_at_ns,
    )


def _row(path: Path, line: int, row: dict[str, str], symbol: str) -> Market:
    try:
        base, quote = (row.get("base_asset"), row.get("quote_asset"))
        if not base or not quote:
            base, quote = split_symbol(row[symbol])
    except InputError as error:
        raise InputError(f"{path} line {line}: {error}") from error
    return Market(
        instrument=f"{base}-{quote}".upper(),
        base=base.upper(),
        quote=quote.upper(),
        is_active=(row.get("status") or "1").upper() in TRADING,
        last=_number(row["last_price"]),
        bid=_number(row["bid_price"]),
        ask=_number(row["ask_price"]),
        quote_volume=_number(row["quote_volume_24h"]),
        listed_at_ns=_listed_at(path, line, row.get("listed_at")),
    )


def _listed_at(path: Path, line: int, text: str | None) -> int | None:
    if not (text or "").strip():
        return None
    try:
        return instant_ns("listed_at", str(text).strip(), wall_ns())
    except InputError as error:
        raise InputError(f"{path} line {line}: {error}") from error


def _number(text: str | None) -> Decimal | None:
    try:
        number = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None

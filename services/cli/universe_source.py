"""Where the facts for a universe come from: a venue through ccxt, a CSV file, the catalogue.

In: a venue's name or a path. Out: markets with exact numbers; closes by time. Never: a number made up: what is empty or
unreadable is None, and the rules decide.
"""

import asyncio
import csv
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from shared.domain.instruments import split_symbol
from shared.domain.universe import Market
from shared.errors import InputError
from shared.exchange.history import CcxtHistory, MarketFacts, TickerFacts
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import check_timeframe

SYMBOL_COLUMNS = ("mexc_symbol", "symbol", "instrument", "pair")
# MEXC writes 1, Binance TRADING; without a status column a market is taken to trade.
TRADING = {"1", "TRADING", "ENABLED", "TRUE"}


def facts_of_venue(venue: str, url: str | None) -> list[Market]:
    """Return the venue's spot markets with their last day; raises UnavailableError and InputError."""
    markets, tickers = asyncio.run(_ask(venue, url))
    by_name = {ticker.instrument: ticker for ticker in tickers}
    silent = TickerFacts("", None, None, None, None)
    return [_market(one, by_name.get(one.instrument, silent)) for one in markets]


def facts_of_file(path: Path) -> list[Market]:
    """Return the markets of a CSV file: a symbol, status, last_price, bid_price, ask_price, quote_volume_24h.

    Raises InputError for a file that cannot be read or lacks a column.
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
            return [_row(path, line, row, symbol) for line, row in enumerate(reader, start=2)]
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


def _market(facts: MarketFacts, ticker: TickerFacts) -> Market:
    return Market(
        instrument=facts.instrument,
        base=facts.base,
        quote=facts.quote,
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
    )


def _number(text: str | None) -> Decimal | None:
    try:
        number = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None

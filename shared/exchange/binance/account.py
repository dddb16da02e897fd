"""What the account and its key are asked for at start, and how its trades are read page by page.

In: a REST connection. Out: every trade since a time; ConfigError for a key that may do too much or too little.
Never: a key that may withdraw; a page's end taken for the end.
"""

from decimal import Decimal

import msgspec

from shared.errors import ConfigError
from shared.exchange.binance.orders import TradeRow
from shared.exchange.binance.rest import BinanceRest, Params

PAGE = 1_000
OVERLAP_MS = 60_000


class BalanceRow(msgspec.Struct):
    """Hold an asset's amounts."""

    asset: str
    free: Decimal
    locked: Decimal


class AccountRow(msgspec.Struct, rename="camel"):
    """Hold the account; `can_trade` is the account's, not the key's."""

    balances: tuple[BalanceRow, ...]
    can_trade: bool = True


class KeyRow(msgspec.Struct, rename="camel"):
    """Hold what a key may do. A field that is absent is no permission to assume."""

    enable_withdrawals: bool
    enable_reading: bool
    enable_spot_and_margin_trading: bool


async def check_key(rest: BinanceRest) -> None:
    """Raise ConfigError for a key that may withdraw, or that may not read or trade."""
    key = await rest.read("sapiGetAccountApiRestrictions", {}, KeyRow, weight=1)
    if key.enable_withdrawals:
        raise ConfigError(
            "this key may withdraw: switch withdrawals off for it, or make another key that may only trade"
        )
    if not key.enable_reading or not key.enable_spot_and_margin_trading:
        raise ConfigError("this key may not read and trade spot: allow both for it")


async def trades_of_symbol(rest: BinanceRest, name: str, since_ms: int) -> list[TradeRow]:
    """Return the account's trades in a market since a minute before `since_ms` (0: all), oldest first."""
    if since_ms <= 0:
        return await _from_id(rest, name, 0)
    start_ms = max(since_ms - OVERLAP_MS, 0)
    newest = await _page(rest, {"symbol": name})
    if len(newest) < PAGE or newest[0].time < start_ms:
        return [row for row in newest if row.time >= start_ms]
    first = await _page(rest, {"symbol": name, "startTime": start_ms})
    return first + await _from_id(rest, name, first[-1].id + 1) if first else newest


async def _from_id(rest: BinanceRest, name: str, trade_id: int) -> list[TradeRow]:
    found: list[TradeRow] = []
    while True:
        page = await _page(rest, {"symbol": name, "fromId": trade_id})
        found.extend(page)
        if len(page) < PAGE:
            return found
        trade_id = page[-1].id + 1


async def _page(rest: BinanceRest, params: Params) -> list[TradeRow]:
    rows = await rest.read("privateGetMyTrades", {**params, "limit": PAGE}, list[TradeRow], weight=20)
    return sorted(rows, key=lambda row: row.id)

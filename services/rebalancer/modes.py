"""The words of the target modes and triggers, and how weights and lists of markets are read from text.

In: settings. Out: enums, weights by market, tuples of markets. Never: a weight below zero, a market given twice.
"""

import json
from decimal import Decimal, InvalidOperation
from enum import StrEnum

_LARGEST = Decimal("1e18")


class TargetMode(StrEnum):
    """Name where the target weights come from."""

    EQUAL = "equal"
    FIXED = "fixed"
    MARKET_CAP = "market_cap"
    VOLUME = "volume"
    INVERSE_VOLATILITY = "inverse_volatility"
    EXPECTED_RETURN = "expected_return"
    MINIMUM_VARIANCE = "minimum_variance"


class TriggerMode(StrEnum):
    """Name what starts a rebalance: the cascade's own rules, or drift and time against the target weights."""

    CASCADE = "cascade"
    ABSOLUTE_BAND = "absolute_band"
    RELATIVE_BAND = "relative_band"
    CALENDAR = "calendar"
    HYBRID = "hybrid"


class RebalanceTo(StrEnum):
    """Name how far a rebalance goes: all the way, or just into the inner half of each band."""

    TARGET = "target"
    HALF_BAND = "half_band"


class OnTransfer(StrEnum):
    """Name what a deposit or withdrawal does: hold plans back for one close, then also rebalance, or nothing."""

    HOLD = "hold"
    REBALANCE = "rebalance"
    IGNORE = "ignore"


def read_weights(key: str, value: object) -> dict[str, Decimal]:
    """Return weights by market from a table or from `A-USDT:0.5,B-USDT:0.3`; raises ValueError naming the fix."""
    pairs: list[tuple[str, object]] = []
    if isinstance(value, dict):
        pairs = [(str(market), number) for market, number in value.items()]
    elif isinstance(value, str):
        for part in (each.strip() for each in value.split(",")):
            if not part:
                continue
            name, colon, text = part.rpartition(":")
            if not colon:
                raise ValueError(f"{key} holds {part!r}: write market:number, for example BTC-USDT:0.5")
            pairs.append((name.strip(), text.strip()))
    else:
        raise ValueError(f"{key} must be a table of numbers, got {value!r}: write for example BTC-USDT:0.5")
    found: dict[str, Decimal] = {}
    for market, number in pairs:
        if not market or market in found:
            raise ValueError(f"{key} names {market or 'no market'} {'twice' if market else ''}: keep one of each")
        found[market] = _number(key, market, number)
    return found


def parse_weights(name: str, text: str) -> dict[str, Decimal]:
    """Return the weights in a file's text: a JSON object, or lines `market,number` with or without a header."""
    if text.lstrip().startswith("{"):
        try:
            found: object = json.loads(text, parse_float=Decimal)
        except json.JSONDecodeError as error:
            raise ValueError(f"weights_file {name}: no JSON at line {error.lineno}: {error.msg}") from None
        return read_weights("weights_file", found)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and lines[0].lower().replace(" ", "") in ("market,weight", "asset,weight", "market,number"):
        lines = lines[1:]
    pairs = [line.rpartition(",") for line in lines]
    if not pairs or any(not comma for _, comma, _ in pairs):
        raise ValueError(f"weights_file {name}: write a JSON object, or a line `BTC-USDT,0.5` for each market")
    return read_weights("weights_file", ",".join(f"{market.strip()}:{number.strip()}" for market, _, number in pairs))


def read_markets(key: str, value: object) -> tuple[str, ...]:
    """Return markets from a list or from `A-USDT,B-USDT`; raises ValueError naming the fix."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError(f"{key} must be a list of markets, got {value!r}: write for example BTC-USDT,ETH-USDT")
    markets = tuple(str(item).strip() for item in items if str(item).strip())
    if len(set(markets)) != len(markets):
        raise ValueError(f"{key} names a market twice: keep one")
    return markets


def spellings(market: str) -> tuple[str, ...]:
    """Return the names that a person may give a market: `BTC-USDT`, `BTC`, `BTCUSDT`, `BTC/USDT`."""
    base, _, quote = market.rpartition("-")
    return market, base, f"{base}{quote}", f"{base}/{quote}"


def pick[V](given: dict[str, V], market: str) -> V | None:
    """Return what is given for a market by any of its `spellings`."""
    return next((given[name] for name in spellings(market) if name in given), None)


def _number(key: str, market: str, value: object) -> Decimal:
    try:
        number = Decimal(repr(value) if isinstance(value, float) else str(value))
    except InvalidOperation:
        raise ValueError(f"{key}: {market} is {value!r}, not a number: write for example 0.5") from None
    if not number.is_finite() or abs(number) > _LARGEST:
        raise ValueError(f"{key}: {market} is {number}: give a finite number")
    if number < 0 and key != "expected_returns":
        raise ValueError(f"{key}: {market} is {number}: give a number from 0 up")
    return number

"""A venue that names no tick, step or minimum: the grid comes from the precisions, or the market is refused."""

import csv
from decimal import Decimal
from typing import cast

import msgspec
import pytest

from shared.errors import ConfigError
from shared.exchange.mexc.markets import Markets
from shared.exchange.mexc.rest import MexcRest
from shared.exchange.mexc.shapes import SymbolInfo, rules_of
from shared.testing.data import data_file


def described(row: dict[str, str]) -> dict[str, object]:
    precision = row["quantity_precision"]
    return {
        "symbol": row["mexc_symbol"],
        "status": row["status"],
        "baseAsset": row["base_asset"],
        "quoteAsset": row["quote_asset"],
        "baseAssetPrecision": int(Decimal(precision)) if precision else None,
        "quoteAssetPrecision": int(row["price_precision"]),
        "baseSizePrecision": "0",
        "quoteAmountPrecision": "1",
    }


def test_precisions_stand_in_for_filters_that_are_not_named() -> None:
    rules = rules_of(
        msgspec.convert(
            {"symbol": "AUSDT", "status": "1", "baseAsset": "A", "quoteAsset": "USDT", "baseAssetPrecision": 2,
             "quoteAssetPrecision": 13, "baseSizePrecision": "0", "quoteAmountPrecision": "1"},
            SymbolInfo, strict=False,
        )
    )  # fmt: skip
    assert (rules.instrument.tick_size, rules.instrument.step_size) == (Decimal("1e-13"), Decimal("0.01"))
    assert rules.notional_max is None


def test_every_recorded_market_has_a_grid_that_its_price_lies_on_or_is_refused() -> None:
    with data_file("mexc_spot/mexc_spot_market_meta_2026-04-18.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 457
    assert not any(row["tick_size"] or row["step_size"] or row["min_notional"] or row["trades_24h"] for row in rows)
    refused = []
    for row in rows:
        if not row["quantity_precision"]:
            # No step can be concluded from nothing: a market without one is not described.
            with pytest.raises(msgspec.ValidationError, match="baseAssetPrecision"):
                msgspec.convert(described(row), SymbolInfo, strict=False)
            refused.append(row["base_asset"])
            continue
        rules = rules_of(msgspec.convert(described(row), SymbolInfo, strict=False))
        assert Decimal(row["last_price"]) % rules.instrument.tick_size == 0, row["mexc_symbol"]
    assert len(refused) == 15
    assert {"BABYDOGE", "BONK"} <= set(refused)


class OneAnswer:
    """Answer every question with the same JSON."""

    def __init__(self, answer: object) -> None:
        self._body = msgspec.json.encode(answer)

    async def read[T](self, path: str, shape: type[T], params: object = None, *, signed: bool = False) -> T:
        return msgspec.json.decode(self._body, type=shape, strict=False)


async def test_one_market_without_a_precision_leaves_the_others_tradable() -> None:
    row = {"mexc_symbol": "AUSDT", "status": "1", "base_asset": "A", "quote_asset": "USDT", "price_precision": "4"}
    whole = described(row | {"quantity_precision": "2"})
    broken = described(row | {"mexc_symbol": "BONKUSDT", "base_asset": "BONK", "quantity_precision": ""})
    markets = Markets()
    await markets.load(cast(MexcRest, OneAnswer({"symbols": [broken, whole, {"symbol": None}]})))
    assert dict(markets.tokens) == {"AUSDT": "A-USDT"}
    with pytest.raises(ConfigError, match="BONK-USDT"):
        markets.rules("BONK-USDT")

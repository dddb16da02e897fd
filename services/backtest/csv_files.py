"""A result as CSV files: what was held, what it was worth, what was traded.

In: a result, a folder. Out: `positions.csv` (a row for each step and asset), `pnl.csv` (a row for each step),
`fills.csv`. Never: a rounded amount of money, half a file (each is written beside its place, then moved there).
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from services.backtest.core.figures import INITIAL
from services.market_data.core.feed import iso_text
from shared.domain.money import ZERO, add, multiply, plain, subtract
from shared.errors import ConfigError

if TYPE_CHECKING:
    from services.backtest.result import BacktestResult

POSITIONS = ("time", "asset", "quantity", "price", "value", "weight")
PNL = ("time", "equity", "usdt", "assets_value", "profit", "realized_profit", "fees_paid", "drawdown", "rebalances")
FILLS = (
    "time",
    "rebalance",
    "asset",
    "side",
    "price",
    "quantity",
    "notional",
    "fee",
    "fee_asset",
    "fee_usdt",
    "realized_profit",
)
Row = Sequence[str]


def write(result: "BacktestResult", folder: Path) -> list[Path]:
    """Write the files and return their paths; raises ConfigError when the folder cannot be written."""
    tables: tuple[tuple[str, Row, Iterable[Row]], ...] = (
        ("positions.csv", POSITIONS, positions(result)),
        ("pnl.csv", PNL, profits(result)),
        ("fills.csv", FILLS, fills(result)),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / name, header, rows) for name, header, rows in tables]
    except OSError as error:
        raise ConfigError(f"--csv-dir {folder}: {error.strerror}: choose a folder that can be written") from error


def positions(result: "BacktestResult") -> Iterator[Row]:
    """Return what was held after each step; price is the last close, empty before the first."""
    log = result.log
    prices: list[Decimal | None] = [None] * len(log.assets)
    for at_ns, equity, closes, held in zip(log.times_ns, log.equity, log.closes, log.quantities, strict=True):
        for index, token in enumerate(log.assets):
            close = closes[index]
            prices[index] = prices[index] if close is None else Decimal(repr(close))
            price = prices[index]
            value = ZERO if not held[index] else None if price is None else multiply(held[index], price)
            weight = "" if value is None or not equity else f"{float(value) / float(equity):.6f}"
            yield iso_text(at_ns), result.name(token), plain(held[index]), _text(price), _text(value), weight


def profits(result: "BacktestResult") -> Iterator[Row]:
    """Return equity and its causes after each step."""
    log = result.log
    fills_left, plans_left = list(result.fills), [one.at_ns for one in result.rebalances if one.direction != INITIAL]
    realized = fees = ZERO
    peak = log.initial_equity
    done = count = 0
    for at_ns, equity, quote in zip(log.times_ns, log.equity, log.quote, strict=True):
        while done < len(fills_left) and fills_left[done].at_ns <= at_ns:
            fees = add(fees, fills_left[done].fee_quote)
            realized = add(realized, fills_left[done].profit_quote or ZERO)
            done += 1
        while count < len(plans_left) and plans_left[count] <= at_ns:
            count += 1
        if equity is None:
            yield iso_text(at_ns), "", plain(quote), "", "", plain(realized), plain(fees), "", str(count)
            continue
        peak = max(peak, equity)
        yield (
            iso_text(at_ns),
            plain(equity),
            plain(quote),
            plain(subtract(equity, quote)),
            plain(subtract(equity, log.initial_equity)),
            plain(realized),
            plain(fees),
            f"{float(equity) / float(peak) - 1:.6f}",
            str(count),
        )


def fills(result: "BacktestResult") -> Iterator[Row]:
    """Return every fill."""
    for fill in result.fills:
        yield (
            iso_text(fill.at_ns),
            fill.plan_id,
            result.name(fill.asset),
            fill.side,
            plain(fill.price),
            plain(fill.quantity),
            plain(fill.notional),
            plain(fill.fee),
            fill.fee_asset,
            plain(fill.fee_quote),
            _text(fill.profit_quote),
        )


def _write(path: Path, header: Row, rows: Iterable[Row]) -> Path:
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    beside.replace(path)
    return path


def _text(value: Decimal | None) -> str:
    return "" if value is None else plain(value)

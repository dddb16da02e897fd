"""The options that `cascade backtest` and `cascade optimise` share, and what they say together.

In: the options' texts. Out: settings and candles, both checked. Never: an option that means two things.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from services.backtest.config import BacktestSettings
from services.backtest.core import FillTiming
from services.backtest.data import LoadedMarket, bus_names, open_market
from services.cli.backtest_input import read_settings
from shared.errors import ConfigError

EXIT_INPUT = 2
CAPITAL = "10000"

Assets = Annotated[str, typer.Option(help="The basket, for example HANA,AIA,XAN; a quote is not needed.")]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|venue:NAME",
        help="A CSV or Parquet file of candles, a folder of them, or a venue to download them from [CASCADE_DATA].",
    ),
]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Bars open at this time (UTC) or later.")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Bars close at this time (UTC) or earlier.")]
Interval = Annotated[
    str | None, typer.Option(help="The candles' interval, for example 4h, or a multiple: longer bars are made.")
]
Capital = Annotated[str, typer.Option(help="The money to start with, in the quote asset.")]
Fee = Annotated[
    str | None, typer.Option(help="The fee of every fill as a share, for example 0.001; plans reckon with it.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A rule (position_limit=1), or execution.half_spread_bps=0, risk.position_limit=1. May repeat.",
    ),
]
Fills = Annotated[FillTiming, typer.Option(help="Fill at the deciding bar's close, or at the next open.")]
Gaps = Annotated[str, typer.Option(help="A missing bar: hold the last price, or refuse the data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Report = Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML report.")]


class Asked(msgspec.Struct, frozen=True):
    """Hold the shared options as they were given."""

    assets: str
    data: str | None
    start: str | None
    end: str | None
    interval: str | None
    capital: str
    fee: str | None
    settings: list[str]
    fills: FillTiming
    gaps: str

    def read_settings(self) -> BacktestSettings:
        """Return the settings; raises ConfigError before any candle is read."""
        if self.gaps not in ("hold", "refuse"):
            raise ConfigError(f"--gaps must be hold or refuse, got {self.gaps!r}")
        names, quote = bus_names(self.assets.split(","))
        return read_settings(
            self.settings, assets=tuple(names), quote_asset=quote, capital=self.capital, fee=self.fee, fills=self.fills
        )

    async def open_market(self) -> LoadedMarket:
        """Return the candles; raises ConfigError or InputError."""
        names, quote = bus_names(self.assets.split(","))
        return await open_market(
            self.data, names, quote, interval=self.interval, start=self.start, end=self.end, gaps=self.gaps
        )


def check_report(report: Path | None) -> None:
    """Refuse a report's path before anything runs; raises ConfigError."""
    if report is not None and not report.resolve().parent.is_dir():
        raise ConfigError(f"--report {report}: there is no such folder: make it, or choose another")

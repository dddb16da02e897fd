"""`cascade data synthetic`: a file of made-up candles, to try replays, backtests and searches with.

In: assets, an interval, a beginning, a count, a seed. Out: a CSV file that appears whole; same options, same file.
Never: a file over one that is there; candles that pretend to be a venue's.
"""

import csv
import gzip
import io
import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from services.cli.catalogue import instant_ns
from services.cli.commands.options import AsJson, console, print_json
from services.market_data.config import MarketDataConfig
from services.market_data.core.synthetic import SyntheticFeed
from shared.config import timeframe_ns
from shared.domain.instruments import bus_symbol
from shared.errors import InputError

NANOSECONDS_PER_MS = 1_000_000
BARS_MAX = 1_000_000
HEADER = ("symbol", "open_time", "open", "high", "low", "close", "volume")


def synthetic(
    file: Annotated[Path, typer.Argument(help="The file to write: .csv or .csv.gz.")],
    *,
    assets: Annotated[str, typer.Option(help="The markets: HANA,AIA,XAN.")],
    interval: Annotated[str, typer.Option(help="The bars' length.")] = "4h",
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="Where the first bar opens.")] = "2026-01-01",
    bars: Annotated[int, typer.Option(min=2, max=BARS_MAX, help="How many bars each market has.")] = 540,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Write made-up candles: seeded, violent at times, good for trying things and evidence for nothing."""
    if not file.name.endswith((".csv", ".csv.gz")):
        raise InputError(f"{file}: name it .csv or .csv.gz")
    if file.exists():
        raise InputError(f"{file} is there already: choose another name, or remove it")
    try:
        length_ns = timeframe_ns(interval)
        config = MarketDataConfig(seed=seed)
    except ValueError as error:
        raise InputError(str(error)) from error
    names = [name.strip().upper() for name in assets.split(",") if name.strip()]
    tokens = list(dict.fromkeys(bus_symbol(name if name.endswith("USDT") else f"{name}-USDT") for name in names))
    if not tokens:
        raise InputError("--assets names no market: write HANA,AIA,XAN")
    start_ns = instant_ns("--from", start, 0) // length_ns * length_ns
    feed = SyntheticFeed(config.synthetic, tuple(tokens), interval, start_ns=start_ns, steps_max=bars)
    _write(file, _table(feed, bars))
    if as_json:
        print_json({"file": str(file), "markets": tokens, "interval": interval, "bars": bars, "seed": seed})
    else:
        console.print(f"written: {file}: {bars} bars of {interval} of {', '.join(tokens)}, made up", soft_wrap=True)


def _table(feed: SyntheticFeed, bars: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for number in range(1, bars + 1):
        step = feed.step(number)
        for one in () if step is None else step.candles:
            assert step is not None
            values = (f"{Decimal(repr(each)):f}" for each in (one.open, one.high, one.low, one.close, one.volume))
            writer.writerow((one.instrument.replace("-", ""), step.open_time_ns // NANOSECONDS_PER_MS, *values))
    return text.getvalue()


def _write(file: Path, text: str) -> None:
    data = text.encode()
    if file.name.endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        draft.rename(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"{file}: {error.strerror}: choose a file that can be written") from error

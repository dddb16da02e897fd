"""A backtest's candles: a file, a folder or a venue, read and checked by what reads the services' replays.

In: a path, assets in any usual spelling, an interval, a range. Out: a checked feed, and the names as they were given.
Never: a run on candles that are unsorted, double, overlapping, of another interval, or not there.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from services.backtest.resample import resampled
from services.backtest.venue_candles import download, venue_of
from services.market_data.config import FeedKind, MarketDataConfig, MissingBars
from services.market_data.core.feed import Feed
from services.market_data.core.quality_steps import ScreenedFeed
from services.market_data.core.replay import ReplayInfo
from services.market_data.replay_file import load_replay
from shared.config import timeframe_ns
from shared.domain.instruments import bus_symbol
from shared.errors import ConfigError, InputError

VARIABLES = ("CASCADE_DATA", "CASCADE_REPLAY")
Moment = str | date | datetime | None

# The reader speaks of the stack's settings; here they have other names.
_WORDS = (
    ("Correct market_data.replay_path (CASCADE_REPLAY)", "Correct --data (CASCADE_DATA)"),
    ("Correct market_data.start and market_data.end", "Correct --from and --to (start_date, end_date)"),
    ("Correct ASSETS (stack.assets)", "Correct --assets"),
    ("set market_data.start=", "give --from "),
    ("market_data.end=", "--to "),
    ("set market_data.missing_bars=hold", "give --gaps hold"),
)


class LoadedMarket(msgspec.Struct, frozen=True):
    """Hold a feed, its interval, each market's name as the user wrote it, and where the candles were read.

    `source` says where they come from in other words than the file's name; "" for none.
    """

    feed: Feed
    info: ReplayInfo
    timeframe: str
    timeframe_ns: int
    names: dict[str, str]
    quote_asset: str
    path: Path | None = None
    source: str = ""


def data_path(given: Path | str | None, environ: Mapping[str, str] | None = None) -> Path:
    """Return where the candles are; raises ConfigError when nobody said it."""
    environ = os.environ if environ is None else environ
    for value in (given, *(environ.get(name) for name in VARIABLES)):
        if value:
            return Path(value).expanduser()
    raise ConfigError(
        "no candles: give --data FILE (in Python data=...), or set CASCADE_DATA. A CSV or Parquet file with symbol, "
        "open_time, open, high, low, close, volume, a folder of such files, or venue:mexc to download them"
    )


def bus_names(assets: Sequence[str], quote_asset: str | None = None) -> tuple[dict[str, str], str]:
    """Return bus token -> name as given, and the quote asset that all of them have.

    `HANA`, `HANAUSDT`, `HANA/USDT` and `HANA-USDT` are the same; a name without a quote has the others' or USDT.
    Raises ConfigError for fewer than two assets, a name given twice, or two quote assets.
    """
    given = [asset.strip() for asset in assets if asset.strip()]
    quotes = {bus_symbol(name).rpartition("-")[2] for name in given if "-" in name or "/" in name}
    if quote_asset is not None:
        quotes.add(quote_asset.upper())
    if len(quotes) > 1:
        raise ConfigError(f"assets are priced in {' and '.join(sorted(quotes))}: one account has one quote asset")
    quote = quotes.pop() if quotes else "USDT"
    names: dict[str, str] = {}
    for name in given:
        base = name.upper().replace("/", "-").removesuffix(f"-{quote}")
        if base != quote and len(base) > len(quote):
            base = base.removesuffix(quote)
        token = f"{base}-{quote}"
        if token in names:
            raise ConfigError(f"assets name {token} twice ({names[token]}, {name}): keep one")
        names[token] = name
    if len(names) < 2:
        raise ConfigError("assets must name at least two markets, for example HANA,AIA,XAN: one is always its own mean")
    return names, quote


async def open_market(
    data: Path | str | None,
    names: Mapping[str, str],
    quote_asset: str,
    *,
    interval: str | None = None,
    start: Moment = None,
    end: Moment = None,
    gaps: str = "hold",
) -> LoadedMarket:
    """Return the candles, wherever they are: what `load_market` reads at a path, or what `venue:mexc` gives."""
    path = data_path(data)
    venue = venue_of(path)
    if venue is not None:
        config = _config(path, start, end, gaps)
        path = await download(venue, list(names), interval, config.start_ns, config.end_ns)
    market = load_market(path, names, quote_asset, interval=interval, start=start, end=end, gaps=gaps)
    return market if venue is None else msgspec.structs.replace(market, source=f"{venue}, {interval}")


def load_market(
    path: Path,
    names: Mapping[str, str],
    quote_asset: str,
    *,
    interval: str | None = None,
    start: Moment = None,
    end: Moment = None,
    gaps: str = "hold",
) -> LoadedMarket:
    """Read, check and cut the candles; bars open at `start` or later and close at `end` or earlier (UTC).

    With an `interval` that is a multiple of the candles' they are made longer. With `gaps="hold"` a missing bar leaves
    the last price in force; with `refuse` it is an error. Raises InputError or ConfigError naming what is wrong and the
    fix.
    """
    wanted_ns = _interval_ns(interval)
    config = _config(path, start, end, gaps)
    try:
        replay = load_replay(path, tuple(names), config)
        feed: Feed = replay
        info = replay.info
        found_ns = timeframe_ns(replay.timeframe)
        if interval is not None and wanted_ns is not None and wanted_ns != found_ns:
            if wanted_ns % found_ns:
                raise ConfigError(
                    f"the interval is {interval}, but {path.name} has bars of {feed.timeframe}: give --interval "
                    f"{feed.timeframe} or a multiple of it, leave it out, or give candles of {interval}"
                )
            feed, info = resampled(replay, info, wanted_ns, interval)
    except InputError as error:
        raise InputError(_in_our_words(str(error))) from error
    # What the stack's guard would withhold from its services is withheld here.
    screened = ScreenedFeed(feed, config.limits)
    return LoadedMarket(screened, info, feed.timeframe, timeframe_ns(feed.timeframe), dict(names), quote_asset, path)


def _config(path: Path, start: Moment, end: Moment, gaps: str) -> MarketDataConfig:
    try:
        return MarketDataConfig(
            feed=FeedKind.REPLAY,
            replay_path=str(path),
            start=_text(start),
            end=_text(end),
            missing_bars=MissingBars(gaps),
        )
    except ValueError as error:
        raise ConfigError(_in_our_words(f"range: {error}")) from error


def _interval_ns(interval: str | None) -> int | None:
    if interval is None:
        return None
    try:
        return timeframe_ns(interval)
    except ValueError as error:
        raise ConfigError(f"--interval: {error}") from error


def _text(moment: Moment) -> str | None:
    if moment is None or isinstance(moment, str):
        return moment
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
    return moment.isoformat()


def _in_our_words(text: str) -> str:
    for theirs, ours in _WORDS:
        text = text.replace(theirs, ours)
    return text

"""Candles straight from a venue: `--data venue:mexc`.

In: a venue's name, markets, an interval, a range. Out: the folder of the catalogue that then holds them. Never: a bar
that is still open; a bar asked for twice.
CASCADE_CATALOGUE says where the catalogue is (`var/catalogue`), CASCADE_VENUE_URL another host: a sandbox.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from shared.clock import wall_ns
from shared.errors import CascadeError, ConfigError, UnavailableError
from shared.exchange.history import CcxtHistory
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.download import Download
from shared.store.catalogue.files import SeriesKey, check_timeframe, series_directory

PREFIX = "venue:"
CATALOGUE = "var/catalogue"
MARKETS_AT_ONCE = 4


def venue_of(data: Path | str | None) -> str | None:
    """Return the venue that `venue:mexc` names, None for anything else."""
    text = str(data or "")
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


async def download(
    venue: str, markets: Sequence[str], interval: str | None, start_ns: int | None, end_ns: int | None
) -> Path:
    """Bring the closed bars that open in `[start_ns, end_ns)` (None: now) into the catalogue and return their folder.

    What the catalogue covers is not asked for again. Raises ConfigError when something is not said, InputError for an
    unknown venue or market, UnavailableError when the venue does not answer.
    """
    if interval is None or start_ns is None:
        lacks = "an interval (--interval 4h)" if interval is None else "a beginning (--from 2026-01-01)"
        raise ConfigError(f"{PREFIX}{venue} needs {lacks}: a venue has years of bars of every length")
    check_timeframe(interval)
    catalogue = Catalogue(Path(os.environ.get("CASCADE_CATALOGUE") or CATALOGUE))
    source = CcxtHistory(venue, base_url=os.environ.get("CASCADE_VENUE_URL") or None)
    keys = [SeriesKey("bars", venue, market, interval) for market in markets]
    gate = asyncio.Semaphore(MARKETS_AT_ONCE)

    async def one(key: SeriesKey) -> None:
        async with gate:
            await Download(catalogue, source, key).run(start_ns, wall_ns() if end_ns is None else end_ns)

    try:
        await source.check(list(markets), interval)
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(one(key))
    except* CascadeError as errors:
        first = errors.exceptions[0]
        if not isinstance(first, UnavailableError):
            raise first from None
        raise ConfigError(f"{PREFIX}{venue}: {first}. Try again: what came is kept") from first
    finally:
        await source.close()
    return series_directory(catalogue.root, keys[0]).parent

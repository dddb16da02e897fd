"""Downloads of many series at once: a bar that moves, a sentence for every retry, everything kept at Ctrl-C.

In: series and ranges. Out: a result for each, or the first error. Never: a request more than the venue's pace allows.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from shared.errors import UnavailableError
from shared.exchange.history import CcxtHistory
from shared.exchange.history_trades import CcxtTrades
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.download import Download, Downloaded
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.trades import TradeDownload

NANOSECONDS_PER_HOUR = 3_600_000_000_000


class Order(msgspec.Struct, frozen=True):
    """Ask for a series' bars that open in `[start_ns, end_ns)`, or for its trades of that time."""

    series: SeriesKey
    start_ns: int
    end_ns: int


class FetchOptions(msgspec.Struct, frozen=True):
    """Say how a venue is asked: `url` is another host; `again` asks for what is covered; `replace` lets new values win.

    `rate_per_s` are requests, `jobs` series at once.
    """

    url: str | None = None
    rate_per_s: float | None = None
    jobs: int = 4
    again: bool = False
    replace: bool = False


class Fetched(msgspec.Struct, frozen=True):
    """Hold what came, and why some of it did not."""

    results: tuple[Downloaded, ...]
    failures: tuple[str, ...]


def fetch(catalogue: Catalogue, orders: Sequence[Order], options: FetchOptions, *, quiet: bool) -> Fetched:
    """Download every order, those of one venue through one connection; raises InputError before anything is asked for.

    A series that the venue does not give after every attempt is a failure beside the others' results.
    """
    with _progress(quiet=quiet) as progress:
        return asyncio.run(_Fetch(catalogue, options, progress).run(orders))


class _Fetch:
    def __init__(self, catalogue: Catalogue, options: FetchOptions, progress: Progress) -> None:
        self._catalogue, self._options, self._progress = catalogue, options, progress
        self._gate = asyncio.Semaphore(options.jobs)
        self._results: list[Downloaded] = []
        self._failures: list[str] = []

    async def run(self, orders: Sequence[Order]) -> Fetched:
        for venue in sorted({order.series.venue for order in orders}):
            await self._venue(venue, [order for order in orders if order.series.venue == venue])
        return Fetched(tuple(sorted(self._results, key=lambda one: one.series)), tuple(self._failures))

    async def _venue(self, venue: str, orders: Sequence[Order]) -> None:
        options = self._options
        source = CcxtHistory(
            venue, base_url=options.url, rate_per_s=options.rate_per_s, on_retry=self._progress.console.print
        )
        try:
            if any(order.series.table == "trades" for order in orders):
                CcxtTrades(source)  # refuses a venue whose trades cannot be had
            for timeframe in sorted({order.series.timeframe for order in orders}):
                names = {order.series.instrument for order in orders if order.series.timeframe == timeframe}
                await source.check(sorted(names), timeframe)
            async with asyncio.TaskGroup() as group:
                for order in orders:
                    group.create_task(self._one(source, order))
        finally:
            await source.close()

    async def _one(self, source: CcxtHistory, order: Order) -> None:
        async with self._gate:
            total = (order.end_ns - order.start_ns) / NANOSECONDS_PER_HOUR
            task = self._progress.add_task(str(order.series), total=total)

            def advance(done_ns: int) -> None:
                self._progress.advance(task, done_ns / NANOSECONDS_PER_HOUR)

            replace = self._options.replace
            download = (
                TradeDownload(self._catalogue, CcxtTrades(source), order.series, replace=replace, on_progress=advance)
                if order.series.table == "trades"
                else Download(self._catalogue, source, order.series, replace=replace, on_progress=advance)
            )
            try:
                await download.run(order.start_ns, order.end_ns, again=self._options.again)
                self._progress.update(task, completed=total)
            except UnavailableError as error:
                self._failures.append(f"{order.series}: {error}")
            self._results.append(download.result)
            self._failures += [f"{order.series}: {note}" for note in download.result.notes]


def _progress(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=Console(stderr=True, quiet=quiet), transient=True,
    )  # fmt: skip

"""What the commands over the catalogue print: tables for people, rows for programs.

In: keys, manifests, findings, reports. Out: Rich tables and JSON-ready Structs. Never: a decision.
"""

from collections.abc import Sequence

import msgspec
from rich.table import Column, Table

from services.cli.summary import iso_time
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.download import Downloaded
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.importer import Imported
from shared.store.catalogue.verify import Finding, Gap

LINES_SHOWN = 3


class ListedSeries(msgspec.Struct, frozen=True):
    """Show a series: times ISO 8601 UTC, those of bars are open times."""

    table: str
    venue: str
    instrument: str
    timeframe: str
    rows: int
    first: str | None
    last: str | None
    files: int
    bytes: int


class ShownFinding(msgspec.Struct, frozen=True):
    """Show a finding."""

    series: str
    check: str
    wrong: bool
    count: int
    first: str | None
    detail: str


class ShownGap(msgspec.Struct, frozen=True):
    """Show missing rows: `start` is the first missing bar's open time, `end` the next bar's; of trades those beside."""

    series: str
    start: str
    end: str
    missing: int
    known_at_the_venue: bool


def listed(catalogue: Catalogue, keys: Sequence[SeriesKey]) -> list[ListedSeries]:
    """Return the series with what their manifests say."""
    found = []
    for key in keys:
        manifest = catalogue.manifest(key)
        if manifest is None or not manifest.files:
            continue
        files = manifest.files
        found.append(
            ListedSeries(
                key.table,
                key.venue,
                key.instrument,
                key.timeframe,
                manifest.rows,
                iso_time(files[0].first_ns),
                iso_time(files[-1].last_ns),
                len(files),
                manifest.bytes,
            )
        )
    return found


def series_table(rows: Sequence[ListedSeries]) -> Table:
    """Return the list for people."""
    table = Table("venue", "instrument", "bars", _right("rows"), "first", "last", _right("files"), _right("KiB"))
    for one in rows:
        days = [(text or "")[:10] for text in (one.first, one.last)]
        size = f"{one.bytes / 1024:,.0f}"
        table.add_row(
            one.venue, one.instrument, one.timeframe or one.table, f"{one.rows:,}", *days, str(one.files), size
        )
    return table


def shown_findings(findings: Sequence[Finding]) -> list[ShownFinding]:
    """Return findings as rows."""
    return [
        ShownFinding(
            str(one.series),
            one.check.value,
            one.is_wrong,
            one.count,
            None if one.first_ns is None else iso_time(one.first_ns),
            one.detail,
        )
        for one in findings
    ]


def findings_table(rows: Sequence[ShownFinding]) -> Table:
    """Return findings for people."""
    table = Table("series", "what", _right("how many"), "first", "in words")
    for one in rows:
        style = "red" if one.wrong else None
        table.add_row(one.series, one.check, f"{one.count:,}", one.first or "", one.detail, style=style)
    return table


def shown_gaps(key: SeriesKey, gaps: Sequence[Gap]) -> list[ShownGap]:
    """Return gaps as rows."""
    return [ShownGap(str(key), iso_time(gap.start_ns), iso_time(gap.end_ns), gap.missing, gap.known) for gap in gaps]


def gaps_table(rows: Sequence[ShownGap]) -> Table:
    """Return gaps for people."""
    table = Table("series", "from", "to", _right("missing"), "the venue has none")
    for one in rows:
        table.add_row(one.series, one.start, one.end, f"{one.missing:,}", "yes" if one.known_at_the_venue else "")
    return table


def downloads_table(results: Sequence[Downloaded]) -> Table:
    """Return downloads for people."""
    table = Table("series", *(_right(name) for name in ("added", "had", "differ", "refused", "none", "requests")))
    for one in results:
        counts = (one.added, one.same, one.conflicts, one.refused, one.empty, one.requests)
        table.add_row(str(one.series), *(f"{count:,}" for count in counts))
    return table


def imports_table(reports: Sequence[Imported]) -> Table:
    """Return imports for people, one row for each market of each file."""
    names = ("rows", "added", "had", "differ", "double", "unsorted", "noise", "bad")
    table = Table("file", "series", *(_right(name) for name in names))
    for one in reports:
        counts = (
            one.rows, one.added, one.same, one.conflicts, one.duplicates, one.unsorted, one.noise, one.bad_rows,
        )  # fmt: skip
        style = None if one.written else "red"
        table.add_row(one.file, str(one.series), *(f"{count:,}" for count in counts), style=style)
    return table


def bad_rows_text(report: Imported) -> list[str]:
    """Return a sentence for each reason that kept rows out."""
    lines = []
    for bad in report.bad:
        where = ", ".join(str(line) for line in bad.lines[:LINES_SHOWN])
        more = f" and {bad.rows - LINES_SHOWN} more" if bad.rows > LINES_SHOWN else ""
        name = "line" if bad.rows == 1 else "lines"
        lines.append(f"{report.file}, {report.series}: {bad.reason} ({name} {where}{more})")
    return lines


def _right(name: str) -> Column:
    return Column(name, justify="right")

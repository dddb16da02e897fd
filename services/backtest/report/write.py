"""Write the report: one HTML file that needs nothing else, and that cannot load or send anything.

In: a result, a path. Out: a file, the same for the same run and data. Never: a path of the machine it was made on.
"""

import hashlib
from importlib import metadata
from pathlib import Path

from services.backtest.data import load_market
from services.backtest.report.html import markup, page_html, save
from services.backtest.report.page import Page, Provenance, page_of
from services.backtest.report.rows import MONTHS
from services.backtest.result import BacktestResult
from services.market_data.core.feed import iso_text
from shared.errors import ConfigError, InputError

CHUNK_BYTES = 1 << 20
DISTRIBUTION = "cascade-trader"
SUFFIXES = (".csv", ".gz", ".parquet")


def write_report(result: BacktestResult, path: Path) -> None:
    """Write a self-contained HTML report to `path`.

    Raises ConfigError when the run has no step or the templates' library is absent, OSError when `path` cannot be
    written.
    """
    save(render(result), path)


def render(result: BacktestResult) -> str:
    """Return the report as HTML; raises ConfigError as `write_report` does."""
    if not result.log.times_ns:
        raise ConfigError("the run has no step to report: choose a longer range")
    page = page_of(result, provenance_of(result), btc_closes(result))
    return _filled(page)


def provenance_of(result: BacktestResult) -> Provenance:
    """Return where the candles came from; the file is named without its folder, and read for its digest."""
    facts = result.facts
    source, digest, size = facts.source, "", None
    if facts.path is not None and facts.path.exists():
        source = facts.path.name if facts.path.is_file() else facts.source
        digest, size = digest_of(facts.path)
    return Provenance(source, digest, size, _closes_digest(result), version())


def btc_closes(result: BacktestResult) -> dict[int, float]:
    """Return BTC's closes by time within the run: of the basket, or of the run's data; empty when it has none."""
    facts, log = result.facts, result.log
    quote = facts.settings.quote_asset
    token = f"BTC-{quote}"
    if token in log.assets:
        column = log.assets.index(token)
        found = zip(log.times_ns, (row[column] for row in log.closes), strict=True)
        return {at_ns: close for at_ns, close in found if close is not None}
    if facts.path is None:
        return {}
    try:
        market = load_market(
            facts.path,
            {token: token},
            quote,
            interval=facts.timeframe,
            start=iso_text(facts.first_open_ns),
            end=iso_text(log.times_ns[-1]),
        )
    except (ConfigError, InputError):
        # The comparison is an extra: data without usable candles of BTC has a report without it.
        return {}
    closes: dict[int, float] = {}
    for number in range(1, market.info.steps + 1):
        step = market.feed.step(number)
        if step is not None and step.candles:
            closes[step.close_time_ns] = step.candles[0].close
    return closes


def _filled(page: Page) -> str:
    return page_html(
        "report.html",
        script="report.js",
        page=page,
        drawn={name: markup(getattr(page, name)) for name in ("worth_svg", "fall_svg", "allocation_svg")},
        asset_charts=[(chart, markup(chart.svg)) for chart in page.asset_charts],
        points=markup(page.points),
        month_names=MONTHS,
    )


def digest_of(path: Path) -> tuple[str, int]:
    """Return the digest and the size of a file; of a folder, those of its candle files in order of their names."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES)
    digest, size = hashlib.sha256(), 0
    for one in files:
        with one.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    return digest.hexdigest(), size


def _closes_digest(result: BacktestResult) -> str:
    digest = hashlib.sha256(repr(result.log.assets).encode())
    for at_ns, closes in zip(result.log.times_ns, result.log.closes, strict=True):
        digest.update(f"{at_ns} {closes!r}\n".encode())
    return digest.hexdigest()


def version() -> str:
    """Return the version of what made the page."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "of a source tree"

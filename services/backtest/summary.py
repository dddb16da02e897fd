"""A result as a text of a screen. The command line and `print(results.summary())` show the same."""

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from services.market_data.core.feed import iso_text
from shared.errors import CascadeError

if TYPE_CHECKING:
    from services.backtest.result import BacktestResult

WIDTH = 100
EVENTS_MAX = 40


def summary_text(result: "BacktestResult") -> str:
    """Return the summary without colours, at most 100 columns wide."""
    console = Console(file=StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    console.print(summary_view(result))
    if not isinstance(console.file, StringIO):
        raise CascadeError("the summary went elsewhere")
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def summary_view(result: "BacktestResult") -> Group:
    """Return the summary for a terminal."""
    parts = [_figures(result), _events(result)]
    return Group(*parts, *(Text(note, style="yellow") for note in _notes(result)))


def _figures(result: "BacktestResult") -> Table:
    found, log, facts = result.figures, result.log, result.facts
    quote = facts.settings.quote_asset
    title = (
        f"{facts.strategy} on {', '.join(result.name(token) for token in log.assets)}, {facts.timeframe}, "
        f"{iso_text(facts.first_open_ns)} to {iso_text(log.times_ns[-1])}"
    )
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for style in ("dim", "bold", "dim", "bold"):
        table.add_column(style=style)
    rows = [
        ("Start", f"{found.initial_capital:,.2f} {quote}", "Rebalances", _rebalances(result)),
        ("End", f"{found.final_value:,.2f} {quote}", "Orders, fills", f"{found.orders}, {found.fills}"),
        ("Total return", _percent(found.total_return), "Refused by risk", f"{found.refused}"),
        ("Annualised", _percent(found.annualised_return), "Fees paid", f"{found.fees_paid:,.2f} {quote}"),
        ("Buy and hold", _percent(found.buy_and_hold_return), "Slippage paid", f"{found.slippage_paid:,.2f} {quote}"),
        ("Volatility", _share(found.volatility), "Turnover", _number(found.turnover, " x equity")),
        ("Sharpe", _number(found.sharpe), "Win rate of sells", _share(found.win_rate)),
        ("Sortino", _number(found.sortino), "Profit factor", _number(found.profit_factor)),
        ("Calmar", _number(found.calmar), "Exposure", _share(found.exposure)),
        ("Max drawdown", _percent(-found.max_drawdown), "USDT left", f"{result.usdt:,.2f}"),
        ("Longest fall", f"{found.longest_drawdown_days:.1f} days", "Steps", f"{len(log.times_ns)}"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _events(result: "BacktestResult") -> Table:
    table = Table(title="Rebalances", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for name in ("Time", "Asset", "Direction"):
        table.add_column(name, no_wrap=True)
    for name in ("Deviation", "Sold", "Bought", "Cost"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = result.rebalances
    if len(shown) > EVENTS_MAX:
        shown = [*shown[: EVENTS_MAX // 2], *shown[-EVENTS_MAX // 2 :]]
    for number, one in enumerate(shown):
        if number == EVENTS_MAX // 2 and len(result.rebalances) > EVENTS_MAX:
            table.add_row(f"… {len(result.rebalances) - len(shown)} more …")
        table.add_row(
            iso_text(one.at_ns),
            "-" if one.asset is None else result.name(one.asset),
            one.direction,
            "-" if one.deviation is None else f"{float(one.deviation) * 100:+.1f} %",
            *(f"{sum(float(leg.notional) for leg in one.legs if leg.side == side):,.2f}" for side in ("sell", "buy")),
            f"{one.cost_quote:,.2f}",
        )
    return table


def _notes(result: "BacktestResult") -> list[str]:
    notes = []
    if result.log.refusals:
        first = result.log.refusals[0]
        notes.append(
            f"Risk refused {len(result.log.refusals)} orders, the first at {iso_text(first.refused_at_ns)}: "
            f"{result.name(first.instrument)}: {first.detail}"
        )
    if result.missing_bars:
        missing = ", ".join(f"{name} {count}" for name, count in result.missing_bars.items())
        notes.append(f"Steps without a bar: {missing}. No plan is made in a step where an asset has no price.")
    if result.log.unsent:
        notes.append(f"{len(result.log.unsent)} orders decided on the last bar had no next open to fill at.")
    if not result.rebalances:
        notes.append("Nothing was traded.")
    return notes


def _rebalances(result: "BacktestResult") -> str:
    count = result.figures.rebalance_count
    return f"{count}" + (" after the initial one" if len(result.rebalances) > count else "")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:+.2f} %"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.2f} %"


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f}{unit}"

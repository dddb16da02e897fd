"""How a rebalance looks on a terminal before it is made."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from services.rebalancer.core import Preview, PreviewRow
from shared.errors import InputError

_COLUMNS = (
    "asset", "quantity", "price", "value", "weight", "target", "drift", "of target", "band", "action", "USDT", "cost",
    "after",
)  # fmt: skip
# A terminal narrower than this leaves these out; --json has everything.
_WIDE, _ONLY_WIDE = 125, frozenset({"quantity", "price", "of target", "cost"})
DEFAULT_SLIPPAGE = "0.0005"
Slippage = Annotated[
    str, typer.Option("--slippage", help="Expected loss of an order against the price, as a share; for the estimate.")
]


def read_slippage(text: str) -> Decimal:
    """Return the share; raises InputError naming the fix."""
    try:
        share = Decimal(text)
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite() or not 0 <= share < 1:
        raise InputError(f"--slippage is {text!r}: give a share from 0 to 1, for example {DEFAULT_SLIPPAGE}")
    return share


def show_preview(console: Console, preview: Preview) -> None:
    """Print the drift table, what it costs, and what the rules do by themselves."""
    if preview.problems:
        for problem in preview.problems:
            console.print(problem, markup=False, highlight=False)
        return
    columns = [name for name in _COLUMNS if console.width >= _WIDE or name not in _ONLY_WIDE]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, justify="left" if name in ("asset", "action") else "right", no_wrap=True)
    for cells in (*(_cells(row) for row in preview.rows), _usdt_cells(preview)):
        table.add_row(*(cells.get(name, "") for name in columns))
    console.print(table)
    for row in preview.rows:
        if row.why:
            console.print(f"  {row.why}", markup=False, highlight=False)
    for note in preview.notes:
        console.print(f"  {note}", markup=False, highlight=False)
    console.print(
        f"  target: {preview.source}; {preview.turnover_usdt:.2f} USDT would be traded, "
        f"estimated cost {preview.cost_usdt:.2f} USDT",
        markup=False,
        highlight=False,
    )
    alone = "; ".join(preview.alone_notes)
    console.print(f"  by themselves the rules would do now: {preview.alone} ({alone})", markup=False, highlight=False)


def _cells(row: PreviewRow) -> dict[str, str]:
    has_order = row.action != "none"
    return {
        "asset": row.asset,
        "quantity": f"{row.quantity:.8g}",
        "price": f"{row.price:.8g}",
        "value": f"{row.value_usdt:.2f}",
        "weight": _percent(row.weight),
        "target": _percent(row.target),
        "drift": _points(row.drift),
        "of target": "–" if row.drift_relative is None else f"{row.drift_relative * 100:+.1f} %",
        "band": "–" if row.band is None else f"{row.band * 100:.1f}",
        "action": row.action if has_order else "–",
        "USDT": f"{row.amount_usdt:.2f}" if has_order else "",
        "cost": f"{row.cost_usdt:.2f}" if has_order else "",
        "after": _percent(row.weight_after),
    }


def _usdt_cells(preview: Preview) -> dict[str, str]:
    return {
        "asset": "USDT",
        "value": f"{preview.usdt:.2f}",
        "weight": _percent(preview.usdt_weight),
        "target": _percent(preview.usdt_target),
        "drift": _points(preview.usdt_weight - preview.usdt_target),
        "after": _percent(preview.usdt_weight_after),
    }


def console() -> Console:
    """Return where previews go: the terminal, or a page wide enough for every column when there is none."""
    found = Console()
    return found if found.is_terminal else Console(width=140)


def _percent(share: Decimal) -> str:
    return f"{share * 100:.1f} %"


def _points(share: Decimal) -> str:
    return f"{share * 100:+.1f}"

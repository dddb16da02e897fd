"""`cascade rebalance plan | preview`: what the rules would do, with a portfolio that the user gives or the stack's.

In: a file or standard input, one JSON object a line. Out: a table, or one JSON line each with `--json`.
Never: half an answer. Everything is read and checked before anything is printed; the first mistake ends it with exit
code 2 and a sentence naming line, field and fix.
"""

import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from services.cli import rebalance_live as live
from services.cli.commands.options import AsJson, StateDir, print_json
from services.cli.rebalance_history import history
from services.cli.rebalance_input import for_basket, read_config, read_portfolios, read_states
from services.cli.rebalance_view import DEFAULT_SLIPPAGE, Slippage, console, read_slippage, show_preview
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Direction, Leg, Plan, Portfolio, Preview, plan_for
from services.rebalancer.core import preview as preview_for
from shared.errors import CascadeError, ConfigError, InputError

EXIT_INPUT = 2

HELP = "Ask the rebalancer: plan, preview, now, status, pause, resume, history."
app = typer.Typer(no_args_is_help=True, help=HELP)

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a rule, for example position_limit=1. May repeat."),
]


@app.callback(help=HELP)
def rebalance() -> None:
    """Ask the rebalancer."""


app.command("now")(live.now)
app.command("status")(live.status)
app.command("pause")(live.pause)
app.command("resume")(live.resume)
app.command("history")(history)


@app.command()
def plan(
    state: Annotated[
        str,
        typer.Option(
            "--state",
            metavar="FILE|-",
            help="Portfolios, a JSON object a line: prices, quantities, usdt, minutes_since_rebalance. - reads stdin.",
        ),
    ],
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each portfolio.")] = False,
) -> None:
    """Say what the rules would do with each portfolio, and why."""
    try:
        config = read_config(settings or [])
        portfolios = read_portfolios(_read(state), config)
    except CascadeError as error:
        _refuse(str(error))
    answers = [(portfolio, plan_for(portfolio, config)) for portfolio in portfolios]
    if as_json:
        sys.stdout.write("".join(_line(answer) for _, answer in answers))
        return
    console = Console()
    for number, (portfolio, answer) in enumerate(answers, start=1):
        _show(console, number, portfolio, answer, config)


@app.command()
def preview(
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="FILE|-", help="A portfolio as for `plan` [default: the running stack's]"),
    ] = None,
    settings: Settings = None,
    slippage: Slippage = DEFAULT_SLIPPAGE,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show drift, orders, cost and weights afterwards of a rebalance to target; sends nothing."""
    try:
        expected = read_slippage(slippage)
        if state is None:
            if settings:
                raise InputError("--set needs --state: the running stack has its own settings")
            shown = [live.preview_of(live.ask_status(state_dir), expected)]
        else:
            shown = _offline(state, settings or [], expected)
    except InputError as error:
        _refuse(str(error), "preview")
    except ConfigError as error:
        _refuse(str(error), "preview")
    for one in shown:
        if as_json:
            print_json(one)
        else:
            show_preview(console(), one)


def _offline(state: str, settings: list[str], slippage: Decimal) -> list[Preview]:
    config = read_config(settings)
    found = []
    for portfolio, past in read_states(_read(state), config):
        basket = for_basket(config, tuple(portfolio.prices))
        found.append(preview_for(portfolio, basket, {}, past, slippage=slippage))
    return found


def _read(source: str) -> str:
    if source == "-":
        payload, name = sys.stdin.buffer.read(), "standard input"
    else:
        name = source
        try:
            payload = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"--state {source}: {error.strerror}: name a file of JSON lines, or -") from error
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"--state {name}: not UTF-8 text at byte {error.start}: save it as UTF-8") from error


def _refuse(text: str, command: str = "plan") -> NoReturn:
    sys.stderr.write(f"cascade rebalance {command}: {text}\n")
    raise typer.Exit(EXIT_INPUT)


def _line(answer: Plan) -> str:
    trigger = answer.trigger
    shown = {
        "trigger": None
        if trigger is None
        else {"asset": trigger.asset, "direction": trigger.direction.value, "deviation": float(trigger.deviation)},
        "legs": [
            {
                "asset": leg.asset,
                "side": leg.side.value,
                "quantity": float(leg.quantity),
                "notional_usdt": float(leg.notional_usdt),
                "reason": leg.reason,
            }
            for leg in answer.legs
        ],
        "skipped": [{"asset": skip.asset, "reason": skip.reason} for skip in answer.skipped],
        "notes": list(answer.notes),
    }
    return msgspec.json.encode(shown).decode() + "\n"


def _show(console: Console, number: int, portfolio: Portfolio, answer: Plan, config: RebalanceConfig) -> None:
    console.print(f"[bold]Portfolio {number}[/bold]: {_headline(answer)}", highlight=False)
    values = {asset: portfolio.prices[asset] * portfolio.quantities[asset] for asset in portfolio.assets}
    holdings = Table("Asset", "Price", "Quantity", "Value USDT", "Share", title=None)
    total = sum(values.values()) + portfolio.usdt
    for asset, value in values.items():
        share = f"{value / total:.1%}" if total else "-"
        holdings.add_row(
            asset, f"{portfolio.prices[asset]:g}", f"{portfolio.quantities[asset]:g}", f"{value:.2f}", share
        )
    holdings.add_row("USDT", "", "", f"{portfolio.usdt:.2f}", f"{portfolio.usdt / total:.1%}" if total else "-")
    console.print(holdings)
    if answer.legs:
        orders = Table("Order", "Asset", "Quantity", "USDT", "Why")
        for leg in answer.legs:
            orders.add_row(leg.side.value, leg.asset, f"{leg.quantity:g}", f"{leg.notional_usdt:.2f}", leg.reason)
        console.print(orders)
        console.print(f"  estimated fees: {_fees(answer.legs, config):.2f} USDT", markup=False, highlight=False)
    for note in answer.notes:
        console.print(f"  {note}", markup=False, highlight=False)


def _headline(answer: Plan) -> str:
    if answer.trigger is not None:
        return f"{answer.trigger.direction.value} of {answer.trigger.asset} ({answer.trigger.deviation:+.1%})"
    return "initial allocation" if answer.action is Direction.ALLOCATE else "nothing to do"


def _fees(legs: tuple[Leg, ...], config: RebalanceConfig) -> float:
    return float(sum(leg.notional_usdt for leg in legs) * config.fee_rate)

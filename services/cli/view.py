"""What a person sees while the stack runs: a live table on a terminal, plain lines elsewhere.

In: process states, the picture, sentences. Out: text on the console. Never: a change of anything.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from services.cli.picture import Picture
from services.cli.summary import Summary, iso_time
from services.cli.supervisor.child import ChildStatus
from services.cli.supervisor.order import Phase
from services.rebalancer.core.told import QUIET_ACTIONS
from shared.messages import DecisionRecord, TradingState

STYLES = {
    Phase.READY: "green",
    Phase.STARTING: "yellow",
    Phase.UNREADY: "yellow",
    Phase.RESTARTING: "yellow",
    Phase.FAILED: "bold red",
    Phase.STOPPING: "cyan",
}
STATE_STYLES = {TradingState.ACTIVE: "green", TradingState.REDUCING: "yellow", TradingState.HALTED: "bold red"}
REBALANCES_SHOWN = 20
PROGRESS_LINES = 10
LOOK_NOTES = 4


class View(Protocol):
    """Show a running stack."""

    def start(self) -> None:
        """Begin to show."""
        ...

    def show(self, statuses: Sequence[ChildStatus], picture: Picture) -> None:
        """Show this now."""
        ...

    def say(self, line: str) -> None:
        """Print a sentence that stays."""
        ...

    def stop(self) -> None:
        """End the display and leave the terminal as it was."""
        ...


class LiveView:
    """Redraw a table in place; `steps` is the length of the run where it is known."""

    def __init__(self, console: Console, *, title: str, dashboard_url: str, steps: int | None) -> None:
        self._console, self._title, self._dashboard_url = console, title, dashboard_url
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._progress: Progress | None = None
        if steps is not None:
            self._progress = Progress(
                TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
            )
            self._task = self._progress.add_task("replay", total=steps)

    def start(self) -> None:
        """Begin to redraw."""
        self._live.start()

    def show(self, statuses: Sequence[ChildStatus], picture: Picture) -> None:
        """Redraw with this."""
        parts: list[RenderableType] = [Text(self._title, style="bold"), services_table(statuses), facts(picture)]
        if self._progress is not None:
            self._progress.update(self._task, completed=picture.step)
            parts.append(self._progress)
        parts.append(Text.assemble("dashboard ", (self._dashboard_url, "bold cyan"), "   Ctrl-C stops everything"))
        self._live.update(Group(*parts))

    def say(self, line: str) -> None:
        """Print above the table."""
        self._console.print(line, markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the last table standing."""
        self._live.stop()


class PlainView:
    """Print a line whenever something changes: for logs, pipes and `--json` (then on standard error)."""

    def __init__(self, console: Console, *, title: str, dashboard_url: str, steps: int | None) -> None:
        self._console, self._title, self._dashboard_url, self._steps = console, title, dashboard_url, steps
        self._phases: dict[str, Phase] = {}
        self._state: TradingState | None = None
        self._action = ""
        self._tenth = 0

    def start(self) -> None:
        """Print the title."""
        self.say(self._title)
        self.say(f"dashboard {self._dashboard_url}")

    def show(self, statuses: Sequence[ChildStatus], picture: Picture) -> None:
        """Print what has changed since the last time."""
        for status in statuses:
            before = self._phases.get(status.name)
            if status.phase is not before and status.phase in (Phase.READY, Phase.FAILED):
                self.say(f"{status.name} is {status.phase.value}")
            self._phases[status.name] = status.phase
        if picture.trading_state is not None and picture.trading_state is not self._state:
            self._state = picture.trading_state
            self.say(f"trading state: {self._state.value} ({picture.trading_reason})")
        action = picture.last_action
        if action is not None and action.correlation_id != self._action:
            self._action = action.correlation_id
            self.say(decision_line(action))
        self._show_progress(picture)

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Do nothing: what was printed stays."""

    def _show_progress(self, picture: Picture) -> None:
        if not self._steps:
            return
        tenth = picture.step * PROGRESS_LINES // self._steps
        if tenth > self._tenth:
            self._tenth = tenth
            self.say(f"step {picture.step} of {self._steps}, equity {amount(picture.equity_usdt)} USDT")


def services_table(statuses: Sequence[ChildStatus]) -> Table:
    """Return the table of processes."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    # On a narrow terminal only what a service says of itself is cut, never its state.
    for heading in ("service", "state", "restarts", "pid", "about"):
        justify: Literal["left", "right"] = "right" if heading in ("restarts", "pid") else "left"
        table.add_column(heading, justify=justify, no_wrap=heading != "about")
    for status in statuses:
        phase = Text(status.phase.value, style=STYLES.get(status.phase, "dim"))
        restarts = Text(str(status.restarts), style="yellow" if status.restarts else "dim")
        about = Text(status.detail, style="dim", no_wrap=True, overflow="ellipsis")
        table.add_row(status.name, phase, restarts, str(status.pid or "–"), about)
    return table


def facts(picture: Picture) -> Table:
    """Return what is known about trading."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    state = picture.trading_state
    if state is None:
        table.add_row("trading", Text("not known yet", style="dim"))
    else:
        reason = f" {picture.trading_reason}" if state is not TradingState.ACTIVE else ""
        table.add_row("trading", Text.assemble((state.value.upper(), STATE_STYLES[state]), reason))
    table.add_row("equity", f"{amount(picture.equity_usdt)} USDT, fees {amount(picture.fees_paid_usdt)} USDT")
    when = "–" if picture.market_time_ns is None else iso_time(picture.market_time_ns)
    table.add_row("market time", f"{when}, step {picture.step}")
    counts = f"{picture.rebalances} rebalances, {picture.fills} fills, {picture.refusals} refusals"
    table.add_row("since start", counts)
    table.add_row("last decision", "–" if picture.last_action is None else decision_line(picture.last_action))
    look = picture.last_decision
    if look is not None and look.action in QUIET_ACTIONS:
        table.add_row("last look", f"{iso_time(look.decided_at_ns)} {'; '.join(look.notes[:LOOK_NOTES])}")
    if picture.last_refusal is not None:
        refusal = picture.last_refusal
        table.add_row("last refusal", f"{refusal.instrument} {refusal.code.value}: {refusal.detail}")
    return table


def summary_view(summary: Summary) -> RenderableType:
    """Return the end of a run for people."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("time", f"{summary.started_at or '–'} to {summary.ended_at or '–'}, {summary.steps} steps")
    table.add_row("equity", f"{amount(summary.start_equity)} to {amount(summary.final_equity)} USDT")
    hold = f" (buy and hold {percent(summary.buy_and_hold_return)})"
    table.add_row("return", percent(summary.total_return) + hold)
    table.add_row("max drawdown", percent(summary.max_drawdown))
    table.add_row("fees", f"{amount(summary.fees_paid_usdt)} USDT")
    table.add_row("orders", f"{summary.orders} asked, {summary.refused} refused, {summary.fills} fills")
    table.add_row("holdings", ", ".join(f"{number(held)} {asset}" for asset, held in summary.balances.items()))
    table.add_row("digests", f"fills {summary.fills_digest[:16]}, decisions {summary.decisions_digest[:16]}")
    parts: list[RenderableType] = [Text("\nThe replay is finished", style="bold"), table]
    if summary.rebalances:
        shown = summary.rebalances[-REBALANCES_SHOWN:]
        title = f"\n{summary.rebalance_count} rebalances"
        title += " and the initial allocation" if len(summary.rebalances) > summary.rebalance_count else ""
        title += f", the last {len(shown)}" if len(shown) < len(summary.rebalances) else ""
        plans = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("time", "direction", "asset", "reason"):
            plans.add_column(heading, no_wrap=heading != "reason")
        for plan in shown:
            plans.add_row(
                plan.time, plan.direction, plan.asset or "–", Text(plan.reason.removeprefix(f"{plan.direction}: "))
            )
        parts += [Text(title, style="bold"), plans]
    return Group(*parts)


def decision_line(record: DecisionRecord) -> str:
    """Return a decision as one line."""
    note = record.notes[0].removeprefix(f"{record.action}: ") if record.notes else ""
    return f"{iso_time(record.decided_at_ns)} {record.action}: {note}"


def amount(value: Decimal | None) -> str:
    """Return an amount of money to the cent, – when it is not known."""
    return "–" if value is None else f"{value:,.2f}"


def number(value: Decimal) -> str:
    """Return a quantity without trailing zeros."""
    return f"{value.normalize():f}" if value else "0"


def percent(share: float | None) -> str:
    """Return a share of one as a percentage, – when it is not known."""
    return "–" if share is None else f"{share * 100:.2f} %"

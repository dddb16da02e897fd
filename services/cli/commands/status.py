"""`cascade status`: what runs, how it does, and whether it may trade."""

import asyncio
from decimal import Decimal
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from services.cli.client import ask
from services.cli.commands.options import AsJson, StateDir, console, print_json
from services.cli.runfile import RunFile, find_running
from services.cli.summary import iso_time
from services.cli.supervisor import logfiles
from services.cli.supervisor.child import ChildStatus
from services.cli.supervisor.order import Phase
from services.cli.view import STYLES, amount
from shared.bus import streams, subjects
from shared.bus.port import Bus, Delivery
from shared.clock import NANOSECONDS_PER_SECOND, wall_ns
from shared.errors import UnavailableError
from shared.messages import AccountSnapshot, BarsClosed, FeedState, Heartbeat, MarketStatus, RiskState

# A little more than one interval of heartbeats.
LISTEN_S = 1.3


class ServiceReport(msgspec.Struct, frozen=True):
    """Say how one service does; build and schema are None when no heartbeat was heard."""

    name: str
    phase: Phase
    ready: bool
    pid: int | None
    port: int | None
    restarts: int | None
    uptime_s: int | None
    detail: str
    build: str | None
    schema_hash: str | None
    last_error: str | None


class MarketReport(msgspec.Struct, frozen=True):
    """Say why a market takes no orders now: frozen until released, halted by the venue, or without fresh data."""

    instrument: str
    state: FeedState
    reason: str


class Heard(msgspec.Struct):
    """Hold what the bus said; of each market the last word that was heard."""

    beats: dict[str, Heartbeat] = {}
    risk: RiskState | None = None
    account: AccountSnapshot | None = None
    closed: BarsClosed | None = None
    markets: dict[str, MarketStatus] = {}


class StatusReport(msgspec.Struct, frozen=True):
    """Say how a stack does; None where nobody said so."""

    state_dir: str
    mode: str
    venue: str
    replay: str | None
    dashboard_url: str
    supervisor_pid: int | None
    uptime_s: int
    build: str
    schema_hash: str
    schemas_agree: bool | None
    bus_answers: bool
    trading_state: str | None
    trading_reason: str | None
    market_time: str | None
    step: int | None
    equity_usdt: Decimal | None
    open_orders: int | None
    services: tuple[ServiceReport, ...]
    markets: tuple[MarketReport, ...] = ()


def status(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Show the services, their restarts and schemas, the trading state and the market's time."""
    run = find_running(state_dir)
    heard, answers = Heard(), True
    try:
        heard = ask(run, lambda bus: listen(bus, run))
    except UnavailableError:
        answers = False
    report = make_report(run, heard, bus_answers=answers, now_ns=wall_ns())
    if as_json:
        print_json(report)
    else:
        print_report(report)


def make_report(run: RunFile, heard: Heard, *, bus_answers: bool, now_ns: int) -> StatusReport:
    """Return the report on a stack from its run file and from what was heard."""
    if run.supervisor_pid is None:
        services = tuple(_unsupervised(beat, now_ns) for _, beat in sorted(heard.beats.items()))
        started_ns = min((beat.started_at_ns for beat in heard.beats.values()), default=now_ns)
    else:
        services = tuple(_supervised(run, child, heard.beats.get(child.name), now_ns) for child in run.services)
        started_ns = run.started_at_ns
    hashes = {beat.schema_hash for beat in heard.beats.values()} | {run.schema_hash}
    closed, account = heard.closed, heard.account
    return StatusReport(
        state_dir=run.state_dir,
        mode=run.mode,
        venue=run.venue,
        replay=run.replay,
        dashboard_url=run.dashboard_url,
        supervisor_pid=run.supervisor_pid,
        uptime_s=_age_s(started_ns, now_ns) or 0,
        build=run.build,
        schema_hash=run.schema_hash,
        schemas_agree=len(hashes) == 1 if heard.beats else None,
        bus_answers=bus_answers,
        trading_state=heard.risk.state.value if heard.risk is not None else None,
        trading_reason=heard.risk.reason if heard.risk is not None else None,
        market_time=iso_time(closed.close_time_ns) if closed is not None else None,
        step=closed.step if closed is not None else None,
        equity_usdt=account.equity_usdt if account is not None else None,
        open_orders=account.open_orders if account is not None else None,
        services=services,
        markets=tuple(
            MarketReport(name, one.state, one.reason)
            for name, one in sorted(heard.markets.items())
            if one.state in (FeedState.FROZEN, FeedState.STALE)
        ),
    )


def _supervised(run: RunFile, child: ChildStatus, beat: Heartbeat | None, now_ns: int) -> ServiceReport:
    return ServiceReport(
        name=child.name,
        phase=child.phase,
        ready=child.phase is Phase.READY,
        pid=child.pid,
        port=child.port,
        restarts=child.restarts,
        uptime_s=_age_s(child.started_at_ns, now_ns) if child.pid is not None else None,
        detail=child.detail,
        build=beat.build if beat is not None else None,
        schema_hash=beat.schema_hash if beat is not None else None,
        last_error=logfiles.last_error(Path(run.state_dir) / "logs" / f"{child.name}.log"),
    )


def _unsupervised(beat: Heartbeat, now_ns: int) -> ServiceReport:
    """Report what a service says of itself: nobody here knows its restarts or reads its log."""
    return ServiceReport(
        name=beat.service,
        phase=Phase.READY if beat.ready else Phase.UNREADY,
        ready=beat.ready,
        pid=None,
        port=None,
        restarts=None,
        uptime_s=_age_s(beat.started_at_ns, now_ns),
        detail=beat.detail,
        build=beat.build,
        schema_hash=beat.schema_hash,
        last_error=None,
    )


async def listen(bus: Bus, run: RunFile) -> Heard:
    """Return what the bus says within one interval of heartbeats, and what was last said before."""
    heard = Heard()

    async def hear(delivery: Delivery) -> None:
        if isinstance(delivery.message, Heartbeat):
            heard.beats[delivery.message.service] = delivery.message
        elif isinstance(delivery.message, MarketStatus) and delivery.message.instrument is not None:
            heard.markets[delivery.message.instrument] = delivery.message

    await bus.subscribe("hb.>", hear)
    await bus.subscribe(subjects.status(run.venue), hear)
    wanted = (
        (streams.RISK, subjects.RISK_STATE),
        (streams.ACCOUNTS, subjects.account(run.venue)),
        (streams.MD_BARS, subjects.bars_closed(run.timeframe, run.venue)),
    )
    for stream, subject in wanted:
        last = await bus.last(stream, subject)
        match last.message if last is not None else None:
            case RiskState() as risk:
                heard.risk = risk
            case AccountSnapshot() as account:
                heard.account = account
            case BarsClosed() as closed:
                heard.closed = closed
    await asyncio.sleep(LISTEN_S)
    return heard


def print_report(report: StatusReport) -> None:
    """Print it for people."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("service", "state", "restarts", "up", "pid", "schema", "about"):
        table.add_column(heading, justify="right" if heading in ("restarts", "up", "pid") else "left")
    for one in report.services:
        phase = Text(one.phase.value, style=STYLES.get(one.phase, "dim"))
        up = "–" if one.uptime_s is None else duration(one.uptime_s)
        about = Text(one.detail, style="dim")
        if one.last_error:
            about.append(f"\nlast error: {one.last_error}", style="red")
        restarts = "–" if one.restarts is None else str(one.restarts)
        table.add_row(one.name, phase, restarts, up, str(one.pid or "–"), one.schema_hash or "–", about)
    agree = {True: "agree", False: "DIFFER", None: "not heard"}[report.schemas_agree]
    console.print(
        f"{report.mode}: {money_words(report)}, up {duration(report.uptime_s)}, build {report.build}", highlight=False
    )
    console.print(table)
    if not report.bus_answers:
        console.print("the message bus does not answer", style="red")
    trading = f"{(report.trading_state or 'not known').upper()} ({report.trading_reason or '–'})"
    console.print(f"trading      {trading}", highlight=False)
    for market in report.markets:
        console.print(
            f"{market.state.value:<12} {market.instrument}: {market.reason or '–'}", highlight=False, markup=False
        )
    equity = f"{amount(report.equity_usdt)} USDT, {report.open_orders or 0} open orders"
    console.print(f"equity       {equity}", highlight=False)
    console.print(f"market time  {report.market_time or '–'}, step {report.step or '–'}", highlight=False)
    console.print(f"schemas      {agree} ({report.schema_hash})", highlight=False)
    console.print(f"dashboard    {report.dashboard_url}", highlight=False)
    console.print(f"state        {report.state_dir}", highlight=False, soft_wrap=True)


def money_words(report: StatusReport) -> str:
    """Say where prices come from, where orders go and whose money it is."""
    return {
        "replay": f"{report.replay or 'synthetic market'}, paper money",
        "sandbox": f"{report.venue} sandbox exchange, no real money",
        "paper": f"{report.venue}, real prices, paper money",
        "live": f"{report.venue}, REAL MONEY",
    }.get(report.mode, report.venue)


def duration(seconds: int) -> str:
    """Return a length of time as people say it: 42s, 3m 20s, 2h 5m, 3d 4h."""
    for size, unit, smaller_size, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // smaller_size}{smaller}"
    return f"{seconds}s"


def _age_s(since_ns: int | None, now_ns: int) -> int | None:
    return None if since_ns is None else max(0, now_ns - since_ns) // NANOSECONDS_PER_SECOND

"""`cascade sandbox`: a venue of your own that speaks MEXC's or Binance's protocol, and its fault switches.

In: options, Ctrl-C. Out: one JSON line, or a few sentences, that say where the venue is; it runs until told to stop.
Never: a venue that others can reach; a key of a real venue.
"""

import asyncio
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from services.cli.commands.options import AsJson, console, print_json
from services.cli.errors import NotRunningError
from services.cli.runfile import find_running
from services.cli.stdin import stdin_ends
from services.sandbox_exchange.config import NAME, MarketVerb, SandboxConfig, Source, VenueName
from services.sandbox_exchange.core.faults import Fault, FaultName
from services.sandbox_exchange.core.history import HISTORY_MAX
from shared.config import Mode, choices
from shared.domain.instruments import split_symbol
from shared.errors import ConfigError, InputError

if TYPE_CHECKING:
    from services.sandbox_exchange.app import RunningSandbox

ADMIN_TIMEOUT_S = 10.0
NO_SUCH_PAGE = 404

app = typer.Typer(help="Run a venue of your own.", context_settings={"help_option_names": ["-h", "--help"]})

Admin = Annotated[
    str | None,
    typer.Option(envvar="CASCADE_SANDBOX_ADMIN", help="The venue's admin_url [default: the running stack's venue]."),
]


@app.callback(invoke_without_command=True)
def sandbox(
    context: typer.Context,
    *,
    venue: Annotated[VenueName, typer.Option(help="Whose protocol it speaks.")] = VenueName.MEXC,
    port: Annotated[int, typer.Option(help="The trading port on 127.0.0.1; 0 takes a free one.")] = 0,
    admin_port: Annotated[int, typer.Option(help="The admin's port; 0 takes a free one.")] = 0,
    symbols: Annotated[str | None, typer.Option(help="Its markets: BTCUSDT,HUSDT.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same made-up market.")] = 1,
    still: Annotated[bool, typer.Option("--still", help="A book that nobody moves but you.")] = False,
    candles: Annotated[Path | None, typer.Option(help="Make the market from this file of candles.")] = None,
    recorded: Annotated[Path | None, typer.Option(help="Replay these raw frames (Binance) exactly.")] = None,
    speed: Annotated[
        float | None, typer.Option(help="Market seconds a second: 60 unless told, of candles 600, of a recording 1.")
    ] = None,
    balance: Annotated[list[str] | None, typer.Option(help="What you have: USDT=10000. Repeatable.")] = None,
    state: Annotated[Path | None, typer.Option(help="Keep everything here; a later start goes on from it.")] = None,
    history_max: Annotated[
        int, typer.Option(help="Ended orders and executions kept of each account; open orders always are.")
    ] = HISTORY_MAX,
    key_file: Annotated[Path | None, typer.Option(help="Keep the API key here (JSON, mode 0600).")] = None,
    faults: Annotated[Path | None, typer.Option(help="Faults over time, TOML or JSON.")] = None,
    chaos: Annotated[int | None, typer.Option(help="Draw an hour of faults from this seed.")] = None,
    stop_with_stdin: Annotated[bool, typer.Option("--stop-with-stdin", help="End when standard input ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a venue on this machine and run it until Ctrl-C. `cascade sandbox fault --help` makes it misbehave."""
    if context.invoked_subcommand is not None:
        return
    config = configured(
        venue=venue, port=port, admin_port=admin_port, seed=seed, speed=speed, chaos_seed=chaos,
        source=_source(still=still, candles=candles, recorded=recorded), candles=_text(candles),
        recorded=_text(recorded), state_file=_text(state), key_file=_text(key_file), faults_file=_text(faults),
        history_max=history_max,
        **({"symbols": _list(symbols)} if symbols is not None else {}),
        **({"balances": tuple(balance)} if balance else {}),
    )  # fmt: skip
    # A fault is armed without waiting for all that a venue is made of.
    from services.sandbox_exchange.service import serve  # noqa: PLC0415 - see above

    async def started(running: "RunningSandbox") -> None:
        if as_json:
            print(msgspec.json.encode(running.announcement).decode(), flush=True)
        else:
            _show(running)

    asyncio.run(serve(config, started, stdin_ends() if stop_with_stdin else None))


@app.command()
def fault(
    name: Annotated[
        str | None, typer.Argument(help=f"What goes wrong: {', '.join(FaultName)}. None lists the armed.")
    ] = None,
    *,
    admin: Admin = None,
    route: Annotated[str | None, typer.Option(help="Only there: `POST /api/v3/order`, a stream, a socket.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only in this market.")] = None,
    after: Annotated[int, typer.Option(help="Let so many occasions pass first.")] = 0,
    times: Annotated[int, typer.Option(help="Go wrong so often; 0 until it is cleared.")] = 1,
    probability: Annotated[float, typer.Option(help="The chance of each occasion.")] = 1.0,
    parameter: Annotated[float | None, typer.Option(help="Seconds, status or fraction, as the fault says.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take every switch back first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a running venue misbehave, list what is armed, or clear it."""
    checked = None
    if name is not None:
        wanted = {"name": name, "route": route, "symbol": _spelt(symbol) if symbol else None, "after": after,
                  "times": times or None, "probability": probability, "parameter": parameter}  # fmt: skip
        try:
            checked = msgspec.convert(wanted, Fault)
        except msgspec.ValidationError as error:
            raise InputError(f"fault: {error}{choices(error, Fault)}") from error
        if checked.name is FaultName.CLOCK_SKEW and not checked.parameter:
            raise InputError("fault: clock_skew needs --parameter SECONDS, for example 90")
    admin = admin or stack_admin()
    if clear:
        ask_admin(admin, "DELETE", "/faults")
    if checked is not None:
        ask_admin(admin, "POST", "/faults", msgspec.json.encode(checked))
    found = msgspec.json.decode(ask_admin(admin, "GET", "/faults"), type=_FaultsSeen)
    if as_json:
        print_json(found)
        return
    table = Table("id", "fault", "where", "times")
    for number, one in found.armed.items():
        where = " ".join(text for text in (one.route, one.symbol) if text) or "everywhere"
        table.add_row(number, one.name, where, "until cleared" if one.times is None else str(one.times))
    console.print(table if found.armed else "no fault is armed")
    for fired, count in found.fired.items():
        console.print(f"{fired} went off {count} time{'s' if count != 1 else ''}", highlight=False)


@app.command()
def market(
    symbol: Annotated[str, typer.Argument(help="The market, for example HUSDT.")],
    action: Annotated[MarketVerb, typer.Argument(help="What happens to it.")],
    *,
    admin: Admin = None,
    factor: Annotated[str | None, typer.Option(help="What a redenomination multiplies the price by.")] = None,
) -> None:
    """Change a market of a running venue."""
    if (action is MarketVerb.REDENOMINATE) != (factor is not None):
        raise InputError("redenominate and --factor belong together, for example `redenominate --factor 1000`")
    wanted = {"action": action.value, **({"factor": factor} if factor is not None else {})}
    name = one_market(symbol)
    ask_admin(admin or stack_admin(), "POST", f"/markets/{name}", msgspec.json.encode(wanted))
    console.print(f"{name}: {action.value}", highlight=False)


@app.command()
def ledger(*, admin: Admin = None) -> None:
    """Print what truly happened at a running venue, as JSON."""
    print(ask_admin(admin or stack_admin(), "GET", "/ledger").decode())


def one_market(text: str) -> str:
    """Return a market's name as the venue writes it. Raises InputError for anything else."""
    names = _list(text)
    if len(names) != 1:
        raise InputError(f"{text!r} is not one market, for example HUSDT")
    return names[0]


def _spelt(text: str) -> str:
    """Return a market as the venue writes it; what is none as it was given: the venue tells which ones it has."""
    try:
        return one_market(text)
    except InputError:
        return text


class _SandboxSeen(msgspec.Struct):
    admin_port: int


class _SettingsSeen(msgspec.Struct):
    sandbox_exchange: _SandboxSeen | None = None


class _Refusal(msgspec.Struct):
    error: str


class _FaultsSeen(msgspec.Struct):
    armed: dict[str, Fault]
    fired: dict[str, int]


def configured(**values: object) -> SandboxConfig:
    """Return the configuration. Raises ConfigError that names the field and the fix."""
    try:
        return msgspec.convert(values, SandboxConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{NAME}: {error}") from error


def stack_admin() -> str:
    """Return the admin_url of the running stack's own venue. Raises InputError when there is none."""
    try:
        run = find_running()
    except NotRunningError as error:
        raise InputError(
            "no stack runs here: name the venue's admin_url with --admin; `cascade sandbox` prints it"
        ) from error
    table = msgspec.json.decode(Path(run.settings_file).read_bytes(), type=_SettingsSeen).sandbox_exchange
    if run.mode != Mode.SANDBOX or table is None:
        raise InputError(f"the stack in {run.state_dir} runs in mode {run.mode}, without a sandbox exchange")
    return f"http://127.0.0.1:{table.admin_port}/admin"


def ask_admin(admin_url: str, method: str, path: str, body: bytes | None = None) -> bytes:
    """Ask the admin page of a running venue. Raises InputError for what it refuses, NotRunningError for silence."""
    if not admin_url.startswith("http://"):
        raise InputError(
            f"--admin must be the venue's admin_url, for example http://127.0.0.1:8001/admin: {admin_url!r}"
        )
    headers = {"Content-Type": "application/json"} if body is not None else {}
    request = urllib.request.Request(admin_url.rstrip("/") + path, body, headers, method=method)  # noqa: S310 - http alone
    try:
        with urllib.request.urlopen(request, timeout=ADMIN_TIMEOUT_S) as answer:  # noqa: S310 - likewise
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        told = _refusal(error.read())
        hint = ". Is this its admin_url, which ends in /admin?" if error.code == NO_SUCH_PAGE else ""
        raise InputError(f"the venue refuses: {told}{hint if not told.endswith('?') else ''}") from error
    except (urllib.error.URLError, OSError) as error:
        raise NotRunningError(f"no venue answers at {admin_url}: start one with `cascade sandbox`") from error


def _refusal(answer: bytes) -> str:
    try:
        return msgspec.json.decode(answer, type=_Refusal).error
    except msgspec.MsgspecError:
        text = answer.decode(errors="replace").strip()
        return f"{text[:200]}. Is this its admin_url, which ends in /admin?"


def _source(*, still: bool, candles: Path | None, recorded: Path | None) -> Source:
    chosen = [name for name, given in (("--still", still), ("--candles", candles), ("--recorded", recorded)) if given]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} exclude each other: give one")
    if still:
        return Source.STILL
    if candles is not None:
        return Source.CANDLES
    return Source.RECORDED if recorded is not None else Source.SYNTHETIC


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _list(text: str) -> tuple[str, ...]:
    return tuple("".join(split_symbol(part.strip())) for part in text.split(",") if part.strip())


def _show(running: "RunningSandbox") -> None:
    told = running.announcement
    console.print(f"A venue that speaks {told.venue} runs; Ctrl-C stops it.", highlight=False)
    table = Table(show_header=False, box=None)
    rows = [("REST", told.rest_url), ("streams", told.ws_url), ("admin", told.admin_url), ("API key", told.api_key)]
    rows += [("secret", told.secret), ("markets", ", ".join(told.symbols))]
    if told.ws_api_url is not None:
        rows.insert(2, ("ws-api", told.ws_api_url))
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)

"""`cascade halt | resume | release | adopt | stop`: what an operator does to a stack, with a name and a reason."""

import getpass
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import msgspec
import typer

from services.cli.client import ask
from services.cli.commands.options import AsJson, StateDir, print_json
from services.cli.commands.status import listen
from services.cli.runfile import find_running, is_held
from shared.bus import subjects
from shared.clock import wall_ns
from shared.config import Mode
from shared.domain.instruments import bus_symbol
from shared.errors import BusUnavailableError, InputError, UnavailableError, UnknownOutcomeError
from shared.messages import Command, CommandReply, Heartbeat, other_schemas, schema_hash

STOP_TIMEOUT_S = 90.0
REPLY_TIMEOUT_S = 5.0
ADOPT_TIMEOUT_S = 30.0  # the venue is asked several times

HaltReason = Annotated[str, typer.Option("--reason", help="Why; it is audited.")]
ResumeReason = Annotated[str, typer.Option("--reason", help="Why it is safe to go on; it is audited.")]


def halt(reason: HaltReason = "halted by the operator", state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Stop all trading at once and cancel open orders; only `cascade resume` ends it."""
    _command("halt", reason, state_dir, as_json=as_json)


def resume(reason: ResumeReason, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Allow trading again; with real money only when every service speaks the same schema."""
    if not reason.strip():
        raise InputError("--reason must say why")
    run = find_running(state_dir)
    if run.mode == Mode.LIVE:
        refuse_mixed_schemas(ask(run, lambda bus: listen(bus, run)).beats.values())
    _command("resume", reason, state_dir, as_json=as_json)


def release(
    instrument: Annotated[str, typer.Argument(help="The frozen market, for example COCOS-USDT.")],
    reason: Annotated[str, typer.Option("--reason", help="Why its prices can be trusted again; it is audited.")],
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Trust a market again that was frozen because its price jumped. First see that your balance was swapped too."""
    arguments = msgspec.json.encode({"instrument": bus_symbol(instrument)}).decode()
    _command("release", reason, state_dir, as_json=as_json, service="market_data", arguments=arguments)


def adopt(
    reason: Annotated[str, typer.Option("--reason", help="What came from outside, or went there; it is audited.")],
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Take over what came from outside: a deposit, a withdrawal, an order or a trade by hand.

    Trading must be halted and no order of the stack open. Each difference of balances is booked as a transfer from
    outside, at its last price. Orders by hand that halted trading are left alone from then on.
    """
    _command("adopt", reason, state_dir, as_json=as_json, service="execution", timeout_s=ADOPT_TIMEOUT_S)


def refuse_mixed_schemas(beats: Iterable[Heartbeat]) -> None:
    """Raise InputError when a service that was heard speaks another schema than this command."""
    if strangers := other_schemas(beats):
        raise InputError(
            f"{', '.join(strangers)}: another schema than this command's {schema_hash()}, so real money stays halted. "
            "Stop the stack, start it again from one build, then resume"
        )


def stop(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Stop the running stack: services drain in order, the state stays."""
    run = find_running(state_dir)
    if run.supervisor_pid is None:
        raise InputError("somebody else supervises this stack: stop it there, for example with `docker compose down`")
    os.kill(run.supervisor_pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_held(Path(run.state_dir)):
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the supervisor (process {run.supervisor_pid}) did not stop in {STOP_TIMEOUT_S:g} s"
            )
        time.sleep(0.1)
    if as_json:
        print_json({"stopped": True, "state_dir": run.state_dir})
    else:
        print(f"stopped; the state stays in {run.state_dir}")


def _command(
    verb: str,
    reason: str,
    state_dir: Path | None,
    *,
    as_json: bool,
    service: str = "risk",
    arguments: str = "{}",
    timeout_s: float = REPLY_TIMEOUT_S,
) -> None:
    if not reason.strip():
        raise InputError("--reason must say why")
    run = find_running(state_dir)
    command = Command(
        verb=verb,
        user=getpass.getuser(),
        reason=reason.strip(),
        correlation_id=uuid4().hex,
        arguments=arguments,
        sent_at_ns=wall_ns(),
    )
    try:
        reply = ask(run, lambda bus: bus.request(subjects.command(service, verb), command, timeout_s=timeout_s))
    except BusUnavailableError as error:
        raise UnknownOutcomeError(
            f"{service} did not answer ({error}). Nobody knows whether it acted: see `cascade status`. "
            "`cascade stop` stops everything"
        ) from error
    if not isinstance(reply, CommandReply):
        raise UnavailableError(f"{service} answered with {type(reply).__name__}")
    if as_json:
        print_json({"ok": reply.ok, "verb": verb, "user": command.user, "detail": reply.detail})
    else:
        print(reply.detail)
    if not reply.ok:
        raise typer.Exit(1)

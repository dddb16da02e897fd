"""`cascade rebalance now | status | pause | resume`: what an operator asks of the running rebalancer.

In: a reason. Out: the rebalancer's answer. Never: a rebalance that nobody confirmed.
"""

import getpass
from decimal import Decimal
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import msgspec
import typer

from services.cli.client import ask
from services.cli.commands.options import AsJson, StateDir, print_json
from services.cli.rebalance_view import DEFAULT_SLIPPAGE, Slippage, console, read_slippage, show_preview
from services.cli.runfile import RunFile, find_running
from services.rebalancer.core import Preview, Status, preview
from shared.bus import subjects
from shared.clock import wall_ns
from shared.errors import BusUnavailableError, InputError, UnavailableError, UnknownOutcomeError
from shared.messages import Command, CommandReply

REPLY_TIMEOUT_S = 5.0
SERVICE = "rebalancer"

Reason = Annotated[str, typer.Option("--reason", help="Why; it is audited.")]
Id = Annotated[
    str | None,
    typer.Option("--id", help="A correlation id of your own: the same one again is not carried out twice."),
]


def now(
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Reason = "asked by the operator",
    correlation_id: Id = None,
    slippage: Slippage = DEFAULT_SLIPPAGE,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Rebalance to the target weights at the next closed bars; shows the preview and asks first, unless --yes."""
    expected = read_slippage(slippage)
    if as_json and not yes:
        raise InputError("--json cannot ask: add --yes")
    run = find_running(state_dir)
    shown = preview_of(ask_status(state_dir), expected)
    if not as_json:
        show_preview(console(), shown)
    if not yes and not typer.confirm("Rebalance at the next closed bars?"):
        print("nothing was asked")
        raise typer.Exit(1)
    reply = _send(run, "rebalance", reason, correlation_id)
    _tell(reply, "rebalance", as_json=as_json)


def status(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Show what the rebalancer does: trigger, target, plan, pause, warm-up."""
    reply = _send(find_running(state_dir), "status", "look")
    if as_json:
        print_json(msgspec.Raw(reply.result.encode()))
    else:
        print(reply.detail)


def pause(reason: Reason = "paused by the operator", state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Start no new plan until resumed; a plan under way is finished."""
    _tell(_send(find_running(state_dir), "pause", reason), "pause", as_json=as_json)


def resume(reason: Reason = "resumed by the operator", state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Let the rules start plans again."""
    _tell(_send(find_running(state_dir), "resume", reason), "resume", as_json=as_json)


def ask_status(state_dir: Path | None) -> Status:
    """Return the running rebalancer's status; raises UnavailableError when it does not answer."""
    reply = _send(find_running(state_dir), "status", "look")
    if not reply.ok:
        raise UnavailableError(f"the rebalancer says: {reply.detail}")
    return msgspec.json.decode(reply.result, type=Status)


def preview_of(status: Status, slippage: Decimal) -> Preview:
    """Return the preview of the running rebalancer's portfolio at its newest close."""
    if status.portfolio is None:
        raise UnavailableError("the rebalancer has seen no account or no closed bars yet: try again after the next")
    params = status.params
    return preview(status.portfolio, params.config, params.instruments, status.past, slippage=slippage)


def _send(run: RunFile, verb: str, reason: str, correlation_id: str | None = None) -> CommandReply:
    if not reason.strip():
        raise InputError("--reason must say why")
    command = Command(
        verb=verb,
        user=getpass.getuser(),
        reason=reason.strip(),
        correlation_id=correlation_id or uuid4().hex,
        arguments="{}",
        sent_at_ns=wall_ns(),
    )
    subject = subjects.command(SERVICE, verb)
    try:
        reply = ask(run, lambda bus: bus.request(subject, command, timeout_s=REPLY_TIMEOUT_S))
    except BusUnavailableError as error:
        if verb == "status":
            raise UnavailableError(f"the rebalancer does not answer ({error}): see `cascade status`") from error
        raise UnknownOutcomeError(
            f"the rebalancer did not answer ({error}). Nobody knows whether it took the {verb}: ask again with "
            f"--id {command.correlation_id}, or see `cascade rebalance status`"
            if verb == "rebalance"
            else f"the rebalancer did not answer ({error}): see `cascade rebalance status`"
        ) from error
    if not isinstance(reply, CommandReply):
        raise UnavailableError(f"the rebalancer answered with {type(reply).__name__}")
    return reply


def _tell(reply: CommandReply, verb: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"ok": reply.ok, "verb": verb, "detail": reply.detail, "correlation_id": reply.correlation_id})
    else:
        print(reply.detail)
    if not reply.ok:
        raise typer.Exit(1)

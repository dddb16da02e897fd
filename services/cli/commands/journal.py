"""`cascade journal`: what was decided, what was refused, and why."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec
import typer

from services.cli.client import ask, newest_history
from services.cli.commands.options import AsJson, StateDir, print_json
from services.cli.runfile import find_running
from services.cli.summary import iso_time
from services.rebalancer.core.told import QUIET_ACTIONS
from shared.bus import streams
from shared.bus.port import Bus, Delivery
from shared.messages import AnyMessage, DecisionRecord, OrderRefused

QUEUE_MAX = 10_000
REACH_MIN = 2_000
MESSAGES_A_DECISION = 16


class Entry(msgspec.Struct, frozen=True):
    """Show one decision or refusal; `time` is market time, ISO 8601, UTC.

    `inputs` and `outcome` are the decision's own JSON: the core, given the inputs, yields the outcome again.
    """

    time: str
    kind: str
    source: str
    action: str
    instrument: str | None
    reasons: tuple[str, ...]
    correlation_id: str
    inputs: msgspec.Raw | None = None
    outcome: msgspec.Raw | None = None


def journal(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many of the newest to show.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="Also decisions to do nothing or to wait.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest decisions and refusals with their reasons (with --json one object a line)."""
    run = find_running(state_dir)

    def show(entry: Entry) -> None:
        if as_json:
            print_json(entry)
        else:
            print(entry_line(entry))

    ask(run, lambda bus: _show(bus, limit, everything, follow, show))


def entries(messages: Iterable[AnyMessage], *, everything: bool) -> list[Entry]:
    """Return what is to be shown, by market time; of equal times in the order given. Repetitions come once."""
    found: dict[str, tuple[int, Entry]] = {}
    for message in messages:
        match message:
            case DecisionRecord() if everything or message.action not in QUIET_ACTIONS:
                found.setdefault(message.decision_id, (message.decided_at_ns, _of_decision(message)))
            case OrderRefused():
                found.setdefault(f"refused {message.intent_id}", (message.refused_at_ns, _of_refusal(message)))
    return [entry for _, entry in sorted(found.values(), key=lambda pair: pair[0])]


def entry_line(entry: Entry) -> str:
    """Return an entry for people: a headline, and a line for each further reason."""
    headline = f"{entry.time}  {entry.source:<10}  {entry.action}"
    if entry.instrument:
        headline += f" {entry.instrument}"
    return "\n    ".join([headline, *entry.reasons])


async def _show(bus: Bus, limit: int, everything: bool, follow: bool, show: Callable[[Entry], None]) -> None:
    queue: asyncio.Queue[AnyMessage] = asyncio.Queue(maxsize=QUEUE_MAX)

    async def hear(delivery: Delivery) -> None:
        await queue.put(delivery.message)

    if follow:
        await bus.subscribe("decision.>", hear)
        await bus.subscribe("ord.refused.>", hear)
    for entry in await newest_entries(bus, limit, everything=everything):
        show(entry)
    while follow:
        message = await queue.get()
        for entry in entries([message], everything=everything):
            show(entry)


async def newest_entries(bus: Bus, limit: int, *, everything: bool) -> list[Entry]:
    """Return the newest `limit` entries, oldest first, and read no more of the streams than they need."""
    reach = max(REACH_MIN, limit)
    while True:
        decisions, is_all = await newest_history(bus, streams.DECISIONS, "decision.>", reach=reach)
        # Refusals stand in a fuller stream: more of it is read for the same time.
        refusals, _ = await newest_history(bus, streams.ORDERS, "ord.refused.>", reach=reach * MESSAGES_A_DECISION)
        found = entries((delivery.message for delivery in (*decisions, *refusals)), everything=everything)
        if is_all or len(found) >= limit:
            return found[-limit:]
        reach *= 4


def _of_decision(record: DecisionRecord) -> Entry:
    return Entry(
        time=iso_time(record.decided_at_ns),
        kind="decision",
        source=record.service,
        action=record.action,
        instrument=None,
        reasons=record.notes,
        correlation_id=record.correlation_id,
        inputs=msgspec.Raw(record.inputs),
        outcome=msgspec.Raw(record.outcome),
    )


def _of_refusal(refusal: OrderRefused) -> Entry:
    return Entry(
        time=iso_time(refusal.refused_at_ns),
        kind="refusal",
        source="risk",
        action=f"refused: {refusal.code.value}",
        instrument=refusal.instrument,
        reasons=(refusal.detail,),
        correlation_id=refusal.correlation_id,
    )

"""`cascade schema`: the JSON Schema of every subject, and the hash by which two builds know each other."""

from typing import Annotated

import msgspec
import typer

from services.cli.commands.options import AsJson, print_json
from shared.messages import schema_hash
from shared.messages.codec import schema

# Subject pattern -> the types that may travel on it; `*` stands for one token.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "md.trade.*.*": ("Trade", "TradeBatch"),
    "md.bbo.*.*": ("Bbo",),
    "md.book.*.*": ("BookSnapshot",),
    "md.bar.*.*.*": ("Bar",),
    "md.closed.*.*": ("BarsClosed",),
    "md.instrument.*.*": ("InstrumentDefinition",),
    "md.status.*": ("MarketStatus",),
    "sig.*.*": ("Signal",),
    "ord.intent.*.*.*": ("OrderIntent",),
    "ord.approved.*.*": ("OrderApproved",),
    "ord.refused.*": ("OrderRefused",),
    "ord.event.*.*.*": ("OrderEvent",),
    "acct.*": ("AccountSnapshot",),
    "risk.state": ("RiskState",),
    "risk.halt": ("RiskHalt",),
    "decision.*.*": ("DecisionRecord",),
    "cmd.*.*": ("Command", "CommandReply"),
    "audit.*": ("CommandAudit",),
    "hb.*.*": ("Heartbeat",),
    "progress.*": ("Progress",),
    "dead.*": ("DeadLetter",),
}


def schema_document() -> dict[str, object]:
    """Return one JSON Schema document: subjects refer to the message types among its definitions."""
    references = {
        pattern: {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in names]} for pattern, names in SUBJECTS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Messages of Cascade; on the wire each is a msgpack array, its first element the type's name",
        "schema_hash": schema_hash(),
        "subjects": references,
        "$defs": schema(),
    }


def print_schema(
    as_json: AsJson = False,
    only_hash: Annotated[bool, typer.Option("--hash", help="Print only the hash.")] = False,
) -> None:
    """Print the JSON Schema of every subject (with --json on one line)."""
    if only_hash:
        print(schema_hash())
    elif as_json:
        print_json(schema_document())
    else:
        print(msgspec.json.format(msgspec.json.encode(schema_document()), indent=2).decode())

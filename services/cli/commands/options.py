"""Options that several commands share, and how their answers are printed."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir", envvar="CASCADE_STATE_DIR", help="Where the stack keeps its state [default: the one that runs]"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]

console = Console()


def print_json(value: object) -> None:
    """Print one JSON document on one line; decimals are numbers with all their digits."""
    print(msgspec.json.Encoder(decimal_format="number").encode(value).decode())

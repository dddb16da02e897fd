"""Options that several commands share, and how their answers are printed."""

import os
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

PIPE_COLUMNS = 240


def _console() -> Console:
    """Return the console; a pipe or a file has no width, so nothing in it is cut to that of a terminal."""
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=PIPE_COLUMNS)


console = _console()


def print_json(value: object) -> None:
    """Print one JSON document on one line; decimals are numbers with all their digits."""
    print(msgspec.json.Encoder(decimal_format="number").encode(value).decode())

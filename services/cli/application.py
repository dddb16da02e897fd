"""The command line: mounts the commands and turns every expected error into one sentence and an exit code."""

import sys
from typing import Annotated

import typer

from services.cli.commands import account, bootstrap, configuration, journal, operate, schema, status
from services.cli.commands.configuration import Assets, Config, Overrides, Replay, Speed, up_options
from services.cli.commands.options import AsJson, StateDir
from services.cli.deferred import CommandsAndGroups
from services.cli.errors import EXIT_FAILED, exit_code_of
from services.cli.stack import build_name
from services.cli.up import up as run_stack
from shared.errors import CascadeError
from shared.logs import configure_logs
from shared.messages import schema_hash

app = typer.Typer(
    name="cascade",
    cls=CommandsAndGroups,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cascade {build_name()}, schema {schema_hash()}")
        raise typer.Exit


@app.callback()
def cascade(
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print version and schema.")
    ] = False,
) -> None:
    """Run and operate a Cascade trading stack."""


@app.command()
def up(
    *,
    assets: Assets = None,
    speed: Speed = None,
    replay: Replay = None,
    config: Config = None,
    overrides: Overrides = None,
    state_dir: StateDir = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; the last run's state is kept aside.")] = False,
    questdb: Annotated[bool, typer.Option("--questdb", help="Run a QuestDB too and record into it as well.")] = False,
    stop_with_stdin: Annotated[bool, typer.Option("--stop-with-stdin", help="Stop when standard input ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the whole stack and show it; Ctrl-C stops it. A finite market ends with a summary (--json: only that)."""
    options = up_options(
        config=config, assets=assets, speed=speed, overrides=overrides, replay=replay, state_dir=state_dir
    )
    outcome = run_stack(options, fresh=fresh, as_json=as_json, questdb=questdb, stop_with_stdin=stop_with_stdin)
    if outcome.code:
        print(f"cascade: {outcome.message}", file=sys.stderr)
        raise typer.Exit(outcome.code)


app.command()(status.status)
app.command()(operate.halt)
app.command()(operate.resume)
app.command()(operate.release)
app.command()(operate.adopt)
app.command()(operate.stop)
app.command()(account.orders)
app.command()(account.balances)
app.command()(journal.journal)
app.command("schema")(schema.print_schema)
app.command()(bootstrap.bootstrap)
app.add_typer(configuration.app, name="config")


def main() -> None:
    """Run the command line."""
    # Libraries log; a command answers in sentences.
    configure_logs("cli", "0", level="CRITICAL")
    try:
        app()
    except CascadeError as error:
        print(f"cascade: {error}", file=sys.stderr)
        sys.exit(exit_code_of(error))
    except BrokenPipeError:
        sys.exit(EXIT_FAILED)
    except OSError as error:
        # A full disk, a folder that others own: the operating system's sentence, not a stack of calls.
        print(f"cascade: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)

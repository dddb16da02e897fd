"""Groups of commands that are imported when they are used: `cascade status` must not wait for what `data` needs.

In: a group's name. Out: the group with its commands. Never: an import at start for a line of help.
"""

import importlib

import typer.core
import typer.main

GROUPS = {
    "rebalance": "Ask the cascade's rules; preview, start and review rebalances.",
    "data": "Recorded messages and research history: list, query, download, import, verify.",
    "backtest": "Run a strategy over history, as the services would.",
    "optimise": "Search for rules by walk-forward, and judge the search.",
    "universe": "Choose the markets to trade.",
    "questdb": "Run a local QuestDB without Docker.",
    "sandbox": "Run a venue of your own that speaks MEXC's or Binance's protocol.",
}
COMMAND_GROUPS = {"sandbox"}


class DeferredGroup(typer.core.TyperGroup):
    """Stand for a group until one of its commands is wanted."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of the group's commands."""
        return self._real().list_commands(ctx)

    def get_command(self, ctx: typer.Context, cmd_name: str):  # type: ignore[no-untyped-def,override]
        """Return one of the group's commands."""
        return self._real().get_command(ctx, cmd_name)

    def _real(self) -> typer.core.TyperGroup:
        module = importlib.import_module(f"services.cli.{self.name}")
        return typer.main.get_group(module.app)


class DeferredCommandGroup(DeferredGroup):
    """Stand for a group that is a command with options itself: the real one reads all that stands after its name."""

    def make_context(self, info_name, args, parent=None, **extra):  # type: ignore[no-untyped-def]
        """Return the real group's context."""
        return self._real().make_context(info_name, args, parent, **extra)


class CommandsAndGroups(typer.core.TyperGroup):
    """List the deferred groups after the commands."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of all commands and groups."""
        return [*super().list_commands(ctx), *GROUPS]

    def get_command(self, ctx: typer.Context, cmd_name: str):  # type: ignore[no-untyped-def,override]
        """Return a command, or the stand-in for a group."""
        if cmd_name in GROUPS:
            settings = {"help_option_names": ["-h", "--help"]}
            kind = DeferredCommandGroup if cmd_name in COMMAND_GROUPS else DeferredGroup
            return kind(name=cmd_name, help=GROUPS[cmd_name], no_args_is_help=True, context_settings=settings)
        return super().get_command(ctx, cmd_name)

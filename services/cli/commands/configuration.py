"""`cascade config show | check`: what the settings come to, before anything runs."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from services.cli.commands.options import AsJson, print_json
from services.cli.resolve import SECTIONS, Resolved, UpOptions, resolve
from shared.config import StackConfig

app = typer.Typer(help="Show or check the configuration.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option("--config", help="A TOML or JSON file.")]
Assets = Annotated[str | None, typer.Option("--assets", help="Markets, for example HUSDT,TAOUSDT.")]
Speed = Annotated[str | None, typer.Option("--speed", help="Market seconds per second, or max.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
Replay = Annotated[
    str | None, typer.Option("--replay", envvar="CASCADE_REPLAY", help="Candles to replay: CSV, CSV.GZ or Parquet.")
]


def up_options(
    *,
    config: Path | None,
    assets: str | None,
    speed: str | None,
    overrides: list[str] | None,
    replay: str | None,
    state_dir: Path | None = None,
) -> UpOptions:
    """Return the options as one value; an empty text counts as not given."""
    return UpOptions(
        config=config,
        assets=assets or None,
        speed=speed or None,
        replay=Path(replay) if replay else None,
        overrides=tuple(overrides or ()),
        state_dir=state_dir,
    )


@app.command()
def show(
    *,
    config: Config = None,
    assets: Assets = None,
    speed: Speed = None,
    overrides: Overrides = None,
    replay: Replay = None,
    as_json: AsJson = False,
) -> None:
    """Print every setting with the value that it has, defaults included, as a configuration file."""
    resolved = resolve(
        up_options(config=config, assets=assets, speed=speed, overrides=overrides, replay=replay), os.environ
    )
    values = effective(resolved)
    if as_json:
        print_json(values)
        return
    for section, keys in values.items():
        print(f"[{section}]")
        for key, value in keys.items():
            print(f"{key} = {msgspec.json.encode(value).decode()}" if value is not None else f"# {key} is not set")
        print()


@app.command()
def check(
    *,
    config: Config = None,
    assets: Assets = None,
    speed: Speed = None,
    overrides: Overrides = None,
    replay: Replay = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a stack could start with these settings; a replay file is read to its end."""
    resolved = resolve(
        up_options(config=config, assets=assets, speed=speed, overrides=overrides, replay=replay), os.environ
    )
    about = resolved.replay
    if as_json:
        print_json({"ok": True, "state_dir": str(resolved.state_dir), "replay": about})
        return
    print("the configuration is good")
    if about is not None:
        print(f"{about.name}: {about.steps} steps of {about.timeframe}, {len(about.instruments)} markets")


def effective(resolved: Resolved) -> dict[str, dict[str, object]]:
    """Return every section's values, defaults included."""
    settings = resolved.settings
    found: dict[str, dict[str, object]] = {"stack": msgspec.to_builtins(settings.section("stack", StackConfig))}
    for name, (kind, defaults) in SECTIONS.items():
        found[name] = msgspec.to_builtins(settings.section(name, kind, **defaults(settings.stack)))
    return found

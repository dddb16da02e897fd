"""`cascade universe top`: the most traded markets of a venue that pass the filters, and why the others do not.

In: the venue's markets and tickers through ccxt, or a file of them; closes from the catalogue for the correlation.
Out: a table or JSON; with `--save`, a pinned list that a configuration names. Never: a list that changes by itself.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Column, Table

from services.cli.catalogue import ROOT_DEFAULT, Root, Url
from services.cli.commands.options import AsJson, console, print_json
from services.cli.universe_source import ages_of_venue, facts_of_file, facts_of_venue, no_ages, read_closes
from shared.clock import wall_ns
from shared.domain.instruments import bus_symbol
from shared.domain.universe import Universe, UniverseRules, ages_settled, get_top_crypto_pairs
from shared.errors import InputError
from shared.store.catalogue.catalogue import Catalogue

# A configuration without quote_asset means this one, and wants so many markets.
QUOTE_DEFAULT, LEAST = "USDT", 2

app = typer.Typer(no_args_is_help=True, help="Choose what to trade.")


@app.callback()
def universe() -> None:
    """Choose what to trade."""


@app.command()
def top(
    *,
    venue: Annotated[str, typer.Option("--venue", help="A venue that ccxt knows.")] = "mexc",
    quote: Annotated[str, typer.Option("--quote", help="The quote asset.")] = "USDT",
    count: Annotated[int, typer.Option("-n", "--count", help="How many markets.")] = 10,
    volume_min: Annotated[str, typer.Option("--min-volume", help="Least quote volume of 24 hours.")] = "50000",
    spread_max: Annotated[str, typer.Option("--max-spread", help="Widest spread in percent of the mid.")] = "0.5",
    price_min: Annotated[str, typer.Option("--min-price")] = "0",
    price_max: Annotated[str | None, typer.Option("--max-price")] = None,
    age_days: Annotated[
        int, typer.Option("--min-age-days", help="Since listing, or since the first daily candle; unknown is out.")
    ] = 0,
    correlation_max: Annotated[
        float, typer.Option("--max-correlation", help="With each market above it; needs candles in the catalogue.")
    ] = 1.0,
    timeframe: Annotated[str, typer.Option("--timeframe", help="The candles for the correlation.")] = "4h",
    deny: Annotated[str, typer.Option("--deny", help="Assets or markets to leave out: DOGE,PEPE.")] = "",
    allow: Annotated[
        str, typer.Option("--allow", help="Assets to keep although they look like stablecoins or leveraged: PAXG.")
    ] = "",
    from_file: Annotated[
        Path | None, typer.Option("--from-file", help="Market facts as CSV, instead of asking.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Pin the list as a TOML file.")] = None,
    catalogue: Root = ROOT_DEFAULT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Rank by 24h quote volume, filter, and give a reason for every market that is out."""
    rules = _rules(
        quote=quote.upper(), count=count, volume_min=volume_min, spread_max_pct=spread_max, price_min=price_min,
        price_max=price_max, age_days_min=age_days, correlation_max=correlation_max, deny=_names(deny),
        allow=_names(allow),
    )  # fmt: skip
    now_ns = wall_ns()
    markets = facts_of_file(from_file) if from_file is not None else facts_of_venue(venue, url)
    closes = None
    if rules.correlation_max < 1:
        closes = read_closes(Catalogue(catalogue), venue, timeframe, [market.instrument for market in markets])
    ask = no_ages if from_file is not None else ages_of_venue(venue, url, rules.age_days_min, now_ns)
    markets = ages_settled(markets, rules, ask, now_ns=now_ns, closes=closes)
    found = get_top_crypto_pairs(markets, rules, now_ns=now_ns, closes=closes)
    if not found.chosen:
        _show_reasons(found)
        raise InputError(f"no market of {from_file or venue} passes the filters")
    if save is not None:
        pin(save, found, quote=rules.quote)
    if as_json:
        print_json({"assets": found.instruments, "chosen": found.chosen, "excluded": found.excluded})
        return
    table = Table(
        *(Column(name, justify="right") for name in ("#",)), "market", *_right("24h volume", "last", "spread %")
    )
    for one in found.chosen:
        table.add_row(
            str(one.rank), one.instrument, f"{one.quote_volume:,.0f}", f"{one.last:f}", f"{one.spread_pct:.3f}"
        )
    console.print(table)
    _show_reasons(found)
    console.print(f"cascade up --assets {','.join(found.instruments)}", markup=False, highlight=False, soft_wrap=True)


def pin(path: Path, found: Universe, *, quote: str = QUOTE_DEFAULT) -> None:
    """Write the choice as a configuration file (`cascade up --config FILE`): what is traded changes with it alone.

    Raises InputError where the stack could not use it: less than two markets, a name that is not `.toml`, a place that
    cannot be written to.
    """
    if len(found.chosen) < LEAST:
        raise InputError(
            f"--save {path}: the stack needs at least {LEAST} markets, {len(found.chosen)} pass the filters"
        )
    if path.suffix != ".toml":
        raise InputError(f"--save {path}: the name must end in .toml, so that `ASSETS={path}.toml` finds a list")
    names = ", ".join(f'"{name}"' for name in found.instruments)
    other = "" if quote == QUOTE_DEFAULT else f'quote_asset = "{quote}"\n'
    text = f"# Chosen by volume; `cascade universe top --save` writes it anew.\n[stack]\n{other}assets = [{names}]\n"
    try:
        # The old list stays in place until the new one is whole.
        if path.exists() and path.read_bytes() != text.encode():
            before = path.with_name(f"{path.name}.before")
            before.write_bytes(path.read_bytes())
            sys.stderr.write(f"cascade universe: {path} was another list; it is kept as {before.name}\n")
        draft = path.with_name(f".{path.name}.tmp")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise InputError(f"--save {path}: {error.strerror}") from error


def _rules(**values: object) -> UniverseRules:
    try:
        return msgspec.convert(values, UniverseRules, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise InputError(f"universe: {error}") from error


def _names(text: str) -> tuple[str, ...]:
    words = [word.strip().upper() for word in text.split(",") if word.strip()]
    return tuple(bus_symbol(word) if "/" in word or "-" in word else word for word in words)


def _show_reasons(found: Universe) -> None:
    counts = Counter(one.reason.value for one in found.excluded)
    if counts:
        words = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        sys.stderr.write(f"out: {words} (--json names each with its figures)\n")


def _right(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]

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
from services.cli.universe_source import facts_of_file, facts_of_venue, read_closes
from shared.clock import wall_ns
from shared.domain.instruments import bus_symbol
from shared.domain.universe import Universe, UniverseRules, get_top_crypto_pairs
from shared.errors import InputError
from shared.store.catalogue.catalogue import Catalogue

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
    age_days: Annotated[int, typer.Option("--min-age-days", help="Where the venue tells when it listed.")] = 0,
    correlation_max: Annotated[
        float, typer.Option("--max-correlation", help="With each market above it; needs candles in the catalogue.")
    ] = 1.0,
    timeframe: Annotated[str, typer.Option("--timeframe", help="The candles for the correlation.")] = "4h",
    deny: Annotated[str, typer.Option("--deny", help="Assets or markets to leave out: DOGE,PEPE.")] = "",
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
        price_max=price_max, age_days_min=age_days, correlation_max=correlation_max, deny=_denied(deny),
    )  # fmt: skip
    markets = facts_of_file(from_file) if from_file is not None else facts_of_venue(venue, url)
    closes = None
    if rules.correlation_max < 1:
        closes = read_closes(Catalogue(catalogue), venue, timeframe, [market.instrument for market in markets])
    found = get_top_crypto_pairs(markets, rules, now_ns=wall_ns(), closes=closes)
    if not found.chosen:
        _show_reasons(found)
        raise InputError(f"no market of {from_file or venue} passes the filters")
    if save is not None:
        pin(save, found)
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


def pin(path: Path, found: Universe) -> None:
    """Write the choice as a configuration file (`cascade up --config FILE`): what is traded changes with it alone."""
    names = ", ".join(f'"{name}"' for name in found.instruments)
    text = f"# Chosen by volume; `cascade universe top --save` writes it anew.\n[stack]\nassets = [{names}]\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        before = path.with_name(f"{path.name}.before")
        path.replace(before)
        sys.stderr.write(f"cascade universe: {path} was another list; it is kept as {before.name}\n")
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _rules(**values: object) -> UniverseRules:
    try:
        return msgspec.convert(values, UniverseRules, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise InputError(f"universe: {error}") from error


def _denied(text: str) -> tuple[str, ...]:
    words = [word.strip().upper() for word in text.split(",") if word.strip()]
    return tuple(bus_symbol(word) if "/" in word or "-" in word else word for word in words)


def _show_reasons(found: Universe) -> None:
    counts = Counter(one.reason.value for one in found.excluded)
    if counts:
        words = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        sys.stderr.write(f"out: {words} (--json names each with its figures)\n")


def _right(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]

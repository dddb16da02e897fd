"""Read portfolios and rules from text, exactly: a number keeps every digit that was written.

In: JSON lines, `key=value` texts. Out: portfolios that are known to be sound. Never: a number through a float, a
field that is silently missing, misspelt or given twice.
"""

import difflib
import json
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import NoReturn

import msgspec

from services.rebalancer.config import RebalanceConfig, is_named
from services.rebalancer.core import Past, Portfolio
from services.rebalancer.core.model import EXACT, NANOSECONDS_PER_MINUTE, is_plausible
from services.rebalancer.core.past import extended
from services.rebalancer.core.retarget import aimed
from shared.errors import ConfigError, InputError

_EXAMPLES = {
    "prices": '{"BTC-USDT": 65000.5, ...}',
    "quantities": '{"BTC-USDT": 0.25, ...}',
    "usdt": "the USDT that are free, 0 for none",
    "minutes_since_rebalance": '{"BTC-USDT": 12.5}, or {} when nothing was rebalanced yet',
}
FIELDS = tuple(_EXAMPLES)
_MINUTE_NS = Decimal(NANOSECONDS_PER_MINUTE)


def read_config(settings: Sequence[str]) -> RebalanceConfig:
    """Return the default rules changed by `key=value` texts; raises ConfigError naming key and fix."""
    changed: dict[str, str | list[str]] = {}
    known = RebalanceConfig.__struct_fields__
    for setting in settings:
        key, equals, text = (each.strip() for each in setting.partition("="))
        if not equals or not key or not text:
            raise ConfigError(f"--set {setting!r}: write key=value, for example position_limit=1")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            fix = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"--set {setting}: {key} is no rule: {fix}")
        if key in changed:
            raise ConfigError(f"--set {setting}: {key} is given twice: keep one")
        changed[key] = [asset.strip() for asset in text.split(",")] if key == "assets" else text
    try:
        return msgspec.convert(changed, RebalanceConfig, strict=False).with_weights_file("--set ")
    except msgspec.ValidationError as error:
        text, _, location = str(error).partition(" - at `$.")
        key = location.rstrip("`")
        where = f"--set {key}={changed.get(key, '')}: " if key else "--set "
        raise ConfigError(f"{where}{text}" + (f": write for example {_example(key)}" if key else "")) from error


def for_basket(config: RebalanceConfig, assets: tuple[str, ...]) -> RebalanceConfig:
    """Return the rules for these assets, if they name no basket; raises ConfigError when they do not fit it."""
    if config.assets:
        return config
    try:
        return msgspec.structs.replace(config, assets=assets)
    except ValueError as error:
        raise ConfigError(f"--set {error}") from error


def read_portfolios(text: str, config: RebalanceConfig) -> list[Portfolio]:
    """Return one portfolio for each line that is not blank; raises InputError naming line, field and fix."""
    return [portfolio for portfolio, _ in read_states(text, config)]


def read_states(text: str, config: RebalanceConfig) -> list[tuple[Portfolio, Past]]:
    """Return each line's portfolio, and the past that its `history` and `volumes` tell (most lines tell none).

    `history` holds closes before the current prices, `volumes` quote volumes up to now, both by asset, oldest first.
    With a trigger other than the cascade's the portfolio has its target weights, where they are known.
    """
    found = [_Line(number).read(line, config) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not found:
        raise InputError(f"the input is empty: give one JSON object a line with {', '.join(FIELDS)}")
    return found


class _Line:
    def __init__(self, number: int) -> None:
        self._number = number

    def read(self, line: str, config: RebalanceConfig) -> tuple[Portfolio, Past]:
        fields = self._object(self._json(line), "the line")
        for field in FIELDS:
            if field not in fields:
                self._fail(f"{field} is missing: add {_EXAMPLES[field]}")
        prices = self._numbers(fields["prices"], "prices", positive=True)
        quantities = self._numbers(fields["quantities"], "quantities")
        minutes = self._numbers(fields["minutes_since_rebalance"], "minutes_since_rebalance")
        self._same_assets(prices, quantities, minutes)
        for asset in config.assets:
            if asset not in prices:
                self._fail(f"prices.{asset} is missing, though `assets` names it: add it")
        elapsed_ns = {asset: EXACT.multiply(elapsed, _MINUTE_NS) for asset, elapsed in minutes.items()}
        portfolio = Portfolio(
            assets=tuple(asset for asset in config.assets or prices if not is_named(config.excluded_assets, asset)),
            prices=prices,
            quantities=quantities,
            usdt=self._read_number(fields["usdt"], "usdt"),
            elapsed_ns=elapsed_ns,
            # The newest of the assets' rebalances is taken for the portfolio's.
            rebalanced_ago_ns=min(elapsed_ns.values(), default=None),
        )
        basket = for_basket(config, tuple(prices)) if config.lookback or not config.is_cascade else config
        past = self._past(fields, prices, portfolio.assets, basket)
        if basket.lookback or not basket.is_cascade:
            portfolio, _ = aimed(portfolio, basket, past)
        return portfolio, past

    def _past(
        self, fields: dict[str, object], prices: dict[str, Decimal], assets: tuple[str, ...], config: RebalanceConfig
    ) -> Past:
        closes = self._series(fields.get("history", {}), "history", assets, positive=True)
        volumes = self._series(fields.get("volumes", {}), "volumes", assets)
        steps = max((len(each) for each in (*closes.values(), *volumes.values())), default=0)
        past = Past()
        for step in range(-steps, 0):
            row = {asset: closes[asset][step] if closes.get(asset) else prices[asset] for asset in assets}
            told = {asset: volumes[asset][step] for asset in assets if volumes.get(asset)}
            past = extended(past, row, told, config)
        # The current prices are the newest close, and with volumes the newest volume is theirs already.
        return past if volumes and not closes else extended(past, prices, {}, config)

    def _series(
        self, value: object, field: str, assets: tuple[str, ...], *, positive: bool = False
    ) -> dict[str, list[Decimal]]:
        found: dict[str, list[Decimal]] = {}
        for asset, numbers in self._object(value, field).items():
            if not isinstance(numbers, list):
                self._fail(f"{field}.{asset} is {_shown(numbers)}: give a list of numbers, oldest first")
            found[asset] = [self._read_number(each, f"{field}.{asset}", positive=positive) for each in numbers]
        if found and (lacking := [asset for asset in assets if asset not in found]):
            self._fail(f"{field} leaves out {lacking[0]}: give every asset's, equally many")
        if len({len(numbers) for asset, numbers in found.items() if asset in assets}) > 1:
            self._fail(f"{field} has lists of different lengths: give every asset equally many")
        return {asset: found[asset] for asset in assets if asset in found}

    def _json(self, line: str) -> object:
        try:
            return json.loads(
                line,
                parse_float=Decimal,
                parse_int=Decimal,
                parse_constant=Decimal,
                object_pairs_hook=self._unique,
            )
        except json.JSONDecodeError as error:
            self._fail(f"no JSON at column {error.colno} ({error.msg}): write one JSON object a line")
        except InvalidOperation:
            self._fail("a number is beyond any size: correct it")
        except RecursionError:
            self._fail("nested too deeply: write one flat JSON object a line")

    def _unique(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                self._fail(f"{key} is given twice in one object: keep one")
            found[key] = value
        return found

    def _object(self, value: object, what: str) -> dict[str, object]:
        if not isinstance(value, dict):
            self._fail(f"{what} is {_shown(value)}, not a JSON object: write {{...}}")
        return value

    def _numbers(self, value: object, field: str, *, positive: bool = False) -> dict[str, Decimal]:
        numbers = self._object(value, field)
        return {key: self._read_number(each, f"{field}.{key}", positive=positive) for key, each in numbers.items()}

    def _read_number(self, value: object, field: str, *, positive: bool = False) -> Decimal:
        if isinstance(value, str):
            try:
                value = Decimal(value.strip())
            except InvalidOperation:
                self._fail(f"{field} is {_shown(value)}, not a number: write it like 12.5")
        if not isinstance(value, Decimal):
            self._fail(f"{field} is {_shown(value)}, not a number: write it like 12.5")
        if value.is_nan() or value.is_infinite():
            self._fail(f"{field} is {value}: give a finite number")
        if value < 0:
            self._fail(f"{field} is {value}, below zero: give a number from 0 up")
        if positive and value == 0:
            self._fail(f"{field} is zero: give the market's price, which is above 0")
        if not is_plausible(value):
            self._fail(f"{field} is beyond any plausible size or precision: correct it")
        return value

    def _same_assets(
        self, prices: dict[str, Decimal], quantities: dict[str, Decimal], minutes: dict[str, Decimal]
    ) -> None:
        if not prices:
            self._fail("prices names no asset: add at least one")
        for asset in prices:
            if asset not in quantities:
                self._fail(f"quantities.{asset} is missing, though prices has it: add it, 0 when none is held")
        for asset in quantities:
            if asset not in prices:
                self._fail(f"price of {asset} is missing (prices.{asset}), though quantities has it: add it")
        for asset in minutes:
            if asset not in prices:
                self._fail(f"minutes_since_rebalance.{asset}: prices has no such asset: correct the name")

    def _fail(self, text: str) -> NoReturn:
        raise InputError(f"line {self._number}: {text}")


def _example(key: str) -> str:
    default: object = getattr(RebalanceConfig(), key, "")
    if default in ({}, (), ""):
        return {"weights_file": "caps.json"}.get(key, "BTC-USDT:0.5,ETH-USDT:0.2" if default == {} else "BTC-USDT")
    return str(default).lower() if isinstance(default, bool) else str(default)


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")

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

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Portfolio
from services.rebalancer.core.model import EXACT, NANOSECONDS_PER_MINUTE, is_plausible
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
        return msgspec.convert(changed, RebalanceConfig, strict=False)
    except msgspec.ValidationError as error:
        text, _, location = str(error).partition(" - at `$.")
        key = location.rstrip("`")
        where = f"--set {key}={changed.get(key, '')}: " if key else "--set "
        raise ConfigError(f"{where}{text}" + (f": write for example {_example(key)}" if key else "")) from error


def read_portfolios(text: str, config: RebalanceConfig) -> list[Portfolio]:
    """Return one portfolio for each line that is not blank; raises InputError naming line, field and fix."""
    found = [_Line(number).read(line, config) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not found:
        raise InputError(f"the input is empty: give one JSON object a line with {', '.join(FIELDS)}")
    return found


class _Line:
    def __init__(self, number: int) -> None:
        self._number = number

    def read(self, line: str, config: RebalanceConfig) -> Portfolio:
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
        return Portfolio(
            assets=config.assets or tuple(prices),
            prices=prices,
            quantities=quantities,
            usdt=self._read_number(fields["usdt"], "usdt"),
            elapsed_ns={asset: EXACT.multiply(elapsed, _MINUTE_NS) for asset, elapsed in minutes.items()},
        )

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
    return str(default).lower() if isinstance(default, bool) else str(default)


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")

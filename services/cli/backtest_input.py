"""Options of `cascade backtest` into checked settings.

In: `--capital`, `--fee`, `--set key=value`. Out: `BacktestSettings`. Never: an unknown key, a number through a float.
A key without a section is one of the rules (`position_limit=1`); `execution.half_spread_bps=0` and
`risk.position_limit=1` name theirs.
"""

import difflib
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from services.backtest.config import BacktestSettings, risk_for
from services.backtest.core import FillTiming
from services.execution.config import ExecutionConfig
from services.rebalancer.config import RebalanceConfig
from services.risk.config import RiskConfig
from shared.config import choices
from shared.errors import ConfigError

RULES = "rebalancer"
SECTIONS: dict[str, type[msgspec.Struct]] = {
    RULES: RebalanceConfig,
    "execution": ExecutionConfig,
    "risk": RiskConfig,
}


def read_settings(
    overrides: Sequence[str],
    *,
    assets: tuple[str, ...],
    quote_asset: str,
    capital: str,
    fee: str | None,
    fills: FillTiming,
) -> BacktestSettings:
    """Return the settings; raises ConfigError naming key and fix.

    `fee` is what every fill pays and what plans reckon with, unless a `--set` names one of these for itself.
    """
    given = _sorted_out(overrides)
    if fee is not None:
        _number("--fee", fee)
        given[RULES].setdefault("fee_rate", fee)
        for name in ("maker_fee_rate", "taker_fee_rate"):
            given["execution"].setdefault(name, fee)
    rules = _section(RULES, RebalanceConfig, {**given[RULES], "assets": assets}).with_weights_file("--set ")
    amount = _number("--capital", capital)
    risk = _section("risk", RiskConfig, given["risk"])
    try:
        return BacktestSettings(
            capital=amount,
            quote_asset=quote_asset,
            fills=fills,
            rebalancer=rules,
            execution=_section("execution", ExecutionConfig, given["execution"]),
            risk=risk_for(rules, amount, risk, frozenset(given["risk"])),
        )
    except ValueError as error:
        raise ConfigError(f"--capital: {error}") from error


def _sorted_out(overrides: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
    for override in overrides:
        target, equals, text = (part.strip() for part in override.partition("="))
        if not (equals and target and text):
            raise ConfigError(f"--set {override!r}: write key=value, for example position_limit=1")
        section, dot, key = target.partition(".")
        if not dot:
            section, key = RULES, target
        if section not in SECTIONS:
            raise ConfigError(f"--set {override}: {section!r} is no section{_hint(section, tuple(SECTIONS))}")
        known = SECTIONS[section].__struct_fields__
        if key == "assets" and section == RULES:
            raise ConfigError(f"--set {override}: give the basket with --assets")
        if key not in known:
            raise ConfigError(f"--set {override}: {target} is no setting{_hint(target, _settings())}")
        if key in found[section]:
            raise ConfigError(f"--set {override}: {target} is given twice: keep one")
        found[section][key] = text
    return found


def _settings() -> tuple[str, ...]:
    return tuple(
        name if section == RULES else f"{section}.{name}"
        for section, kind in SECTIONS.items()
        for name in kind.__struct_fields__
    )


def _section[T: msgspec.Struct](name: str, kind: type[T], values: Mapping[str, object]) -> T:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        text, _, location = str(error).partition(" - at `$.")
        key = location.rstrip("`")
        which = f"--set {name}.{key}" if key else name
        raise ConfigError(f"{which}: {text}{choices(error, kind)}") from error


def _number(option: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ConfigError(f"{option} must be a number, got {text!r}")
    return number


def _hint(word: str, known: Sequence[str]) -> str:
    key = word.rpartition(".")[2]
    close = difflib.get_close_matches(word, known, n=1) or [name for name in known if name.endswith(f".{key}")]
    return f": did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"

"""What a search may vary: `upside_threshold=0.1:0.6:0.05` (a range with a step) or `trigger=cascade,calendar` (words).

In: texts of the command line. Out: checked dimensions, points of the grid, random points. Never: a value that the rules
refuse on their own, a point outside the grid: every search moves on the same grid, so that equal points meet.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import product
from math import prod

import msgspec

from services.rebalancer.config import RebalanceConfig
from shared.errors import ConfigError

VALUES_MAX = 1_000
GRID_MAX = 100_000
# Names and things that are no rule of when and how much to trade.
FIXED = frozenset({"assets", "strategy", "enabled", "fee_rate", "intent_lifetime_s", "bar_age_max_s", "weights_file"})
DEFAULT_SPACE = (
    "upside_threshold=0.15:0.60:0.05",
    "downside_threshold=0.15:0.60:0.05",
    "sell_percentage=0.05:0.40:0.05",
)

Point = tuple[str, ...]


class Dimension(msgspec.Struct, frozen=True):
    """Hold one rule and the values that it may have, in order; numbers as plain texts."""

    key: str
    values: tuple[str, ...]


def read_space(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Return the dimensions; raises ConfigError naming the text and the fix."""
    found: dict[str, Dimension] = {}
    for written in texts or DEFAULT_SPACE:
        key, equals, values = (part.strip() for part in written.partition("="))
        if not (key and equals and values):
            raise ConfigError(
                f"--param {written!r}: write key=low:high:step or key=one,two, for example {DEFAULT_SPACE[0]}"
            )
        known = [name for name in RebalanceConfig.__struct_fields__ if name not in FIXED]
        if key not in known:
            raise ConfigError(f"--param {written}: {key} is no rule that can be varied; known: {', '.join(known)}")
        if key in found:
            raise ConfigError(f"--param {written}: {key} is given twice: keep one")
        dimension = Dimension(key, _range(written, values) if ":" in values else _words(written, values))
        for value in dimension.values:
            _check(written, key, value)
        found[key] = dimension
    return tuple(found.values())


def grid_size(space: Sequence[Dimension]) -> int:
    """Return how many points the grid has."""
    return prod(len(dimension.values) for dimension in space)


def grid(space: Sequence[Dimension]) -> Iterator[Point]:
    """Return every point; the last dimension moves fastest."""
    return product(*(dimension.values for dimension in space))


def random_points(space: Sequence[Dimension], count: int, seed: int) -> list[Point]:
    """Return `count` different points, all of them when the grid has no more; the same for the same seed."""
    if grid_size(space) <= count:
        return list(grid(space))
    source = random.Random(seed)
    found: dict[Point, None] = {}
    while len(found) < count:
        found[tuple(source.choice(dimension.values) for dimension in space)] = None
    return list(found)


def as_values(space: Sequence[Dimension], point: Point) -> Mapping[str, str]:
    """Return a point as rules."""
    return {dimension.key: value for dimension, value in zip(space, point, strict=True)}


def _range(written: str, values: str) -> tuple[str, ...]:
    parts = values.split(":")
    if len(parts) != 3:
        raise ConfigError(f"--param {written}: a range is low:high:step, for example {DEFAULT_SPACE[0]}")
    try:
        low, high, step = (Decimal(part.strip()) for part in parts)
    except InvalidOperation:
        raise ConfigError(f"--param {written}: low, high and step must be numbers") from None
    if not all(one.is_finite() for one in (low, high, step)) or step <= 0 or high < low:
        raise ConfigError(f"--param {written}: low must not be above high, and the step must be above 0")
    count = int((high - low) / step) + 1
    if count > VALUES_MAX:
        raise ConfigError(f"--param {written}: {count} values are too many (at most {VALUES_MAX}): take a larger step")
    return tuple(f"{low + step * index:f}" for index in range(count))


def _words(written: str, values: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.strip() for word in values.split(",") if word.strip()))
    if not found:
        raise ConfigError(f"--param {written}: name at least one value")
    return found


def _check(written: str, key: str, value: str) -> None:
    try:
        msgspec.convert({key: value}, RebalanceConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--param {written}: {error}") from error

"""Which markets to trade: the most traded ones that pass every filter, with a reason for each that does not.

In: what a venue says about its markets, rules, and closes for the correlation. Out: a ranked choice, and the reason of
every exclusion. Never: a market let through because a fact is missing (what a rule needs and nobody says excludes); a
market twice; a name that no subject and no configuration can hold.

Chosen by the volume of today: never a claim about yesterday (survivorship).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from itertools import pairwise

import msgspec

from shared.domain.money import EXACT, ZERO

# Pegged to a currency, to gold, or to another asset in the list: ranks without a risk of their own.
STABLECOINS = frozenset(
    {
        "USDT", "USDC", "FDUSD", "TUSD", "DAI", "USDE", "USDD", "USDP", "PYUSD", "USD1", "BUSD", "USDS", "GUSD", "LUSD",
        "FRAX", "USDJ", "RLUSD", "USDX", "USDR", "USDF", "SUSDE", "XUSD", "SUSD", "CRVUSD", "GHO", "USDQ", "USDG",
        "UST", "USTC", "BFUSD", "USDB", "ZUSD", "EUR", "EURC", "EURI", "EURS", "EURT", "AEUR", "EURQ", "ZCHF",
        "GBP", "AUD", "TRY", "BRL", "PAX", "HUSD", "USDY", "USDM", "USD0", "USDAI", "DEUSD", "MIM", "FEI", "VAI",
        "XAUT", "PAXG", "KAU", "KAG", "WBTC", "CBBTC", "TBTC", "BTCB", "WETH", "STETH", "WSTETH", "WBETH", "RETH",
        "CBETH", "WEETH", "BNSOL", "JITOSOL", "MSOL", "WBNB",
    }
)  # fmt: skip
_LEVERAGED = re.compile(r"^(?:.{2,}(?:UP|DOWN|BULL|BEAR|HEDGE|HALF)|.+(?:10|[2-9])[LS]|.+1S)$")
# What subjects, stores and configurations all take as an asset.
_NAME = re.compile(r"[A-Z0-9][A-Z0-9_]{0,31}")
# Names that only look leveraged.
NOT_LEVERAGED = frozenset({"JUP", "SYRUP", "SUP", "PUP", "CUP", "PUMPUP", "STARTUP", "BACKUP", "MEUP"})
HUNDRED = Decimal(100)
# No price and no volume lies beyond: what does is no fact.
LARGEST = Decimal("1e30")
DAY_NS = 86_400_000_000_000


class Exclusion(StrEnum):
    """Name why a market is out, in the order in which the rules are asked."""

    QUOTE = "other_quote"
    NAME = "unusable_name"
    DENIED = "denied"
    STABLECOIN = "stablecoin"
    LEVERAGED = "leveraged_token"
    STATUS = "not_trading"
    BROKEN = "facts_missing"
    PRICE = "price_range"
    SPREAD = "spread"
    VOLUME = "volume"
    AGE = "listing_age"
    CORRELATION = "correlation"
    RANK = "beyond_the_top"


class Market(msgspec.Struct, frozen=True):
    """State one spot market's facts; None where the venue is silent. `quote_volume` is of 24 hours, in quote units."""

    instrument: str
    base: str
    quote: str
    is_active: bool
    last: Decimal | None
    bid: Decimal | None
    ask: Decimal | None
    quote_volume: Decimal | None
    listed_at_ns: int | None = None


class UniverseRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say what may be chosen. `spread_max_pct` is of the mid price; `correlation_max` 1 switches that rule off.

    `age_days_min` above 0 excludes what is younger or of unknown age; `ages_settled` asks for what a venue left out.
    Assets in `allow` are never taken for stablecoins or leveraged tokens, whatever their names.
    """

    quote: str = "USDT"
    count: int = 10
    volume_min: Decimal = Decimal(50_000)
    spread_max_pct: Decimal = Decimal("0.5")
    price_min: Decimal = Decimal(0)
    price_max: Decimal | None = None
    age_days_min: int = 0
    correlation_max: float = 1.0
    correlation_bars_min: int = 30
    deny: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    with_stablecoins: bool = False
    with_leveraged: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        if self.age_days_min < 0:
            raise ValueError(f"age_days_min must be at least 0, got {self.age_days_min}")
        if not _NAME.fullmatch(self.quote):
            raise ValueError(f"quote must be an asset, for example USDT, got {self.quote!r}")
        for name in ("volume_min", "spread_max_pct", "price_min"):
            value = getattr(self, name)
            if not value.is_finite() or not 0 <= value <= LARGEST:
                raise ValueError(f"{name} must be a number of at least 0, got {value}")
        if self.price_max is not None and not (
            self.price_max.is_finite() and self.price_min < self.price_max <= LARGEST
        ):
            raise ValueError(f"price_max must be above price_min, got {self.price_max}")
        if not 0 < self.correlation_max <= 1:
            raise ValueError(f"correlation_max must lie above 0 and at most at 1, got {self.correlation_max}")


class Chosen(msgspec.Struct, frozen=True):
    """Name a market that was chosen, its place from 1, and the facts that decided."""

    rank: int
    instrument: str
    quote_volume: Decimal
    last: Decimal
    spread_pct: Decimal


class Excluded(msgspec.Struct, frozen=True):
    """Name a market that was not chosen, the first rule that it failed, and the figures."""

    instrument: str
    reason: Exclusion
    detail: str


class Universe(msgspec.Struct, frozen=True):
    """Hold the choice, best first, and every exclusion by name."""

    chosen: tuple[Chosen, ...]
    excluded: tuple[Excluded, ...]

    @property
    def instruments(self) -> tuple[str, ...]:
        """Return the chosen markets, best first."""
        return tuple(one.instrument for one in self.chosen)


Closes = Mapping[str, Mapping[int, float]]


def get_top_crypto_pairs(
    markets: Sequence[Market], rules: UniverseRules, *, now_ns: int, closes: Closes | None = None
) -> Universe:
    """Return the `rules.count` most traded markets that pass every rule.

    `closes` (instrument -> time -> close) are needed when `correlation_max` is below 1; a market without enough of them
    is excluded then. Equal volumes are ranked by name, so the same facts always give the same choice. Raises ValueError
    when a market is given twice.
    """
    excluded: list[Excluded] = []
    passed: list[Market] = []
    seen: set[str] = set()
    for market in markets:
        if market.instrument in seen:
            raise ValueError(f"{market.instrument} is given twice: which facts are its own?")
        seen.add(market.instrument)
        found = _exclusion(market, rules, now_ns)
        if found is None:
            passed.append(market)
        else:
            excluded.append(Excluded(market.instrument, *found))
    passed.sort(key=lambda market: (-(market.quote_volume or ZERO), market.instrument))
    returns = {name: log_returns(series) for name, series in (closes or {}).items()}
    chosen: list[Chosen] = []
    for market in passed:
        if len(chosen) == rules.count:
            detail = f"{len(chosen)} markets have more volume"
            excluded.append(Excluded(market.instrument, Exclusion.RANK, detail))
            continue
        problem = _correlated(market.instrument, [one.instrument for one in chosen], returns, rules)
        if problem is not None:
            excluded.append(Excluded(market.instrument, Exclusion.CORRELATION, problem))
            continue
        assert market.quote_volume is not None and market.last is not None
        chosen.append(
            Chosen(len(chosen) + 1, market.instrument, market.quote_volume, market.last, spread_pct(market) or ZERO)
        )
    return Universe(tuple(chosen), tuple(sorted(excluded, key=lambda one: one.instrument)))


def ages_settled(
    markets: Sequence[Market],
    rules: UniverseRules,
    ask: Callable[[Sequence[str]], Mapping[str, int | None]],
    *,
    now_ns: int,
    closes: Closes | None = None,
) -> list[Market]:
    """Return the markets with the listing times that decide the choice; `ask` gives those that the venue does not say.

    Only markets that would be chosen are asked for, since a venue answers one at a time; who is not asked for is not
    among the chosen.
    """
    if not rules.age_days_min:
        return list(markets)
    known: dict[str, int | None] = {}
    while True:
        # Who was not asked for passes for now: then it is among the chosen, and is asked for.
        found = [
            msgspec.structs.replace(one, listed_at_ns=known.get(one.instrument, 0)) if one.listed_at_ns is None else one
            for one in markets
        ]
        chosen = get_top_crypto_pairs(found, rules, now_ns=now_ns, closes=closes).instruments
        told = {one.instrument for one in markets if one.listed_at_ns is not None}
        unknown = [name for name in chosen if name not in told and name not in known]
        if not unknown:
            return found
        known.update(dict.fromkeys(unknown))
        known.update(ask(unknown))


def spread_pct(market: Market) -> Decimal | None:
    """Return the spread in percent of the mid price, None without a two-sided, uncrossed quote."""
    bid, ask = market.bid, market.ask
    if bid is None or ask is None or bid <= 0 or ask < bid:
        return None
    middle = EXACT.multiply(EXACT.add(bid, ask), Decimal("0.5"))
    # Upwards: what is shown within a limit is within it.
    return (HUNDRED * (ask - bid) / middle).quantize(Decimal("0.0001"), ROUND_CEILING)


def is_leveraged(base: str) -> bool:
    """Tell whether a base asset is a leveraged token, by how venues name them: BTC3L, ETHDOWN, XRPBULL."""
    return base not in NOT_LEVERAGED and _LEVERAGED.match(base) is not None


def log_returns(closes: Mapping[int, float]) -> dict[int, float]:
    """Return each bar's log return under its time; none over a hole, and none of impossible prices."""
    pairs = list(pairwise(sorted(closes)))
    bar = min((after - before for before, after in pairs), default=0)
    return {
        after: math.log(closes[after] / closes[before])
        for before, after in pairs
        if after - before == bar and 0 < closes[before] < math.inf and 0 < closes[after] < math.inf
    }


def correlation(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float | None, int]:
    """Return Pearson's correlation over the common times, None where it is undefined, and how many times there are."""
    times = sorted(one.keys() & other.keys())
    if len(times) < 3:
        return None, len(times)
    left, right = [one[time] for time in times], [other[time] for time in times]
    mean_left, mean_right = math.fsum(left) / len(times), math.fsum(right) / len(times)
    cross = math.fsum((a - mean_left) * (b - mean_right) for a, b in zip(left, right, strict=True))
    own_left = math.fsum((a - mean_left) ** 2 for a in left)
    own_right = math.fsum((b - mean_right) ** 2 for b in right)
    if own_left <= 0 or own_right <= 0:
        return None, len(times)
    return cross / math.sqrt(own_left * own_right), len(times)


def _exclusion(market: Market, rules: UniverseRules, now_ns: int) -> tuple[Exclusion, str] | None:
    if market.quote != rules.quote:
        return Exclusion.QUOTE, f"quoted in {market.quote}"
    if not (_NAME.fullmatch(market.base) and market.instrument == f"{market.base}-{market.quote}"):
        return Exclusion.NAME, f"{market.instrument!r} is no name for subjects and stores: A-Z, 0-9 and _ only"
    if market.instrument in rules.deny or market.base in rules.deny:
        return Exclusion.DENIED, "denied by the rules"
    by_name = market.base not in rules.allow and market.instrument not in rules.allow
    if by_name and market.base in STABLECOINS and not rules.with_stablecoins:
        return Exclusion.STABLECOIN, f"{market.base} is pegged to something else"
    if by_name and is_leveraged(market.base) and not rules.with_leveraged:
        return Exclusion.LEVERAGED, f"{market.base} is named like a leveraged token"
    if not market.is_active:
        return Exclusion.STATUS, "the venue does not let it trade now"
    spread = spread_pct(market)
    missing = [name for name in ("last", "quote_volume") if not ZERO < (getattr(market, name) or ZERO) <= LARGEST]
    if missing or spread is None:
        return Exclusion.BROKEN, f"no usable {', '.join([*missing, *(['bid and ask'] if spread is None else [])])}"
    assert market.last is not None and market.quote_volume is not None
    if market.last < rules.price_min or (rules.price_max is not None and market.last > rules.price_max):
        return Exclusion.PRICE, f"price {market.last:f} is outside {rules.price_min:f} to {rules.price_max or 'any'}"
    if spread > rules.spread_max_pct:
        return Exclusion.SPREAD, f"spread {spread:f} % is above {rules.spread_max_pct:f} %"
    if market.quote_volume < rules.volume_min:
        return Exclusion.VOLUME, f"{market.quote_volume:.0f} {market.quote} in 24 h is below {rules.volume_min:f}"
    if not rules.age_days_min:
        return None
    if market.listed_at_ns is None:
        return Exclusion.AGE, f"nobody says since when it is listed, {rules.age_days_min} days are needed"
    if now_ns - market.listed_at_ns < rules.age_days_min * DAY_NS:
        days = (now_ns - market.listed_at_ns) // DAY_NS
        return Exclusion.AGE, f"listed {days} days ago, less than {rules.age_days_min}"
    return None


def _correlated(
    name: str, chosen: Sequence[str], returns: Mapping[str, Mapping[int, float]], rules: UniverseRules
) -> str | None:
    if rules.correlation_max >= 1:
        return None
    if len(returns.get(name, {})) < rules.correlation_bars_min:
        return f"{len(returns.get(name, {}))} returns known, {rules.correlation_bars_min} needed"
    for other in chosen:
        found, bars = correlation(returns[name], returns[other])
        if found is None and bars >= rules.correlation_bars_min:
            return f"no correlation with {other}: one of them did not move"
        if found is None or bars < rules.correlation_bars_min:
            return f"{bars} returns in common with {other}, {rules.correlation_bars_min} needed"
        if found > rules.correlation_max:
            return f"correlation {found:.2f} with {other} is above {rules.correlation_max:g}"
    return None

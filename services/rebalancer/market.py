"""What the service knows of the market and the account: bars of steps still open, grids, the newest snapshot.

In: bars, definitions, snapshots. Out: Decimals for the core. Never: a close that no bar reported.
"""

from decimal import Decimal

from services.rebalancer.core import Holdings
from shared.messages import AccountSnapshot, Bar

STEPS_MAX = 64


def close_of(bar: Bar) -> Decimal:
    """Return the bar's close as the shortest decimal that is this float; NaN stays NaN, for the core to refuse."""
    return Decimal(repr(bar.close))


def holdings_of(account: AccountSnapshot, markets: tuple[str, ...], quote: str) -> Holdings:
    """Return what the account holds of the markets' base assets, locked amounts too, and its free quote asset."""
    totals = {balance.asset: balance.total for balance in account.balances}
    free = {balance.asset: balance.free for balance in account.balances}
    quantities = {market: totals.get(market.rpartition("-")[0], Decimal(0)) for market in markets}
    usdt = free.get(quote, Decimal(0))
    return Holdings(account.ledger_sequence, quantities, usdt, totals.get(quote, Decimal(0)) - usdt)


def volume_of(bar: Bar) -> Decimal:
    """Return the bar's volume in quote units; without one, the base volume at the close stands for it."""
    return Decimal(repr(bar.quote_volume if bar.quote_volume is not None else bar.volume * bar.close))


def is_newer(account: AccountSnapshot, than: AccountSnapshot | None) -> bool:
    """Tell whether the snapshot has followed the ledger, and then the market, at least as far."""
    if than is None:
        return True
    return (account.ledger_sequence, account.as_of_ns) >= (than.ledger_sequence, than.as_of_ns)


class OpenSteps:
    """Collect closes by close time until the step is complete; the oldest of too many steps go first."""

    def __init__(self) -> None:
        self._closes: dict[int, dict[str, Decimal]] = {}
        self._volumes: dict[int, dict[str, Decimal]] = {}

    def add(self, bar: Bar) -> None:
        """Keep the bar's close and volume."""
        self._closes.setdefault(bar.close_time_ns, {})[bar.instrument] = close_of(bar)
        self._volumes.setdefault(bar.close_time_ns, {})[bar.instrument] = volume_of(bar)
        while len(self._closes) > STEPS_MAX:
            oldest = min(self._closes)
            del self._closes[oldest], self._volumes[oldest]

    def closes(self, close_time_ns: int) -> dict[str, Decimal]:
        """Return the closes of this time so far."""
        return dict(self._closes.get(close_time_ns, {}))

    def volumes(self, close_time_ns: int) -> dict[str, Decimal]:
        """Return the quote volumes of this time so far."""
        return dict(self._volumes.get(close_time_ns, {}))

    def forget(self, up_to_ns: int) -> None:
        """Drop steps that are handled."""
        self._closes = {at_ns: closes for at_ns, closes in self._closes.items() if at_ns > up_to_ns}
        self._volumes = {at_ns: volumes for at_ns, volumes in self._volumes.items() if at_ns > up_to_ns}

"""A finished backtest: what happened, its figures, and the forms in which it leaves: text, JSON, CSV.

In: a run's log. Out: the same for the same run, to the last digit. Never: a rounded amount of money in JSON or CSV.
Assets are named as the user named them (`HANA` stays `HANA`).
"""

from decimal import Decimal
from functools import cached_property
from pathlib import Path

import msgspec

from services.backtest import csv_files
from services.backtest.config import BacktestSettings
from services.backtest.core.figures import INITIAL, Figures, figures
from services.backtest.core.log import RunLog
from services.backtest.core.outcome import FillRow, Leg, Rebalance, daily_curve, fill_rows, rebalances
from services.backtest.core.scan_run import ScanRun
from services.backtest.summary import summary_text
from services.market_data.core.feed import iso_text
from shared.domain.digests import decisions_digest, fills_digest, unique_fills
from shared.messages import DecisionRecord, Instrument

# So many quiet bars are journalled within five seconds.
JOURNAL_MAX = 100_000


class RunFacts(msgspec.Struct, frozen=True):
    """State what was run: settings, markets (`names` by bus token), interval, range, and who decided.

    `path` is where the candles were read, None where they came from no file.
    """

    settings: BacktestSettings
    strategy: str
    names: dict[str, str]
    instruments: tuple[Instrument, ...]
    timeframe: str
    timeframe_ns: int
    first_open_ns: int
    source: str
    path: Path | None = None


class BacktestResult:
    """Hold a run; print `summary()`, ask `figures`, `rebalances`, `fills`, or the raw `log`."""

    def __init__(self, facts: RunFacts, log: RunLog, scanned: ScanRun | None = None) -> None:
        self.facts, self.log, self._scanned = facts, log, scanned

    @cached_property
    def decisions(self) -> list[DecisionRecord]:
        """Return the whole journal; `log.decisions` lacks the bars that were passed over because nothing could be done.

        The core decides on those when this is asked for first: up to 50 microseconds a bar.
        """
        return self.log.decisions if self._scanned is None else self._scanned.journal()

    @property
    def is_journalled(self) -> bool:
        """Tell whether the whole journal is at hand, or soon made: at most `JOURNAL_MAX` bars were passed over."""
        return self._scanned is None or "decisions" in self.__dict__ or self._scanned.passed_over <= JOURNAL_MAX

    @cached_property
    def fills(self) -> list[FillRow]:
        """Return every fill in order."""
        return fill_rows(self.log, self.facts.settings.quote_asset)

    @cached_property
    def rebalances(self) -> list[Rebalance]:
        """Return every plan with its legs, in order."""
        return rebalances(self.log, self.fills)

    @cached_property
    def daily(self) -> tuple[list[int], list[Decimal]]:
        """Return the ends of the UTC days and the equity at them, the start first."""
        facts, log = self.facts, self.log
        return daily_curve(log.times_ns, log.equity, facts.first_open_ns, log.initial_equity, facts.timeframe_ns)

    @cached_property
    def figures(self) -> Figures:
        """Return the figures; `Figures` says how each is defined."""
        facts = self.facts
        return figures(
            self.log,
            self.fills,
            self.rebalances,
            self.daily,
            first_open_ns=facts.first_open_ns,
            timeframe_ns=facts.timeframe_ns,
        )

    @property
    def usdt(self) -> Decimal:
        """Return the quote money held at the end."""
        return self.log.quote[-1]

    @property
    def quantities(self) -> dict[str, Decimal]:
        """Return what is held at the end, by the names given."""
        return {self.name(token): held for token, held in zip(self.log.assets, self.log.quantities[-1], strict=True)}

    @property
    def missing_bars(self) -> dict[str, int]:
        """Return how many steps each asset has no bar in; assets with every bar are left out."""
        counts = {
            self.name(token): sum(row[index] is None for row in self.log.closes)
            for index, token in enumerate(self.log.assets)
        }
        return {name: count for name, count in counts.items() if count}

    @cached_property
    def fills_digest(self) -> str:
        """Return the digest that `cascade up` prints for the same run."""
        return fills_digest(unique_fills(self.log.events))

    @cached_property
    def decisions_digest(self) -> str:
        """Return the digest that `cascade up` prints for the same run."""
        return decisions_digest(self.decisions)

    def name(self, token: str) -> str:
        """Return a market's name as it was given."""
        return self.facts.names.get(token, token)

    def summary(self) -> str:
        """Return the result as a text of a screen."""
        return summary_text(self)

    def to_json(self) -> bytes:
        """Return one JSON object; money has every digit."""
        return msgspec.json.Encoder(decimal_format="number").encode(self.as_dict())

    def as_dict(self) -> dict[str, object]:
        """Return what `--json` prints; times are ISO 8601 UTC, shares are shares of one.

        `decisions_digest` is None after a long run, unless `decisions` was asked for before: see `is_journalled`.
        """
        found, facts, log = self.figures, self.facts, self.log
        shown = {name: getattr(found, name) for name in Figures.__struct_fields__ if not name.endswith("_ns")}
        for name in ("drawdown_peak", "drawdown_trough", "drawdown_recovered"):
            at_ns = getattr(found, f"{name}_ns")
            shown[f"{name}_at"] = None if at_ns is None else iso_text(at_ns)
        return shown | {
            "usdt": self.usdt,
            "quantities": self.quantities,
            "initial_allocation": next((self._event(one) for one in self.rebalances if one.direction == INITIAL), None),
            "events": [self._event(one) for one in self.rebalances if one.direction != INITIAL],
            "refusals": [
                {
                    "time": iso_text(one.refused_at_ns),
                    "asset": self.name(one.instrument),
                    "code": one.code.value,
                    "detail": one.detail,
                }
                for one in log.refusals
            ],
            "strategy": facts.strategy,
            "assets": [self.name(token) for token in log.assets],
            "interval": facts.timeframe,
            "steps": len(log.times_ns),
            "started_at": iso_text(facts.first_open_ns),
            "ended_at": iso_text(log.times_ns[-1]),
            "missing_bars": self.missing_bars,
            "orders_not_sent": len(log.unsent),
            "settings": msgspec.to_builtins(facts.settings),
            "fills_digest": self.fills_digest,
            "decisions_digest": self.decisions_digest if self.is_journalled else None,
        }

    def write_csv(self, folder: Path) -> list[Path]:
        """Write positions.csv, pnl.csv and fills.csv; returns their paths."""
        return csv_files.write(self, folder)

    def _event(self, one: Rebalance) -> dict[str, object]:
        return {
            "time": iso_text(one.at_ns),
            "asset": None if one.asset is None else self.name(one.asset),
            "direction": one.direction,
            "deviation": None if one.deviation is None else float(one.deviation),
            "legs": [self._leg(leg) for leg in one.legs],
            "reason": "; ".join(one.notes),
            "equity_before": one.equity_before,
            "fees": one.fees_quote,
            "cost": one.cost_quote,
        }

    def _leg(self, leg: Leg) -> dict[str, object]:
        return {
            "asset": self.name(leg.asset),
            "side": leg.side,
            "quantity": leg.quantity,
            "price": leg.price,
            "notional": leg.notional,
            "fee": leg.fee,
            "fee_asset": leg.fee_asset,
            "state": leg.state,
            "reason": leg.reason,
            "detail": leg.detail,
        }

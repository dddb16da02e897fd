"""What the rebalancer tells Prometheus."""

from services.rebalancer.core import Decision, RebalancerState, Report
from shared.metrics import Metrics

ACTIONS = ("none", "wait", "allocate", "upside", "downside", "position_limit", "rebalance")


class Telemetry:
    """Count decisions and intents, and show whether a plan is under way."""

    def __init__(self, metrics: Metrics) -> None:
        decisions = metrics.counter("decisions", "Journalled decisions by action", ["action"])
        intents = metrics.counter("intents", "Order intents by side", ["side"])
        self._decisions = {action: decisions.labels(action) for action in ACTIONS}
        self._intents = {side: intents.labels(side) for side in ("buy", "sell")}
        self._plan_open = metrics.gauge("plan_open", "1 while a plan is under way")
        self._paused = metrics.gauge("paused", "1 while an operator has stopped new plans")
        self._fees = metrics.counter("fees_usdt", "Fees of finished plans")
        self._turnover = metrics.counter("turnover_usdt", "Traded in finished plans")
        self._slippage = metrics.gauge(
            "slippage_usdt", "Slippage of finished plans against their deciding closes, summed"
        )
        self._last_cost = metrics.gauge("last_plan_cost_usdt", "Fees and slippage of the last finished plan")
        self._equity = metrics.gauge("equity_usdt", "The portfolio's worth after the last finished plan")
        self._hold = metrics.gauge(
            "hold_usdt", "What holding the starting assets was worth after the last finished plan"
        )
        self._advantage = metrics.gauge("advantage_ratio", "Portfolio over holding, less one, after the last plan")
        self._decision_seconds = metrics.histogram("decision_seconds", "Time from an event to its stored decision")

    def count(self, state: RebalancerState, decision: Decision, seconds: float) -> None:
        """Count one decision that took `seconds` until it was stored."""
        if decision.decision_id is not None:
            self._decisions[decision.action].inc()
        for intent in decision.intents:
            self._intents[intent.side.value].inc()
        self._plan_open.set(state.plan is not None)
        self._paused.set(state.paused is not None)
        if decision.report is not None:
            self._report(decision.report)
        self._decision_seconds.observe(seconds)

    def _report(self, report: Report) -> None:
        self._fees.inc(max(float(report.fees_usdt), 0.0))
        self._turnover.inc(float(report.turnover_usdt))
        self._slippage.inc(float(report.slippage_usdt))
        self._last_cost.set(float(report.cost_usdt))
        for gauge, value in (
            (self._equity, report.equity_usdt),
            (self._hold, report.hold_usdt),
            (self._advantage, report.advantage),
        ):
            if value is not None:
                gauge.set(float(value))

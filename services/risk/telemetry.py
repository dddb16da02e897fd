"""What risk shows of itself: verdicts by code, the trading state, the age of its data, what an intent waits for."""

from services.risk.core.checks import Approval
from services.risk.core.refusal import Refusal
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns
from shared.logs import Log
from shared.messages import RefusalCode, TradingState
from shared.metrics import Metrics

ALERT_AFTER_NS = 10 * NANOSECONDS_PER_SECOND
APPROVED = "approved"


class Telemetry:
    """Count and measure; ages and waits are wall time and decide nothing."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._log = log
        verdicts = metrics.counter("verdicts", "Verdicts on intents, by what they were", ["code"])
        self._verdicts = {code: verdicts.labels(code) for code in (APPROVED, *RefusalCode)}
        self._repeated = metrics.counter("verdicts_repeated", "Verdicts that were given before and sent again")
        self._ignored = metrics.counter("inputs_ignored", "Inputs that were old or could not be", ["kind"])
        state = metrics.gauge("trading_state", "1 for the trading state in force", ["state"])
        self._states = {one: state.labels(one) for one in TradingState}
        self._counts: dict[str, int] = {}
        self._market_at_ns = self._account_at_ns = monotonic_ns()
        self._waiting_since_ns: int | None = None
        self._alerted_at_ns = 0
        self.waiting_for = ""
        metrics.gauge("data_age_seconds", "Time since the last step was closed").set_function(
            lambda: _seconds_since(self._market_at_ns)
        )
        metrics.gauge("account_age_seconds", "Time since the last account snapshot").set_function(
            lambda: _seconds_since(self._account_at_ns)
        )
        metrics.gauge("intent_waiting_seconds", "How long the present intent has waited for its data").set_function(
            lambda: 0.0 if self._waiting_since_ns is None else _seconds_since(self._waiting_since_ns)
        )

    @property
    def counts(self) -> dict[str, int]:
        """Return the verdicts given since the start, by code."""
        return dict(self._counts)

    def verdict(self, result: Approval | Refusal) -> None:
        """Count a new verdict."""
        code = result.code if isinstance(result, Refusal) else APPROVED
        self._counts[code] = self._counts.get(code, 0) + 1
        self._verdicts[code].inc()
        self._waiting_since_ns, self.waiting_for = None, ""

    def repeated(self) -> None:
        """Count a verdict that was sent again."""
        self._repeated.inc()

    def ignored(self, kind: str) -> None:
        """Count an input that changed nothing."""
        self._ignored.labels(kind).inc()

    def trading_state(self, state: TradingState) -> None:
        """Show the state in force."""
        for one, gauge in self._states.items():
            gauge.set(1 if one is state else 0)

    def market_seen(self) -> None:
        """Note that a step was closed."""
        self._market_at_ns = monotonic_ns()

    def account_seen(self) -> None:
        """Note that an account snapshot came."""
        self._account_at_ns = monotonic_ns()

    def waits(self, intent_id: str, what: str) -> None:
        """Note that an intent waits; every ten seconds of it are worth a warning."""
        now_ns = monotonic_ns()
        if self._waiting_since_ns is None:
            self._waiting_since_ns = self._alerted_at_ns = now_ns
        self.waiting_for = what
        if now_ns - self._alerted_at_ns >= ALERT_AFTER_NS:
            self._alerted_at_ns = now_ns
            waited_s = round(_seconds_since(self._waiting_since_ns), 1)
            self._log.warning("intent_waits", intent_id=intent_id, waiting_for=what, waited_s=waited_s)


def _seconds_since(at_ns: int) -> float:
    return (monotonic_ns() - at_ns) / NANOSECONDS_PER_SECOND

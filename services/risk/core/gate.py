"""The gate without its surroundings: what was seen, the limits, and the verdict on an intent.

In: everything that `Market` and `AccountBook` take. Out: verdicts. Deterministic: the same inputs in the same order,
at the same market times, give the same verdicts.

Equity, which the position limit is a share of, is fixed at the first verdict of a market step. Prices stay the same
until the next one, so within a step only trading itself changes equity, by its costs, and how much of these is seen
when the next leg of the same plan is judged depends on the moment. A leg sized exactly to the limit must not.
"""

from decimal import localcontext

import msgspec

from services.risk.core.book import AccountBook
from services.risk.core.checks import ENOUGH_DIGITS, Approval, judge, judge_without_account
from services.risk.core.limits import Limits
from services.risk.core.market import Market
from services.risk.core.refusal import Refusal
from services.risk.core.view import Account, Equity, View
from shared.clock import NANOSECONDS_PER_MINUTE
from shared.messages import OrderIntent, TradingState


class Verdict(msgspec.Struct, frozen=True):
    """Say what was decided, on which view."""

    view: View
    result: Approval | Refusal


class Gate:
    """Judge intents by what was seen so far."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.market = Market()
        self.book = AccountBook()
        self.equity: Equity | None = None

    def view(self, instrument: str, state: TradingState, now_ns: int) -> View:
        """Return what a verdict on this instrument is based on now."""
        return View(
            state=state,
            now_ns=now_ns,
            instrument=self.market.instruments.get(instrument),
            feed=self.market.feed(instrument),
            price=self.market.price(instrument),
            quote=self.market.quote(instrument),
            account=self._account(),
            orders=tuple(self.book.orders.values()),
            feed_reason=self.market.why(instrument),
        )

    def judge(self, intent: OrderIntent, state: TradingState, now_ns: int) -> Verdict | None:
        """Return the verdict, or None while it needs an account snapshot that has not come; changes nothing."""
        view = self.view(intent.instrument, state, now_ns)
        if view.account is not None:
            return Verdict(view, judge(intent, view, self.limits))
        early = judge_without_account(intent, view, self.limits)
        return None if early is None else Verdict(view, early)

    def remember(self, verdict: Verdict) -> None:
        """Count the verdict in: the step's equity, and the reservation of an approval."""
        account = verdict.view.account
        if account is None:
            return
        if self._needs_equity() and account.equity_usdt is not None:
            self.equity = Equity(self.market.closed_ns, account.equity_usdt)
        if isinstance(verdict.result, Approval):
            self.book.approve(verdict.result.order, account.ledger_sequence)

    def forget(self, now_ns: int) -> list[str]:
        """Forget orders that have ended and that no window reaches back to; returns their intents' ids."""
        window_ns = max(NANOSECONDS_PER_MINUTE, self.limits.duplicate_window_ns)
        return self.book.forget(before_ns=now_ns - window_ns)

    def _account(self) -> Account | None:
        snapshot = self.book.snapshot()
        if snapshot is None:
            return None
        if self.equity is not None and not self._needs_equity():
            worth = self.equity.value_usdt
        else:
            with localcontext(ENOUGH_DIGITS):
                found = self.market.equity(snapshot.balances, self.limits.quote_asset)
            return Account(snapshot.ledger_sequence, snapshot.balances, found)
        return Account(snapshot.ledger_sequence, snapshot.balances, worth)

    def _needs_equity(self) -> bool:
        return self.equity is None or self.equity.step_ns != self.market.closed_ns

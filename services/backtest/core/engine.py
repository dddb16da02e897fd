"""The event loop of a backtest: one step of the market after the other through strategy, risk gate and desk.

In: a feed's steps, a strategy, the live gate's limits, the paper venue's fill model. Out: a `RunLog`.
Never: an event delivered before the bars that caused it; a verdict or a fill that the services would not have given.

A step goes as in the services: bars fill resting orders, then they come in force, then the strategy decides. Risk
judges all intents of one answer before any of them is sent, as their stream orders them, with everything approved
reserved. With `NEXT_OPEN` approved orders wait for their market's next bar and fill at its open; whatever the strategy
answers to such a fill is sent at the same open. An order whose market has no bar before it expires is denied.
"""

from collections import deque
from decimal import Decimal
from enum import StrEnum

import msgspec

from services.backtest.core.conservation import check_balances, check_books
from services.backtest.core.desk import Desk
from services.backtest.core.log import RunLog
from services.backtest.core.strategy import (
    Account,
    AccountMoved,
    Answer,
    IntentRefused,
    OrderMoved,
    StepClosed,
    Strategy,
    StrategyEvent,
    StrategyParams,
)
from services.market_data.core.feed import Candle, Feed, MarketStep
from services.risk.core.checks import Approval
from services.risk.core.explain import record_of as refusal_record
from services.risk.core.gate import Gate
from services.risk.core.limits import Limits
from services.risk.core.refusal import Refusal
from shared.domain.money import ZERO
from shared.errors import IntegrityError
from shared.exchange.paper_book import PaperBook
from shared.matching import FillModel
from shared.matching.exact import decimal_of
from shared.messages import Bar, BarsClosed, OrderApproved, OrderEvent, OrderIntent, OrderRefused, TradingState

# A strategy that answers every answer for ever is a programmer error, not a long plan.
ANSWERS_MAX = 100_000


class FillTiming(StrEnum):
    """Name when an order that was decided on a close meets the market: at that close, or at the next bar's open."""

    CLOSE = "close"
    NEXT_OPEN = "next_open"


class EngineConfig(msgspec.Struct, frozen=True):
    """Say where and with what the engine trades; `timeframe_ns` is the steps' length."""

    venue: str
    account: str
    quote_asset: str
    initial_quote: Decimal
    timeframe: str
    timeframe_ns: int
    model: FillModel
    limits: Limits
    timing: FillTiming = FillTiming.CLOSE


class Engine[S]:
    """Run one strategy over one market; call `step` for each step in order, or `run` for a whole feed."""

    def __init__(
        self, config: EngineConfig, strategy: Strategy[S], feed: Feed, *, paper: PaperBook | None = None
    ) -> None:
        self._config, self._strategy, self._feed = config, strategy, feed
        self._state = strategy.first_state()
        instruments = {instrument.symbol: instrument for instrument in feed.instruments}
        self._params = StrategyParams(config.venue, config.timeframe_ns, instruments)
        self._gate = Gate(config.limits)
        self.desk = Desk(
            venue=config.venue,
            account=config.account,
            quote_asset=config.quote_asset,
            initial_quote=config.initial_quote,
            model=config.model,
            paper=paper,
        )
        for instrument in feed.instruments:
            self._gate.market.on_instrument(instrument)
            self.desk.define(instrument)
        self._bases = {instrument.symbol: instrument.base for instrument in feed.instruments}
        self._waiting: list[OrderApproved] = []
        self._events: deque[StrategyEvent] = deque([AccountMoved(self.desk.ledger.sequence)])
        self._now_ns = 0
        self._steps = 0
        self._sends_at_once = config.timing is FillTiming.CLOSE
        self._snapshot_of: tuple[int, int] | None = None
        self.log = RunLog(assets=tuple(self._bases), initial_equity=config.initial_quote)

    @property
    def state(self) -> S:
        """Return the strategy's state."""
        return self._state

    @property
    def params(self) -> StrategyParams:
        """Return what the strategy is told with every event."""
        return self._params

    @property
    def waiting(self) -> tuple[OrderApproved, ...]:
        """Return the approved orders that wait for a next open."""
        return tuple(self._waiting)

    def run(self) -> RunLog:
        """Run the whole feed, which must end, and return what happened."""
        number = 1
        while (step := self._feed.step(number)) is not None:
            self.step(step)
            number += 1
        return self.finish()

    def step(self, step: MarketStep) -> None:
        """Take one step of the market."""
        self._steps += 1
        if self._waiting:
            self._open(step)
        bars: dict[str, Candle] = {}
        for candle in step.candles:
            bars[candle.instrument] = candle
            self._close_bar(candle, step)
        closed = BarsClosed(
            venue=self._config.venue,
            timeframe=self._config.timeframe,
            close_time_ns=step.close_time_ns,
            instruments=tuple(bars),
            missing=step.missing,
            step=step.number,
            final=step.final,
        )
        self._now_ns = step.close_time_ns
        self.desk.on_bars_closed(closed)
        self._gate.market.on_closed(closed)
        self._work()
        self._events.append(StepClosed(step.close_time_ns, bars, self.account()))
        self._work()
        self._record(step, bars)

    def finish(self) -> RunLog:
        """Check that the books balance, and return what happened."""
        check_books(self.desk.ledger, self.desk.paper.balances(), self.desk.marks)
        self.log.orders = list(self.desk.orders.values())
        self.log.entries = list(self.desk.ledger.entries)
        self.log.unsent = [approval.intent for approval in self._waiting]
        return self.log

    def _close_bar(self, candle: Candle, step: MarketStep) -> None:
        bar = self._bar(candle, step, step.open_time_ns, step.close_time_ns)
        events = self.desk.on_bar(bar, decimal_of(candle.close))
        self._gate.market.on_bar(bar)
        self._tell(events)

    def _open(self, step: MarketStep) -> None:
        """Send what waits, at the open of its market's bar; deny what has waited too long."""
        # One nanosecond after the close that the orders were decided on: the first instant of the new bar.
        self._now_ns = step.open_time_ns + 1
        for candle in step.candles:
            opening = msgspec.structs.replace(candle, high=candle.open, low=candle.open, close=candle.open)
            self._tell(self.desk.at_open(self._bar(opening, step, step.open_time_ns, self._now_ns)))
        traded = {candle.instrument for candle in step.candles}
        waiting, self._waiting = self._waiting, []
        self._sends_at_once = True
        for approval in waiting:
            if approval.intent.instrument in traded or self._now_ns > approval.expires_at_ns:
                self._send(approval)
            else:
                self._waiting.append(approval)
        self._work()
        self._sends_at_once = False

    def _work(self) -> None:
        """Deliver events until nobody has an answer any more."""
        for _ in range(ANSWERS_MAX):
            if not self._events:
                return
            event = self._events.popleft()
            self._state, answer = self._strategy.decide(self._state, event, self._params, self._now_ns)
            self._take(answer)
        raise IntegrityError(f"{self._strategy.name} does not come to an end: {ANSWERS_MAX} answers in one step")

    def _take(self, answer: Answer) -> None:
        if answer.opened is not None:
            self.log.open_plan(answer.opened, answer.record, self._now_ns, self.desk.equity())
        if answer.record is not None:
            self.log.decisions.append(answer.record)
        if not answer.intents:
            return
        if self._steps <= self._strategy.warmup_bars:
            raise IntegrityError(
                f"{self._strategy.name} asked for an order in step {self._steps}, within its own warm-up of "
                f"{self._strategy.warmup_bars} bars"
            )
        self.log.intents += answer.intents
        approved = [approval for intent in answer.intents if (approval := self._judge(intent)) is not None]
        if not self._sends_at_once:
            self._waiting += approved
            return
        for approval in approved:
            self._send(approval)

    def _judge(self, intent: OrderIntent) -> OrderApproved | None:
        gate = self._gate
        self._show_account()
        verdict = gate.judge(intent, TradingState.ACTIVE, self._now_ns)
        if verdict is None:
            raise IntegrityError("the gate has no account to judge by")
        gate.remember(verdict)
        gate.forget(self._now_ns)
        match verdict.result:
            case Approval(message=approval):
                return approval
            case Refusal() as refusal:
                refused = OrderRefused(
                    intent_id=intent.intent_id,
                    strategy=intent.strategy,
                    venue=self._config.venue,
                    instrument=intent.instrument,
                    correlation_id=intent.correlation_id,
                    code=refusal.code,
                    detail=refusal.detail,
                    refused_at_ns=verdict.view.now_ns,
                )
                record = refusal_record(intent, intent.strategy, verdict.view, gate.limits, refusal)
                self.log.refusals.append(refused)
                self.log.decisions.append(record)
                self._events.append(IntentRefused(refused))
                return None

    def _send(self, approval: OrderApproved) -> None:
        self._tell(self.desk.submit(approval, self._now_ns))
        check_balances(self.desk.ledger, self.desk.paper.balances())
        self._events.append(AccountMoved(self.desk.ledger.sequence))

    def _tell(self, events: list[OrderEvent]) -> None:
        for event in events:
            self._gate.book.on_event(event)
            self.log.events.append(event)
            self._events.append(OrderMoved(event))

    def _show_account(self) -> None:
        # The services publish a snapshot after every entry; the gate needs the newest, once for each ledger entry.
        is_of = (self.desk.ledger.sequence, self._gate.market.closed_ns)
        if is_of != self._snapshot_of:
            self._gate.book.on_snapshot(self.desk.snapshot(self._gate.market.closed_ns))
            self._gate.book.forget_snapshots()
            self._snapshot_of = is_of

    def account(self) -> Account:
        """Return what the account holds now."""
        ledger, quote = self.desk.ledger, self._config.quote_asset
        quantities = {symbol: ledger.balance(base) for symbol, base in self._bases.items()}
        free = ledger.balance(quote)
        if self.desk.open_orders():
            balances = {one.asset: one.free for one in self.desk.snapshot(self._now_ns).balances}
            free = balances.get(quote, ZERO)
        return Account(ledger.sequence, quantities, free)

    def _record(self, step: MarketStep, bars: dict[str, Candle]) -> None:
        ledger = self.desk.ledger
        log = self.log
        log.times_ns.append(step.close_time_ns)
        log.equity.append(self.desk.equity())
        log.quote.append(ledger.balance(self._config.quote_asset))
        log.closes.append(tuple(bars[symbol].close if symbol in bars else None for symbol in self._bases))
        is_quiet = ledger.sequence == log.ledger_sequence
        held = log.quantities[-1] if is_quiet else tuple(ledger.balance(base) for base in self._bases.values())
        log.quantities.append(held)
        log.ledger_sequence = ledger.sequence

    def _bar(self, candle: Candle, step: MarketStep, open_time_ns: int, close_time_ns: int) -> Bar:
        return Bar(
            venue=self._config.venue,
            instrument=candle.instrument,
            timeframe=self._config.timeframe,
            open_time_ns=open_time_ns,
            close_time_ns=close_time_ns,
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            volume=candle.volume,
            quote_volume=candle.quote_volume,
            ts_recv_ns=0,
            sequence=step.number,
        )

"""Screen a market step: which of its bars may be published.

In: each instrument's quality state, a step, the limits. Out: the states after it, the same step with the bars that
were not usable moved to `missing`, and a verdict for each bar. Never: a bar of a frozen instrument, a changed bar.

The backtest screens its steps with the same function, so that it decides on what the live service would publish.
"""

from collections.abc import Mapping

import msgspec

from services.market_data.core.feed import Candle, Feed, MarketStep
from services.market_data.core.quality import Channel, QualityState, assess
from services.market_data.core.quality_words import ACCEPTED, Limits, Verdict
from shared.messages import Bar, Instrument

type States = Mapping[str, QualityState]


class Screened(msgspec.Struct, frozen=True):
    """Hold a step that may be published, the states after it, and the verdict on each candle of the feed's step."""

    step: MarketStep
    states: States
    verdicts: dict[str, Verdict]


def screen(states: States, step: MarketStep, limits: Limits) -> Screened:
    """Judge every candle of the step at the step's close; an instrument without a state is new."""
    after, verdicts = dict(states), dict[str, Verdict]()
    for candle in step.candles:
        state = states.get(candle.instrument, QualityState())
        if state.bar.event_ns == step.close_time_ns:
            # It was judged and published before a crash; only the rest of the step is new.
            verdicts[candle.instrument] = ACCEPTED
            continue
        bar = _bar_of(step, candle, state.bar)
        after[candle.instrument], verdicts[candle.instrument] = assess(state, bar, limits, step.close_time_ns)
    unusable = tuple(name for name, verdict in verdicts.items() if not verdict.is_usable)
    return Screened(without(step, unusable) if unusable else step, after, verdicts)


def without(step: MarketStep, instruments: tuple[str, ...]) -> MarketStep:
    """Return the step with the bars of `instruments` moved to `missing`, after what is missing already."""
    kept = tuple(candle for candle in step.candles if candle.instrument not in instruments)
    return msgspec.structs.replace(step, candles=kept, missing=(*step.missing, *instruments))


def resumed(newest: Bar | None, frozen: str | None, released_ns: int | None) -> QualityState:
    """Return the state after a restart: the newest published bar is the last good one.

    `released_ns` is the close time of the newest bar when an operator released the instrument: while it is still the
    newest, the next bar is taken as it comes.
    """
    if newest is None:
        return QualityState(frozen=frozen)
    price = None if newest.close_time_ns == released_ns else newest.close
    channel = Channel(newest.sequence, newest.close_time_ns)
    return QualityState(frozen=frozen, price=price, seen_ns=newest.close_time_ns, bar=channel)


def _bar_of(step: MarketStep, candle: Candle, channel: Channel) -> Bar:
    return Bar(
        venue="",
        instrument=candle.instrument,
        timeframe="",
        open_time_ns=step.open_time_ns,
        close_time_ns=step.close_time_ns,
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        volume=candle.volume,
        quote_volume=candle.quote_volume,
        ts_recv_ns=step.close_time_ns,
        sequence=channel.sequence or 0,
    )


class ScreenedFeed:
    """Give a feed's steps as they may be published: for backtests, which have no guard before them."""

    def __init__(self, feed: Feed, limits: Limits) -> None:
        self._feed, self._limits = feed, limits
        self._states: States = {}
        self._judged = 0
        self._withheld: dict[int, tuple[str, ...]] = {}

    @property
    def timeframe(self) -> str:
        """Return the interval of the bars."""
        return self._feed.timeframe

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments and their grids."""
        return self._feed.instruments

    @property
    def first_open_ns(self) -> int:
        """Return the open time of step 1."""
        return self._feed.first_open_ns

    @property
    def description(self) -> str:
        """Return a few words for people."""
        return self._feed.description

    @property
    def identity(self) -> dict[str, str]:
        """Return what makes this feed this feed."""
        return self._feed.identity

    def step(self, number: int) -> MarketStep | None:
        """Return step `number` without the bars that may not be published, or None after the last."""
        step = self._feed.step(number)
        while step is not None and self._judged < number:
            self._judge(self._judged + 1)
        if step is None or number not in self._withheld:
            return step
        return without(step, self._withheld[number])

    def _judge(self, number: int) -> None:
        step = self._feed.step(number)
        assert step is not None
        screened = screen(self._states, step, self._limits)
        self._states, self._judged = screened.states, number
        withheld = tuple(name for name, verdict in screened.verdicts.items() if not verdict.is_usable)
        if withheld:
            self._withheld[number] = withheld

"""Put steps into the stream MD_BARS: each exactly once, whole, in order, over any crash.

In: steps of a feed. Out: instrument definitions, bars, then `BarsClosed`. Never: a bar twice, a step with a hole, a
sequence number used twice, another feed's step on top of this one's.

The stream itself is the record of what was published. After a start, or after any failure that leaves open what was
stored, the newest message of each subject is read back, and only what the step still lacks is published.
"""

import hashlib

import msgspec

from services.market_data.core.feed import Candle, Feed, MarketStep, utc_text
from shared.bus import subjects
from shared.bus.port import Bus
from shared.bus.streams import MD_BARS, STATE_BUCKET
from shared.errors import ConfigError, IntegrityError
from shared.messages import Bar, BarsClosed, InstrumentDefinition, Message
from shared.messages.codec import encode

FRESH_START = "Set it back, or start with an empty state directory (CASCADE_STATE_DIR)"


class StepPublisher:
    """Publish a feed's steps on a venue's subjects."""

    def __init__(self, bus: Bus, feed: Feed, venue: str) -> None:
        self._bus = bus
        self._feed = feed
        self._venue = venue
        self._closed_subject = subjects.bars_closed(feed.timeframe, venue)
        self._bar_subjects = {one.symbol: subjects.bar(feed.timeframe, venue, one.symbol) for one in feed.instruments}
        self._newest: dict[str, Bar | None] = {}
        self._is_certain = False
        self.last: BarsClosed | None = None

    @property
    def next_number(self) -> int:
        """Return the number of the step to publish next."""
        return 1 if self.last is None else self.last.step + 1

    @property
    def newest(self) -> dict[str, Bar | None]:
        """Return the newest published bar of each instrument."""
        return dict(self._newest)

    def begun(self, close_time_ns: int) -> dict[str, Candle]:
        """Return by instrument what a crash left in the stream of a step that has not ended there."""
        return {
            name: Candle(name, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume)
            for name, bar in self._newest.items()
            if bar is not None and bar.close_time_ns == close_time_ns
        }

    async def recover(self) -> None:
        """Find where the stream ends and check that this feed continues it.

        Raises ConfigError when another feed filled the stream, IntegrityError when the stream contradicts itself.
        """
        await self._read_back()
        await self._check_identity()
        if self.last is not None:
            expected = self._feed.step(self.last.step)
            if expected is not None and expected.close_time_ns != self.last.close_time_ns:
                raise ConfigError(
                    f"market_data: the stream ends with step {self.last.step} at {utc_text(self.last.close_time_ns)}, "
                    f"this feed has that step at {utc_text(expected.close_time_ns)}. {FRESH_START}"
                )

    async def publish_definitions(self) -> None:
        """Announce each instrument whose definition in force is not already this one."""
        items: list[tuple[str, Message, str]] = []
        for instrument in self._feed.instruments:
            subject = subjects.instrument(self._venue, instrument.symbol)
            definition = InstrumentDefinition(
                venue=self._venue, instrument=instrument, ts_event_ns=self._feed.first_open_ns
            )
            stored = await self._bus.last(MD_BARS, subject)
            known = None if stored is None else stored.message
            if not isinstance(known, InstrumentDefinition) or known.instrument != instrument:
                digest = hashlib.sha256(encode(definition)).hexdigest()[:16]
                after = 0 if stored is None else stored.stream_sequence
                # The place makes the id differ when a definition comes back after another one was in force.
                items.append((subject, definition, f"{subject}-{digest}-{after}"))
        if items:
            await self._bus.publish_all(items)

    async def redefine(self, feed: Feed) -> None:
        """Announce what changed in the feed's instruments, which are the same ones on other grids."""
        self._feed = feed
        await self.publish_definitions()

    async def publish(self, step: MarketStep) -> None:
        """Publish the step, or what is still missing of it.

        Raises BusUnavailableError when it is unknown what was stored; calling again settles it.
        """
        if not self._is_certain:
            await self._read_back()
        closed = BarsClosed(
            venue=self._venue,
            timeframe=self._feed.timeframe,
            close_time_ns=step.close_time_ns,
            instruments=tuple(candle.instrument for candle in step.candles),
            missing=step.missing,
            step=step.number,
            final=step.final,
        )
        if self.last is not None and self.last.close_time_ns >= step.close_time_ns:
            if self.last != closed:
                raise IntegrityError(f"the stream has {self.last}, this feed {closed}: another feed is publishing too")
            return
        bars = [bar for candle in step.candles if (bar := self._bar(step, candle)) is not None]
        items: list[tuple[str, Message, str]] = [
            (self._bar_subjects[bar.instrument], bar, _message_id(self._bar_subjects[bar.instrument], step))
            for bar in bars
        ]
        items.append((self._closed_subject, closed, _message_id(self._closed_subject, step)))
        self._is_certain = False
        await self._bus.publish_all(items)
        self._newest.update((bar.instrument, bar) for bar in bars)
        self.last = closed
        self._is_certain = True

    def _bar(self, step: MarketStep, candle: Candle) -> Bar | None:
        newest = self._newest[candle.instrument]
        if newest is not None and newest.close_time_ns > step.close_time_ns:
            raise IntegrityError(
                f"the stream has a bar of {candle.instrument} at {utc_text(newest.close_time_ns)}, but step "
                f"{step.number} closes at {utc_text(step.close_time_ns)}: another feed is publishing too"
            )
        bar = Bar(
            venue=self._venue,
            instrument=candle.instrument,
            timeframe=self._feed.timeframe,
            open_time_ns=step.open_time_ns,
            close_time_ns=step.close_time_ns,
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            volume=candle.volume,
            quote_volume=candle.quote_volume,
            # Time is the market's: a wall clock here would make two runs of one feed differ.
            ts_recv_ns=step.close_time_ns,
            sequence=1 if newest is None else newest.sequence + 1,
        )
        if newest is None or newest.close_time_ns < step.close_time_ns:
            return bar
        if newest != msgspec.structs.replace(bar, sequence=newest.sequence):
            raise IntegrityError(f"the stream has {newest}, this feed {bar}: another feed is publishing too")
        return None

    async def _read_back(self) -> None:
        closed = await self._bus.last(MD_BARS, self._closed_subject)
        if closed is not None:
            assert isinstance(closed.message, BarsClosed)
            self.last = closed.message
        for symbol, subject in self._bar_subjects.items():
            stored = await self._bus.last(MD_BARS, subject)
            bar = None if stored is None else stored.message
            assert bar is None or isinstance(bar, Bar)
            self._newest[symbol] = bar
        self._is_certain = True

    async def _check_identity(self) -> None:
        bucket = await self._bus.key_value(STATE_BUCKET)
        key = f"market_data.{self._venue}.feed"
        stored = await bucket.get(key)
        known = {} if stored is None or self.last is None else msgspec.json.decode(stored.value, type=dict[str, str])
        now = self._feed.identity
        for name in sorted(known.keys() & now.keys()):
            if known[name] != now[name]:
                raise ConfigError(
                    f"market_data: the stream was filled by another feed: {name} was {known[name]}, now it is "
                    f"{now[name]}. {FRESH_START}"
                )
        if known | now != known:
            await bucket.put(key, msgspec.json.encode(known | now))


def _message_id(subject: str, step: MarketStep) -> str:
    return f"{subject}-{step.close_time_ns}"

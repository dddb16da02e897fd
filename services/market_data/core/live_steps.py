"""Steps out of live trades: which bars close at T, and which of them cannot be trusted.

In: trades in each market's order, spans in which data may be missing, the venue's time. Out: one draft a step, in
order. Never: a price that nobody traded at, a bar with a hole in it passed off as whole, a step that closes twice.
"""

from collections.abc import Sequence

import msgspec

from shared.domain.bars import BarBuilder, ClosedBar


class Draft(msgspec.Struct, frozen=True):
    """Hold one step's bars by instrument; `gaps` says why others are not whole. Who is in neither had no trade."""

    open_time_ns: int
    close_time_ns: int
    bars: dict[str, ClosedBar]
    gaps: dict[str, str]


class Span(msgspec.Struct, frozen=True):
    """Say from when to when (None: still) data may be missing, and why; `until_ns` is not part of it."""

    from_ns: int
    until_ns: int | None
    reason: str


class StepBuilder:
    """Build the steps of one feed; the first closes at `first_close_ns`, each later one `interval_ns` after."""

    def __init__(
        self, instruments: Sequence[str], interval_ns: int, *, first_close_ns: int, grace_ns: int, seen_from_ns: int
    ) -> None:
        self._interval_ns, self._grace_ns = interval_ns, grace_ns
        self._next_close_ns = first_close_ns
        self._builders = {name: BarBuilder(interval_ns) for name in instruments}
        self._closed: dict[str, dict[int, ClosedBar]] = {name: {} for name in instruments}
        self._last_trade_ns = dict.fromkeys(instruments, 0)
        self._proven_ns = dict.fromkeys(instruments, 0)
        started = Span(0, seen_from_ns, "nobody listened yet")
        self._spans: dict[str, list[Span]] = {name: [started] for name in instruments}

    @property
    def next_close_ns(self) -> int:
        """Return the time at which the next step closes."""
        return self._next_close_ns

    def skip_to(self, now_ns: int) -> None:
        """Let the step that runs at `now_ns` close next, however many that passes over."""
        self._next_close_ns = max((now_ns // self._interval_ns + 1) * self._interval_ns, self._next_close_ns)

    @property
    def late_trades(self) -> dict[str, int]:
        """Return how many trades of each market came after their bar was closed."""
        return {name: builder.late for name, builder in self._builders.items() if builder.late}

    def on_trade(self, instrument: str, trade_id: str, time_ns: int, price: float, quantity: float) -> None:
        """Count a trade in; raises ValueError for a price or a quantity that is not a positive number."""
        closed = self._builders[instrument].add_trade(trade_id, time_ns, price, quantity)
        self._keep(instrument, closed)
        self.on_time(instrument, time_ns)

    def on_time(self, instrument: str, time_ns: int) -> None:
        """Learn that a market went on, by a trade that is counted in later."""
        self._last_trade_ns[instrument] = max(time_ns, self._last_trade_ns[instrument])

    def on_gap(self, instrument: str, from_ns: int, reason: str) -> None:
        """Learn that trades may be missing from `from_ns` on; the first reason of an open gap counts.

        What was proven before stays so.
        """
        spans = self._spans[instrument]
        if not spans or spans[-1].until_ns is not None:
            spans.append(Span(max(from_ns, self._proven_ns[instrument]), None, reason))

    def on_hole(self, instrument: str, from_ns: int, until_ns: int, reason: str) -> None:
        """Learn that trades of [from, until) may be missing, whatever is known of later ones."""
        from_ns = max(from_ns, self._proven_ns[instrument])
        if from_ns < until_ns:
            # The last span is the one that may still be open.
            self._spans[instrument].insert(0, Span(from_ns, until_ns, reason))

    def on_whole(self, instrument: str, at_ns: int) -> None:
        """Learn that from `at_ns` on nothing is missing."""
        spans = self._spans[instrument]
        if spans and spans[-1].until_ns is None:
            # At least one instant: what was lost was lost somewhere in it.
            spans[-1] = msgspec.structs.replace(spans[-1], until_ns=max(at_ns, spans[-1].from_ns + 1))

    def on_proven(self, instrument: str, from_ns: int, until_ns: int) -> None:
        """Learn that of [from, until) nothing is missing after all: whoever says so has counted it in."""
        spans = self._spans[instrument]
        self._proven_ns[instrument] = max(until_ns, self._proven_ns[instrument])
        self._spans[instrument] = [part for one in spans for part in _without(one, from_ns, until_ns)]

    def is_due(self, now_ns: int) -> bool:
        """Tell whether the next step may close: its time has come, and every market went on or had time to."""
        if now_ns < self._next_close_ns:
            return False
        is_over = all(last_ns >= self._next_close_ns for last_ns in self._last_trade_ns.values())
        return is_over or now_ns >= self._next_close_ns + self._grace_ns

    def close(self) -> Draft:
        """Close the next step."""
        close_ns, open_ns = self._next_close_ns, self._next_close_ns - self._interval_ns
        self._next_close_ns += self._interval_ns
        bars: dict[str, ClosedBar] = {}
        gaps: dict[str, str] = {}
        for name, builder in self._builders.items():
            self._keep(name, builder.advance(close_ns))
            bar = self._closed[name].pop(close_ns, None)
            self._closed[name] = {at: kept for at, kept in self._closed[name].items() if at > close_ns}
            reason = self._reason(name, open_ns, close_ns)
            if reason is not None:
                gaps[name] = reason
            elif bar is not None:
                bars[name] = bar
        return Draft(open_ns, close_ns, bars, gaps)

    def _reason(self, instrument: str, open_ns: int, close_ns: int) -> str | None:
        spans = self._spans[instrument]
        found = next((one for one in spans if one.from_ns < close_ns and _reaches(one, open_ns)), None)
        self._spans[instrument] = [one for one in spans if _reaches(one, close_ns)]
        return None if found is None else found.reason

    def _keep(self, instrument: str, closed: ClosedBar | None) -> None:
        if closed is not None and closed.close_time_ns >= self._next_close_ns - self._interval_ns:
            self._closed[instrument][closed.close_time_ns] = closed


def _reaches(span: Span, time_ns: int) -> bool:
    return span.until_ns is None or span.until_ns > time_ns


def _without(span: Span, from_ns: int, until_ns: int) -> list[Span]:
    if span.from_ns >= until_ns or not _reaches(span, from_ns):
        return [span]
    before = [Span(span.from_ns, from_ns, span.reason)] if span.from_ns < from_ns else []
    after = [Span(until_ns, span.until_ns, span.reason)] if _reaches(span, until_ns) else []
    return before + after

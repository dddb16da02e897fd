"""An order book rebuilt from a venue's diffs, for every venue whose diffs count their versions without gaps.

In: diffs (versions `first` to `last`, absolute quantities, 0 removes) and snapshots, in the order of their arrival.
Out: the best levels. Never: a level of a book that has a gap, is crossed, or is not known that deep.

MEXC (`fromVersion`, `toVersion`) and Binance (`U`, `u`) count alike: a diff that ends at or before the book's version
is old, one that begins after the next version is a gap, any other applies. A served book is the venue's at `version`.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from math import inf

BUFFER_MAX = 2_000

Level = tuple[float, float]
Levels = tuple[Level, ...]
_Diff = tuple[int, int, Iterable[Level], Iterable[Level]]


class Applied(Enum):
    """Name what became of a diff or a snapshot."""

    DONE = auto()  # the book is whole, and is that of the diff's last version
    OLD = auto()  # known already; nothing has changed
    BUFFERED = auto()  # kept until a snapshot comes
    TOO_OLD = auto()  # the snapshot ends before the kept diffs begin: fetch another one, a little later
    GAP = auto()  # versions are missing: fetch a snapshot
    CROSSED = auto()  # the best bid is not below the best ask: fetch a snapshot
    EXHAUSTED = auto()  # what the snapshot knew of a side is used up: fetch a deeper snapshot
    MALFORMED = auto()  # a price or quantity that no book can have: fetch a snapshot


class BookBuilder:
    """Build one market's book. It begins, and after every failure goes on, with buffering until a snapshot."""

    __slots__ = (
        "_ask_ceiling", "_ask_keys", "_asks", "_bid_floor", "_bid_keys", "_bids", "_buffer", "_is_whole", "_last",
        "version",
    )  # fmt: skip

    def __init__(self, *, buffer_max: int = BUFFER_MAX) -> None:
        # Keys ascend towards the best level, so that changes near it move little memory: bids +price, asks -price.
        # Beside each key lies its level as it came: the best ones are served by one slice, without a look-up.
        self._bids: list[Level] = []
        self._asks: list[Level] = []
        self._bid_keys: list[float] = []
        self._ask_keys: list[float] = []
        self._bid_floor, self._ask_ceiling = 0.0, inf
        self._buffer: deque[_Diff] = deque(maxlen=buffer_max)
        self._is_whole = False
        self._last = 0
        self.version = 0

    @property
    def is_whole(self) -> bool:
        """Tell whether the book may be served."""
        return self._is_whole

    @property
    def level_counts(self) -> tuple[int, int]:
        """Return how many bid and ask levels are held, those below the snapshot's depth included."""
        return len(self._bid_keys), len(self._ask_keys)

    def reset(self) -> None:
        """Forget everything: the stream was interrupted."""
        self._buffer.clear()
        self._is_whole = False

    def apply(self, first: int, last: int, bids: Iterable[Level], asks: Iterable[Level]) -> Applied:
        """Take a diff of the versions `first` to `last`."""
        if not self._is_whole:
            return self._keep(first, last, bids, asks)
        version = self.version
        if last <= version:
            return Applied.OLD
        if first > version + 1 or first > last:
            return self._fail(Applied.GAP, (first, last, bids, asks))
        if not (_change(bids, self._bid_keys, self._bids, 1.0) and _change(asks, self._ask_keys, self._asks, -1.0)):
            return self._fail(Applied.MALFORMED)
        self.version = last
        return self._check()

    def snapshot(
        self, version: int, bids: Iterable[Level], asks: Iterable[Level], *, depth: int | None = None
    ) -> Applied:
        """Take a snapshot, then the kept diffs. `depth` levels were asked for; None: the snapshot has them all.

        After TOO_OLD the kept diffs stay; after any other failure the book buffers anew.
        """
        if self._buffer and version + 1 < self._buffer[0][0]:
            return Applied.TOO_OLD
        self._bids, self._asks, self._bid_keys, self._ask_keys = [], [], [], []
        if not (_change(bids, self._bid_keys, self._bids, 1.0) and _change(asks, self._ask_keys, self._asks, -1.0)):
            return self._fail(Applied.MALFORMED)
        is_cut = depth is not None
        self._bid_floor = self._bid_keys[0] if is_cut and len(self._bid_keys) >= (depth or 0) > 0 else 0.0
        self._ask_ceiling = -self._ask_keys[0] if is_cut and len(self._ask_keys) >= (depth or 0) > 0 else inf
        self.version, self._is_whole = version, True
        kept, self._buffer = self._buffer, deque(maxlen=self._buffer.maxlen)
        for diff in kept:
            outcome = self.apply(*diff)
            if outcome is not Applied.DONE and outcome is not Applied.OLD:
                return outcome
        return self._check()

    def top(self, levels: int) -> tuple[Levels, Levels] | None:
        """Return at most `levels` bids (descending) and asks (ascending), or None while the book is not whole.

        Levels that the snapshot was not deep enough to know are left out.
        """
        if not self._is_whole:
            return None
        bids, asks = self._bids[: -levels - 1 : -1], self._asks[: -levels - 1 : -1]
        if bids and bids[-1][0] < self._bid_floor:
            bids = [level for level in bids if level[0] >= self._bid_floor]
        if asks and asks[-1][0] > self._ask_ceiling:
            asks = [level for level in asks if level[0] <= self._ask_ceiling]
        return tuple(bids), tuple(asks)

    def best(self) -> tuple[float, float, float, float] | None:
        """Return bid price and quantity, ask price and quantity; None while the book is not whole or one-sided."""
        if not self._is_whole or not self._bids or not self._asks:
            return None
        return *self._bids[-1], *self._asks[-1]

    def _keep(self, first: int, last: int, bids: Iterable[Level], asks: Iterable[Level]) -> Applied:
        buffer = self._buffer
        if first > last:
            return Applied.MALFORMED
        if buffer:
            if last <= self._last:
                return Applied.OLD
            if first > self._last + 1:
                buffer.clear()
        buffer.append((first, last, bids, asks))
        self._last = last
        return Applied.BUFFERED

    def _check(self) -> Applied:
        bid_keys, ask_keys = self._bid_keys, self._ask_keys
        if (not bid_keys or bid_keys[-1] < self._bid_floor) and self._bid_floor > 0:
            return self._fail(Applied.EXHAUSTED)
        if (not ask_keys or -ask_keys[-1] > self._ask_ceiling) and self._ask_ceiling < inf:
            return self._fail(Applied.EXHAUSTED)
        if bid_keys and ask_keys and bid_keys[-1] >= -ask_keys[-1]:
            return self._fail(Applied.CROSSED)
        return Applied.DONE

    def _fail(self, outcome: Applied, keep: _Diff | None = None) -> Applied:
        self.reset()
        if keep is not None:
            self._keep(*keep)
        return outcome


def _change(levels: Iterable[Level], keys: list[float], known: list[Level], sign: float) -> bool:
    for level in levels:
        price, quantity = level
        key = price * sign
        place = bisect_left(keys, key)
        is_known = place < len(keys) and keys[place] == key
        if 0.0 < quantity < inf:
            if is_known:
                known[place] = level
            elif 0.0 < price < inf:
                keys.insert(place, key)
                known.insert(place, level)
            else:
                return False
        elif quantity != 0.0:
            return False
        elif is_known:
            del keys[place], known[place]
    return True

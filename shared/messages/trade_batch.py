"""Many trades of one instrument as one message: columns, not objects, so that a recorder need not look at each.

Numbers lie packed one after another as on the disk of any column store: 8 bytes each, the lowest byte first, prices
and quantities IEEE 754 doubles, times and sequence numbers signed integers; a side is one byte, 1 for a buy.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from shared.messages.base import Message, Side
from shared.messages.market import Trade

_BYTES = 8
_REALS = ("price", "quantity")
_INTEGERS = ("ts_event_ns", "ts_recv_ns", "sequence")
_SIDES = (Side.SELL, Side.BUY)
_IS_BIG_ENDIAN = sys.byteorder == "big"


class TradeBatch(Message, frozen=True, gc=False):
    """Carry up to 50 trades of one instrument, or those of 2 ms, in the venue's order: a sequence of `Trade`.

    Columns under the names of `Trade`, packed as the module says; raises ValueError where their lengths differ.
    """

    venue: str
    instrument: str
    trade_id: tuple[str, ...]
    side: bytes
    price: bytes
    quantity: bytes
    ts_event_ns: bytes
    ts_recv_ns: bytes
    sequence: bytes

    def __post_init__(self) -> None:
        count = len(self.trade_id)
        if len(self.side) != count or not set(self.side) <= {0, 1}:
            raise ValueError(f"side must be {count} bytes of 0 or 1, one for each of trade_id")
        for name in (*_REALS, *_INTEGERS):
            if len(getattr(self, name)) != count * _BYTES:
                raise ValueError(f"{name} must be {count * _BYTES} bytes, {_BYTES} for each of trade_id")

    @classmethod
    def of(cls, trades: Sequence[Trade]) -> "TradeBatch":
        """Return trades of one instrument as a batch.

        Raises ValueError when there are none, when they are of several instruments, or when a time or a sequence
        number does not fit 64 bits.
        """
        if len({(trade.venue, trade.instrument) for trade in trades}) != 1:
            raise ValueError("a batch holds trades of one instrument, one at least")
        try:
            return cls(
                trades[0].venue,
                trades[0].instrument,
                tuple([trade.trade_id for trade in trades]),
                bytes([trade.side is Side.BUY for trade in trades]),
                packed("d", [trade.price for trade in trades]),
                packed("d", [trade.quantity for trade in trades]),
                packed("q", [trade.ts_event_ns for trade in trades]),
                packed("q", [trade.ts_recv_ns for trade in trades]),
                packed("q", [trade.sequence for trade in trades]),
            )
        except OverflowError as error:
            raise ValueError(f"a time or a sequence number does not fit 64 bits: {error}") from error

    @property
    def trades(self) -> tuple[Trade, ...]:
        """Return the trades, made anew."""
        return tuple(self)

    def integers(self, name: str) -> "array[int]":
        """Return the column `ts_event_ns`, `ts_recv_ns` or `sequence` as numbers."""
        return _native(array("q", getattr(self, name)))

    def reals(self, name: str) -> "array[float]":
        """Return the column `price` or `quantity` as numbers."""
        return _native(array("d", getattr(self, name)))

    def __len__(self) -> int:
        return len(self.trade_id)

    def __iter__(self) -> Iterator[Trade]:
        venue, instrument = self.venue, self.instrument
        columns = zip(
            self.trade_id,
            self.side,
            *(self.reals(name) for name in _REALS),
            *(self.integers(name) for name in _INTEGERS),
            strict=True,
        )
        return (Trade(venue, instrument, trade_id, _SIDES[side], *numbers) for trade_id, side, *numbers in columns)

    @overload
    def __getitem__(self, index: int) -> Trade: ...

    @overload
    def __getitem__(self, index: slice) -> "TradeBatch": ...

    def __getitem__(self, index: int | slice) -> "Trade | TradeBatch":
        if isinstance(index, int):
            return self.trades[index]
        start, stop, step = index.indices(len(self))
        if step != 1:
            raise ValueError("a batch is cut into neighbours only")
        cut = slice(start * _BYTES, max(start, stop) * _BYTES)
        return TradeBatch(
            self.venue,
            self.instrument,
            self.trade_id[index],
            self.side[index],
            *(getattr(self, name)[cut] for name in (*_REALS, *_INTEGERS)),
        )


def packed(code: str, values: Iterable[float]) -> bytes:
    """Return numbers packed as a batch has them: `d` doubles, `q` signed integers; raises OverflowError."""
    return _native(array(code, values)).tobytes()


def _native[T: (int, float)](numbers: "array[T]") -> "array[T]":
    if _IS_BIG_ENDIAN:
        numbers.byteswap()
    return numbers

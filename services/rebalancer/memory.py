"""The rebalancer's durable memory: its state and its newest journal entry under one key, changed by compare-and-set.

In: what a decision leaves behind. Out: the same after a crash. Never: a state written over another process's.
"""

import msgspec

from services.rebalancer.core import RebalancerState, decode_state, encode_state
from shared.bus.port import KeyValue
from shared.errors import IntegrityError
from shared.messages import DecisionRecord


class Remembered(msgspec.Struct, frozen=True):
    """Hold a state and the journal entry of the event that led to it, which may not have been published yet."""

    state: RebalancerState
    record: DecisionRecord | None


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    state: bytes
    record: DecisionRecord | None


def packed(remembered: Remembered) -> bytes:
    """Return what is stored."""
    return msgspec.msgpack.encode(_Stored(encode_state(remembered.state), remembered.record))


class StateMemory:
    """Keep one strategy's state in a key-value bucket."""

    def __init__(self, bucket: KeyValue, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._revision: int | None = None

    async def load(self) -> Remembered:
        """Return what was stored last, or a fresh state.

        Raises IntegrityError when the stored bytes are of another build.
        """
        entry = await self._bucket.get(self._key)
        if entry is None:
            self._revision = None
            return Remembered(RebalancerState(), None)
        self._revision = entry.revision
        try:
            stored = msgspec.msgpack.decode(entry.value, type=_Stored)
        except msgspec.MsgspecError as error:
            raise IntegrityError(f"key {self._key} cannot be read: {error}") from error
        return Remembered(decode_state(stored.state), stored.record)

    async def store(self, remembered: Remembered) -> None:
        """Store it, if nobody else has stored anything since; raises IntegrityError otherwise."""
        value = packed(remembered)
        if self._revision is None:
            revision = await self._bucket.create(self._key, value)
        else:
            revision = await self._bucket.update(self._key, value, revision=self._revision)
        self._revision = revision if revision is not None else await self._own_revision(value)

    async def _own_revision(self, value: bytes) -> int:
        # An attempt that timed out may have been stored all the same: then the stored bytes are these.
        entry = await self._bucket.get(self._key)
        if entry is not None and entry.value == value:
            return entry.revision
        raise IntegrityError(f"key {self._key} was changed by another process: run one rebalancer for each strategy")

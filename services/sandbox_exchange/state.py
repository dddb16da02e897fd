"""What a venue keeps over restarts: its exchange, in one file that is always whole.

In: the exchange's dump. Out: a file, written beside and renamed; its content back at the start.
Never: a half-written file, another venue's accounts taken over silently.
"""

import asyncio
import os
from pathlib import Path

import msgspec

from services.sandbox_exchange.core.model import HOUSE, Event, HoldingChanged, OrderChanged
from services.sandbox_exchange.core.port import Exchange
from services.sandbox_exchange.source import MarketSource
from shared.errors import ConfigError, InputError

FORMAT = 1
QUIET_SAVES_EVERY = 10  # what only the house did is saved less often


class SavedState(msgspec.Struct, frozen=True, tag="cascade_sandbox_exchange"):
    """Hold one venue's state; `exchange` and `market` are what those dump, `api_key` the trading account's.

    `runs` counts the restarts.
    """

    format: int
    venue: str
    api_key: str
    exchange: bytes
    market: bytes
    runs: int


class Persisted:
    """Take and give back everything that a venue keeps."""

    def __init__(self, venue: str, exchange: Exchange, source: MarketSource, *, runs: int) -> None:
        self.venue, self.exchange, self.source, self.runs = venue, exchange, source, runs
        self.api_key = ""

    def encode(self) -> bytes:
        """Return a state file's content."""
        saved = SavedState(FORMAT, self.venue, self.api_key, self.exchange.dump(), self.source.dump(), self.runs)
        return msgspec.msgpack.encode(saved)

    async def return_to(self, saved: SavedState) -> None:
        """Become what was saved while the markets run."""
        await self.source.stop()
        self.exchange.restore(saved.exchange)
        self.source.restore(saved.market)
        await self.source.start()


def decode_state(data: bytes, venue: str, source: str) -> SavedState:
    """Return what a file holds. Raises InputError, with `source` in it, for anything but this venue's state."""
    try:
        saved = msgspec.msgpack.decode(data, type=SavedState)
    except msgspec.MsgspecError as error:
        raise InputError(
            f"{source} is no state of a sandbox venue ({error}): name another file, or remove it"
        ) from None
    if saved.format != FORMAT:
        raise InputError(f"{source} has format {saved.format}, this is format {FORMAT}: name another file")
    if saved.venue != venue:
        raise InputError(f"{source} is a state of {saved.venue}, not of {venue}: choose that venue or another file")
    return saved


def read_state(path: Path, venue: str) -> SavedState | None:
    """Return a state file's content, or None where there is no file yet.

    Raises ConfigError for a file that cannot be read, InputError for one that is no state of this venue.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"state file {path}: {error.strerror}") from error
    return decode_state(data, venue, f"state file {path}")


def write_file(path: Path, data: bytes) -> None:
    """Write a file for its owner alone, whole or not at all, and on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    # What a crash, or somebody else, left there keeps its mode and its target: the file must be a new one.
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class StateKeeper:
    """Save the venue into `path`: before a client hears of its order or balance, and now and then otherwise.

    Requests and reports of the same moment share one save.
    """

    def __init__(self, path: Path, persisted: Persisted, *, interval_s: float) -> None:
        self.path = path
        self.saves = 0
        self._persisted = persisted
        self._interval_s = interval_s
        self._changes = 1
        self._saved_changes = 0
        self._writing = asyncio.Lock()
        persisted.exchange.listen(self._on_event)

    async def save(self) -> None:
        """Save now. Raises OSError when the disk does not take it."""
        async with self._writing:
            await self._write()

    async def settle(self) -> None:
        """Return when everything that changed for a client so far is on the disk. Raises OSError when it cannot be."""
        changes = self._changes
        if self._saved_changes >= changes:
            return
        async with self._writing:
            if self._saved_changes < changes:
                await self._write()

    async def save_forever(self) -> None:
        """Save at each interval in which something changed. Raises OSError when the disk does not take it."""
        quiet = 0
        while True:
            await asyncio.sleep(self._interval_s)
            quiet += 1
            if self._saved_changes < self._changes or quiet >= QUIET_SAVES_EVERY:
                quiet = 0
                await self.save()

    async def _write(self) -> None:
        changes = self._changes
        data = self._persisted.encode()
        await asyncio.to_thread(write_file, self.path, data)
        self._saved_changes = changes
        self.saves += 1

    def _on_event(self, event: Event) -> None:
        is_for_client = (isinstance(event, OrderChanged) and event.order.account != HOUSE) or (
            isinstance(event, HoldingChanged) and event.account != HOUSE
        )
        self._changes += is_for_client

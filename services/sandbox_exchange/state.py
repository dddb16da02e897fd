"""What a venue keeps over restarts: its exchange, its markets, its key.

In: a state file's rows, or a state in one piece (the admin page's, and older files'). Out: the same, as it is now.
Never: another venue's accounts taken over silently.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.sandbox_exchange.core.changes import Changes, Row, state_of
from services.sandbox_exchange.core.port import Exchange
from services.sandbox_exchange.core.state import encode_state
from services.sandbox_exchange.source import MarketSource
from services.sandbox_exchange.state_file import MAGIC, read_rows
from shared.errors import ConfigError, InputError

FORMAT = 1
ROWS_FORMAT = 2
HEAD, MARKETS = "head", "markets"


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

    def __repr__(self) -> str:
        return f"SavedState(venue={self.venue!r}, runs={self.runs})"  # the accounts' secrets are in the rest


class Head(msgspec.Struct, frozen=True):
    """Say whose rows a file holds."""

    format: int
    venue: str
    api_key: str
    runs: int


class Persisted:
    """Take and give back everything that a venue keeps."""

    def __init__(self, venue: str, exchange: Exchange, source: MarketSource, *, runs: int) -> None:
        self.venue, self.exchange, self.source, self.runs = venue, exchange, source, runs
        self.api_key = ""

    def encode(self) -> bytes:
        """Return the whole state as bytes."""
        saved = SavedState(FORMAT, self.venue, self.api_key, self.exchange.dump(), self.source.dump(), self.runs)
        return msgspec.msgpack.encode(saved)

    def take_changes(self) -> Changes:
        """Return the rows that changed since the last call, at first every row."""
        changes = self.exchange.take_changes()
        if changes.is_whole:
            head = Head(ROWS_FORMAT, self.venue, self.api_key, self.runs)
            changes.puts.append((HEAD, "", 0, msgspec.msgpack.encode(head)))
        changes.puts.append((MARKETS, "", 0, self.source.dump()))
        return changes

    async def return_to(self, saved: SavedState) -> None:
        """Become what was saved while the markets run."""
        await self.source.stop()
        self.exchange.restore(saved.exchange)
        self.source.restore(saved.market)
        await self.source.start()


def decode_state(data: bytes, venue: str, source: str) -> SavedState:
    """Return what bytes hold. Raises InputError, with `source` in it, for anything but this venue's state."""
    try:
        saved = msgspec.msgpack.decode(data, type=SavedState)
    except msgspec.MsgspecError as error:
        raise InputError(
            f"{source} is no state of a sandbox venue ({error}): name another file, or remove it"
        ) from None
    _check(saved.format, FORMAT, saved.venue, venue, source)
    return saved


def read_state(path: Path, venue: str) -> SavedState | None:
    """Return a state file's content, or None where there is no file yet.

    A file of one piece, as earlier versions wrote it, is read too. Raises ConfigError for a file that cannot be read or
    is in use, InputError for one that is no state of this venue.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
        if magic == MAGIC:
            return state_in(read_rows(path), venue, f"state file {path}")
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"state file {path}: {error.strerror}") from error
    return decode_state(data, venue, f"state file {path}")


def state_in(rows: Sequence[Row], venue: str, source: str) -> SavedState:
    """Return what rows hold. Raises InputError, with `source` in it, for anything but this venue's state."""
    own = {section: value for section, _, _, value in rows if section in {HEAD, MARKETS}}
    try:
        head = msgspec.msgpack.decode(own[HEAD], type=Head)
        _check(head.format, ROWS_FORMAT, head.venue, venue, source)
        exchange = encode_state(state_of(row for row in rows if row[0] not in own))
        return SavedState(FORMAT, head.venue, head.api_key, exchange, own[MARKETS], head.runs)
    except (msgspec.MsgspecError, LookupError) as error:
        raise InputError(f"{source} does not hold together ({error!r}): name another file, or remove it") from error


def _check(format_: int, known: int, of_venue: str, venue: str, source: str) -> None:
    if format_ != known:
        raise InputError(f"{source} has format {format_}, this is format {known}: name another file, or remove it")
    if of_venue != venue:
        raise InputError(f"{source} is a state of {of_venue}, not of {venue}: choose that venue or another file")

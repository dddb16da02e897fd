"""The trading account's key: made once, kept in a file that its owner alone can read.

In: a path or none. Out: a key and its secret. Never: a secret in a log or in `repr`.

`python -m services.sandbox_exchange.keys DIRECTORY` makes the venue's key file there, and beside it the two files with
which a client is configured (`exchange.key`, `exchange.secret`).
"""

import secrets
import sys
from pathlib import Path

import msgspec

from services.sandbox_exchange.config import NAME
from services.sandbox_exchange.files import write_file
from shared.errors import ConfigError


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold an API key and its secret."""

    api_key: str
    secret: str

    def __post_init__(self) -> None:
        if not (self.api_key and self.secret):
            raise ValueError("api_key and secret must not be empty")

    def __repr__(self) -> str:
        return "Key(api_key='…', secret='…')"


def new_key() -> Key:
    """Return a key that nobody has."""
    return Key(f"sbx{secrets.token_hex(14)}", secrets.token_hex(32))


def read_or_make_key(path: Path | None, fresh: Key | None = None) -> Key:
    """Return the key in the file, or `fresh` (by default a new one), which is then written there.

    Raises ConfigError for a bad file.
    """
    if path is None:
        return fresh or new_key()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Key)
    except FileNotFoundError:
        pass
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"key file {path}: {error}; it must be JSON with api_key and secret, or absent") from error
    key = fresh or new_key()
    try:
        write_file(path, msgspec.json.encode(key))
    except OSError as error:
        raise ConfigError(
            f"key file {path} cannot be written: {error.strerror}: name a file in a folder that you may write to"
        ) from error
    return key


def write_key_files(directory: Path) -> tuple[Path, Path]:
    """Write the venue's key file unless it is there, and return the client's two files. Raises ConfigError."""
    key = read_or_make_key(directory / f"{NAME}.key")
    files = directory / "exchange.key", directory / "exchange.secret"
    for file, text in zip(files, (key.api_key, key.secret), strict=True):
        write_file(file, text.encode())
    return files


if __name__ == "__main__":
    write_key_files(Path(sys.argv[1]))

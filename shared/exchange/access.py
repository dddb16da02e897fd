"""Who may reach which venue, and with whose key: the section `[exchange]`.

In: the stack's mode, addresses, names of key files, the environment. Out: how an adapter connects. Never: an order to
a real venue without two independent switches, a key from anywhere but a file that only its owner reads, a sandbox's
mode with a real venue's address or the other way round.
"""

import stat
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shared.config import Mode, Settings, StackConfig
from shared.errors import ConfigError
from shared.exchange.live.config import WireConfig

NAME = "exchange"
LIVE_SWITCH = "CASCADE_LIVE_ARMED"
LIVE_ANSWER = "yes"
KEY_LENGTH_MIN = 8
# A real venue's address under another mode's name would trade real money without a switch.
_NEAR_NAMES = (".localhost", ".local", ".internal", ".lan", ".test")
_PLACEHOLDERS = ("changeme", "secret", "password", "your", "xxxx", "<")


class ExchangeAccess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say how the venue is reached; an address left out is the real venue's.

    `key_file` and `secret_file` name files of mode 0600 with the API key and its secret; a key that may withdraw is
    refused. Where the venue's API cannot tell that of a key (MEXC), `key_cannot_withdraw` is the operator's word after
    a look at the key's page; elsewhere it counts for nothing. `armed` is one of the two switches of `stack.mode=live`;
    the other is CASCADE_LIVE_ARMED=yes in the environment.
    """

    rest_url: str | None = None
    ws_url: str | None = None
    ws_api_url: str | None = None
    key_file: str | None = None
    secret_file: str | None = None
    key_cannot_withdraw: bool = False
    armed: bool = False

    @property
    def urls(self) -> tuple[str, ...]:
        """Return the addresses that are given."""
        return tuple(url for url in (self.rest_url, self.ws_url, self.ws_api_url) if url is not None)


def access_of(settings: Settings) -> ExchangeAccess:
    """Return the section; raises ConfigError that names the key and the fix."""
    return settings.section(NAME, ExchangeAccess)


def check_access(stack: StackConfig, access: ExchangeAccess, environ: Mapping[str, str]) -> None:
    """Raise ConfigError when the mode, the addresses and the two switches do not belong together."""
    if stack.mode is not Mode.LIVE:
        return
    _need_addresses(stack, access)
    switches = {
        "exchange.armed=true in the configuration": access.armed,
        f"{LIVE_SWITCH}={LIVE_ANSWER} in the environment": environ.get(LIVE_SWITCH) == LIVE_ANSWER,
    }
    if missing := [words for words, is_on in switches.items() if not is_on]:
        raise ConfigError(
            f"stack.mode=live trades real money and needs two switches; missing: {' and '.join(missing)}. "
            "Set stack.mode=sandbox for the sandbox exchange"
        )
    for name in ("key_file", "secret_file"):
        if getattr(access, name) is None:
            raise ConfigError(f"exchange.{name} must name a file of mode 0600 when stack.mode is live")


def market_wire(stack: StackConfig, access: ExchangeAccess) -> WireConfig:
    """Return how market data is heard: no key is read."""
    _need_addresses(stack, access)
    return _config(stack, access)


def trading_wire(stack: StackConfig, access: ExchangeAccess, environ: Mapping[str, str]) -> WireConfig:
    """Return how orders are sent, with the key; raises ConfigError for whatever forbids it."""
    if stack.mode.is_simulated:
        raise ConfigError(f"stack.mode={stack.mode} sends no order to a venue")
    _need_addresses(stack, access)
    check_access(stack, access, environ)
    key, secret = read_key(access.key_file, "key_file"), read_key(access.secret_file, "secret_file")
    return msgspec.structs.replace(
        _config(stack, access), api_key=key, secret=secret, key_cannot_withdraw=access.key_cannot_withdraw
    )


def read_key(file: str | None, name: str) -> str:
    """Return what a key file holds; raises ConfigError unless only its owner may read it. Never shows the content."""
    if file is None:
        raise ConfigError(f"exchange.{name} must name a file of mode 0600")
    path = Path(file)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"exchange.{name} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"exchange.{name} {path} holds something else than a key") from error
    if mode & 0o077:
        raise ConfigError(f"exchange.{name} {path} has mode {mode:04o}: others could read it. Run chmod 600 {path}")
    if len(text) < KEY_LENGTH_MIN or not text.isprintable() or " " in text:
        raise ConfigError(f"exchange.{name} {path} holds no key: one line of at least {KEY_LENGTH_MIN} characters")
    if text.lower().startswith(_PLACEHOLDERS):
        raise ConfigError(f"exchange.{name} {path} holds a placeholder: put the venue's own key there")
    return text


def _need_addresses(stack: StackConfig, access: ExchangeAccess) -> None:
    if stack.mode is Mode.LIVE and access.urls:
        raise ConfigError(
            f"exchange: stack.mode is live, but {access.urls[0]} is set: leave the addresses out, or set "
            "stack.mode=sandbox"
        )
    if stack.mode is Mode.SANDBOX and (access.rest_url is None or access.ws_url is None):
        raise ConfigError(
            "exchange.rest_url and exchange.ws_url must name the sandbox exchange: `cascade up` starts one and sets "
            "them, `cascade sandbox --json` prints them"
        )
    if stack.mode is Mode.SANDBOX and (public := [url for url in access.urls if not _is_near(url)]):
        raise ConfigError(
            f"exchange: {public[0]} is no sandbox exchange: its host must be this machine, a private address or a "
            "name of your own network. Set stack.mode=live for a real venue"
        )


def _is_near(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_NEAR_NAMES)


def _config(stack: StackConfig, access: ExchangeAccess) -> WireConfig:
    try:
        return WireConfig(
            venue=stack.venue, rest_url=access.rest_url, ws_url=access.ws_url, ws_api_url=access.ws_api_url
        )
    except ValueError as error:
        raise ConfigError(f"exchange.{error}") from error

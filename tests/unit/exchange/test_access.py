"""Who may reach a venue: keys from private files alone, a mode and its addresses together, two switches for live."""

from pathlib import Path

import msgspec
import pytest

from shared.config import Mode, StackConfig
from shared.errors import ConfigError
from shared.exchange.access import ExchangeAccess, check_access, market_wire, read_key, trading_wire

KEY = "mx0vglABCDEF1234"
SWITCH = {"CASCADE_LIVE_ARMED": "yes"}


def files(folder: Path) -> ExchangeAccess:
    for name in ("key", "secret"):
        (folder / name).write_text(f"{name[0]}{KEY}\n")
        (folder / name).chmod(0o600)
    return ExchangeAccess(key_file=str(folder / "key"), secret_file=str(folder / "secret"))


def live(**changes: object) -> StackConfig:
    return msgspec.structs.replace(StackConfig(mode=Mode.LIVE), **changes)


def test_a_key_is_read_without_its_line_end(tmp_path: Path) -> None:
    access = msgspec.structs.replace(files(tmp_path), armed=True)
    wire = trading_wire(live(), access, SWITCH)
    assert (wire.api_key, wire.secret, wire.rest_url) == (f"k{KEY}", f"s{KEY}", None)
    assert KEY not in repr(wire)


@pytest.mark.parametrize("word", [False, True])
def test_what_a_person_says_of_a_key_goes_with_the_key_alone(tmp_path: Path, word: bool) -> None:
    access = msgspec.structs.replace(files(tmp_path), armed=True, key_cannot_withdraw=word)
    assert trading_wire(live(), access, SWITCH).key_cannot_withdraw is word
    paper = StackConfig(mode=Mode.PAPER)
    assert not market_wire(paper, access).key_cannot_withdraw
    assert not ExchangeAccess().key_cannot_withdraw


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (KEY, 0o644, "chmod 600"),
        (KEY, 0o640, "chmod 600"),
        ("changeme123", 0o600, "placeholder"),
        ("your-api-key", 0o600, "placeholder"),
        ("", 0o600, "holds no key"),
        ("short", 0o600, "holds no key"),
        (f"{KEY} {KEY}", 0o600, "holds no key"),
        (f"{KEY}\n{KEY}", 0o600, "holds no key"),
        ("schlüssel-schlüssel", 0o600, "something else than a key"),
    ],
)
def test_a_key_file_that_cannot_be_trusted_is_refused_without_showing_it(
    tmp_path: Path, text: str, mode: int, words: str
) -> None:
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=words) as refusal:
        read_key(str(path), "key_file")
    assert KEY not in str(refusal.value)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="key_file"):
        read_key(str(tmp_path / "none"), "key_file")
    with pytest.raises(ConfigError, match="secret_file must name"):
        read_key(None, "secret_file")


def test_live_is_armed_by_both_switches_together_only(tmp_path: Path) -> None:
    access = files(tmp_path)
    armed = msgspec.structs.replace(access, armed=True)
    check_access(live(), armed, SWITCH)
    for given, environ in ((access, SWITCH), (armed, {}), (armed, {"CASCADE_LIVE_ARMED": "1"}), (access, {})):
        with pytest.raises(ConfigError, match="two switches"):
            trading_wire(live(), given, environ)


def test_an_address_is_the_sandboxs_and_its_absence_the_real_venue(tmp_path: Path) -> None:
    access = msgspec.structs.replace(files(tmp_path), armed=True, rest_url="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="leave the addresses out"):
        trading_wire(live(), access, SWITCH)
    with pytest.raises(ConfigError, match="leave the addresses out"):
        market_wire(live(), access)
    with pytest.raises(ConfigError, match="cascade sandbox --json"):
        market_wire(StackConfig(mode=Mode.SANDBOX), ExchangeAccess())
    assert market_wire(StackConfig(mode=Mode.PAPER), ExchangeAccess()).rest_url is None
    with pytest.raises(ConfigError, match="sends no order"):
        trading_wire(StackConfig(mode=Mode.PAPER), files(tmp_path), {})


@pytest.mark.parametrize(
    "url", ["https://api.mexc.com", "https://api.binance.com:443", "https://8.8.8.8", "wss://wbs-api.mexc.com/ws"]
)
@pytest.mark.parametrize("name", ["rest_url", "ws_url", "ws_api_url"])
def test_a_sandbox_is_never_at_a_public_address(tmp_path: Path, url: str, name: str) -> None:
    near = ExchangeAccess(rest_url="http://127.0.0.1:1", ws_url="ws://sandbox:2", ws_api_url="ws://[::1]:3")
    sandbox, keys = StackConfig(mode=Mode.SANDBOX), files(tmp_path)
    access = msgspec.structs.replace(near, key_file=keys.key_file, secret_file=keys.secret_file)
    assert trading_wire(sandbox, access, {}).rest_url == "http://127.0.0.1:1"
    with pytest.raises(ConfigError, match="is no sandbox exchange"):
        trading_wire(sandbox, msgspec.structs.replace(access, **{name: url}), {})
    with pytest.raises(ConfigError, match="is no sandbox exchange"):
        market_wire(sandbox, msgspec.structs.replace(near, **{name: url}))

"""A venue's configuration: loopback unless said twice, and every mistake named."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.sandbox_exchange.config import SYMBOLS, SandboxConfig, Source, VenueName, read_schedule
from services.sandbox_exchange.core.faults import Fault, FaultName
from services.sandbox_exchange.keys import read_or_make_key
from services.sandbox_exchange.wire.fault_places import Places, check_place
from shared.errors import ConfigError, InputError

PLACES = Places(requests=("POST /api/v3/order", "GET /api/v3/order"), streams=("depth", "trade"), sockets=("public",))


def test_the_default_is_loopback_and_free_ports() -> None:
    config = SandboxConfig()
    assert (config.host, config.port, config.admin_port, config.venue) == ("127.0.0.1", 0, 0, VenueName.MEXC)
    assert config.deposits == {"USDT": Decimal(10_000)}
    assert config.markets == SYMBOLS


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"venue": "kraken"}, "kraken"),
        ({"host": "0.0.0.0"}, "open_to_network"),
        ({"host": "192.168.1.5"}, "open_to_network"),
        ({"host": "example.org"}, "loopback"),
        ({"port": 70_000}, "port"),
        ({"admin_port": -1}, "admin_port"),
        ({"symbols": ["BTCUSDT", "BTCUSDT"]}, "twice"),
        ({"symbols": ["BTC-USDT"]}, "BTCUSDT"),
        ({"symbols": ["NOTHING"]}, "symbols"),
        ({"balances": ["USDT"]}, "balances"),
        ({"balances": ["USDT=much"]}, "balances"),
        ({"balances": ["USDT=-1"]}, "balances"),
        ({"balances": ["USDT=NaN"]}, "balances"),
        ({"balances": ["USDT=Infinity"]}, "balances"),
        ({"balances": ["USDT=1", "USDT=2"]}, "twice"),
        ({"speed": 0}, "speed"),
        ({"speed": -1}, "speed"),
        ({"source": "candles"}, "candles"),
        ({"candles": "x.csv"}, "candles"),
        ({"source": "recorded", "recorded": "x.gz"}, "binance"),
        ({"state_interval_s": 0}, "state_interval_s"),
        ({"sead": 1}, "sead"),
    ],
)
def test_a_mistake_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(fields, SandboxConfig, strict=False)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            '[[fault]]\nname = "frame_drop"\n',
            r"unknown field `fault`.* takes a \[\[faults\]\] for each fault \(with name,",
        ),
        ("seed = 3\n", r"missing required field `faults`.* \[\[faults\]\]"),
        ('[[faults]]\nname = "nonsense"\n', "'nonsense'.* Its names are frame_drop, "),
        ('[[faults]]\nname = "frame_drop"\nat = 3\n', r"unknown field `at`.* \(with name, route, symbol"),
        ("[[faults\n", r"line 1.* takes a \[\[faults\]\]"),
    ],
)
def test_a_mistake_in_a_faults_file_is_told_with_what_it_takes(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_schedule(path)


def test_a_key_file_that_cannot_be_written_is_told_with_the_fix() -> None:
    with pytest.raises(ConfigError, match=r"/proc/x cannot be written: .*: name a file in a folder"):
        read_or_make_key(Path("/proc/x"))


@pytest.mark.parametrize(
    ("name", "route", "symbol", "told"),
    [
        (FaultName.FRAME_DROP, None, "NOPE", "no market 'NOPE': its markets are BTCUSDT, HUSDT"),
        (
            FaultName.FRAME_DROP,
            "POST /nonsense",
            None,
            "never goes off at 'POST /nonsense': its routes are depth, trade",
        ),
        (FaultName.FRAME_DROP, "POST /api/v3/order", None, "its routes are depth, trade$"),
        (FaultName.HTTP_5XX, "depth", None, "its routes are POST /api/v3/order, GET /api/v3/order$"),
        (FaultName.HTTP_5XX, "POST /api/v3/orders", None, "never goes off"),
        (FaultName.SOCKET_AGE, "depth", None, "its routes are public$"),
        (FaultName.CLOCK_SKEW, "public", None, "concerns the whole venue"),
    ],
)
def test_a_fault_that_could_never_go_off_is_refused(
    name: FaultName, route: str | None, symbol: str | None, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        check_place(Fault(name=name, route=route, symbol=symbol), PLACES, ("BTCUSDT", "HUSDT"))


@pytest.mark.parametrize(
    ("name", "route"),
    [
        (FaultName.FRAME_DROP, "dep"), (FaultName.FRAME_DROP, "depth@100ms@HUSDT"), (FaultName.HTTP_5XX, "POST /api"),
        (FaultName.MAINTENANCE, "public"), (FaultName.MAINTENANCE, "POST /api/v3/order"), (FaultName.FRAME_DROP, None),
    ],
)  # fmt: skip
def test_a_fault_with_an_occasion_is_taken(name: FaultName, route: str | None) -> None:
    check_place(Fault(name=name, route=route, symbol="HUSDT"), PLACES, ("BTCUSDT", "HUSDT"))


def test_the_network_opens_when_it_is_said_twice() -> None:
    assert SandboxConfig(host="0.0.0.0", open_to_network=True).host == "0.0.0.0"


def test_a_recording_may_go_as_fast_as_it_is_read() -> None:
    config = SandboxConfig(source=Source.RECORDED, recorded="x.gz", venue=VenueName.BINANCE, speed=0)
    assert config.markets == ()

"""A venue's configuration: loopback unless said twice, and every mistake named."""

from decimal import Decimal

import msgspec
import pytest

from services.sandbox_exchange.config import SYMBOLS, SandboxConfig, Source, VenueName


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


def test_the_network_opens_when_it_is_said_twice() -> None:
    assert SandboxConfig(host="0.0.0.0", open_to_network=True).host == "0.0.0.0"


def test_a_recording_may_go_as_fast_as_it_is_read() -> None:
    config = SandboxConfig(source=Source.RECORDED, recorded="x.gz", venue=VenueName.BINANCE, speed=0)
    assert config.markets == ()

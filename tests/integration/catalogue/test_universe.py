"""The choice of markets as a user makes it: the command, the unmodified ccxt, a server that speaks the venue."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from services.cli.universe import app
from shared.clock import wall_ns
from shared.config import load_settings
from shared.errors import InputError
from shared.testing.fake_klines import FakeKlines, FakeMarket

DAY = 86_400_000_000_000


async def top(server: FakeKlines, venue: str, *rest: str) -> Result:
    arguments = ["top", "--venue", venue, "--url", server.url, "--min-volume", "0", "--json", *rest]
    # In a thread of its own: the command runs a loop, and the server runs in this one.
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


def listed(now_ns: int, days: dict[str, int]) -> list[FakeMarket]:
    # The server gives each market more volume than the one before it: here the first has the most.
    return [FakeMarket(f"{base}USDT", base, "USDT", now_ns - age * DAY) for base, age in reversed(days.items())]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("venue", ["mexc", "binance"])
async def test_a_market_is_as_old_as_its_first_candle_where_the_venue_says_nothing(venue: str, tmp_path: Path) -> None:
    now_ns = wall_ns()
    pinned = tmp_path / "universe.toml"
    # A page of a venue is shorter than the age that is asked for.
    markets = listed(now_ns, {"AAA": 1200, "BBB": 20, "BTC3L": 1200, "CCC": 1099, "DDD": 1101, "EEE": 1200})
    async with FakeKlines(markets, now_ns, venue=venue) as server:
        result = await top(server, venue, "-n", "2", "--min-age-days", "1100", "--save", str(pinned))
        # One page each for AAA, CCC and DDD, up to three for BBB; EEE is not asked for.
        assert 5 <= server.requests["klines"] <= 6
    answer = msgspec.json.decode(result.stdout)
    assert answer["assets"] == ["AAA-USDT", "DDD-USDT"]
    assert {one["instrument"]: one["reason"] for one in answer["excluded"]} == {
        "BBB-USDT": "listing_age",
        "BTC3L-USDT": "leveraged_token",
        "CCC-USDT": "listing_age",
        "EEE-USDT": "beyond_the_top",
    }
    assert load_settings(overrides=[f"stack.assets={pinned}"], environ={}).stack.assets == ("AAA-USDT", "DDD-USDT")


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_venue_that_does_not_tell_ages_costs_no_market_without_that_rule() -> None:
    now_ns = wall_ns()
    async with FakeKlines(listed(now_ns, {"AAA": 1, "BBB": 1}), now_ns) as server:
        result = await top(server, "mexc")
        assert not server.asked
        assert msgspec.json.decode(result.stdout)["assets"] == ["AAA-USDT", "BBB-USDT"]
        result = await top(server, "mexc", "--min-age-days", "2")
    assert result.stdout == ""
    assert "out: 2 listing_age" in result.stderr
    assert isinstance(result.exception, InputError)

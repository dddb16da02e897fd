"""A key that may withdraw is refused, and a person's word counts only where the venue's API cannot tell."""

import pytest

from shared.errors import ConfigError
from shared.exchange.live.config import WireConfig
from shared.exchange.venues import make_venue
from tests.integration.sandbox.in_process import sandbox_in_process

TOKEN = "BTC-USDT"


@pytest.mark.parametrize(
    ("name", "permissions", "word", "words"),
    [
        ("mexc", ("read", "trade", "withdraw"), False, r"exchange\.key_cannot_withdraw=true"),
        ("mexc", ("read", "trade", "withdraw"), True, None),
        ("mexc", ("read", "trade"), False, None),
        ("mexc", ("read",), True, "may not trade"),
        ("binance", ("read", "trade", "withdraw"), False, "this key may withdraw"),
        ("binance", ("read", "trade", "withdraw"), True, "this key may withdraw"),
        ("binance", ("read", "trade"), False, None),
    ],
)
async def test_a_key_is_taken_or_refused(
    name: str, permissions: tuple[str, ...], word: bool, words: str | None
) -> None:
    async with sandbox_in_process(name, still=True, symbols=["BTCUSDT"]) as sandbox:
        key = await sandbox.admin.account("someone", permissions)
        config = WireConfig(
            venue=name, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, ws_api_url=sandbox.ws_api_url,
            api_key=key.api_key, secret=key.secret, key_cannot_withdraw=word,
        )  # fmt: skip
        venue = make_venue(config)
        try:
            if words is None:
                assert (await venue.open([TOKEN], lambda _: None))[0].symbol == TOKEN
            else:
                with pytest.raises(ConfigError, match=words) as refusal:
                    await venue.open([TOKEN], lambda _: None)
                assert key.secret not in str(refusal.value)
        finally:
            await venue.close()

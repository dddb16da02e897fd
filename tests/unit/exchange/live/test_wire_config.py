"""A connection's settings say what is wrong with them, and never what is secret."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from shared.exchange.live.config import WireConfig


@settings(deadline=None)
@given(secret=st.text("abcdef0123456789", min_size=16, max_size=64))
def test_credentials_are_in_no_text_about_them(secret: str) -> None:
    config = WireConfig(venue="mexc", api_key=secret, secret=secret[::-1])
    for text in (repr(config), str(config), f"{config}", f"{config!r}", pretty_repr(config)):
        assert secret not in text
        assert secret[::-1] not in text


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wait_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="ack_timeout_s"):
        WireConfig(venue="mexc", ack_timeout_s=value)


def test_an_address_without_a_scheme_and_an_unknown_key_are_refused() -> None:
    with pytest.raises(ValueError, match="rest_url"):
        WireConfig(venue="mexc", rest_url="localhost:1")
    with pytest.raises(msgspec.ValidationError, match="apikey"):
        msgspec.convert({"venue": "mexc", "apikey": "x"}, WireConfig)

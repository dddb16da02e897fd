"""The key of the account's stream: used again while it lives, and not for longer."""

import asyncio
from collections.abc import Mapping

from shared.clock import NANOSECONDS_PER_SECOND
from shared.exchange.mexc.account_stream import LIFE_S, ListenKeys
from shared.exchange.mexc.shapes import ListenKey


class Rest:
    """Give keys out, one after another."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.is_kept = asyncio.Event()

    async def keep(
        self, method: str, path: str, kind: type[ListenKey], params: Mapping[str, str] | None = None
    ) -> ListenKey:
        self.calls.append((method, (params or {}).get("listenKey", "")))
        if method == "PUT":
            self.is_kept.set()
        return ListenKey(f"key-{sum(method == 'POST' for method, _ in self.calls)}")


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_800_000_000 * NANOSECONDS_PER_SECOND

    def __call__(self) -> int:
        return self.now_ns

    def go(self, seconds: float) -> None:
        self.now_ns += int(seconds * NANOSECONDS_PER_SECOND)


def make() -> tuple[ListenKeys, Rest, Clock]:
    rest, clock = Rest(), Clock()
    return ListenKeys(rest, "ws://venue", now_ns=clock), rest, clock  # type: ignore[arg-type]


async def test_a_key_that_led_to_a_stream_is_used_again_while_it_lives() -> None:
    keys, _, clock = make()
    assert await keys.address() == "ws://venue?listenKey=key-1"
    keys.mark_good()
    clock.go(LIFE_S - 1)
    assert await keys.address() == "ws://venue?listenKey=key-1"
    assert await keys.address() == "ws://venue?listenKey=key-2", "it led to nothing"


async def test_a_key_is_not_used_after_a_sleep_that_it_may_not_have_outlived_nor_after_the_clock_went_back() -> None:
    for seconds in (LIFE_S, -1.0):
        keys, rest, clock = make()
        await keys.address()
        keys.mark_good()
        clock.go(seconds)
        assert await keys.address() == "ws://venue?listenKey=key-2"
        assert rest.calls == [("POST", ""), ("DELETE", "key-1"), ("POST", "")]


async def test_a_key_that_was_kept_alive_lives_from_then_on() -> None:
    keys, rest, clock = make()
    await keys.address()
    keys.mark_good()
    clock.go(LIFE_S - 1)
    keeping = asyncio.create_task(keys.keep_alive(None, every_s=0.001))  # type: ignore[arg-type]
    await asyncio.wait_for(rest.is_kept.wait(), 10)
    keeping.cancel()
    clock.go(LIFE_S - 1)
    assert await keys.address() == "ws://venue?listenKey=key-1"

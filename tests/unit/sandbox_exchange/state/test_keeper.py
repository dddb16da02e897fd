"""What a client heard of is in the file; the file of an earlier version is read; a file that fails is not trusted."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from services.sandbox_exchange.app import start
from services.sandbox_exchange.config import SandboxConfig, Source, VenueName
from services.sandbox_exchange.core.changes import Changes
from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.model import OrderKind, PlaceOrder
from services.sandbox_exchange.core.state import State
from services.sandbox_exchange.keeper import StateKeeper
from services.sandbox_exchange.state import Persisted, SavedState, decode_state, read_state
from services.sandbox_exchange.state_file import MAGIC, StateFile
from shared.errors import ConfigError, InputError
from shared.messages import Side
from tests.unit.sandbox_exchange.core.venue import SYMBOL, d
from tests.unit.sandbox_exchange.state.test_state_file import do, new_exchange


class NoSource:
    """Markets that nobody moves."""

    failure = None

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    def dump(self) -> bytes:
        return b"moved"

    def restore(self, state: bytes) -> None:
        """Do nothing."""


@pytest.fixture
def exchange() -> SandboxExchange:
    return new_exchange()


@pytest.fixture
async def keeper(tmp_path: Path, exchange: SandboxExchange) -> AsyncIterator[StateKeeper]:
    persisted = Persisted("mexc", exchange, NoSource(), runs=4)
    persisted.api_key = "key-ann"
    one = StateKeeper(tmp_path / "venue.state", persisted, interval_s=3600)
    await one.open()
    yield one
    with contextlib.suppress(RuntimeError):  # closed by the test itself
        await one.close()


def buy(exchange: SandboxExchange, name: str) -> None:
    exchange.place(
        PlaceOrder(
            "ann", SYMBOL, Side.BUY, OrderKind.LIMIT, quantity=d("1"), price=d(100), client_order_id=name
        ),
        1,
    )  # fmt: skip


async def test_a_moment_s_requests_share_one_save_and_quiet_ones_need_none(
    keeper: StateKeeper, exchange: SandboxExchange
) -> None:
    before = keeper.saves
    await keeper.settle()
    assert keeper.saves == before
    for name in ("a", "b", "c"):
        buy(exchange, name)
    await asyncio.gather(*[keeper.settle() for _ in range(20)])
    assert keeper.saves == before + 1
    rows = await keeper.read()
    assert sum(section == "order" for section, _, _, _ in rows) == 3


async def test_what_is_saved_is_read_back(keeper: StateKeeper, exchange: SandboxExchange) -> None:
    buy(exchange, "a")
    await keeper.settle()
    with pytest.raises(ConfigError, match="in use"):
        read_state(keeper.path, "mexc")
    await keeper.close()
    saved = read_state(keeper.path, "mexc")
    assert saved == SavedState(1, "mexc", "key-ann", exchange.dump(), b"moved", 4)
    with pytest.raises(InputError, match="choose that venue or another file"):
        read_state(keeper.path, "binance")


async def test_a_waiter_that_gives_up_loses_nothing(
    keeper: StateKeeper, exchange: SandboxExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, write = threading.Event(), StateFile.write

    def slow(file: StateFile, changes: Changes) -> None:
        assert may_write.wait(20)
        write(file, changes)

    monkeypatch.setattr(StateFile, "write", slow)
    buy(exchange, "a")
    first = asyncio.create_task(keeper.settle())
    await asyncio.sleep(0)
    buy(exchange, "b")
    second = asyncio.create_task(keeper.settle())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    may_write.set()
    await second
    rows = await keeper.read()
    assert sum(section == "order" for section, _, _, _ in rows) == 2


async def test_a_save_after_a_failed_one_holds_what_that_lost(
    keeper: StateKeeper, exchange: SandboxExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StateFile, "write", full)
    buy(exchange, "a")
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            await keeper.settle()
    monkeypatch.undo()
    buy(exchange, "b")
    await keeper.settle()
    rows = await keeper.read()
    assert sum(section == "order" for section, _, _, _ in rows) == 2


async def test_a_file_of_an_earlier_version_is_read_and_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "venue.state"
    config = SandboxConfig(venue=VenueName.MEXC, source=Source.STILL, symbols=("HUSDT",), state_file=str(path))
    sandbox = await start(config)
    whole = sandbox.venue.exchange
    whole.place(
        PlaceOrder("trader", "HUSDT", Side.BUY, OrderKind.LIMIT, quantity=d("100"), price=d("0.1")),
        sandbox.venue.now_ns(),
    )
    await sandbox.close()
    saved = read_state(path, "mexc")
    assert saved is not None
    state = msgspec.to_builtins(msgspec.msgpack.decode(saved.exchange, type=State))
    del state["forgotten"]
    for order in state["orders"]:
        del order["ended"]
    old = msgspec.structs.replace(saved, exchange=msgspec.msgpack.encode(state))
    path.write_bytes(msgspec.msgpack.encode(old))

    again = await start(config)
    assert again.api_key == sandbox.api_key
    assert len(again.venue.exchange.open_orders("trader")) == 1
    await again.close()
    assert path.read_bytes().startswith(MAGIC)
    now = read_state(path, "mexc")
    assert now is not None
    assert now.exchange == saved.exchange
    assert now.runs == 1


@pytest.mark.parametrize(("data", "word"), [(b"rubbish", "no state"), (b"", "no state"), (MAGIC, "damaged")])
def test_anything_else_is_refused_with_the_way_out(tmp_path: Path, data: bytes, word: str) -> None:
    path = tmp_path / "venue.state"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"venue\.state.*{word}.*name another file, or remove it"):
        read_state(path, "mexc")
    assert path.read_bytes() == data


def test_the_admin_page_s_state_is_of_one_piece(exchange: SandboxExchange) -> None:
    do(exchange, ("ann", Side.BUY, 10_000, 100), 1)
    persisted = Persisted("mexc", exchange, NoSource(), runs=0)
    assert decode_state(persisted.encode(), "mexc", "it").exchange == exchange.dump()

"""A venue's file after a crash at any byte: what was written is there once, what was being written is not."""

import shutil
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.sandbox_exchange.core.changes import Changes, state_of
from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.model import HOUSE, Account, OrderKind, PlaceOrder, Refusal
from services.sandbox_exchange.core.state import encode_state
from services.sandbox_exchange.state_file import StateFile, log_of, read_rows
from shared.errors import ConfigError, InputError
from shared.messages import Side
from shared.testing.small_disk import fill, make_space, small_disk
from tests.unit.sandbox_exchange.core.venue import MARKET, SYMBOL

Step = tuple[str, Side, int, int]

steps = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", HOUSE]),
        st.sampled_from(list(Side)),
        st.integers(9_990, 10_010),
        st.sampled_from([0, 100, 250, 999]),  # 0: cancel everything
    ),
    min_size=1,
    max_size=25,
)


def new_exchange() -> SandboxExchange:
    exchange = SandboxExchange(history_max=12, trades_kept=5)
    exchange.list_market(MARKET)
    for name in ("ann", "bob"):
        exchange.open_account(Account(name, f"key-{name}", "s"), {"USDT": Decimal(10**6), "BTC": Decimal(10**4)}, 0)
    return exchange


def do(exchange: SandboxExchange, step: Step, now_ns: int) -> None:
    account, side, ticks, lots = step
    try:
        if lots:
            price, quantity = ticks * Decimal("0.01"), lots * Decimal("0.001")
            wanted = PlaceOrder(account, SYMBOL, side, OrderKind.LIMIT, quantity=quantity, price=price)
            exchange.place(wanted, now_ns)
        else:
            exchange.cancel_all(account, SYMBOL, now_ns)
    except Refusal:
        return


def dump_of(path: Path) -> bytes:
    return encode_state(state_of(read_rows(path)))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[StateFile]:
    one = StateFile(tmp_path / "venue.state")
    yield one
    one.close()


@given(todo=steps, cut=st.floats(0, 1), tail=st.binary(max_size=64), is_checkpointed=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_crash_at_any_byte_loses_no_save_that_returned(
    todo: list[Step], cut: float, tail: bytes, is_checkpointed: bool
) -> None:
    exchange = new_exchange()
    with TemporaryDirectory() as folder:
        path = Path(folder, "venue.state")
        file = StateFile(path)
        file.create(exchange.take_changes().puts)
        saved = [(0, exchange.dump())]
        for number, step in enumerate(todo):
            do(exchange, step, number * 50_000_000_000)
            file.write(exchange.take_changes())
            saved.append((log_of(path).stat().st_size, exchange.dump()))
            if is_checkpointed and number == len(todo) // 2:
                # From here on the log begins anew, over what it held before.
                assert file._database is not None
                file._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                saved = [(0, exchange.dump())]
        crashed = Path(folder, "crashed.state")
        shutil.copy(path, crashed)
        log = log_of(path).read_bytes() if log_of(path).exists() else b""
        at = round(cut * len(log))
        log_of(crashed).write_bytes(log[:at] + tail)
        assert dump_of(crashed) == [dump for size, dump in saved if size <= at][-1]
        assert not log_of(crashed).exists()
        file.close()
        assert [one.name for one in path.parent.iterdir() if one.name.startswith("venue")] == ["venue.state"]
        assert dump_of(path) == exchange.dump()


def test_a_crash_while_a_file_is_made_leaves_the_one_before(file: StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = new_exchange()
    file.create(exchange.take_changes().puts)
    file.close()
    before = exchange.dump()
    monkeypatch.setattr("services.sandbox_exchange.state_file.move_over", _crash)
    do(exchange, ("ann", Side.BUY, 10_000, 100), 1)
    exchange.take_whole()
    with pytest.raises(KeyboardInterrupt):
        file.create(exchange.take_changes().puts)
    monkeypatch.undo()
    assert dump_of(file.path) == before
    exchange.take_whole()
    file.create(exchange.take_changes().puts)
    file.close()
    assert dump_of(file.path) == exchange.dump()


def _crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_log_of_a_file_that_was_removed_is_not_taken_for_the_next_one_s(file: StateFile) -> None:
    exchange = new_exchange()
    file.create(exchange.take_changes().puts)
    do(exchange, ("ann", Side.BUY, 10_000, 100), 1)
    file.write(exchange.take_changes())
    log = log_of(file.path).read_bytes()
    file.close()
    file.path.unlink()
    log_of(file.path).write_bytes(log)
    fresh = new_exchange()
    file.create(fresh.take_changes().puts)
    file.close()
    assert dump_of(file.path) == fresh.dump()


def test_a_failed_write_undoes_itself_and_only_a_whole_one_follows(file: StateFile) -> None:
    exchange = new_exchange()
    file.create(exchange.take_changes().puts)
    do(exchange, ("ann", Side.BUY, 10_000, 100), 1)
    lost = exchange.take_changes()
    with pytest.raises(OSError, match=r"venue\.state"):
        file.write(Changes(False, [*lost.puts, ("order", "", 9, None)], [], []))  # type: ignore[list-item]
    do(exchange, ("ann", Side.BUY, 10_000, 250), 2)
    with pytest.raises(OSError, match="missing"):
        file.write(exchange.take_changes())
    exchange.take_whole()
    file.write(exchange.take_changes())
    do(exchange, ("bob", Side.SELL, 10_000, 250), 3)
    file.write(exchange.take_changes())
    assert encode_state(state_of(file.read())) == exchange.dump()


def test_a_file_in_use_is_not_read_by_another(file: StateFile) -> None:
    file.create(new_exchange().take_changes().puts)
    with pytest.raises(ConfigError, match="in use: stop the venue"):
        read_rows(file.path)


def test_another_database_and_a_damaged_one_are_refused_and_left_alone(tmp_path: Path) -> None:
    other, damaged = tmp_path / "other.db", tmp_path / "damaged.state"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE money (amount)")
    database.close()
    file = StateFile(damaged)
    file.create(new_exchange().take_changes().puts)
    file.close()
    data = bytearray(damaged.read_bytes())
    data[100:4096] = b"x" * 3996
    damaged.write_bytes(data)
    for path in (other, damaged):
        before = path.read_bytes()
        with pytest.raises(InputError, match=f"{path.name}.*name another file, or remove it"):
            read_rows(path)
        assert path.read_bytes() == before


def test_the_file_stays_small_however_much_passes_through(file: StateFile) -> None:
    exchange = new_exchange()
    file.create(exchange.take_changes().puts)
    for number in range(2_000):
        do(exchange, ("ann" if number % 2 else "bob", list(Side)[number % 2], 10_000, 100), number)
        if number % 10 == 0:
            file.write(exchange.take_changes())
    file.write(exchange.take_changes())
    assert len(exchange.orders("ann", SYMBOL)) <= 12
    assert log_of(file.path).stat().st_size < 8 << 20
    file.close()
    assert file.path.stat().st_size < 1 << 20
    assert dump_of(file.path) == exchange.dump()


def test_a_file_on_a_full_disk_is_not_called_damaged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kb=1_024) as disk:
        exchange, path = new_exchange(), disk / "venue.state"
        file = StateFile(path)
        file.create(exchange.take_changes().puts)
        for number in range(200):
            do(exchange, ("ann", Side.BUY, 9_000 + number, 100), number)
        file.write(exchange.take_changes())
        # As a kill leaves it: with a log that is not in the file yet.
        shutil.copy(path, disk / "copy")
        shutil.copy(log_of(path), log_of(disk / "copy"))
        whole = dump_of(disk / "copy")
        shutil.copy(path, disk / "copy")
        shutil.copy(log_of(path), log_of(disk / "copy"))
        file.close()
        fill(disk)
        with pytest.raises(ConfigError, match="the disk is full"):
            read_rows(disk / "copy")
        make_space(disk)
        assert dump_of(disk / "copy") == whole

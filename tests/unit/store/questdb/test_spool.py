"""The spool: order, bounds, crashes at any byte."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError, StoreUnavailableError
from shared.store.questdb.spool import Frame, Spool

MEGABYTE = 1_000_000


def opened(path: Path, bytes_max: int = MEGABYTE) -> Spool:
    spool = Spool(path, bytes_max, sync=False)
    spool.open()
    return spool


def bodies(frames: list[Frame]) -> list[bytes]:
    return [frame.body for frame in frames]


def everything(spool: Spool) -> list[bytes]:
    return bodies(spool.peek(10**9))


def test_frames_come_back_in_order_until_they_are_committed(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(5):
        assert spool.append(bytes([number]) * 10, 2) == 0
    first = spool.peek(3)
    assert bodies(first) == [b"\0" * 10, b"\1" * 10]
    assert bodies(spool.peek(3)) == bodies(first)
    spool.commit(first)
    assert bodies(spool.peek(1)) == [b"\2" * 10]
    assert spool.rows == 6
    spool.close()


def test_a_restart_goes_on_where_the_last_commit_was(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(4):
        spool.append(bytes([number]), 1)
    spool.commit(spool.peek(2))
    spool.close()
    again = Spool(tmp_path, MEGABYTE)
    assert again.open().rows == 2
    assert everything(again) == [b"\2", b"\3"]
    again.append(b"\4", 1)
    assert everything(again) == [b"\2", b"\3", b"\4"]
    again.close()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), flip=st.none() | st.integers(0, 399))
def test_a_crash_at_any_byte_leaves_a_whole_beginning(
    cut: int, flip: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("spool")
    spool = opened(path)
    sent = [bytes([number]) * (10 + number) for number in range(10)]
    for body in sent:
        spool.append(body, 1)
    spool.close()
    (segment,) = path.glob("*.seg")
    data = bytearray(segment.read_bytes()[:cut])
    if flip is not None and flip < len(data):
        data[flip] ^= 0x40
    segment.write_bytes(data)
    again = opened(path)
    found = everything(again)
    assert found == sent[: len(found)]
    again.append(b"new", 1)
    assert everything(again) == [*found, b"new"]
    again.close()


def test_a_torn_cursor_sends_again_rather_than_never(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(3):
        spool.append(bytes([number]), 1)
    spool.commit(spool.peek(2))
    spool.close()
    with (tmp_path / "cursor").open("r+b") as file:
        file.seek(8)
        file.write(b"\xff\xff")
    again = opened(tmp_path)
    assert everything(again) == [b"\0", b"\1", b"\2"]
    again.close()


def test_a_full_spool_drops_the_oldest_and_says_how_many_rows(tmp_path: Path) -> None:
    spool = opened(tmp_path, bytes_max=8_000)
    dropped = sum(spool.append(bytes([number]) * 500, 3) for number in range(100))
    left = everything(spool)
    assert spool.size_bytes <= 8_000
    assert left == [bytes([number]) * 500 for number in range(100 - len(left), 100)]
    assert len(left) >= 10
    assert dropped == 3 * (100 - len(left))
    assert spool.rows == 3 * len(left)
    spool.close()


def test_a_commit_of_what_was_dropped_meanwhile_takes_nothing_with_it(tmp_path: Path) -> None:
    spool = opened(tmp_path, bytes_max=8_000)
    for number in range(3):
        spool.append(bytes([number]) * 500, 1)
    in_flight = spool.peek(3)
    for number in range(3, 60):
        spool.append(bytes([number]) * 500, 1)
    left = everything(spool)
    spool.commit(in_flight)
    assert everything(spool) == left
    spool.commit(spool.peek(10**9))
    assert everything(spool) == []
    assert spool.rows == 0
    spool.close()


def test_a_frame_larger_than_the_spool_is_counted_as_dropped(tmp_path: Path) -> None:
    spool = opened(tmp_path, bytes_max=1_000)
    assert spool.append(b"x" * 2_000, 7) == 7
    assert everything(spool) == []
    spool.close()


def test_damage_that_shows_while_it_runs_costs_the_rest_of_one_file_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(4):
        spool.append(bytes([number]) * 10, 5)
    (segment,) = tmp_path.glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(30 * 2 + 3)
        file.write(b"\x7f\x7f\x7f")
    found = spool.peek(10**9)
    assert bodies(found) == [b"\0" * 10, b"\1" * 10]
    assert spool.damaged_rows == 10
    spool.append(b"after", 1)
    spool.commit(spool.peek(10**9))
    assert spool.rows == 0
    spool.close()


def test_a_disk_that_refuses_leaves_no_half_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    spool.append(b"before", 1)
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if bytes(data) == b"refused":
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreUnavailableError, match="No space left"):
        spool.append(b"refused", 1)
    spool.append(b"after", 1)
    assert everything(spool) == [b"before", b"after"]
    spool.close()
    again = opened(tmp_path)
    assert everything(again) == [b"before", b"after"]
    again.close()


def test_two_processes_never_share_a_spool(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(ConfigError, match="another process"):
        Spool(tmp_path, MEGABYTE).open()
    spool.close()
    opened(tmp_path).close()


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 900)),
            st.tuples(st.just("send"), st.integers(1, 20)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_what_comes_out_is_what_went_in_less_what_was_counted(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("spool")
    spool = opened(path, bytes_max=9_000)
    number, dropped, out = 0, 0, []
    for what, size in steps:
        if what == "append":
            number += 1
            dropped += spool.append(number.to_bytes(4, "big") * size, 1)
        elif what == "send":
            frames = spool.peek(size)
            out += [int.from_bytes(frame.body[:4], "big") for frame in frames]
            spool.commit(frames)
        else:
            spool.close()
            spool = opened(path, bytes_max=9_000)
        assert spool.size_bytes <= 9_000
    out += [int.from_bytes(body[:4], "big") for body in everything(spool)]
    assert out == sorted(set(out))
    assert len(out) + dropped == number
    spool.close()

"""A power cut at any moment: what was confirmed is there once, what was not is there once or not at all."""

import errno
from pathlib import Path

import pytest

from shared.errors import ConfigError, StoreUnavailableError
from shared.store.duck import StoreReader, open_store
from shared.store.parquet import ParquetStore
from shared.testing.disk import MortalDisk, PowerCut, SickDisk

BATCHES = [range(start, start + 3) for start in range(0, 18, 3)]


def work(store: ParquetStore, workshop, confirmed: list[int]) -> None:
    """Write six batches, with enough housekeeping between them that files are merged, twice over, and removed."""
    store.open()
    for batch in BATCHES:
        store.append(workshop.batch(batch))
        confirmed.extend(batch)
        tidy(store)
    store.close()


def tidy(store: ParquetStore) -> None:
    store.tidy()
    while store.tidy().more:
        pass


def seen(workshop) -> list[int]:
    with open_store(workshop.root) as reader:
        return shown(reader, workshop)


def shown(reader: StoreReader, workshop) -> list[int]:
    assert reader.damaged == ()
    return workshop.numbers(reader.read_messages("heartbeats"))


def steps_of_a_whole_run(workshop) -> int:
    disk = MortalDisk()
    work(workshop.store(disk), workshop, [])
    return disk.steps


def test_the_run_that_is_cut_merges_and_removes_files(workshop) -> None:
    steps = steps_of_a_whole_run(workshop)
    assert steps > 3 * len(BATCHES) + 6
    assert seen(workshop) == list(range(18))
    assert len(workshop.files()) < len(BATCHES)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_power_cut_at_any_step_neither_loses_nor_doubles_a_row(tmp_path: Path, workshop, after: bool) -> None:
    steps = steps_of_a_whole_run(workshop)
    maker = type(workshop)
    for step in range(1, steps + 1):
        shop = maker(tmp_path / f"cut-{step}")
        confirmed: list[int] = []
        store = shop.store(MortalDisk(step, after=after))
        with pytest.raises(PowerCut):
            work(store, shop, confirmed)
        store.close()
        begun = [number for batch in BATCHES for number in batch][: len(confirmed) + 3]
        with open_store(shop.root) as reader:
            assert shown(reader, shop) in (confirmed, begun), f"step {step}: what a reader sees before the repair"
            repaired = shop.store()
            repaired.open()
            assert not [name for name in shop.files() if name.endswith(".tmp")], f"step {step}"
            tidy(repaired)
            survived = shown(reader, shop)
            assert survived in (confirmed, begun), f"step {step}: after the repair"
            repaired.append(shop.batch(range(100, 102)))
            tidy(repaired)
            repaired.close()
            assert shown(reader, shop) == [*survived, 100, 101], f"step {step}: after going on"


@pytest.mark.parametrize("what", ["write", "rename", "sync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_batch_that_the_disk_refused_can_be_written_again_with_more_rows(workshop, what: str, number: int) -> None:
    disk = SickDisk()
    disk.errno = number
    store = workshop.store(disk)
    store.open()
    store.append(workshop.batch(range(3)))
    disk.fails = frozenset({what})
    for end in (5, 6):
        with pytest.raises(StoreUnavailableError, match=errno.errorcode[number]):
            store.append(workshop.batch(range(3, end)))
    tidy_during_trouble(store)
    disk.fails = frozenset()
    store.append(workshop.batch(range(3, 8)))
    store.append(workshop.batch(range(8, 9)))
    tidy(store)
    store.close()
    assert seen(workshop) == list(range(9))


def tidy_during_trouble(store: ParquetStore) -> None:
    # A merge must not take in the file of a batch that is going to be written again.
    try:
        tidy(store)
    except StoreUnavailableError:
        return


def test_a_merge_leaves_out_a_file_whose_batch_will_be_written_again(workshop) -> None:
    disk = SickDisk()
    store = workshop.store(disk)
    store.open()
    for start in (0, 1):
        store.append(workshop.batch(range(start, start + 1)))
    disk.fails = frozenset({"sync"})
    with pytest.raises(StoreUnavailableError):
        store.append(workshop.batch(range(2, 3)))
    assert len(workshop.files()) == 3
    disk.fails = frozenset()
    tidy(store)
    store.append(workshop.batch(range(2, 6)))
    tidy(store)
    store.close()
    assert seen(workshop) == list(range(6))


def test_one_store_has_one_writer(workshop) -> None:
    first, second = workshop.store(), workshop.store()
    first.open()
    with pytest.raises(ConfigError, match="another recorder writes"):
        second.open()
    first.close()
    second.open()
    second.close()

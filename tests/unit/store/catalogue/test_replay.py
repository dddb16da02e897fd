"""A replay out of the catalogue is the replay of the file that was imported."""

import gzip
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.market_data.config import MissingBars
from services.market_data.core.candles import RawSeries
from services.market_data.core.replay import ReplayRules, build_replay
from services.market_data.replay_file import load_replay
from shared.errors import InputError
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.importer import ImportOptions, import_file
from shared.store.catalogue.read import CandleTexts, catalogue_folder, read_candles, read_folder
from shared.testing.data import data_file

ASSETS = ("RIVER-USDT", "H-USDT", "PENGU-USDT", "TAO-USDT")
RULES = ReplayRules(
    start_ns=None, end_ns=None, steps_max=None, missing_bars=MissingBars.REFUSE, notional_min=Decimal(5)
)


def test_the_rows_are_field_for_field_what_a_replay_checks() -> None:
    assert CandleTexts.__struct_fields__ == RawSeries.__struct_fields__


def test_only_a_folder_of_a_catalogue_is_taken_for_one(tmp_path: Path) -> None:
    assert catalogue_folder(tmp_path) is None
    assert catalogue_folder(tmp_path / "bars/venue=mexc/timeframe=4h") is None
    with pytest.raises(InputError, match="is no folder of a catalogue"):
        read_folder(tmp_path, ASSETS)


def test_the_catalogue_replays_what_the_file_does(tmp_path: Path) -> None:
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    catalogue = Catalogue(tmp_path)
    names = ("symbol", *(asset.replace("-", "") for asset in ASSETS))
    lines = [line for line in gzip.decompress(path.read_bytes()).decode().splitlines() if line.split(",")[0] in names]
    (tmp_path / "some.csv").write_text("\n".join(lines))
    list(import_file(catalogue, tmp_path / "some.csv", ImportOptions(venue="mexc")))
    found = read_folder(tmp_path / "bars/venue=mexc/timeframe=4h", ASSETS)
    assert found == read_candles(catalogue, ASSETS, "4h")
    raw = [RawSeries(*msgspec.structs.astuple(one)) for one in found]
    mine, theirs = build_replay(path.name, raw, RULES), load_replay(path, ASSETS)
    assert mine.info == theirs.info
    assert mine.identity == theirs.identity
    assert [mine.step(number) for number in range(1, 686)] == [theirs.step(number) for number in range(1, 686)]

"""Where each quirk of the recorded data is tested.

| quirk | what must hold | test |
|---|---|---|
| open candles differ from final | only closed bars reach signals | held until they close; a builder gives closed bars |
| closed candles are not restated | history may be cached | one final close for each; a second one is dropped |
| uneven history | masks, late listing | held bars are named missing; all 403 series pass |
| zero volume | no fill | a bar without volume fills nothing, and is no fault |
| null column | optional | no volume in quote is no volume in quote |
| violent bars | collars, halt; wick not chased | let through here; bounded by the collar |
| survivorship | no edge is claimed | nothing to test: a sentence of the notes |
| missing filters | fall back to precisions or refuse | MEXC's rules of a market |
| illiquidity | spread guard | GT's spread keeps it out of a universe |
| scientific notation | Decimal parse | a float becomes the decimal it is written as |
| redenomination | jump guard | frozen at the bar, in a replay and in the service |
| crash and mania | stress | let through; plans on MEXC's bars |
| maintenance | freeze, no catch-up | gaps do not freeze, a swap behind a gap does |
| 5m gaps | gap policy | not frozen; a gap is a bar that was not there |
| float noise | quantised | binary noise makes no finer tick |
| equal timestamps | dedupe by id | taken once each |
| clock skew | negative latency | flagged, clamped |
| mid-stream snapshot | buffer, drop, straddle | 2 dropped, 3,449 applied |
| hostile quotes | importer rejects or survives | dropped row by row; the catalogue's import |
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
RECORDED = "tests/unit/market_data/quality/test_recorded.py"
VERDICTS = "tests/unit/market_data/quality/test_verdicts.py"
GUARD = "tests/unit/market_data/quality/test_guard.py"
REPLAY = "tests/unit/market_data/test_replay.py"
BARS = "tests/unit/indicators/test_bars.py"

WHERE = {
    "open candles": (
        (RECORDED, "test_open_candles_are_held_until_they_close"),
        (BARS, "test_a_closed_bar_is_never_changed"),
    ),
    "not restated": (
        (RECORDED, "test_open_candles_are_held_until_they_close"),
        (VERDICTS, "test_what_came_before_is_dropped_and_changes_nothing"),
    ),
    "uneven history": (
        (REPLAY, "test_held_bars_are_named_missing_and_never_invented"),
        (REPLAY, "test_real_gaps_are_refused_or_held"),
        (RECORDED, "test_every_violent_bar_of_mexc_passes_and_so_does_every_late_listing_gap_and_still_bar"),
    ),
    "zero volume": (
        ("tests/unit/matching/test_bar_fill.py", "test_volume_cap_fills_in_part_and_a_bar_without_volume_not_at_all"),
        ("tests/unit/exchange/test_paper_orders.py", "test_bar_without_volume_fills_nothing"),
        (VERDICTS, "test_ordinary_messages_pass"),
    ),
    "null column": (
        (BARS, "test_a_bar_that_comes_again_counts_once_and_a_null_column_stays_null"),
        ("tests/unit/store/catalogue/test_import.py", "test_the_mexc_history_comes_in_twice_and_once"),
    ),
    "violent bars": (
        (RECORDED, "test_every_violent_bar_of_mexc_passes_and_so_does_every_late_listing_gap_and_still_bar"),
        (VERDICTS, "test_a_crash_that_trades_on_its_way_does_not_freeze"),
        ("tests/unit/rebalancer/test_machine.py", "test_intents_are_market_orders_bounded_by_the_collar"),
    ),
    "missing filters": (
        (
            "tests/unit/exchange/mexc/test_missing_filters.py",
            "test_every_recorded_market_has_a_grid_that_its_price_lies_on_or_is_refused",
        ),
    ),
    "illiquidity": (
        ("tests/unit/cli/test_universe.py", "test_mexcs_wide_spreads_and_tiny_prices_are_read_as_they_are"),
    ),
    "scientific notation": (("tests/unit/domain/test_money.py", "test_a_float_becomes_the_decimal_it_is_written_as"),),
    "redenomination": (
        (RECORDED, "test_binance_freezes_the_three_redenominations_at_the_bar_and_nothing_else"),
        (GUARD, "test_the_real_swaps_are_frozen_in_a_replay"),
        (GUARD, "test_a_redenominated_instrument_is_missing_from_its_bar_on"),
    ),
    "crash and mania": ((RECORDED, "test_binance_freezes_the_three_redenominations_at_the_bar_and_nothing_else"),),
    "maintenance": (
        (RECORDED, "test_binance_freezes_the_three_redenominations_at_the_bar_and_nothing_else"),
        (GUARD, "test_a_restart_remembers_what_is_frozen"),
    ),
    "5m gaps": (
        (RECORDED, "test_five_minute_gaps_do_not_freeze"),
        ("tests/unit/indicators/test_parity.py", "test_a_gap_is_a_bar_that_was_not_there"),
    ),
    "float noise": ((REPLAY, "test_binary_noise_does_not_make_a_finer_tick"),),
    "equal timestamps": (
        (RECORDED, "test_trades_that_share_a_millisecond_are_all_taken_once"),
        (BARS, "test_recorded_trades_make_every_recorded_bar"),
    ),
    "clock skew": (
        (RECORDED, "test_trades_of_a_machine_whose_clock_lags_are_taken_and_flagged"),
        (VERDICTS, "test_a_local_clock_that_lags_is_flagged_and_latency_is_clamped"),
    ),
    "mid-stream snapshot": ((RECORDED, "test_a_snapshot_in_the_middle_of_the_differences"),),
    "hostile quotes": (
        (RECORDED, "test_hostile_quotes_are_dropped_row_by_row"),
        ("tests/unit/store/catalogue/test_import.py", "test_hostile_quotes_are_refused_or_survived"),
    ),
}


@pytest.mark.parametrize(("file", "name"), sorted({one for each in WHERE.values() for one in each}))
def test_the_test_of_a_quirk_exists(file, name):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE)

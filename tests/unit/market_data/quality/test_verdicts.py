"""Every finding with its action, at the limit and one step over it."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market_data.core.quality import TRADE_IDS_MAX, MarketMessage, QualityState, assess, release, silence
from services.market_data.core.quality_checks import latency_ns
from services.market_data.core.quality_diffs import DiffIds, DiffState, Sync, assess_diff, on_snapshot
from services.market_data.core.quality_words import ACTIONS, SEVERITY, Action, Finding, Limits, verdict_of
from shared.messages import Bar, Bbo, BookSnapshot, Side, Trade

NOW = 1_767_225_600_000_000_000
SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
LIMITS = Limits()
FRESH = QualityState()


def trade(number: int = 1, price: float = 100.0, quantity: float = 1.0, *, at: int = NOW, name: str = "") -> Trade:
    return Trade("v", "A-USDT", name or str(number), Side.BUY, price, quantity, at, at, number)


def bbo(
    bid: float = 99.0, ask: float = 101.0, *, number: int = 1, at: int = NOW, sizes: tuple[float, float] = (1.0, 1.0)
) -> Bbo:
    return Bbo("v", "A-USDT", bid, sizes[0], ask, sizes[1], at, at, number)


def book(bids: list[float], asks: list[float], *, size: float = 1.0, number: int = 1) -> BookSnapshot:
    levels = [tuple((price, size) for price in side) for side in (bids, asks)]
    return BookSnapshot("v", "A-USDT", levels[0], levels[1], NOW, NOW, number)


def bar(
    hour: int = 0, opened: float = 100.0, close: float = 100.0, *, volume: float = 1.0, quote: float | None = None
) -> Bar:
    begin = NOW + hour * HOUR
    high, low = max(opened, close), min(opened, close)
    return Bar("v", "A-USDT", "1h", begin, begin + HOUR, opened, high, low, close, volume, quote, 0, hour + 1)


def judge(*messages: MarketMessage, now_ns: int | None = None, limits: Limits = LIMITS) -> list[tuple[Action, tuple]]:
    state, found = FRESH, []
    for message in messages:
        end = message.close_time_ns if isinstance(message, Bar) else message.ts_event_ns
        state, verdict = assess(state, message, limits, end if now_ns is None else now_ns)
        found.append((verdict.action, verdict.findings))
    return found


def last(*messages: MarketMessage, now_ns: int | None = None, limits: Limits = LIMITS) -> tuple[Action, tuple]:
    return judge(*messages, now_ns=now_ns, limits=limits)[-1]


GOOD = (Action.ACCEPT, ())


@pytest.mark.parametrize(
    ("message", "finding"),
    [
        (trade(price=math.nan), Finding.NOT_A_NUMBER),
        (trade(price=math.inf), Finding.NOT_A_NUMBER),
        (trade(quantity=math.nan), Finding.NOT_A_NUMBER),
        (trade(price=0.0), Finding.BAD_PRICE),
        (trade(price=-1.0), Finding.BAD_PRICE),
        (trade(quantity=0.0), Finding.BAD_QUANTITY),
        (trade(quantity=-1.0), Finding.BAD_QUANTITY),
        (bbo(math.nan), Finding.NOT_A_NUMBER),
        (bbo(ask=math.inf), Finding.NOT_A_NUMBER),
        (bbo(sizes=(1.0, -1.0)), Finding.BAD_QUANTITY),
        (bbo(0.0), Finding.BAD_PRICE),
        (bbo(0.0, sizes=(0.0, 1.0)), Finding.ONE_SIDED),
        (bbo(sizes=(1.0, 0.0)), Finding.ONE_SIDED),
        (bbo(0.0, 0.0, sizes=(0.0, 0.0)), Finding.ONE_SIDED),
        (bbo(100.0, 100.0), Finding.LOCKED),
        (bbo(101.0, 100.0), Finding.CROSSED),
        (book([99.0], []), Finding.ONE_SIDED),
        (book([], [101.0]), Finding.ONE_SIDED),
        (book([], []), Finding.ONE_SIDED),
        (book([100.0], [100.0]), Finding.LOCKED),
        (book([101.0], [100.0]), Finding.BOOK_CROSSED),
        (book([98.0, 99.0], [101.0]), Finding.DISORDER),
        (book([99.0, 99.0], [101.0]), Finding.DISORDER),
        (book([99.0], [102.0, 101.0]), Finding.DISORDER),
        (book([99.0], [101.0], size=0.0), Finding.BAD_QUANTITY),
        (book([0.0], [101.0]), Finding.BAD_PRICE),
        (book([math.nan], [101.0]), Finding.NOT_A_NUMBER),
        (bar(opened=math.nan), Finding.NOT_A_NUMBER),
        (bar(close=0.0), Finding.BAD_PRICE),
        (bar(volume=-1.0), Finding.BAD_QUANTITY),
        (bar(quote=math.nan), Finding.NOT_A_NUMBER),
        (bar(quote=-1.0), Finding.BAD_QUANTITY),
        (msgspec.structs.replace(bar(), high=99.0), Finding.DISORDER),
        (msgspec.structs.replace(bar(), low=101.0), Finding.DISORDER),
        (msgspec.structs.replace(bar(), open_time_ns=NOW + HOUR), Finding.DISORDER),
    ],
)
def test_a_message_that_cannot_be_is_found(message, finding):
    assert last(message) == (ACTIONS[finding], (finding,))


def test_ordinary_messages_pass():
    assert judge(trade(), bbo(), book([99.0, 98.0], [101.0, 102.0]), bar(volume=0.0)) == [GOOD] * 4
    assert last(trade(price=1e-12)) == last(trade(price=1e12)) == GOOD


def test_every_finding_has_an_action_and_the_worst_one_counts():
    assert set(ACTIONS) == set(Finding)
    assert SEVERITY == (Action.ACCEPT, Action.DROP, Action.HOLD, Action.RESNAPSHOT, Action.FREEZE)
    assert verdict_of((Finding.SEQUENCE_GAP, Finding.LOCKED, Finding.BAD_PRICE)).action is Action.HOLD
    assert verdict_of(()).is_usable


def test_trades_are_known_by_their_ids_not_by_their_times():
    assert judge(trade(1), trade(2), trade(3)) == [GOOD] * 3
    assert last(trade(1), trade(2), trade(3, name="1")) == (Action.DROP, (Finding.DUPLICATE,))
    assert last(trade(1, name="x"), trade(2, at=NOW + 1, name="x")) == GOOD


def test_what_came_before_is_dropped_and_changes_nothing():
    assert last(trade(5), trade(5, name="y", at=NOW + 1)) == (Action.DROP, (Finding.DUPLICATE,))
    assert last(trade(5), trade(4, at=NOW + 1)) == (Action.DROP, (Finding.OUT_OF_ORDER,))
    assert last(trade(5), trade(6, at=NOW - 1), now_ns=NOW) == (Action.DROP, (Finding.OUT_OF_ORDER,))
    assert last(trade(5), trade(4), trade(6)) == GOOD
    assert last(bbo(number=2), bbo(number=1)) == (Action.DROP, (Finding.OUT_OF_ORDER,))
    assert last(bar(1), bar(1)) == (Action.DROP, (Finding.DUPLICATE,))
    assert last(bar(3), bar(1))[1][0] is Finding.OUT_OF_ORDER


def test_a_hole_in_the_sequence_is_counted_and_gone_over():
    assert last(trade(1), trade(3)) == (Action.ACCEPT, (Finding.SEQUENCE_GAP,))
    assert last(trade(1), trade(3), trade(4)) == GOOD
    assert last(bbo(number=1), bbo(number=9)) == (Action.ACCEPT, (Finding.SEQUENCE_GAP,))


@pytest.mark.parametrize("divisor", [1_000, 1_000_000, 1_000_000_000])
def test_a_time_in_another_unit_is_dropped(divisor):
    found = last(trade(1), trade(2, at=NOW // divisor), now_ns=NOW)
    assert found[0] is Action.DROP
    assert Finding.TIME_UNIT in found[1]
    assert last(trade(at=NOW * 1_000), now_ns=NOW) == (Action.DROP, (Finding.TIME_UNIT,))
    assert last(trade(1), trade(2, at=NOW // divisor), trade(2), now_ns=NOW) == GOOD


def test_a_local_clock_that_lags_is_flagged_and_latency_is_clamped():
    ahead = 1_272_000_000
    assert last(trade(at=NOW + ahead), now_ns=NOW) == (Action.ACCEPT, (Finding.NEGATIVE_LATENCY,))
    assert latency_ns(NOW + ahead, NOW) == 0
    assert latency_ns(NOW - 5, NOW) == 5
    limit = LIMITS.clock_ahead_ns_max
    assert last(trade(at=NOW + limit), now_ns=NOW) == (Action.ACCEPT, (Finding.NEGATIVE_LATENCY,))
    assert last(trade(at=NOW + limit + 1), now_ns=NOW) == (Action.HOLD, (Finding.CLOCK_SKEW,))


def test_a_time_from_the_future_does_not_block_what_follows():
    assert last(bbo(number=1, at=NOW + HOUR), bbo(number=2), now_ns=NOW) == GOOD


def test_old_messages_are_held_and_silence_is_seen():
    limit = LIMITS.age_ns_max
    assert last(bbo(at=NOW - limit), now_ns=NOW) == GOOD
    assert last(bbo(at=NOW - limit - 1), now_ns=NOW) == (Action.HOLD, (Finding.STALE,))
    assert last(bar(), now_ns=NOW + 1000 * HOUR) == GOOD
    state, _ = assess(FRESH, bbo(), LIMITS, NOW)
    assert silence(state, LIMITS, NOW + LIMITS.silence_ns_max).is_usable
    quiet = silence(state, LIMITS, NOW + LIMITS.silence_ns_max + 1)
    assert (quiet.action, quiet.findings) == (Action.HOLD, (Finding.STALE,))
    assert silence(FRESH, LIMITS, NOW).is_usable
    # Messages that are not good do not end a silence.
    state, _ = assess(state, bbo(100.0, 100.0, number=2, at=NOW + HOUR), LIMITS, NOW + HOUR)
    assert not silence(state, LIMITS, NOW + HOUR).is_usable


def test_a_bar_that_opens_elsewhere_freezes_for_good():
    assert last(bar(0), bar(1, 300.0, 300.0)) == GOOD
    state, _ = assess(FRESH, bar(0), LIMITS, NOW + HOUR)
    state, verdict = assess(state, bar(1, 300.1, 300.1), LIMITS, NOW + 2 * HOUR)
    assert (verdict.action, verdict.findings) == (Action.FREEZE, (Finding.JUMP,))
    assert "3.001 times" in verdict.detail
    for message in (bar(2, 300.0, 300.0), bar(3), trade(), bbo(), book([99.0], [101.0])):
        state, verdict = assess(state, message, LIMITS, NOW + 9 * HOUR)
        assert verdict.action is Action.FREEZE
        assert Finding.FROZEN in verdict.findings
    assert last(bar(0), bar(1, 33.4, 33.4)) == GOOD
    assert last(bar(0), bar(1, 33.3, 33.3)) == (Action.FREEZE, (Finding.JUMP,))


def test_a_crash_that_trades_on_its_way_does_not_freeze():
    assert last(bar(0), bar(1, 100.0, 2.1)) == GOOD
    assert last(bar(0), bar(1, 100.0, 1.9)) == (Action.FREEZE, (Finding.JUMP,))
    loose = Limits(jump_factor_max=math.inf, bar_factor_max=math.inf)
    assert last(bar(0), bar(1, 1e6, 1.0), limits=loose) == GOOD


def test_a_released_instrument_takes_its_next_price_as_it_comes():
    state, _ = assess(FRESH, bar(0), LIMITS, NOW + HOUR)
    state, _ = assess(state, bar(1, 1e5, 1e5), LIMITS, NOW + 2 * HOUR)
    state, verdict = assess(release(state), bar(2, 1e5, 1e5), LIMITS, NOW + 3 * HOUR)
    assert verdict.is_usable
    state, verdict = assess(state, bar(3), LIMITS, NOW + 4 * HOUR)
    assert verdict.action is Action.FREEZE


def test_one_bad_print_is_held_and_several_freeze():
    wild = [trade(number, 1000.0, at=NOW + number) for number in (2, 3, 4)]
    found = judge(trade(1), *wild)
    assert [action for action, _ in found] == [Action.ACCEPT, Action.HOLD, Action.HOLD, Action.FREEZE]
    assert found[1][1] == (Finding.JUMP_SUSPECTED,)
    assert last(trade(1), wild[0], trade(3, at=NOW + 3), wild[2]) == (Action.HOLD, (Finding.JUMP_SUSPECTED,))
    assert last(trade(1), bbo(990.0, 1010.0)) == (Action.HOLD, (Finding.JUMP_SUSPECTED,))


def test_the_ids_of_one_moment_are_bounded():
    state = FRESH
    for number in range(TRADE_IDS_MAX + 10):
        state, _ = assess(state, trade(number), LIMITS, NOW)
    assert len(state.trade.ids) <= TRADE_IDS_MAX


NUMBERS = st.sampled_from([0.0, 1.0, 99.0, 100.0, 101.0, 1e12, -1.0, math.nan, math.inf])
MESSAGES = st.one_of(
    st.builds(trade, st.integers(0, 5), NUMBERS, NUMBERS, at=st.integers(NOW - 3, NOW + 3) | st.just(7)),
    st.builds(bbo, NUMBERS, NUMBERS, number=st.integers(0, 5), sizes=st.tuples(NUMBERS, NUMBERS)),
    st.builds(book, st.lists(NUMBERS, max_size=2), st.lists(NUMBERS, max_size=2), number=st.integers(0, 5)),
    st.builds(bar, st.integers(0, 5), NUMBERS, NUMBERS),
)


@given(messages=st.lists(MESSAGES, max_size=12))
def test_no_message_whatever_moves_the_price_to_what_is_none(messages):
    state = FRESH
    for message in messages:
        before = state
        state, verdict = assess(state, message, LIMITS, NOW + 10 * HOUR if isinstance(message, Bar) else NOW)
        assert state.price is None or 0.0 < state.price < math.inf
        assert verdict.is_usable or state.price == before.price
        assert verdict.action is not Action.DROP or state == before
        assert before.frozen is None or state == before


def test_a_difference_over_a_hole_asks_for_a_snapshot():
    state, verdict = assess_diff(DiffState(), DiffIds(1, 2))
    assert verdict.action is Action.RESNAPSHOT
    state = on_snapshot(10)
    state, verdict = assess_diff(state, DiffIds(9, 10))
    assert (verdict.action, verdict.findings) == (Action.DROP, (Finding.OUT_OF_ORDER,))
    straddled, verdict = assess_diff(state, DiffIds(8, 12))
    assert verdict.is_usable
    assert straddled.last_id == 12
    _, verdict = assess_diff(state, DiffIds(12, 13))
    assert verdict.findings == (Finding.BOOK_GAP,)
    state, verdict = assess_diff(state, DiffIds(11, 12))
    assert verdict.is_usable
    assert assess_diff(state, DiffIds(12, 12))[1].findings == (Finding.DUPLICATE,)
    assert assess_diff(state, DiffIds(20, 21, 12))[1].is_usable
    assert assess_diff(state, DiffIds(13, 14, 11))[1].findings == (Finding.BOOK_GAP,)
    assert assess_diff(state, DiffIds(14, 13))[1].findings == (Finding.DISORDER,)
    broken, verdict = assess_diff(state, DiffIds(14, 15))
    assert (broken.sync, verdict.action) == (Sync.WAITING, Action.RESNAPSHOT)

"""Files are merged in a calm, and in a flood once a minute."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.recorder.housekeeping import CALM_NS, PATIENCE_NS, Housekeeping

SECOND = 1_000_000_000


def test_in_a_calm_it_is_always_due() -> None:
    keeping = Housekeeping()
    assert [keeping.is_due(second * SECOND) for second in range(3)] == [True] * 3


def test_a_flood_puts_it_off_until_it_is_over() -> None:
    keeping = Housekeeping()
    assert keeping.is_due(0)
    keeping.saw_flood(SECOND)
    assert not keeping.is_due(SECOND)
    assert not keeping.is_due(SECOND + CALM_NS)
    assert keeping.is_due(SECOND + CALM_NS + 1)


@given(st.integers(0, 10), st.integers(1, 20))
def test_a_flood_without_end_lets_it_be_once_in_a_while(first: int, step: int) -> None:
    keeping = Housekeeping()
    done = []
    for second in range(first, first + 400, step):
        keeping.saw_flood(second * SECOND)
        if keeping.is_due(second * SECOND):
            done.append(second)
    gaps = [(after - before) * SECOND for before, after in itertools.pairwise(done)]
    assert len(done) > 1
    assert all(PATIENCE_NS <= gap < PATIENCE_NS + step * SECOND for gap in gaps)

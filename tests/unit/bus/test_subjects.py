"""Subjects: what covers what, and what may stand in one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus import subjects
from shared.errors import InputError

TOKENS = st.sampled_from(["a", "b", "md", "BTC-USDT"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=5)


@given(parts=SUBJECTS, data=st.data())
def test_a_pattern_made_from_a_subject_covers_it(parts: list[str], data: st.DataObject) -> None:
    pattern = [data.draw(st.sampled_from([part, "*"])) for part in parts]
    subject = ".".join(parts)
    assert subjects.matches(".".join(pattern), subject)
    cut = data.draw(st.integers(min_value=0, max_value=len(parts) - 1))
    assert subjects.matches(".".join([*pattern[:cut], ">"]), subject)
    assert not subjects.matches(".".join([*pattern, ">"]), subject), "'>' stands for at least one token"
    assert not subjects.matches(".".join([*pattern, "*"]), subject)
    assert not subjects.matches(".".join(pattern[:-1]), subject)


@given(parts=SUBJECTS, other=SUBJECTS)
def test_a_pattern_without_wildcards_covers_only_itself(parts: list[str], other: list[str]) -> None:
    assert subjects.matches(".".join(parts), ".".join(other)) == (parts == other)


@pytest.mark.parametrize("text", ["", ".", "a.b", "a b", "*", ">", "a*", "a>", "a\tb", "a\nb"])
def test_a_token_that_would_change_the_subject_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        subjects.token(text)
    with pytest.raises(InputError):
        subjects.order_intent("s", "v", text)


def test_builders_give_the_documented_subjects() -> None:
    assert subjects.bar("4h", "sandbox", "A-USDT") == "md.bar.4h.sandbox.A-USDT"
    assert subjects.order_intent("cascade", "sandbox", "A-USDT") == "ord.intent.cascade.sandbox.A-USDT"
    assert subjects.order_approved("sandbox", "A-USDT") == "ord.approved.sandbox.A-USDT"
    assert subjects.order_event("cascade", "sandbox", "A-USDT") == "ord.event.cascade.sandbox.A-USDT"
    assert subjects.account("sandbox") == "acct.sandbox"


@pytest.mark.parametrize("subject", ["md.x", "a", "md.BTC-USDT.1"])
def test_a_concrete_subject_passes(subject: str) -> None:
    assert subjects.concrete(subject) == subject

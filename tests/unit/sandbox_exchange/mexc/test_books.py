from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.sandbox_exchange.core.model import Depth, LevelChanged
from services.sandbox_exchange.mexc.books import BookHistory
from services.sandbox_exchange.mexc.words import order_id_of, order_id_word, text
from shared.messages import Side

D = Decimal
changes = st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 6), st.integers(0, 3)), max_size=40)


@given(changes, st.integers(0, 45))
def test_book_of_then_is_what_was_seen_then(made, asked):
    history = BookHistory(Depth("X", 0, (), ()))
    seen = [history.at("X", 0, 100)]
    for number, (side, price, quantity) in enumerate(made, 1):
        history.change(LevelChanged("X", number, side, D(price), D(quantity), 0))
        seen.append(history.at("X", number, 100))
    expected = seen[min(asked, len(made))]
    assert history.at("X", asked, 100) == expected
    assert [price for price, _ in expected.bids] == sorted((price for price, _ in expected.bids), reverse=True)
    assert [price for price, _ in expected.asks] == sorted(price for price, _ in expected.asks)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**15), max_value=10**15))
def test_text_keeps_the_number_and_shows_no_exponent(number):
    assert D(text(number)) == number
    assert "E" not in text(number)
    assert text(number) == text(number.normalize())


@given(st.integers(1, 10**15))
def test_order_ids_go_back_and_forth(order_id):
    assert order_id_of(order_id_word(order_id)) == order_id
    assert len(order_id_word(order_id)) == len("C02__") + 19


@given(st.text())
def test_other_words_are_no_order_ids(word):
    found = order_id_of(word)
    assert found is None or order_id_word(found).endswith(word.removeprefix("C02__"))

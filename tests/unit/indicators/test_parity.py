"""Batch, stream, chunks, a restored state, truncation and machine code give the same bits."""

import importlib.util
import math
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.indicators import (
    Indicator,
    StreamState,
    atr,
    bollinger,
    donchian,
    ema,
    ewma_volatility,
    imbalance,
    macd,
    realised_volatility,
    rsi,
    sma,
    standard_deviation,
    z_score,
)
from shared.domain.indicators.indicator import LARGEST, SMALLEST_POSITIVE

EVERY = (
    sma(1),
    sma(5),
    ema(1),
    ema(4),
    rsi(1),
    rsi(3),
    macd(2, 4, 3),
    bollinger(4, 2.0),
    atr(1),
    atr(3),
    donchian(1),
    donchian(4),
    standard_deviation(3),
    z_score(4),
    realised_volatility(1),
    realised_volatility(3, 365.0),
    ewma_volatility(0.94, 3),
    imbalance(),
)
every = pytest.mark.parametrize("indicator", EVERY, ids=lambda one: f"{one.name}{one.parameters}")

# Ordinary prices most of the time; then zero, the edges of the domain, and everything that is a gap.
ODD = (0.0, -0.0, -3.5, 5e-324, SMALLEST_POSITIVE, LARGEST, -LARGEST, 1e308, -1e308, math.inf, -math.inf, math.nan)
NUMBERS = st.one_of(
    st.floats(0.5, 2.0),
    st.floats(0.5, 2.0),
    st.floats(-LARGEST, LARGEST),
    st.floats(SMALLEST_POSITIVE, 1e-100),
    st.sampled_from(ODD),
)
ROWS = st.one_of(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=40),
    st.builds(lambda value, count: [(value,) * 3] * count, st.floats(1e-9, 1e9), st.integers(0, 40)),
)


def bits(rows: list[tuple[float | None, ...]]) -> list[bytes]:
    numbers = [tuple(math.nan if value is None else value for value in row) for row in rows]
    # NaN stands for "no value"; its sign and payload mean nothing.
    return [struct.pack(f"{len(row)}d", *(math.nan if math.isnan(one) else one for one in row)) for row in numbers]


def columns_of(indicator: Indicator, rows: list[tuple[float, ...]]) -> list[list[float]]:
    return [[row[at] for row in rows] for at in range(len(indicator.inputs))]


def batch_rows(indicator: Indicator, rows: list[tuple[float, ...]]) -> list[tuple[float | None, ...]]:
    return list(zip(*(out.tolist() for out in indicator.batch_all(*columns_of(indicator, rows))), strict=True))


def stream_rows(indicator: Indicator, rows: list[tuple[float, ...]]) -> list[tuple[float | None, ...]]:
    stream = indicator.stream()
    return [stream.update_all(*row[: len(indicator.inputs)]) for row in rows]


@every
@given(rows=ROWS)
def test_a_stream_gives_the_bits_of_the_batch(indicator, rows):
    expected = bits(batch_rows(indicator, rows))
    assert bits(stream_rows(indicator, rows)) == expected
    first = indicator.stream()
    values = [first.update(*row[: len(indicator.inputs)]) for row in rows]
    assert bits([(value,) for value in values]) == [row[:8] for row in expected]


@every
@given(rows=ROWS, data=st.data())
def test_a_restored_stream_goes_on_with_the_same_bits(indicator, rows, data):
    cut = data.draw(st.integers(0, len(rows)))
    stream = indicator.stream()
    before = [stream.update_all(*row[: len(indicator.inputs)]) for row in rows[:cut]]
    as_bytes, as_text = msgspec.msgpack.encode(stream.state()), msgspec.json.encode(stream.state())
    state = msgspec.msgpack.decode(as_bytes, type=StreamState)
    assert msgspec.json.decode(as_text, type=StreamState) == state
    again = indicator.stream(state)
    after = [again.update_all(*row[: len(indicator.inputs)]) for row in rows[cut:]]
    assert bits(before + after) == bits(batch_rows(indicator, rows))


@every
@given(rows=ROWS, data=st.data())
def test_no_value_depends_on_what_comes_later(indicator, rows, data):
    cut = data.draw(st.integers(0, len(rows)))
    other = data.draw(ROWS)
    whole = bits(batch_rows(indicator, rows))[:cut]
    assert bits(batch_rows(indicator, rows[:cut])) == whole
    assert bits(batch_rows(indicator, rows[:cut] + other))[:cut] == whole


@every
@given(rows=ROWS)
def test_a_gap_is_a_bar_that_was_not_there(indicator, rows):
    def is_gap(row: tuple[float, ...]) -> bool:
        return any(not indicator.lowest <= value <= LARGEST for value in row[: len(indicator.inputs)])

    found = batch_rows(indicator, rows)
    nothing = bits([(None,) * len(indicator.outputs)])[0]
    assert all(bits([row])[0] == nothing for row, source in zip(found, rows, strict=True) if is_gap(source))
    kept = [row for row, source in zip(found, rows, strict=True) if not is_gap(source)]
    assert bits(kept) == bits(batch_rows(indicator, [row for row in rows if not is_gap(row)]))


@every
@given(count=st.integers(0, 30), seed=st.integers(0, 5))
def test_the_first_value_comes_right_after_the_declared_warm_up(indicator, count, seed):
    draw = np.random.default_rng(seed)
    columns = draw.uniform(1.0, 2.0, (len(indicator.inputs), count))
    for out, warm_up in zip(indicator.batch_all(*columns), indicator.warm_ups, strict=True):
        assert np.isnan(out).tolist() == [at < warm_up for at in range(count)]


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed: kernels run as Python")
@every
def test_machine_code_gives_the_bits_of_the_interpreter(indicator):
    draw = np.random.default_rng(3)
    ordinary = 100.0 * np.exp(np.cumsum(draw.normal(0.0, 0.02, (3, 3_000)), axis=1))
    wild = draw.choice([1e-150, 1e150, 1.0, 3.0, 0.1, 7e-20, 1e20, math.nan, math.inf], (3, 3_000))
    for columns in (ordinary, wild, np.full((3, 50), 0.1)):
        used = columns[: len(indicator.inputs)]
        rows = [tuple(row) for row in used.T.tolist()]
        expected = bits(stream_rows(indicator, rows))
        assert indicator.compile()
        assert bits(batch_rows(indicator, rows)) == expected


@every
def test_a_constant_series_has_constant_values(indicator):
    values = {one: set() for one in indicator.outputs}
    for row in stream_rows(indicator, [(0.1, 0.1, 0.1)] * 50):
        for name, value in zip(indicator.outputs, row, strict=True):
            if value is not None:
                values[name].add(value)
    level = {0.1} if indicator.name in {"sma", "ema", "bollinger", "donchian"} else {0.0}
    level = {50.0} if indicator.name == "rsi" else level
    assert all(found == level for found in values.values())


@every
def test_wrong_shapes_and_foreign_states_are_refused(indicator):
    columns = [[1.0, 2.0]] * len(indicator.inputs)
    with pytest.raises(ValueError, match="columns"):
        indicator.batch(*columns, [1.0, 2.0])
    with pytest.raises(ValueError, match="columns"):
        indicator.stream().update(*[1.0] * (len(indicator.inputs) + 1))
    with pytest.raises(ValueError, match="one length"):
        indicator.batch(*[[[1.0]]] * len(indicator.inputs))
    if len(indicator.inputs) > 1:
        with pytest.raises(ValueError, match="one length"):
            indicator.batch([1.0], *[[1.0, 2.0]] * (len(indicator.inputs) - 1))
    with pytest.raises(ValueError, match="not of"):
        indicator.stream(msgspec.structs.replace(sma(77).stream().state()))
    state = indicator.stream().state()
    with pytest.raises(ValueError, match="another version"):
        indicator.stream(msgspec.structs.replace(state, state=(*state.state, 0.0)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: sma(0),
        lambda: ema(-1),
        lambda: rsi(0),
        lambda: atr(0),
        lambda: donchian(0),
        lambda: bollinger(1),
        lambda: bollinger(20, 0.0),
        lambda: bollinger(20, math.nan),
        lambda: standard_deviation(1),
        lambda: z_score(1),
        lambda: macd(26, 12, 9),
        lambda: macd(0, 12, 9),
        lambda: realised_volatility(0),
        lambda: realised_volatility(5, 0.0),
        lambda: ewma_volatility(1.0),
        lambda: ewma_volatility(math.nan),
        lambda: ewma_volatility(0.9, 0),
        lambda: sma(2.5),  # type: ignore[arg-type]
        lambda: ema(math.nan),  # type: ignore[arg-type]
        lambda: rsi(math.inf),  # type: ignore[arg-type]
        lambda: realised_volatility(10**9),
        lambda: donchian(10**400),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()

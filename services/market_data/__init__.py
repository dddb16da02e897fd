"""1: A venue's streams, a replayed file or a seeded market come in; ticks and closed bars go out on `md.*`.

Every bar is judged first (`core/quality.py`): what is wrong is dropped, what jumps freezes its instrument until an
operator releases it; both are counted, and named in `BarsClosed.missing`.

Each step is published durably and in one order: every instrument's bar, then `BarsClosed`. The next step follows when
the clock allows it and every participant has finished this one. A restart continues exactly where the stream ends.
Never: an open bar, an invented price, a step with a hole, a step published twice.
"""

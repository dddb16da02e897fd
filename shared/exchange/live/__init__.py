"""What every venue at the other end of a wire needs: sockets, limits, a clock, retries, books, filters, outcomes.

In: a venue's words, turned into ours by `shared.exchange.<venue>`. Out: connections that heal, books without a gap,
requests within the venue's limits. Never: a write repeated, a book served after a gap, a wait without an end.
"""

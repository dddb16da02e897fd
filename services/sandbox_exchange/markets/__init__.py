"""Where the sandbox's markets come from: a seeded flow of orders, candles of history, or recorded frames.

In: a market's description and the wall clock. Out: orders of the house at the exchange, or raw frames as recorded.
Never: an order off the grid, a burst after a stall, a frame that was not recorded.
"""

"""7: A venue of one's own: takes orders over MEXC's and Binance's wire protocols, gives books, trades and fills.

In: HTTP requests and websocket frames of any client; a market from history or from a seeded flow of orders; faults.
Out: the venue's own answers, streams and error codes; a ledger that says what truly happened.
Never: money or quantity out of nothing; an answer that its ledger does not hold, unless a fault switch says so.
"""

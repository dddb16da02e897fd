"""2. The cascade rebalancer: closed bars and the account come in, order intents and decision records go out.

In: `md.bar`, `md.closed`, `md.instrument` (stream MD_BARS), `ord.event`, `ord.refused` (ORDERS), `acct` (ACCOUNTS).
Out: `ord.intent`, `decision.rebalancer`, `progress.rebalancer`; its state in the key-value bucket `state`.
Never: an intent before the state that explains it is stored; two plans at once; a sale made twice, whatever dies when;
a price, balance or position that nobody reported.
"""

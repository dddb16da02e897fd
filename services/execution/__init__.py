"""4: Execution: the only service that talks to a venue's account.

In: approvals (`ord.approved.>`), closed bars, the trading state, operator commands. Out: order events, account
snapshots, demands to halt. Never: an order without an unused approval, a second order for one intent, a byte sent
before the journal holds it, an order sent while halted, an invented trade, a balance that the ledger cannot explain.
"""

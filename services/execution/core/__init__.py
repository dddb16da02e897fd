"""Pure decisions of execution: the order state machine, the last-hop checks, the account's valuation, evidence."""

"""The market's nouns and their arithmetic: instruments, money, ledger, portfolio. Pure."""

"""The venue itself, without a wire: accounts, orders, markets, fault switches. Pure and deterministic."""

"""The gate's decisions: pure projections of what was seen, pure checks, and the machine of trading states."""

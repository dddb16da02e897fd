"""The durable streams and key-value buckets, created by the bootstrap step before any service starts."""

from shared.bus.port import StreamSpec

MD_BARS = "MD_BARS"
ORDERS = "ORDERS"
ACCOUNTS = "ACCOUNTS"
RISK = "RISK"
DECISIONS = "DECISIONS"
AUDIT = "AUDIT"
DEAD = "DEAD"

DAY_S = 86_400.0

STREAMS = (
    StreamSpec(name=MD_BARS, subjects=("md.bar.>", "md.closed.>", "md.instrument.>"), max_messages=5_000_000),
    StreamSpec(name=ORDERS, subjects=("ord.>",), max_messages=5_000_000),
    StreamSpec(name=ACCOUNTS, subjects=("acct.>",), max_messages=1_000_000),
    StreamSpec(name=RISK, subjects=("risk.>",), max_messages=100_000),
    StreamSpec(name=DECISIONS, subjects=("decision.>",), max_messages=5_000_000),
    StreamSpec(name=AUDIT, subjects=("audit.>",), max_messages=1_000_000),
    StreamSpec(name=DEAD, subjects=("dead.>",), max_messages=10_000),
)

STATE_BUCKET = "state"
LEASE_BUCKET = "lease"
BUCKETS = (STATE_BUCKET, LEASE_BUCKET)

"""3: Intents come in; approvals and refusals go out, and the trading state that everybody obeys.

In: `ord.intent.*`, order events, account snapshots, closed bars, halts, operator commands.
Out: `ord.approved.*` (from here alone), `ord.refused.*`, `risk.state`, `decision.risk.*`, `audit.risk`.
Never: an approval on a missing number or over a limit; two verdicts for one intent; a resume that no person gave a
reason for.
"""

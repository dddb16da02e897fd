"""The search for rules: what to vary (`space`), how to judge (`splits`), one trial (`trial`), all of them (`search`).

In: a market, settings, a space of rules. Out: a `Finding`, kept on the way (`store`), and its forms (`output`).
Never: a winner without what walk-forward and the measures of luck say of it.
"""

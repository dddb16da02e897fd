"""6: Everything that happened comes in over the bus; one page goes out to the operator's browser, pushed as it changes.

The page writes nothing but commands (`cmd.*`), each with a user and a reason. It must never hold exchange keys, answer
another site's form, show a number that it made up, or slow trading: it only listens.
"""

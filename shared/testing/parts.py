"""Real parts in tests: used where they exist, otherwise skipped with a reason, or demanded by CASCADE_REQUIRE."""

import os

import pytest


def require(part: str, present: bool, reason: str) -> None:
    """Skip the test unless `present`; fail it when CASCADE_REQUIRE (a comma list) names `part`."""
    if present:
        return
    if part in os.environ.get("CASCADE_REQUIRE", "").split(","):
        pytest.fail(f"CASCADE_REQUIRE names {part!r}: {reason}")
    pytest.skip(reason)

"""No fault switch of the sandbox without a test of what the system makes of it."""

import pytest

from services.sandbox_exchange.core.faults import FaultName as F
from tests.integration.faults import test_account_under_faults as account
from tests.integration.faults import test_market_under_faults as market
from tests.integration.faults import test_orders_under_faults as orders

# Switches that are not rows of a table, and the test that sets each of them.
TESTS = {
    F.FEE_THIRD_ASSET: account.test_fees_in_the_venues_token_are_booked_to_the_last_digit_and_halt_nothing,
    F.DUPLICATE_ID_ACCEPT: orders.test_an_id_that_the_venue_would_take_twice_is_sent_once,
    F.CLOCK_SKEW: orders.test_a_clock_that_jumps_costs_at_most_an_order_that_was_never_there,
}
TABLES = (orders.CREATED, orders.ASKED, orders.CANCELLED, orders.STREAM, market.FRAMES, market.SNAPSHOTS)


@pytest.mark.parametrize("name", list(F))
def test_every_switch_has_a_test(name: F) -> None:
    assert name in TESTS or any(row.name is name for table in TABLES for row in table), (
        f"{name} has no row in a table of this folder, and no test of its own in TESTS"
    )

"""Builders and a venue that keeps its own ledger, shared by the rebalancer's tests."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Params, Portfolio
from shared.testing.fake_venue import FakeVenue, instrument

ASSETS = ("A-USDT", "B-USDT", "C-USDT", "D-USDT")


def make_params(assets: tuple[str, ...] = ASSETS, **changes: object) -> Params:
    """Return the default rules for a basket on venue `sandbox`."""
    return Params(RebalanceConfig(assets=assets, **changes), "sandbox", {asset: instrument(asset) for asset in assets})


def make_portfolio(
    values: dict[str, object], usdt: object = 0, *, price: object = 1, minutes: dict[str, object] | None = None
) -> Portfolio:
    """Return a portfolio worth `values`, all at one price."""
    price = Decimal(str(price))
    return Portfolio(
        assets=tuple(values),
        prices=dict.fromkeys(values, price),
        quantities={asset: Decimal(str(worth)) / price for asset, worth in values.items()},
        usdt=Decimal(str(usdt)),
        elapsed_ns={asset: Decimal(str(each)) * 60_000_000_000 for asset, each in (minutes or {}).items()},
    )


@pytest.fixture
def params() -> Callable[..., Params]:
    """Return the builder of rules and grids."""
    return make_params


@pytest.fixture
def portfolio() -> Callable[..., Portfolio]:
    """Return the builder of portfolios."""
    return make_portfolio


@pytest.fixture
def venue() -> type[FakeVenue]:
    """Return the venue's type."""
    return FakeVenue

"""The written page: self-contained, escaped, complete, the same twice."""

import base64
import hashlib
import re
from decimal import Decimal
from pathlib import Path

import pytest

from services.backtest.api import BacktestEngine
from services.backtest.report import render, write_report
from services.backtest.report import rows as report_rows
from services.backtest.report.charts import MARKS_MAX, kept_marks
from services.backtest.report.words import amount, money, signed, when
from services.backtest.report.write import btc_closes, provenance_of
from shared.errors import ConfigError
from shared.testing.data import data_file
from tests.unit.backtest.report.runs import doubling, result_of, violent
from tests.unit.backtest.worlds import ABC, closes_feed

EVIL = "<img src=x onerror=alert(1)>\"'</script>"


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    page = render(violent())
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert not re.search(r"https?://|@import|url\(", page)
    assert not re.search(r"""\s(style|on\w+)=["']""", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = policy[1].replace("&#39;", "'")
    assert rules.startswith("default-src 'none'; ")
    assert "unsafe" not in rules
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in rules


def test_names_from_the_data_are_escaped_everywhere() -> None:
    names = {one: f"{one}{EVIL}" for one in ABC}
    page = render(result_of(closes_feed([(1, 1, 1), (2, 1, 1), (9, 1, 1)]), names=names))
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_every_rebalance_is_marked_and_listed_with_its_reason_and_cost() -> None:
    result = violent()
    page = render(result)
    assert len(result.rebalances) > 5
    for number, plan in enumerate(result.rebalances, start=1):
        assert f'href="#plan-{number}"' in page
        assert f'id="plan-{number}"' in page
        assert f"cost {money(plan.cost_quote)}" in page
        assert when(plan.at_ns) in page
    assert page.count('class="mark') >= 3 + len(result.rebalances)


def test_the_same_run_gives_the_same_page() -> None:
    assert render(violent()) == render(violent())


def test_a_run_without_a_trade_is_reported() -> None:
    page = render(result_of(closes_feed([(1, 1, 1)])))
    assert "2026-01-01 04:00" in page
    result = result_of(closes_feed([(1, 1, 1), (1, 1, 1)]))
    result.log.plans.clear()
    assert "Nothing was traded." in render(result)


def test_a_run_without_a_step_is_refused() -> None:
    result = doubling()
    result.log.times_ns.clear()
    with pytest.raises(ConfigError, match="no step"):
        render(result)


def test_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    result = violent()
    monkeypatch.setattr(report_rows, "TRADES_MAX", 3)
    monkeypatch.setattr("services.backtest.report.page.TRADES_MAX", 3)
    assert f"{len(result.fills) - 3} later fills are left out" in render(result)


def test_too_many_marks_keep_the_first_and_the_last() -> None:
    kept = kept_marks(MARKS_MAX + 5)
    assert len(kept) == MARKS_MAX
    assert (kept[0], kept[-1]) == (0, MARKS_MAX + 4)


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    result = doubling()
    write_report(result, tmp_path / "out.html")
    assert [one.name for one in tmp_path.iterdir()] == ["out.html"]
    with pytest.raises(OSError, match="No such file"):
        write_report(result, tmp_path / "nowhere" / "out.html")


def test_numbers_are_written_for_people() -> None:
    assert amount(Decimal("186420.3401")) == "186,420.34"
    assert amount(Decimal("0.0000001234")) == "0.00000012"
    assert signed(None) == "–"
    assert signed(-0.5) == "-50.00 %"


async def test_the_real_market_is_named_digested_and_compared_with_btc() -> None:
    path = data_file("mexc_spot/mexc_spot_4h.csv.gz")
    assets = ["RIVERUSDT", "HUSDT", "PENGUUSDT", "TAOUSDT"]
    result = await BacktestEngine(assets, data=path).run_backtest()
    found = provenance_of(result)
    assert found.source == path.name
    assert found.file_digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(btc_closes(result)) == 443
    page = render(result)
    assert str(path.parent) not in page
    assert found.file_digest in page
    assert ">BTC<" in page

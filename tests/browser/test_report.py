"""A backtest's report in a real Chromium, opened as a file: its own policy holds, marks lead to rebalances."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from services.backtest.optimise.output import write_page
from services.backtest.report import write_report
from services.backtest.report.page import Fact
from tests.unit.backtest.optimise.test_optimise import found
from tests.unit.backtest.report.runs import violent

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(violent(), path)
    return path.as_uri()


def opened(browser: Browser, url: str, *, width: int = 1280, height: int = 900) -> tuple[Page, list[str]]:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.split("#")[0] != url else None)
    page.goto(url)
    return page, problems


def test_the_report_needs_nothing_and_breaks_no_policy(browser: Browser, report: str, pictures: Path) -> None:
    page, problems = opened(browser, report)
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).borderRadius") != "0px"
    expect(page.get_by_role("button", name="Unfold all")).to_be_visible()
    page.screenshot(path=pictures / "report.png", full_page=True)
    assert problems == []


def test_a_mark_on_the_curve_opens_its_rebalance(browser: Browser, report: str) -> None:
    page, problems = opened(browser, report)
    expect(page.locator("#plan-2 .legs")).to_be_hidden()
    page.locator(".worth a[href='#plan-2']").click()
    expect(page.locator("#plan-2 .legs")).to_be_in_viewport()
    assert problems == []


def test_the_pointer_reads_values_off_the_curve(browser: Browser, report: str) -> None:
    page, _ = opened(browser, report)
    page.locator(".worth").hover()
    expect(page.locator("#readout")).to_contain_text("Buy and hold")
    expect(page.locator("#readout")).to_contain_text("2026-")
    page.locator("h1").hover()
    expect(page.locator("#readout")).to_be_empty()


def test_the_report_fits_a_phone(browser: Browser, report: str, pictures: Path) -> None:
    page, problems = opened(browser, f"{report}#plan-2", width=390, height=844)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    expect(page.locator("#plan-2 .legs")).to_be_visible()
    cut = page.evaluate(
        "[...document.querySelectorAll('.card')].filter(one => one.scrollWidth > one.clientWidth + 1)"
        ".map(one => one.id)"
    )
    assert cut == []
    page.screenshot(path=pictures / "report_phone.png", full_page=True)
    assert [one for one in problems if not one.startswith("file:")] == []


def test_paper_gets_every_rebalance_unfolded(browser: Browser, report: str) -> None:
    page, _ = opened(browser, report)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")


def test_the_page_of_a_search_breaks_no_policy_and_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "search.html"
    write_page(found(), path, title="cascade on A, B, C", facts=(Fact("Source", "a table"),))
    for width in (1280, 390):
        page, problems = opened(browser, path.as_uri(), width=width)
        assert problems == []
        expect(page.locator(".map")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert page.evaluate("getComputedStyle(document.querySelector('.heat9')).fill") != "rgb(0, 0, 0)"

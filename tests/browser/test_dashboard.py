"""The page in a real Chromium: pushed changes, the halt form, a phone's width."""

from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser


class Demo(Protocol):
    url: str
    commands: list[str]

    def decide(self, note: str) -> None: ...

    def stop(self) -> None: ...


def opened(browser: Browser, demo: Demo, *, width: int = 1280, height: int = 900) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(demo.url)
    page.wait_for_function("document.querySelector('#services').textContent.includes('ready')")
    assert problems == []
    return page


def test_a_change_reaches_the_open_page(browser: Browser, demo: Demo, pictures: Path) -> None:
    page = opened(browser, demo)
    page.screenshot(path=pictures / "desktop.png", full_page=True)
    demo.decide("PENGU-USDT is -36.0 % below the mean")
    expect(page.locator("#decisions")).to_contain_text("PENGU-USDT is -36.0 % below the mean")


def test_halt_asks_first_and_shows_what_risk_answered(browser: Browser, demo: Demo) -> None:
    page = opened(browser, demo)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Halt").click()
    assert demo.commands == []
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Halt").click()
    expect(page.get_by_role("status")).to_contain_text("halted for the test")
    assert demo.commands == ["halt"]


def test_a_gone_dashboard_is_said_to_be_gone(browser: Browser, demo: Demo) -> None:
    page = opened(browser, demo)
    demo.stop()
    expect(page.locator("#offline")).to_be_visible(timeout=10_000)


def test_a_silent_dashboard_is_said_to_be_silent_and_heard_again(browser: Browser, demo: Demo) -> None:
    page = opened(browser, demo)
    page.evaluate("window.now = Date.now; Date.now = () => window.now() + 3600000")
    page.evaluate("lastHeard = 0; heard = () => {}; source.close()")
    expect(page.locator("#offline")).to_be_visible(timeout=10_000)


def test_an_open_page_halts_after_the_dashboard_was_started_again(browser: Browser, demo: Demo) -> None:
    page = opened(browser, demo)
    page.evaluate("document.querySelectorAll('input[name=token]').forEach((input) => { input.value = 'old'; })")
    page.evaluate("source.dispatchEvent(new Event('error'))")
    expect(page.locator("#offline")).to_be_hidden(timeout=10_000)
    page.evaluate("source.dispatchEvent(new MessageEvent('token', {data: 'new'}))")
    assert page.locator("input[name=token]").first.input_value() == "new"
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Halt").click()
    expect(page.get_by_role("status")).to_contain_text("Press halt again")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Halt").click()
    expect(page.get_by_role("status")).to_contain_text("halted for the test")
    assert demo.commands == ["halt"]


def test_nothing_is_cut_off_on_a_phone(browser: Browser, demo: Demo, pictures: Path) -> None:
    page = opened(browser, demo, width=390, height=844)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    button = page.get_by_role("button", name="Halt").bounding_box()
    assert button is not None and button["height"] >= 40
    page.screenshot(path=pictures / "phone.png", full_page=True)

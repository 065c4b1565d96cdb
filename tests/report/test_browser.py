"""The page in a real browser. Skipped where Chromium and its driver are not installed."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    browser = Chrome(options=options, service=ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser: Chrome, folder: Path) -> Chrome:
    """The report of a search as a wide light screen shows it."""
    return shown(browser, folder)


@pytest.fixture(params=["folder", "compared_folder"])
def any_folder(request: pytest.FixtureRequest) -> Path:
    """Where a report is: that of a search, and that of a comparison."""
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def any_page(browser: Chrome, any_folder: Path) -> Chrome:
    """Each of them as a wide light screen shows it."""
    return shown(browser, any_folder)


def shown(browser: Chrome, folder: Path) -> Chrome:
    look(browser, 1200, "light")
    # What the browser did before is no matter.
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)
    browser.get((folder / "report.html").as_uri())
    return browser


def look(browser: Chrome, width: int, scheme: str, media: str = "screen") -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    # Without reduced motion an element scrolls on while it is clicked.
    wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wanted.items()]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def column(table: WebElement, number: int) -> list[str]:
    return [cell.text for cell in table.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({number})")]


def computed(browser: Chrome, selector: str, property: str) -> Any:
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return browser.execute_script(script, selector, property)  # type: ignore[no-untyped-call]


def test_the_page_asks_the_net_for_nothing_and_complains_of_nothing(any_page: Chrome, any_folder: Path) -> None:
    asked = [
        message["params"]["request"]["url"]
        for message in (json.loads(entry["message"])["message"] for entry in any_page.get_log("performance"))
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert {*asked} - {"data:,"} == {(any_folder / "report.html").as_uri()}
    assert any_page.get_log("browser") == []


def test_figures_are_seen_and_told(any_page: Chrome, any_folder: Path) -> None:
    drawings = any_page.find_elements(By.CSS_SELECTOR, "figure [role=img]")
    assert len(drawings) == len([*(any_folder / "figures").iterdir()]) >= 2
    for drawing in drawings:
        assert len(drawing.accessible_name) > 40
        size = drawing.find_element(By.TAG_NAME, "svg").size
        assert size["width"] > 300
        assert size["height"] > 200


def test_tables_are_sorted_by_a_click(page: Chrome) -> None:
    table = page.find_element(By.TAG_NAME, "table")
    heading = table.find_elements(By.TAG_NAME, "th")[4]
    written = column(table, 5)
    shares = [float(text.rstrip("%")) for text in written]
    for direction, order in (("ascending", sorted(shares)), ("descending", sorted(shares, reverse=True))):
        heading.find_element(By.TAG_NAME, "button").click()
        assert heading.get_attribute("aria-sort") == direction
        assert [float(text.rstrip("%")) for text in column(table, 5)] == order
    heading.find_element(By.TAG_NAME, "button").click()
    assert column(table, 5) == written, "a third click brings the order back"


def test_tables_are_sorted_by_the_keyboard_and_what_has_no_value_comes_last(page: Chrome) -> None:
    table = page.find_element(By.TAG_NAME, "table")
    headings = table.find_elements(By.TAG_NAME, "th")
    headings[4].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    page.switch_to.active_element.send_keys(Keys.TAB)
    page.switch_to.active_element.send_keys(Keys.SPACE)
    assert [headings[number].get_attribute("aria-sort") for number in (4, 5)] == ["none", "ascending"]
    assert column(table, 6)[-3:] == ["–"] * 3
    headings[0].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert column(table, 1) == sorted(column(table, 1), key=str.lower)


def test_a_telephone_scrolls_down_only(any_page: Chrome) -> None:
    look(any_page, 375, "light")
    for folded in any_page.find_elements(By.TAG_NAME, "summary"):
        folded.click()
    width = any_page.execute_script("return document.documentElement.scrollWidth")  # type: ignore[no-untyped-call]
    assert width == 375
    smallest = any_page.execute_script(  # type: ignore[no-untyped-call]
        "return Math.min(...[...document.querySelectorAll('svg text')].map("
        "t => parseFloat(getComputedStyle(t).fontSize) * t.closest('svg').clientWidth / 400))"
    )
    assert smallest > 8, "letters of figures, in pixels"


def test_the_page_is_dark_where_it_is_wanted_dark(page: Chrome) -> None:
    def shot() -> bytes:
        return base64.b64decode(page.get_screenshot_as_base64())

    light, ink = shot(), computed(page, "svg text", "fill")
    look(page, 1200, "dark")
    assert shot() != light
    assert computed(page, "body", "backgroundColor") == "rgb(17, 21, 29)"
    assert computed(page, "svg text", "fill") != ink, "figures follow"
    look(page, 1200, "dark", media="print")
    assert computed(page, "body", "backgroundColor") == "rgb(255, 255, 255)", "paper is white"


def test_printing_opens_what_is_folded(page: Chrome) -> None:
    folded = page.find_elements(By.CSS_SELECTOR, "details:not([open])")
    assert len(folded) == 3
    printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    assert page.find_elements(By.CSS_SELECTOR, "details:not([open])") == []

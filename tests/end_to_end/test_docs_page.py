"""The interactive documentation in a real browser: it works where there is no internet."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from support.service import running

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.slow


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of Chromium; without the browser the test is skipped on a laptop and fails in CI."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser.new_page()
        browser.close()


def test_the_api_documentation_shows_its_operations_and_asks_nobody_else(page: Page, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with running(tmp_path) as service:
        page.goto(f"{service.url}/docs")
        page.get_by_text("/api/v1/models/{team}/{model}/upload/{filename}").first.wait_for(timeout=60_000)
        page.screenshot(path=tmp_path / "docs.png")
        assert asked
        assert all(url.startswith((service.url, "data:")) for url in asked), asked

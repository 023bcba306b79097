"""Chromium for tests of the page, and what its tests hold against each page that they open."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
_PATIENCE_MS: Final = 20_000  # a busy machine is no failure
_OPTIONS: Final = (
    "--no-sandbox",  # containers often run as root, where Chromium's sandbox does not start
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; skips the test that asks for it where there is none."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_OPTIONS))
        expect.set_options(timeout=_PATIENCE_MS)
        yield browser
        browser.close()


class Visit:
    """A page in a context of its own, with what went wrong while it was open."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._requested(request.url))

    def open(self, view: str = "") -> Page:
        """Opens a view and waits until the service is known to be ready."""
        self.page.goto(f"{self.url}/{view}")
        self.page.locator("#service[data-state=ready]").wait_for()
        return self.page

    def _heard(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def _requested(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:")):
            self.strangers.append(url)

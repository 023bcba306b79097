"""Takes the pictures of the page that stand in the documentation, from a running service.

Run it with `.venv/bin/python docs/screenshots.py [--url http://127.0.0.1:8000]`; it needs Chromium.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Final, Literal, NamedTuple

import httpx2 as httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT: Final = Path(__file__).resolve().parent.parent
PHOTOGRAPHS: Final = sorted((ROOT / "examples").glob("*.jpg"))
DESKTOP: Final = (1280, 860)
PHONE: Final = (390, 844)
WATCHED_S: Final = 75
CLIENTS: Final = 6
QUALITY: Final = 82


class Shot(NamedTuple):
    name: str
    prepare: Callable[[Page], None]
    size: tuple[int, int]
    scheme: Literal["light", "dark"]


def _empty(page: Page) -> None:
    page.locator("#service[data-state=ready]").wait_for()


def _answer(page: Page) -> None:
    page.locator("#chooser").set_input_files(PHOTOGRAPHS[0])
    page.locator(".verdict").wait_for()


def _explained(page: Page) -> None:
    _answer(page)
    page.locator(".bar-why").first.click()
    page.locator("[data-part=overlay]").wait_for()


def _several(page: Page) -> None:
    page.locator("#chooser").set_input_files([*PHOTOGRAPHS, ROOT / "LICENSE"])
    page.locator(".filmstrip [data-state=answered]").nth(len(PHOTOGRAPHS) - 1).wait_for()
    page.locator(".filmstrip button").nth(1).click()
    page.locator(".verdict").wait_for()


def _models(page: Page) -> None:
    page.get_by_role("link", name="Models", exact=True).click()
    page.locator("[data-part=open]").first.click()
    page.locator(".card section").first.wait_for()


def _live(page: Page) -> None:
    """The view under the load of some clients that send different pictures."""
    page.get_by_role("link", name="Live", exact=True).click()
    address = page.url.partition("#")[0] + "predict"
    until = time.monotonic() + WATCHED_S
    clients = [Thread(target=_send, args=(address, seed, until)) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    page.wait_for_timeout(1000 * (WATCHED_S - 5))
    page.get_by_role("button", name="Pause").click()
    for client in clients:
        client.join()


def _send(address: str, seed: int, until: float) -> None:
    """Sends parts of the photographs, which look like something else each."""
    random = np.random.default_rng(seed)
    photographs = [Image.open(path) for path in PHOTOGRAPHS]
    with httpx.Client(verify=False) as client:
        while time.monotonic() < until:
            whole = photographs[random.integers(len(photographs))]
            left, top = random.integers((whole.width // 2, whole.height // 2)).tolist()
            side = int(random.integers(32, min(whole.size) // 2))
            stream = BytesIO()
            whole.crop((left, top, left + side, top + side)).save(stream, "PNG")
            client.post(address, files={"file": stream.getvalue()})
            time.sleep(random.exponential(0.1))


SHOTS: Final = (
    Shot("page-empty", _empty, DESKTOP, "light"),
    Shot("page-explained", _explained, DESKTOP, "light"),
    Shot("page-several", _several, DESKTOP, "dark"),
    Shot("page-models", _models, DESKTOP, "light"),
    Shot("page-live", _live, DESKTOP, "dark"),
    Shot("page-phone-empty", _empty, PHONE, "dark"),
    Shot("page-phone-answer", _answer, PHONE, "light"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service (default: %(default)s)")
    url = parser.parse_args().url
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for shot in SHOTS:
            _take(browser, url, shot)
        browser.close()


def _take(browser: Browser, url: str, shot: Shot) -> None:
    width, height = shot.size
    is_phone = shot.size == PHONE
    context = browser.new_context(
        base_url=url,
        viewport={"width": width, "height": height},
        color_scheme=shot.scheme,
        reduced_motion="reduce",
        is_mobile=is_phone,
        has_touch=is_phone,
        device_scale_factor=1.5,
    )
    page = context.new_page()
    page.goto("/")
    page.locator("#service[data-state=ready]").wait_for()
    shot.prepare(page)
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)
    picture = Image.open(BytesIO(page.screenshot()))
    picture.save(ROOT / f"docs/images/{shot.name}.webp", quality=QUALITY, method=6)
    context.close()


if __name__ == "__main__":
    main()

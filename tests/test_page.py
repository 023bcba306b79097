"""The page as people use it: in a real browser, against the real service with the fake engine."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import Visit, chromium
from conftest import Encode, serve
from fakes import CALIBRATED, MODEL, FakeEngine, publish_fake
from PIL import Image
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import BrowserContext, ElementHandle, JSHandle, Locator, Page, Route, expect
from pydantic import SecretStr

from app.repository import Repository
from app.settings import Settings

pytestmark = pytest.mark.timeout(120)

ADMIN_KEY = "the key of the tests"

# A picture is red, green or blue; one as dark as this is none of the classes.
DARK = "#100000"

# What the browser gives for a folder with two files, one of which is gone when it is read.
DROP_A_FOLDER = """bytes => {
    const kept = new File([new Uint8Array(bytes)], "kept.png");
    const inside = [
        { isFile: true, name: "lost.png", file: (_, fail) => fail(new DOMException("", "NotFoundError")) },
        { isFile: true, name: "kept.png", file: take => take(kept) },
    ];
    const reader = { readEntries: take => take(inside.splice(0)) };
    const folder = { isDirectory: true, name: "folder", createReader: () => reader };
    const drop = new Event("drop", { bubbles: true, cancelable: true });
    drop.dataTransfer = { items: [{ webkitGetAsEntry: () => folder }], files: [] };
    document.body.dispatchEvent(drop);
}"""


class SharedEngine(FakeEngine):
    """Runs every version, so the end of one is not its end."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    """One browser with one cache for all tests; without a browser none of them runs."""
    with chromium() as browser:
        yield browser.new_context(
            viewport={"width": 1280, "height": 900},
            reduced_motion="reduce",
            permissions=["camera", "clipboard-read", "clipboard-write"],
        )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repository = Repository(tmp_path_factory.mktemp("page"))
    for _ in range(2):
        publish_fake(repository, CALIBRATED)
    settings = Settings(
        model_root=repository.root,
        model_name=MODEL,
        max_body_bytes=1_000_000,
        admin_key=SecretStr(ADMIN_KEY),
        feedback_file=repository.root / "feedback.sqlite",
        shadow_version=1,
        shadow_share=1.0,
    )
    with serve(settings, SharedEngine()) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture
def careless_visit(context: BrowserContext, url: str) -> Iterator[Visit]:
    """A visit in which something is meant to go wrong; another host is never asked all the same."""
    visit = Visit(context, url)
    yield visit
    visit.page.close()
    assert visit.strangers == []


@pytest.fixture
def visit(careless_visit: Visit) -> Iterator[Visit]:
    """A visit without a word of complaint on the console."""
    yield careless_visit
    assert careless_visit.complaints == []


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.open()


@pytest.fixture
def pictures(tmp_path: Path, encode: Encode) -> dict[str, Path]:
    """Files of one colour each, by its name, and one that is no picture."""
    found = {name: tmp_path / f"{name}.png" for name in ("red", "lime", "blue", "dark")}
    for name, path in found.items():
        path.write_bytes(encode(DARK if name == "dark" else name))
    found["text"] = tmp_path / "text.txt"
    found["text"].write_text("This is no picture.")
    return found


def choose(page: Page, *paths: Path) -> None:
    page.locator("#chooser").set_input_files(list(paths))


def verdict(page: Page) -> Locator:
    return page.locator(".verdict")


def transfer(page: Page, *paths: Path) -> JSHandle:
    """What the browser makes of files that are dragged or copied."""
    files = [{"name": path.name, "bytes": list(path.read_bytes())} for path in paths]
    return page.evaluate_handle(
        """files => {
            const made = new DataTransfer();
            for (const { name, bytes } of files) made.items.add(new File([new Uint8Array(bytes)], name));
            return made;
        }""",
        files,
    )


# Ways in


def test_a_chosen_picture_is_answered(page: Page, pictures: dict[str, Path]) -> None:
    choose(page, pictures["red"])
    expect(verdict(page)).to_contain_text("red > 99.9 %")
    expect(page.locator(".bar-name")).to_have_text(["red", "green", "blue"])
    expect(page.locator("#announcements")).to_have_text("red, > 99.9 %.")


def test_a_picture_can_be_dropped_anywhere(page: Page, pictures: dict[str, Path]) -> None:
    dropped = transfer(page, pictures["blue"])
    page.dispatch_event("h1", "dragenter", {"dataTransfer": dropped})
    expect(page.locator("body")).to_have_class("is-dragging")
    page.dispatch_event("h1", "drop", {"dataTransfer": dropped})
    expect(verdict(page)).to_contain_text("blue")
    expect(page.locator("body")).not_to_have_class("is-dragging")


def test_what_is_no_file_is_refused_in_words(page: Page) -> None:
    link = page.evaluate_handle(
        "() => { const t = new DataTransfer(); t.setData('text/plain', 'x'); return t; }"
    )
    page.dispatch_event("main", "drop", {"dataTransfer": link})
    expect(page.get_by_role("alert")).to_contain_text("Save the picture first")


def test_a_picture_can_be_pasted(page: Page, pictures: dict[str, Path]) -> None:
    page.evaluate(
        """async bytes => {
            const picture = new Blob([new Uint8Array(bytes)], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
        }""",
        list(pictures["lime"].read_bytes()),
    )
    page.keyboard.press("Control+V")
    expect(verdict(page)).to_contain_text("green")


def test_the_camera_gives_a_picture(page: Page) -> None:
    page.get_by_role("button", name="Take a photo").click()
    expect(page.locator("#camera-view")).to_be_visible()
    page.get_by_role("button", name="Take it").click()
    expect(page.locator("#camera")).to_be_hidden()
    expect(page.locator(".original figcaption:visible")).to_contain_text("photo.jpg")
    expect(page.locator(".facts")).to_contain_text("JPEG")


def test_a_phone_opens_its_camera_and_nothing_else(context: BrowserContext, url: str) -> None:
    assert context.browser
    phone = context.browser.new_context(has_touch=True, is_mobile=True)
    page = Visit(phone, url).open()
    opened: list[ElementHandle] = []
    page.on("filechooser", lambda chooser: opened.append(chooser.element))
    page.get_by_role("button", name="Take a photo").click()
    page.get_by_role("button", name="Choose pictures").click()
    expect(page.locator("#intake")).to_be_visible()
    assert [input_.get_attribute("id") for input_ in opened] == ["capture", "chooser"]
    phone.close()


def test_an_example_is_a_click_away(page: Page) -> None:
    page.get_by_role("button", name="A cat").click()
    expect(page.locator(".original figcaption:visible")).to_contain_text("cat.jpg")
    expect(page.locator(".facts")).to_contain_text("JPEG, 400")
    expect(page.get_by_role("button", name="Choose pictures")).to_be_focused()


def test_several_pictures_are_answered_and_a_bad_one_harms_none(
    careless_visit: Visit, pictures: dict[str, Path]
) -> None:
    page = careless_visit.open()
    choose(page, pictures["red"], pictures["text"], pictures["blue"], pictures["dark"])
    tiles = page.locator(".filmstrip .tile-label")
    expect(tiles).to_have_text(["red", "Unsupported format", "blue", "red"])
    expect(page.locator("#gallery-summary")).to_have_text("3 pictures of 4 answered, 1 with an error")
    page.locator(".filmstrip button").nth(2).click()
    expect(verdict(page)).to_contain_text("blue")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="Unsupported format")).to_be_visible()
    expect(page.locator(".failure")).to_contain_text("are not a picture in a format that is decoded here")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".filmstrip button")).to_have_count(0)
    expect(page.get_by_role("button", name="A cat")).to_be_visible()


# What an answer says


def test_the_pixels_that_the_network_saw_stand_beside_the_original(
    page: Page, pictures: dict[str, Path]
) -> None:
    choose(page, pictures["blue"])
    seen = page.get_by_role("img", name="The same picture in 32 by 32 pixels")
    expect(seen).to_be_visible()
    assert seen.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [32, 32]
    assert seen.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"


def test_a_picture_unlike_all_classes_is_marked(page: Page, pictures: dict[str, Path]) -> None:
    choose(page, pictures["dark"])
    expect(page.locator(".answer .badge")).to_have_text("May be none of these")
    expect(page.locator(".answer .notes")).to_contain_text("hardly any difference between its pixels")
    expect(page.locator("#announcements")).to_contain_text("may be none of these classes")
    expect(page.locator(".set")).to_have_text(
        "A set of classes promises nothing for such a picture.", use_inner_text=True
    )
    expect(page.locator(".bar.is-in-set")).to_have_count(0)


def test_the_confidence_set_follows_the_confidence_asked_for(page: Page, pictures: dict[str, Path]) -> None:
    choose(page, pictures["red"])
    expect(page.locator(".set")).to_contain_text("Set for 95 %: red.")
    expect(page.locator(".set")).to_contain_text("95 % have their class in such a set.")
    expect(page.locator(".bar.is-in-set .bar-name")).to_have_text("red")
    page.get_by_label("Confidence").select_option("0.99")
    expect(page.locator(".set")).to_contain_text("Set for 99 %: red.")
    expect(page.locator("#announcements")).to_have_text("Set for 99 %: red.")
    expect(page.locator(".code code")).to_contain_text("predict?coverage=0.99")


def test_of_two_confidences_the_later_one_counts(page: Page, pictures: dict[str, Path]) -> None:
    choose(page, pictures["red"])
    held: list[Route] = []
    page.route("**/predict*coverage=0.9", lambda route: held.insert(0, route))
    with page.expect_request("**/predict*coverage=0.9"):
        page.get_by_label("Confidence").select_option("0.9")
    page.get_by_label("Confidence").select_option("0.99")
    held[0].continue_()
    expect(page.locator(".set")).to_contain_text("Set for 99 %: red.")
    expect(page.locator(".pending")).to_be_hidden()


def test_a_confidence_that_the_version_lacks_is_told_and_taken_back(
    careless_visit: Visit, pictures: dict[str, Path]
) -> None:
    page = careless_visit.open()
    choose(page, pictures["red"])
    lacking = {"code": "invalid_parameter", "title": "Invalid parameter", "detail": "coverage must be 0.95."}
    page.route("**/predict*coverage=*", lambda route: route.fulfill(status=400, json=lacking))
    page.get_by_label("Confidence").select_option("0.9")
    expect(page.locator(".failure")).to_contain_text("coverage must be 0.95.")
    page.get_by_role("button", name="Try again").click()
    expect(verdict(page)).to_be_focused()
    expect(page.locator(".set")).to_contain_text("Set for 95 %: red.")


def test_an_answer_says_where_it_comes_from_and_how_long_it_took(
    page: Page, pictures: dict[str, Path]
) -> None:
    with page.expect_response("**/predict*") as answered:
        choose(page, pictures["red"])
    facts = page.locator(".facts")
    expect(facts).to_contain_text("colours, version 2")
    expect(facts).to_contain_text("75.0 % of the test pictures")
    expect(facts).to_contain_text(answered.value.headers["x-request-id"])
    stages = page.locator(".timing-stages dt")
    expect(stages).to_have_text(["read", "decode", "queue", "infer", "encode", "network", "total"])
    assert page.locator(".timing-stages .ms").evaluate_all(
        "all => all.every(one => / m?s$/.test(one.textContent))"
    )


def test_what_speaks_for_a_class_is_shown_on_the_picture(page: Page, tmp_path: Path, encode: Encode) -> None:
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste("red", (0, 0, 32, 32))
    path = tmp_path / "corner.png"
    path.write_bytes(encode(picture))
    choose(page, path)
    why = page.get_by_role("button", name="Show what speaks for red")
    why.click()
    overlay = page.get_by_role("img", name="the parts marked that speak for red")
    expect(overlay).to_be_visible()
    expect(why).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".original")).to_contain_text("what speaks for red")
    assert overlay.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [64, 64]
    page.get_by_role("button", name="Show what speaks for blue").click()
    expect(page.get_by_role("img", name="the parts marked that speak for blue")).to_be_visible()
    page.get_by_role("button", name="Hide it").click()
    expect(page.locator("[data-part=overlay]")).to_be_hidden()
    expect(page.get_by_role("button", name="Show what speaks for blue")).to_be_focused()


def test_an_explanation_that_is_refused_says_why(careless_visit: Visit, pictures: dict[str, Path]) -> None:
    page = careless_visit.open()
    busy = {"code": "overloaded", "detail": "16 explanations are being worked on and at most 16 may."}
    page.route("**/explain*", lambda route: route.fulfill(status=503, json=busy))
    choose(page, pictures["red"])
    page.get_by_role("button", name="Show what speaks for red").click()
    expect(page.get_by_role("alert")).to_have_text(busy["detail"])


def test_this_was_wrong_is_counted(page: Page, pictures: dict[str, Path]) -> None:
    choose(page, pictures["red"])
    page.get_by_role("button", name="No, this was wrong").click()
    expect(page.get_by_label("What it is")).to_be_focused()
    page.get_by_label("What it is").select_option("blue")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".feedback")).to_contain_text("Noted: it is blue, not red.")
    expect(page.locator("#announcements")).to_have_text("Thank you, that is noted.")
    expect(page.get_by_role("button", name="Change")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Yes").click()
    expect(page.locator(".feedback")).to_contain_text("Noted: red is right.")
    page.get_by_role("link", name="Models", exact=True).click()
    expect(page.locator(".version").first).to_contain_text("100.0 % right of 1 picture")


def test_feedback_that_is_refused_says_why(careless_visit: Visit, pictures: dict[str, Path]) -> None:
    page = careless_visit.open()
    old = {"code": "unknown_prediction", "detail": "No prediction with this request id is known."}
    page.route("**/feedback", lambda route: route.fulfill(status=404, json=old))
    choose(page, pictures["red"])
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("alert")).to_have_text(old["detail"])
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name="Yes")).to_be_visible()


# The same as code


def test_the_code_makes_the_same_request(page: Page, pictures: dict[str, Path]) -> None:
    choose(page, pictures["blue"])
    folder = pictures["blue"].parent
    code = page.locator(".code code")
    expect(code).to_contain_text("curl")
    curl = run("bash", "-c", f"{code.inner_text()} --silent", cwd=folder)
    assert json.loads(curl)["label"] == "blue"
    page.get_by_role("tab", name="Python").click()
    script = code.inner_text().replace("import httpx\n", "import httpx2 as httpx\n")
    assert run(sys.executable, "-W", "ignore", "-c", script, cwd=folder) == "blue"
    page.get_by_role("tab", name="JavaScript").click()
    (folder / "request.mjs").write_text(code.inner_text())
    node = str(compute_driver_executable()[0])
    assert run(node, "--no-warnings", "request.mjs", cwd=folder) == "blue"


def test_several_pictures_are_one_request_in_code(page: Page, pictures: dict[str, Path]) -> None:
    awkward = pictures["red"].rename(pictures["red"].with_name('it\'s; "red".png'))
    choose(page, awkward, pictures["blue"])
    page.locator(".filmstrip button").nth(1).click()
    page.get_by_label("Confidence").select_option("0.99")
    expect(page.locator(".set")).to_contain_text("Set for 99 %: blue.")
    page.get_by_label("All 2 pictures in one request").check()
    expect(page.locator(".code code")).to_contain_text("batch?coverage=0.99")
    answer = run("bash", "-c", f"{page.locator('.code code').inner_text()} --silent", cwd=awkward.parent)
    assert [result["label"] for result in json.loads(answer)["results"]] == ["red", "blue"]


def test_more_pictures_than_one_request_takes_are_not_put_into_one(
    page: Page, pictures: dict[str, Path]
) -> None:
    page.route("**/predict*", only_the_first())
    choose(page, *[pictures["red"]] * 101)
    verdict(page).wait_for()
    expect(page.get_by_label("pictures in one request")).to_have_count(1)
    expect(page.get_by_label("pictures in one request")).to_be_hidden()


def only_the_first() -> Callable[[Route], None]:
    """Lets one request through; the others get no answer."""
    seen: list[Route] = []

    def handle(route: Route) -> None:
        seen.append(route)
        if len(seen) == 1:
            route.continue_()

    return handle


def test_code_is_copied(page: Page, pictures: dict[str, Path]) -> None:
    choose(page, pictures["red"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl -F file=@red.png ")


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)
    return done.stdout.strip()


# Models


def test_every_version_is_shown_with_its_card(visit: Visit) -> None:
    page = visit.open("#models")
    versions = page.locator(".version")
    expect(versions).to_have_count(2)
    expect(versions.nth(0)).to_contain_text("Version 2")
    expect(versions.nth(0).locator(".badge")).to_have_text("Answers")
    expect(versions.nth(0)).to_contain_text("75.0 %")
    expect(page.get_by_role("button", name="Promote")).to_have_count(0)
    page.get_by_role("button", name="Card of version 1").click()
    card = versions.nth(1).locator(".card")
    for words in ("Temperature", "for 90 %, 95 %, 99 %", "right when said", "Are its probabilities right?"):
        expect(card).to_contain_text(words)
    page.get_by_role("button", name="Card of version 1").click()
    expect(card).to_be_hidden()


def test_a_shadow_is_compared_with_the_version_that_answers(page: Page, pictures: dict[str, Path]) -> None:
    choose(page, pictures["red"])
    page.locator(".verdict").wait_for()
    page.get_by_role("link", name="Models", exact=True).click()
    comparison = page.get_by_role("region", name="Comparison")
    expect(comparison).to_contain_text("Version 1 looks at 100 % of what version 2 answers")
    expect(comparison).to_contain_text(re.compile(r"says the same on 100\.0 % of \d+ picture"))


def test_who_has_the_key_rolls_back_and_promotes(visit: Visit, pictures: dict[str, Path]) -> None:
    page = visit.open("#models")
    page.get_by_label("Admin key").fill(ADMIN_KEY)
    page.keyboard.press("Enter")
    answering = page.locator(".version", has=page.locator(".badge", has_text="Answers"))
    for act, number in (("Roll back to it", "1"), ("Promote", "2")):
        page.get_by_role("button", name=act).click()
        expect(page.get_by_role("dialog")).to_contain_text(f"version {number}?")
        page.get_by_role("dialog").get_by_role("button", name=act).click()
        expect(answering.get_by_role("heading")).to_have_text(f"Version {number}")
        expect(page.get_by_role("button", name=f"Card of version {number}")).to_be_focused()
    expect(page.locator("#announcements")).to_have_text("Version 2 answers now.")
    page.get_by_role("link", name="Classify", exact=True).click()
    choose(page, pictures["red"])
    expect(page.locator(".facts")).to_contain_text("colours, version 2")


def test_a_wrong_key_is_told_in_words_and_no_key_is_kept(careless_visit: Visit) -> None:
    page = careless_visit.open("#models")
    page.get_by_label("Admin key").fill("a key that is wrong")
    page.get_by_role("button", name="Use").click()
    page.get_by_role("button", name="Roll back to it").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back to it").click()
    expect(page.get_by_role("alert")).to_contain_text("The service does not know this key.")
    stored = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")
    assert "wrong" not in stored
    page.reload()
    expect(page.locator(".version").first).to_be_visible()
    expect(page.get_by_role("button", name="Roll back to it")).to_have_count(0)


# Live


def test_the_live_view_draws_what_the_service_does(visit: Visit, pictures: dict[str, Path]) -> None:
    page = visit.open("#live")
    expect(page.locator(".chart canvas")).to_have_count(3)
    page.get_by_role("link", name="Classify", exact=True).click()
    choose(page, pictures["red"], pictures["lime"], pictures["blue"])
    expect(page.locator(".filmstrip [data-state=answered]")).to_have_count(3)
    page.get_by_role("link", name="Live", exact=True).click()
    expect(page.locator("#classes-words")).to_contain_text("pictures")
    expect(page.locator("#classes .bar-name", has_text="green")).to_be_visible()
    expect(page.locator("[data-chart=batches] .legend")).to_contain_text("on average")
    expect(page.locator("[data-chart=requests] .legend")).to_contain_text(re.compile(r"answered [\d.]+"))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()


def test_the_live_view_says_when_there_is_nothing_to_read(careless_visit: Visit) -> None:
    careless_visit.page.route("**/metrics", lambda route: route.fulfill(status=503))
    page = careless_visit.open("#live")
    expect(page.locator("#live-problem")).to_contain_text("The metrics answered with status 503.")
    page.unroute_all()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#live-problem")).to_be_hidden()


# When something is wrong


def test_a_file_that_is_no_picture_is_told_aloud(careless_visit: Visit, pictures: dict[str, Path]) -> None:
    page = careless_visit.open()
    choose(page, pictures["text"])
    expect(page.locator("#announcements")).to_contain_text("Unsupported format. ")


def test_an_unreadable_file_in_a_folder_is_named_and_harms_none(
    page: Page, pictures: dict[str, Path]
) -> None:
    page.get_by_role("link", name="Live", exact=True).click()
    page.evaluate(DROP_A_FOLDER, list(pictures["blue"].read_bytes()))
    expect(page.get_by_role("alert")).to_contain_text("could not read lost.png.")
    expect(verdict(page)).to_contain_text("blue")


def test_four_pictures_are_sent_at_once_and_none_after_clear(page: Page, pictures: dict[str, Path]) -> None:
    page.route("**/predict*", lambda _: None)
    choose(page, *[pictures["red"]] * 6)
    expect(page.locator(".filmstrip [data-state=sending]")).to_have_count(4)
    page.get_by_role("button", name="Clear").click()
    page.unroute_all()
    choose(page, pictures["blue"])
    expect(verdict(page)).to_contain_text("blue")


def test_a_view_that_is_first_opened_without_the_service_comes_with_it(careless_visit: Visit) -> None:
    page = careless_visit.open()
    page.context.set_offline(True)
    page.get_by_role("link", name="Models", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("This view could not be fetched.")
    page.context.set_offline(False)
    expect(page.locator(".version")).to_have_count(2)
    expect(page.get_by_label("Admin key")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_connection_that_ends_once_is_not_put_down_to_the_picture(
    careless_visit: Visit, pictures: dict[str, Path]
) -> None:
    page = careless_visit.open()
    page.route("**/predict*", lambda route: route.abort("connectionreset"), times=1)
    choose(page, pictures["red"])
    expect(verdict(page)).to_contain_text("red")


def test_a_picture_that_is_too_large_is_refused_in_words(
    careless_visit: Visit, tmp_path: Path, encode: Encode
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(encode("red") + bytes(3_000_000))
    page = careless_visit.open()
    choose(page, large)
    failure = page.locator(".failure")
    expect(failure).to_be_visible()
    expect(failure).to_contain_text("2.9 MiB" if "get through" in failure.inner_text() else "1,000,000 bytes")


def test_a_lost_connection_is_shown_and_the_picture_waits_for_it(
    careless_visit: Visit, pictures: dict[str, Path]
) -> None:
    page = careless_visit.open()
    page.context.set_offline(True)
    choose(page, pictures["blue"])
    expect(page.locator("#banner")).to_contain_text("The service cannot be reached")
    expect(page.locator(".pending")).to_contain_text("Waiting until the service can be reached")
    page.context.set_offline(False)
    expect(page.locator("#banner")).to_contain_text("The service is ready again.")
    expect(verdict(page)).to_contain_text("blue")


def test_a_service_that_starts_is_waited_for(careless_visit: Visit, pictures: dict[str, Path]) -> None:
    loading = {"code": "not_ready", "title": "Not ready", "detail": "The model is being loaded."}
    page = careless_visit.page
    for path in ("**/readyz", "**/predict*"):
        page.route(path, lambda route: route.fulfill(status=503, json=loading))
    page.goto(careless_visit.url)
    expect(page.locator("#banner")).to_contain_text("The model is being loaded.")
    choose(page, pictures["red"])
    expect(page.locator(".pending")).to_contain_text("Waiting until the service is ready")
    page.unroute_all()
    expect(verdict(page)).to_contain_text("red")


def test_a_busy_service_is_tried_again_when_it_says_so(
    careless_visit: Visit, pictures: dict[str, Path]
) -> None:
    busy = {"code": "overloaded", "title": "Overloaded", "detail": "256 pictures wait."}
    page = careless_visit.open()
    page.route(
        "**/predict*",
        lambda route: route.fulfill(status=503, json=busy, headers={"Retry-After": "1"}),
        times=1,
    )
    choose(page, pictures["red"])
    expect(page.locator(".pending")).to_contain_text("The service is busy; trying again in 1 s")
    expect(verdict(page)).to_contain_text("red")


# For everybody


def test_everything_can_be_done_with_the_keyboard(page: Page, pictures: dict[str, Path]) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Choose pictures")).to_be_focused()
        page.keyboard.press("Enter")
    chooser.value.set_files([pictures["red"], pictures["blue"]])
    expect(page.locator(".filmstrip [data-state=answered]")).to_have_count(2)
    tab_until(page, page.locator(".filmstrip button").first)
    page.keyboard.press("ArrowRight")
    expect(verdict(page)).to_contain_text("blue")
    tab_until(page, page.get_by_role("tab", name="curl"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    expect(page.locator(".code code")).to_contain_text("import httpx")


def tab_until(page: Page, target: Locator) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if target.evaluate("it => it === document.activeElement"):
            return
    pytest.fail("the keyboard does not get there")


def test_axe_finds_nothing_serious(visit: Visit, pictures: dict[str, Path]) -> None:
    page = visit.open()
    assert serious(page) == []
    choose(page, pictures["red"], pictures["dark"])
    expect(page.locator(".filmstrip [data-state=answered]")).to_have_count(2)
    page.locator(".filmstrip button").nth(1).click()
    assert serious(page) == []
    open_a_card(page)
    assert serious(page) == []
    open_the_charts(page)
    assert serious(page) == []


def open_a_card(page: Page) -> None:
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_role("button", name="Card of version 2").click()
    page.locator(".confusion").wait_for()


def open_the_charts(page: Page) -> None:
    page.get_by_role("link", name="Live", exact=True).click()
    page.locator(".chart canvas").nth(2).wait_for()


def serious(page: Page, rules: str = "all") -> list[str]:
    options = {} if rules == "all" else {"runOnly": [rules]}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in {"serious", "critical"}
    ]


def test_there_is_contrast_in_the_dark(visit: Visit, pictures: dict[str, Path]) -> None:
    page = visit.open()
    page.emulate_media(color_scheme="dark")
    choose(page, pictures["dark"])
    page.locator(".verdict").wait_for()
    assert serious(page, "color-contrast") == []
    open_a_card(page)
    assert serious(page, "color-contrast") == []
    page.emulate_media(color_scheme="light")


LINE_BELOW_THE_VIEW = """() => {
    const view = document.querySelector("[aria-current=page]");
    const line = getComputedStyle(view, "::after");
    const colours = [line.borderBottomColor, getComputedStyle(document.body).backgroundColor];
    return [parseFloat(line.borderBottomWidth), colours.map(colour => colour.match(/\\d+/g).map(Number))];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_plain_to_see_which_view_is_open(visit: Visit, scheme: Literal["light", "dark"]) -> None:
    page = visit.open()
    page.emulate_media(color_scheme=scheme)
    width, (line, paper) = page.evaluate(LINE_BELOW_THE_VIEW)
    assert width >= 2
    assert contrast(line, paper) >= 3  # WCAG 2.2, 1.4.11
    page.emulate_media(color_scheme="light")


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """Of two colours, 1 to 21, as WCAG defines it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: Sequence[int]) -> float:
    shares = (channel / 255 for channel in colour)
    linear = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return sum(weight * light for weight, light in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_nothing_is_wider_than_the_screen(visit: Visit, pictures: dict[str, Path]) -> None:
    page = visit.open()
    page.locator("#service-words").evaluate("words => { words.textContent = 'Unreachable'; }")  # the longest
    assert too_wide(page) == {}
    choose(page, *list(pictures.values())[:4])
    page.locator(".verdict").wait_for()
    assert too_wide(page) == {}
    open_a_card(page)
    assert too_wide(page) == {}
    open_the_charts(page)
    assert too_wide(page) == {}


def too_wide(page: Page) -> dict[int, int]:
    """How wide the page is, where that is more than the window."""
    found = {}
    for width in (320, 360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            found[width] = needed
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_documentation_is_for_everybody(visit: Visit, scheme: Literal["light", "dark"]) -> None:
    page = visit.page
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{visit.url}/docs")
    assert serious(page) == []
    assert too_wide(page) == {}
    assert serious(page) == []


def test_in_the_documentation_a_call_is_found_by_keyboard(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.url}/docs")
    page.get_by_role("link", name="POST /explain").focus()
    page.keyboard.press("Enter")
    title = page.get_by_role("heading", name="POST /explain")
    expect(title).to_be_in_viewport()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("section", has=title).locator("details").first).to_have_attribute("open", "")


def test_the_colours_stay_as_chosen(visit: Visit) -> None:
    page = visit.open()
    root = page.locator("html")
    page.get_by_role("button", name="Colours: as the system").click()
    page.get_by_role("button", name="Colours: light").click()
    expect(root).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(root).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Colours: dark").click()
    expect(root).not_to_have_attribute("data-theme", "dark")

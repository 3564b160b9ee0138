"""The example's page in a browser: what a person sees and hears, without a reload, and what it costs."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Literal
from uuid import UUID

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebError, expect

from playai_async import Polling
from playai_async.emulator import Status
from tests.examples.live import Live
from tests.support.scripted import API_KEY, USER_ID
from tools.servers.browser import TIMEOUT_MS, find_chromium, run_chromium

REQUIRED = "PLAYAI_ASYNC_REQUIRE_BROWSER"
"""Where this is set, as it is for what must pass before a change is taken, no browser is a failure."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = find_chromium()
    if path is None:
        reason = "no Chromium was found: install the package chromium"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    expect.set_options(timeout=TIMEOUT_MS)
    with run_chromium(path) as browser:
        yield browser


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """The example, running in real time."""
    with Live() as live:
        monkeypatch.setenv("PLAYAI_API_KEY", API_KEY)
        monkeypatch.setenv("PLAYAI_USER_ID", USER_ID)
        monkeypatch.setenv("PLAYAI_BASE_URL", live.emulator.base_url)
        monkeypatch.setenv("WEBHOOK_BASE_URL", live.url)
        live.start()
        yield live


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One context for all tests: a new renderer takes as long as a test. The example stores nothing in a browser."""
    with browser.new_context() as context:
        context.set_default_timeout(TIMEOUT_MS)
        context.new_page()
        yield context


@pytest.fixture
def page(live: Live, context: BrowserContext) -> Iterator[Page]:
    """The example's page, which may not throw. Its port is new, so the browser knows nothing of it."""
    errors: list[str] = []

    def on_error(error: WebError) -> None:
        errors.append(str(error.error))

    context.on("weberror", on_error)
    page = context.pages[0] if context.pages else context.new_page()
    page.goto(live.url)
    yield page
    for other in context.pages[1:]:
        other.close()
    for left in context.pages:
        left.goto("about:blank")
    context.remove_listener("weberror", on_error)
    assert errors == []


def speak(page: Page, text: str) -> UUID:
    """Have a text spoken, and return the job once the page says that it is."""
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Speak").click()
    shows(page, "In progress")
    return UUID(page.evaluate("location.hash.slice(1)"))


def shows(page: Page, *states: str) -> None:
    """Wait until the page shows these states."""
    expect(page.locator("#states strong")).to_have_text(states)


def is_closed(page: Page) -> bool:
    """Whether the page has let go of its stream."""
    closed: bool = page.evaluate("source.readyState === EventSource.CLOSED")
    return closed


def test_a_text_is_spoken_shown_and_heard(live: Live, page: Page) -> None:
    """Each state as it comes, without a reload; then the audio, which plays to its end."""
    page.evaluate("document.notReloaded = true")
    job = speak(page, "Hi.")
    expect(page.locator("audio")).to_be_hidden()
    live.finish(job)
    shows(page, "In progress", "Completed")
    assert is_closed(page)
    expect(page.locator("audio")).to_be_visible()
    page.evaluate(
        """() => new Promise((done, failed) => {
            const audio = document.querySelector("audio");
            audio.onended = done;
            audio.onerror = () => failed(audio.error.message);
            audio.play().catch(failed);
        })"""
    )
    assert page.evaluate("document.querySelector('audio').currentTime > 0")
    assert page.evaluate("document.notReloaded")
    assert live.playai.stats.open_waits == 0


def test_a_job_whose_webhook_is_called_is_shown_within_a_second(live: Live, page: Page) -> None:
    """However long the pause before the next poll would have been."""
    job = speak(page, "Hello.")
    live.wait_until(lambda: len(live.emulator.arrivals) >= 5)  # a creation and four polls: the next is 3 s away
    began = time.monotonic()
    live.finish(job)
    live.call_webhook(job)
    shows(page, "In progress", "Completed")
    assert time.monotonic() - began < 1.0
    expect(page.locator("li").last).to_contain_text("Told by webhook.")
    live.wait_until(lambda: live.emulator.webhook_calls[0].status == 204)
    assert live.playai.stats.hints_followed == 1


def test_a_job_whose_webhook_is_lost_is_found_by_polling(live: Live, page: Page) -> None:
    """Polling is the safety net."""
    live.finish(speak(page, "Hello."))
    shows(page, "In progress", "Completed")
    expect(page.locator("li").last).to_contain_text("Found by polling.")


def test_two_tabs_on_one_job_cost_one_poll_loop(live: Live, context: BrowserContext, page: Page) -> None:
    """The second one opens the address of the first, and both see the end of it."""
    job = speak(page, "Hello.")
    other = context.new_page()
    other.goto(page.url)
    shows(other, "In progress")
    assert (live.playai.stats.open_waits, live.playai.stats.distinct_jobs) == (2, 1)
    live.finish(job)
    for tab in (page, other):
        shows(tab, "In progress", "Completed")
        expect(tab.locator("audio")).to_be_visible()
    polls = [arrival.at for arrival in live.call(lambda: live.emulator.arrivals) if arrival.method == "GET"]
    pauses = [later - earlier for earlier, later in itertools.pairwise(polls)]
    usual = Polling()
    assert min(pauses) >= usual.initial * (1 - usual.jitter), "each poll is a pause after the one before"
    assert live.playai.stats.open_waits == 0


def test_a_reload_joins_the_same_job(live: Live, page: Page) -> None:
    """Its id is in the address, which the page says once there is a job."""
    expect(page.locator("#hint")).to_be_hidden()
    job = speak(page, "Hello.")
    expect(page.locator("#hint")).to_be_visible()
    page.reload()
    shows(page, "In progress")
    live.finish(job)
    shows(page, "In progress", "Completed")


def test_a_tab_that_is_closed_leaves_no_wait(live: Live, page: Page) -> None:
    """Nobody is asked for the job any more."""
    speak(page, "Hello.")
    assert live.playai.stats.open_waits == 1
    page.close()
    live.wait_until(lambda: live.playai.stats.open_waits == 0)


def test_a_new_text_takes_the_place_of_the_one_before(live: Live, page: Page) -> None:
    """The page is about one job, and waits for one."""
    first = speak(page, "Hello.")
    live.finish(first)
    shows(page, "In progress", "Completed")
    second = speak(page, "And goodbye.")
    assert second != first
    expect(page.locator("audio")).to_be_hidden()
    live.finish(second)
    shows(page, "In progress", "Completed")
    expect(page.locator("audio")).to_be_visible()


def test_a_job_that_failed_is_shown_as_one(live: Live, page: Page) -> None:
    """With words for it, and no audio."""
    job = live.call(lambda: live.emulator.add_job(fails=True))
    page.goto(f"{live.url}#{job}")
    shows(page, "Failed")
    expect(page.locator("li")).to_contain_text("The audio could not be created.")
    expect(page.locator("audio")).to_be_hidden()
    assert is_closed(page)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        pytest.param("00000000-1111-4222-8333-444444444444", "There is no such job.", id="a job that is not there"),
        pytest.param("nonsense", "There is no such job.", id="no job"),
    ],
)
def test_an_address_that_leads_nowhere_says_so(live: Live, page: Page, address: str, words: str) -> None:
    """And the page does not ask again and again."""
    page.goto(f"{live.url}#{address}")
    expect(page.get_by_role("alert")).to_have_text(words)
    expect(page.locator("#hint")).to_be_hidden()
    assert is_closed(page)


def test_a_refusal_is_told_to_the_person(live: Live, page: Page) -> None:
    """In words, where it is read out; the button works again."""
    live.call(lambda: live.emulator.inject(Status(400), endpoint="create"))
    page.get_by_role("button", name="Speak").click()
    expect(page.get_by_role("alert")).to_have_text("The service did not accept the text or the voice.")
    speak(page, "Hello.")
    expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize("text", ["", " \n"], ids=["empty", "blank"])
def test_no_text_is_not_sent(live: Live, page: Page, text: str) -> None:
    """The page asks for a text, puts the cursor there, and sends nothing."""
    field = page.get_by_label("Text", exact=True)
    field.fill(text)
    page.get_by_role("button", name="Speak").click()
    expect(page.get_by_role("alert")).to_have_text("Enter a text first.")
    expect(field).to_be_focused()
    assert live.call(lambda: live.emulator.arrivals) == ()
    speak(page, "Hello.")
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_job_that_fails_can_be_tried(live: Live, page: Page) -> None:
    """With one click, and whatever the text is."""
    live.call(lambda: setattr(live.emulator, "job_duration", 0.0))
    page.get_by_label("Text", exact=True).fill("")
    page.get_by_role("button", name="Try a job that fails").click()
    shows(page, "Failed")
    expect(page.locator("audio")).to_be_hidden()
    expect(page.get_by_role("alert")).to_be_empty()
    assert len(live.emulator.jobs) == 1


def test_a_server_that_was_away_is_found_again(live: Live, page: Page) -> None:
    """The browser connects again by itself, and nothing is shown twice."""
    job = speak(page, "Hello.")
    live.stop()
    expect(page.get_by_role("alert")).not_to_be_empty()
    live.finish(job)
    live.start()
    shows(page, "In progress", "Completed")
    expect(page.get_by_role("alert")).to_be_empty()


SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) shifts.push(...entry.sources.map(({node}) => node?.nodeName ?? "?"));
}).observe({type: "layout-shift", buffered: true});
"""
"""Collects the elements that move without having been touched."""


def test_nothing_jumps_on_a_phone(browser: Browser, live: Live) -> None:
    """From the first job to the next: what appears moves nothing that a finger may be about to touch."""
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.add_init_script(SHIFTS)
        page.goto(live.url)
        for text in ("", "Hello.", "Goodbye."):
            page.get_by_label("Text", exact=True).fill(text)
            page.get_by_role("button", name="Speak").click()
            if not text:
                expect(page.get_by_role("alert")).to_have_text("Enter a text first.")
                continue
            shows(page, "In progress")
            job = UUID(page.evaluate("location.hash.slice(1)"))
            live.finish(job)
            if text == "Goodbye.":
                live.call_webhook(job)
            shows(page, "In progress", "Completed")
            expect(page.locator("audio")).to_be_visible()
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("shifts") == []


def test_a_narrow_screen_needs_no_scrolling_sideways(browser: Browser, live: Live) -> None:
    """On phones, with light and with dark colors, once everything is shown."""
    with browser.new_context(viewport={"width": 320, "height": 640}) as context:
        page = context.new_page()
        page.goto(live.url)
        live.finish(speak(page, "Hello."))
        expect(page.locator("audio")).to_be_visible()
        schemes: list[Literal["light", "dark"]] = ["light", "dark"]
        for width, scheme in itertools.product((320, 390), schemes):
            page.set_viewport_size({"width": width, "height": 640})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("innerWidth") == width
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, scheme)

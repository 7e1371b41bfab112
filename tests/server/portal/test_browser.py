"""The portal in a real Chromium: the whole way of a retraining, at both widths, and no barrier on any page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from airflow_provider_azureml_classic.protocol.values import EndpointSettings
from airflow_provider_azureml_classic.server.experiments.datasets import bike_rentals, write_csv
from tests.support import BIKES, BIKES_SCORING, ServerProcess, require_program
from tests.support.service import line

pytestmark = pytest.mark.slow

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# A machine without a GPU, in a container, without the browser's own calls home.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    program = require_program("chromium", "Install the package chromium.")
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=str(program), args=ARGUMENTS)
        yield running
        running.close()


class Watched:
    """A browser window whose every word and request is watched.

    :param context: of the browser.
    :param server: the only host that it may ask.
    """

    def __init__(self, context: BrowserContext, server: ServerProcess) -> None:
        self.server = server
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.troubles: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.troubles.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._request)

    def _console(self, message: object) -> None:
        if getattr(message, "type", "") in ("error", "warning"):
            self.troubles.append(f"console: {getattr(message, 'text', '')}")

    def _request(self, request: object) -> None:
        url = str(getattr(request, "url", ""))
        if urlsplit(url).netloc != urlsplit(self.server.url).netloc:
            self.troubles.append(f"request to {url}")

    def sign_in(self) -> None:
        """Come in by the front door."""
        self.page.goto(self.server.url)
        expect(self.page).to_have_title(re.compile("Sign in"))
        self.page.get_by_label("Workspace token or key").fill(self.server.connection["token"])
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name="Experiments")).to_be_visible()

    def fits(self) -> bool:
        """Whether the page can be read without scrolling sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.fixture
def window(browser: Browser, server: ServerProcess) -> Iterator[Callable[..., Watched]]:
    """Opens windows; in the end none of them may have had trouble."""
    opened: list[Watched] = []
    with ExitStack() as stack:

        def new(**options: object) -> Watched:
            context = browser.new_context(**options)  # type: ignore[arg-type]
            stack.callback(context.close)
            opened.append(Watched(context, server))
            return opened[-1]

        yield new
        assert [trouble for one in opened for trouble in one.troubles] == []


def rentals(days: int) -> bytes:
    """Training data."""
    stream = io.StringIO()
    write_csv(bike_rentals(date.today() - timedelta(days=days), days, locations=1), stream)
    return stream.getvalue().encode()


@pytest.mark.parametrize(
    ("name", "size", "script"),
    [("portaldesk", DESKTOP, True), ("portalphone", PHONE, True), ("portalplain", DESKTOP, False)],
    ids=["desktop", "phone", "without script"],
)
def test_the_whole_way(window: Callable[..., Watched], name: str, size: dict[str, int], script: bool) -> None:
    """Sign in, add an endpoint, find the resource name, train on an upload, see the model on the chart, put it in
    place, score a row, roll back, sign out; with and without JavaScript.
    """
    watched = window(viewport=size, java_script_enabled=script)
    page = watched.page
    watched.sign_in()
    # Add an endpoint.
    page.get_by_role("link", name=BIKES_SCORING, exact=True).click()
    form = page.get_by_role("region", name="Add an endpoint")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Description").fill("Rentals of one city")
    form.get_by_role("button", name="Add endpoint").click()
    expect(page.get_by_role("status")).to_have_text(f"Endpoint {name} is added.")
    # The help page that tells the resource's name.
    dashboard = page.url
    page.get_by_role("link", name="Updatable Resources").click()
    expect(page.get_by_role("cell", name="Bike Rental [trained model]")).to_be_visible()
    # Train.
    page.goto(watched.server.url)
    page.get_by_role("link", name=BIKES, exact=True).click()
    page.get_by_label("CSV file").set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": rentals(10)})
    page.get_by_label("For endpoint").fill(name)
    page.get_by_label("Data up to").fill(f"{date.today():%Y-%m-%d}")
    page.get_by_role("button", name="Start training").click()
    put = page.get_by_role("link", name=f"Put live on {name}")
    if script:
        expect(put).to_be_visible(timeout=60_000)
    else:
        wait_by_hand(page, put)
    # On the chart: trained, not used; then live.
    job = page.url
    page.goto(dashboard)
    expect(page.locator("svg.chart .unused")).to_have_count(1)
    page.goto(job)
    put.click()
    page.get_by_role("button", name="Put live").click()
    expect(page.get_by_role("status")).to_have_text("The model is live.")
    expect(page.locator("svg.chart .unused")).to_have_count(0)
    expect(page.locator("svg.chart .live")).to_have_count(1)
    assert "fresh" in page.locator(".title .badge").inner_text()
    # Score a row.
    page.get_by_role("button", name="Score this row").click()
    expect(page.locator("#answer")).to_contain_text("Scored Labels")
    if script:
        # A file, dropped.
        file = "(text) => { const all = new DataTransfer(); all.items.add(new File([text], 'day.csv')); return all; }"
        dropped = page.evaluate_handle(file, rentals(1).decode())
        page.dispatch_event("form[action$=score-file]", "drop", {"dataTransfer": dropped})
        expect(page.get_by_role("heading", name="day.csv, scored")).to_be_visible()
        assert watched.fits()
        page.goto(dashboard)
    # Keys.
    key = (
        watched.server.client()
        .get_endpoint(watched.server.client().find_web_service(BIKES_SCORING).id, name)
        .primary_key
    )
    assert key not in page.content()
    page.get_by_role("button", name="Show keys").click()
    expect(page.get_by_text(key).first).to_be_visible()
    expect(page.locator("code", has_text=f"Bearer {key}")).to_have_count(5)  # curl, Python, JavaScript, R, Excel
    # Roll back.
    page.goto(dashboard)
    page.get_by_role("link", name="Roll back to this").first.click()
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("status")).to_have_text("The earlier model is live again.")
    assert watched.fits()
    # Sign out.
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title(re.compile("Sign in"))
    page.goto(dashboard)
    expect(page).to_have_title(re.compile("Sign in"))


def wait_by_hand(page: Page, wanted: Locator) -> None:
    """Load a page again until something is on it."""
    for _ in range(300):
        if wanted.is_visible():
            return
        page.wait_for_timeout(200)
        page.reload()
    raise AssertionError(f"never on the page: {wanted}")


def pages(server: ServerProcess) -> list[str]:
    """Every kind of page."""
    with server.client() as client:
        scoring, training = client.find_web_service(BIKES_SCORING).id, client.find_web_service(BIKES).id
        client.add_endpoint(scoring, "barrierfree", EndpointSettings(description='<script>alert("x")</script>'))
    root, one = f"/portal/services/{scoring}", f"/portal/services/{scoring}/endpoints"
    listed = ["/portal/services", root, f"{root}?q=nothing", f"{root}?sort=freshness", f"{one}/barrierfree"]
    listed += [f"{one}/default", f"{one}/barrierfree/ask/delete", f"/portal/services/{training}", "/portal/jobs"]
    return listed


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)])
def test_no_barriers(window: Callable[..., Watched], server: ServerProcess, scheme: str, size: dict[str, int]) -> None:
    """axe-core finds nothing serious on any page, in light and dark; no page is wider than the window."""
    watched = window(viewport=size, color_scheme=scheme)
    page, axe = watched.page, Axe()
    page.goto(f"{server.url}/portal/sign-in")
    found = {"sign-in": _serious(axe, page)}
    watched.sign_in()
    for path in pages(server):
        page.goto(server.url + path)
        found[path] = _serious(axe, page)
        assert watched.fits(), path
    page.goto(f"{server.url}/portal/jobs")
    job = page.locator("tbody th a").first
    if job.count():
        job.click()
        found["job"] = _serious(axe, page)
    assert {path: what for path, what in found.items() if what} == {}


def _serious(axe: Axe, page: Page) -> list[str]:
    """What axe-core finds: rule and place."""
    result = axe.run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in result
        if one["impact"] in ("serious", "critical", "moderate")
        for node in one["nodes"]
    ]


def test_axe_would_find_something(window: Callable[..., Watched]) -> None:
    """A page with a picture without words and an unlabelled field is not passed."""
    watched = window()
    watched.page.set_content("<html><body><img src='data:,'><input><p style='color:#ccc'>pale</p></body></html>")
    found = {one.partition(":")[0] for one in _serious(Axe(), watched.page)}
    watched.troubles.clear()
    assert {"image-alt", "label", "html-has-lang"} <= found


def test_by_keyboard(window: Callable[..., Watched]) -> None:
    """The first key leads past the head of the page; what has the focus is outlined."""
    watched = window(viewport=DESKTOP)
    watched.sign_in()
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


APART = """\
[[experiment]]
name = "Line"
estimator = "linear-regressor"
label = "y"
first_data = "line.csv"
isolation = "customer"
"""


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that keeps its customers apart."""
    folder = tmp_path_factory.mktemp("apart")
    (folder / "line.csv").write_text(line(2))
    (folder / "line.toml").write_text(APART)
    running = ServerProcess(folder / "data", "--no-samples", "--experiments", str(folder / "line.toml"))
    yield running
    running.stop()


@pytest.mark.parametrize("look", [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone, dark"])
def test_the_way_of_a_customer(browser: Browser, apart: ServerProcess, look: tuple[dict[str, int], str]) -> None:
    """Sign in with a key, upload, see the columns, train, compare, put live, score, make a key: without any barrier."""
    size, scheme = look
    with apart.client() as client:
        service = client.find_web_service("Line [predictive exp.]")
        customer = client.add_endpoint(service.id, f"customer{scheme}")
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    watched = Watched(context, apart)
    page, heading = watched.page, re.compile("^customer")
    page.goto(apart.url)
    page.get_by_label("Workspace token or key").fill(customer.primary_key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    data = {"name": "july.csv", "mimeType": "text/csv", "buffer": line(7).encode()}
    page.get_by_label("CSV file").set_input_files(data)  # type: ignore[arg-type]
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("table", name="How its columns are understood")).to_be_visible()
    looked_at(watched)
    page.get_by_role("button", name="Start training").click()
    put = page.get_by_role("link", name=re.compile("^Put live on customer"))
    expect(put).to_be_visible(timeout=120_000)
    expect(page.get_by_role("columnheader", name="Live now")).to_be_visible()
    looked_at(watched)
    put.click()
    page.get_by_role("button", name="Put live").click()
    expect(page.get_by_role("status")).to_have_text("The model is live.")
    page.get_by_label("x", exact=True).fill("1")
    page.get_by_role("button", name="Score this row").click()
    expect(page.locator("#answer")).to_contain_text("Scored Labels")
    page.get_by_label("Name of a new key").fill("phone")
    page.get_by_role("button", name="Make key").click()
    expect(page.get_by_role("heading", name="The new key phone")).to_be_visible()
    looked_at(watched)
    context.close()
    assert watched.troubles == []


def looked_at(watched: Watched) -> None:
    """A page that fits and has no barrier."""
    assert watched.fits(), watched.page.url
    found = Axe().run(watched.page)
    assert found.violations_count == 0, found.generate_report()

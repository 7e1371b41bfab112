"""The help pages: open to everybody, complete, and without anything that is nobody's business."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.server.experiments.declaration import load_experiments
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, STRING, Column, Schema
from airflow_provider_azureml_classic.server.help.description import typical_rows
from airflow_provider_azureml_classic.server.help.pages import pretty
from airflow_provider_azureml_classic.server.service import running
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.web.app import App
from tests.support import CENSUS, CENSUS_SCORING, ServerProcess

WORKSPACE, TOKEN = "1c2d3e4f5a6b47c8d9e0f1a2b3c4d5e6", "fake-workspace-token"
#: A proxy with a prefix is in front, so that links must carry it.
BASE = "http://studio.test/ml"
HOSTILE = "<script>alert(1)</script>"
PAGES = ("", "/score", "/jobs", "/update")
ROWS = [("1.25", "<b>red</b>", "yes"), ("3.5", "blue", "no"), ("2.5", "<b>red</b>", "yes"), ("4.75", "green", "no")]


class Page(HTMLParser):
    """What a browser sees of a page: the elements, the links and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Keep cells apart."""
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data

    def attributes(self, tag: str, name: str) -> list[str]:
        """Values of one attribute, in order."""
        return [value for found, attrs in self.tags if found == tag and (value := attrs.get(name)) is not None]


@dataclass(frozen=True)
class House:
    """An app in this process, with an experiment whose names and cells would break a careless page."""

    app: App

    def get(self, path: str) -> Response:
        """An answer to somebody without a key."""
        return self.app.answer("GET", path, "", {}, b"")

    def call(self, method: str, path: str, body: Any = None, key: str = TOKEN, query: str = "") -> Any:
        """The decoded answer of a call that must succeed."""
        sent = b"" if body is None else json.dumps(body).encode()
        response = self.app.answer(method, path, query, {"authorization": f"Bearer {key}"}, sent)
        assert response.status < 300, response.body
        return json.loads(response.body) if response.body else None

    def service(self, name: str) -> str:
        """Path of a web service."""
        services = self.call("GET", f"/workspaces/{WORKSPACE}/webservices")
        return next(f"/workspaces/{WORKSPACE}/webservices/{s['Id']}" for s in services if s["Name"] == name)

    def endpoint(self, service: str, name: str = "default", **settings: Any) -> dict[str, Any]:
        """An endpoint, added if it is not there."""
        path = f"{self.service(service)}/endpoints/{name}"
        return dict(self.call("PUT", path, settings) if name != "default" else self.call("GET", path))

    def page(self, endpoint: dict[str, Any], name: str = "") -> Page:
        """One page of an endpoint."""
        response = self.get(path_of(endpoint["HelpLocation"]) + name)
        assert response.status == 200, response.body
        return Page(response.body.decode())


def path_of(url: str) -> str:
    """The path that the app sees behind its proxy."""
    return urlsplit(url).path.removeprefix("/ml")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The app with one small experiment."""
    folder = tmp_path_factory.mktemp("help")
    lines = [",".join(row) for row in ROWS * 25]
    (folder / "hostile.csv").write_text("\n".join(['size,"a ""b"" \'c\' <i>",bought', *lines]) + "\n")
    declared = {"name": HOSTILE, "estimator": "linear-classifier", "label": "bought", "first_data": "hostile.csv"}
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in declared.items())
    (folder / "hostile.toml").write_text(f"[[experiment]]\n{text}\npassthrough = ['*']\n")
    key = base64.urlsafe_b64encode(bytes(32)).decode()
    settings = Settings(folder / "data", BASE, WORKSPACE, TOKEN, base64.b64encode(bytes(64)).decode(), key, workers=1)
    settings.data_dir.mkdir()
    with running(settings, load_experiments(folder / "hostile.toml")) as (app, _):
        yield House(app)


SCORING, TRAINING = f"{HOSTILE} [predictive exp.]", HOSTILE
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page or "index")
both = pytest.mark.parametrize("service", [SCORING, TRAINING], ids=["scoring", "training"])


# -- over the network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [CENSUS, CENSUS_SCORING])
def test_every_link_resolves_without_a_key(server: ServerProcess, service: str) -> None:
    """From HelpLocation everything that a page links to is there, for a browser that knows no key."""
    with server.client() as client:
        found = next(s for s in client.list_web_services() if s.name == service)
        start = client.get_endpoint(found.id, "default").help_location
    seen: set[str] = set()
    for page in PAGES:
        with urlopen(start + page) as answer:
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            html = Page(answer.read().decode())
        seen |= {*html.attributes("a", "href"), *html.attributes("link", "href")}
    assert {start.removeprefix(server.url) + page for page in PAGES} < seen
    for link in seen - {"#main"}:
        with urlopen(link if "://" in link else server.url + link) as answer:
            assert answer.status == 200, link


def test_unknown_pages_are_errors_of_the_protocol(server: ServerProcess) -> None:
    """A help page that is not there is a 404 with code and details, as every other error."""
    workspace = server.connection["workspace_id"]
    with (
        pytest.raises(HTTPError) as caught,
        urlopen(f"{server.url}/apihelp/workspaces/{workspace}/webservices/x/endpoints/y"),
    ):
        pass
    with caught.value as error:
        assert error.code == 404
        assert json.loads(error.read())["error"]["details"][0]["code"] == "WebServiceNotFound"


# -- what everybody may see ------------------------------------------------------------------------------------------


@pytest.mark.slow
@every_page
@both
def test_pages_are_closed_to_everything_else(house: House, service: str, page: str) -> None:
    """No script, no picture, no other host: the browser is told so, and the page has none."""
    response = house.get(path_of(house.endpoint(service)["HelpLocation"]) + page)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    html = Page(response.body.decode())
    assert not {tag for tag, _ in html.tags} & {"script", "img", "iframe", "form", "style"}
    assert not [attrs for _, attrs in html.tags if "style" in attrs or any(name.startswith("on") for name in attrs)]


@every_page
@both
def test_names_are_escaped(house: House, service: str, page: str) -> None:
    """What the operator calls an experiment, a column or a category stays text."""
    response = house.get(path_of(house.endpoint(service)["HelpLocation"]) + page)
    html = response.body.decode()
    assert "<script" not in html.lower()
    assert "<b>" not in html
    assert "<i>" not in html
    assert HOSTILE in Page(html).text


@every_page
@both
def test_no_secret_is_shown(house: House, service: str, page: str) -> None:
    """No key, no token, no place of a model, and no name of another endpoint is on a page or in the document."""
    shown = house.endpoint(service, "shown", SampleDataEnabled=True)
    other = house.endpoint(service, "hiddenone")
    path, api = path_of(shown["HelpLocation"]), path_of(shown["ApiLocation"])
    for address in (path + page, f"{house.service(service)}/endpoints/shown/apidocument", f"{api}/swagger.json"):
        text = house.get(address).body.decode()
        for endpoint in (shown, other):
            assert endpoint["PrimaryKey"] not in text
            assert endpoint["SecondaryKey"] not in text
        assert TOKEN not in text
        assert "firstmodels" not in text
        assert "hiddenone" not in text


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/apihelp/workspaces/other/webservices/x/endpoints/y", "WorkspaceNotFound"),
        (f"/apihelp/workspaces/{WORKSPACE}/webservices/x/endpoints/y/score", "WebServiceNotFound"),
        ("SERVICE/endpoints/nobody", "EndpointNotFound"),
        ("SERVICE/endpoints/nobody/update", "EndpointNotFound"),
        ("SERVICE/endpoints/default/unknown", "PageNotFound"),
        ("/static/other.css", "PageNotFound"),
        ("/static/../base.html", "PageNotFound"),
    ],
)
def test_what_is_not_there(house: House, path: str, code: str) -> None:
    """Each wrong part of an address is named; the names of other endpoints are not."""
    house.endpoint(SCORING, "hiddenone")
    response = house.get(path.replace("SERVICE", f"/apihelp{house.service(SCORING)}"))
    assert response.status == 404
    assert json.loads(response.body)["error"]["details"][0]["code"] == code
    assert b"hiddenone" not in response.body


def test_pages_are_read_only(house: House) -> None:
    """Any other method is refused."""
    path = path_of(house.endpoint(SCORING)["HelpLocation"])
    assert house.app.answer("POST", path, "", {}, b"").status == 405


def test_style_is_css(house: House) -> None:
    """The one style sheet knows the dark and loads nothing."""
    response = house.get("/static/help.css")
    assert response.headers["content-type"] == "text/css; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert b"prefers-color-scheme: dark" in response.body
    assert b"url(" not in response.body
    assert b"@import" not in response.body


# -- the pages -------------------------------------------------------------------------------------------------------


@every_page
@both
def test_pages_can_be_read_by_everybody(house: House, service: str, page: str) -> None:
    """One heading of the first order, tables with captions and scopes, and what scrolls can be reached by keyboard."""
    html = house.page(house.endpoint(service), page)
    tags = [tag for tag, _ in html.tags]
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption")
    assert len(html.attributes("th", "scope")) == tags.count("th")
    assert html.attributes("html", "lang") == ["en"]
    assert html.attributes("pre", "tabindex") == ["0"] * tags.count("pre")
    current = [attrs["href"] for tag, attrs in html.tags if tag == "a" and "aria-current" in attrs]
    assert len(current) == 1
    assert str(current[0]).endswith(page)


def test_index_links_the_three_pages_behind_a_proxy(house: House) -> None:
    """Links carry the prefix of the public address and no host, so that they work under any name of it."""
    endpoint = house.endpoint(SCORING)
    start = urlsplit(endpoint["HelpLocation"]).path
    links = house.page(endpoint).attributes("a", "href")
    assert start.startswith("/ml/apihelp/")
    assert {start + page for page in PAGES} < set(links)
    assert house.page(endpoint).attributes("link", "href") == ["/ml/static/help.css"]


def test_endpoint_is_found_by_name_too(house: House) -> None:
    """As on the management host, the last segment may be the endpoint's name."""
    assert house.get(f"/apihelp{house.service(SCORING)}/endpoints/default").status == 200


def test_score_page(house: House) -> None:
    """Address, columns with types, both forms, and a sample in each language."""
    endpoint = house.endpoint(SCORING)
    text = house.page(endpoint, "/score").text
    assert f"{endpoint['ApiLocation']}/execute?api-version=2.0" in text
    assert f"{endpoint['ApiLocation']}/execute?api-version=2.0&format=swagger" in text
    assert re.search(r"size\s*Double\s*yes", text)
    assert re.search(r"a \"b\" 'c' <i>\s*String\s*yes", text)
    assert re.search(r"Scored Labels\s*String", text)
    for language in ("curl", "Python (requests)", "R (httr)", "C# (HttpClient)"):
        assert language in text
    assert "The row shown is made up" in text


def test_shown_requests_can_be_sent(house: House) -> None:
    """What stands under Request really scores, and gives what stands under Response."""
    endpoint = house.endpoint(SCORING)
    html = house.get(path_of(endpoint["HelpLocation"]) + "/score").body.decode()
    shown = [Page(block).text for block in re.findall(r"<figure.*?</figure>", html, re.DOTALL)]
    bodies = [json.loads(text.split("\n", 2)[2]) for text in shown]
    assert len(bodies) == 4
    path = path_of(endpoint["ApiLocation"]) + "/execute"
    for number, query in enumerate(("api-version=2.0", "api-version=2.0&format=swagger")):
        answer = house.call("POST", path, bodies[2 * number], endpoint["PrimaryKey"], query)
        assert answer == bodies[2 * number + 1]


def test_python_samples_compile(house: House) -> None:
    """The Python samples are Python, whatever the columns are called."""
    compiled = 0
    for page in PAGES[1:]:
        html = house.get(path_of(house.endpoint(SCORING, "samples")["HelpLocation"]) + page).body.decode()
        for block in re.findall(r"<details.*?</details>", html, re.DOTALL):
            text = Page(block).text
            if text.lstrip().startswith(("Python", "Airflow")):
                compile(text.strip().split("\n", 1)[1], page, "exec")
                compiled += 1
    assert compiled == 6


def test_training_service_has_no_scoring_page(house: House) -> None:
    """The page of a training service says that it takes jobs only, and shows no address to call."""
    text = house.page(house.endpoint(TRAINING), "/score").text
    assert "batch jobs only" in text
    assert "/execute" not in text


@both
def test_jobs_page(house: House, service: str) -> None:
    """The four operations, the states, the columns of the file and what is written."""
    endpoint = house.endpoint(service)
    text = house.page(endpoint, "/jobs").text
    assert f"{endpoint['ApiLocation']}/jobs?api-version=2.0" in text
    assert "/jobs/JOB_ID/start?api-version=2.0" in text
    assert "/jobs/JOB_ID?api-version=2.0" in text
    assert all(re.search(rf"\b{method}\b", text) for method in ("POST", "GET", "DELETE"))
    assert all(re.search(rf"{state.value}\s*(yes|no)", text) for state in JobStatus)
    assert (".ilearner" in text) == (service == TRAINING)
    assert ("output2" in text) == (service == TRAINING)
    assert bool(re.search(r"bought\s*String\s*yes", text)) == (service == TRAINING)


def test_update_page_lists_the_updatable_resources(house: House) -> None:
    """PATCH address, the table with its heading and column, the body and the Airflow task."""
    endpoint = house.endpoint(SCORING, "updatable")
    html = house.page(endpoint, "/update")
    assert f"PATCH {BASE}{house.service(SCORING)}/endpoints/updatable" in " ".join(html.text.split())
    assert re.search(rf"Updatable Resources\s*Resource Name\s*{re.escape(HOSTILE)} \[trained model\]", html.text)
    assert "UpdateTrainedModelOperator" in html.text
    assert "SasBlobToken" in html.text
    assert "default endpoint" not in html.text


def test_update_page_of_the_default_endpoint_shows_another_address(house: House) -> None:
    """The default endpoint's model cannot be replaced, so no sample may try."""
    text = house.page(house.endpoint(SCORING), "/update").text
    assert "This is the default endpoint" in text
    assert "/endpoints/default" not in text
    assert "/endpoints/myendpoint" in text


def test_update_page_tells_of_prevented_updates(house: House) -> None:
    """An endpoint that refuses updates says so before anybody tries."""
    text = house.page(house.endpoint(SCORING, "frozen", PreventUpdate=True), "/update").text
    assert "PreventUpdate" in text


def test_update_page_of_a_training_service_says_where_to_go(house: House) -> None:
    """The documented mistake, an endpoint added to the training service, is explained on its page."""
    text = house.page(house.endpoint(TRAINING, "mistaken"), "/update").text
    assert "no updatable resources" in text
    assert "Add an endpoint to the scoring web service" in text
    assert "PATCH" not in text


# -- sample rows -----------------------------------------------------------------------------------------------------


def test_training_rows_are_shown_if_asked_for_only(house: House) -> None:
    """Rows of training data appear on the pages of an endpoint with SampleDataEnabled, and on no other."""
    plain, open_ = house.endpoint(SCORING, "plain"), house.endpoint(SCORING, "open", SampleDataEnabled=True)
    assert "1.25" not in house.page(plain, "/score").text
    shown = house.page(open_, "/score").text
    assert "rows of training data" in shown
    assert '[1.25, "<b>red</b>"]' in shown
    assert '[3.5, "blue"]' in shown


def test_the_first_data_are_described_without_their_values(house: House) -> None:
    """Kind and counts of each column are on the pages of the web service that trains; values are not."""
    page = " ".join(house.page(house.endpoint(TRAINING, "described"), "/jobs").text.split())
    table = page[page.index("Columns of the first training data") :]
    assert "size number 0 4" in table
    assert "1.25" not in table[:400]


def test_typical_rows() -> None:
    """The middle of a range, whole where the range is; the first category; nothing of what is not known."""
    columns = (
        Column("count", NUMBER, minimum=1, maximum=12),
        Column("share", NUMBER, minimum=0.02, maximum=1),
        Column("flag", NUMBER, minimum=0, maximum=1),
        Column("kind", STRING, ("a", "b")),
        Column("empty", NUMBER),
        Column("blank", STRING),
        Column("place", STRING),
    )
    table = typical_rows(Schema(columns, "y", "regression", optional=("place",)))
    assert table.rows == [{"count": 6, "share": 0.51, "flag": 0, "kind": "a", "empty": 0, "blank": "text"}]


@pytest.mark.parametrize(
    ("low", "high"), [("a", "b"), (float("nan"), 1), (-1e308, 1e309), ([], {}), (-1.7e308, 1.7e308)]
)
def test_a_range_may_be_anything(low: Any, high: Any) -> None:
    """A model file says of its columns what its writer wanted; the example is made all the same, in JSON."""
    columns = (Column("odd", NUMBER, minimum=low, maximum=high),)
    (row,) = typical_rows(Schema(columns, "y", "regression")).values
    assert json.dumps(row, allow_nan=False) == "[0]"


@pytest.mark.parametrize(
    "data", [{}, [], {"a": [[1, "x" * 60], ["y" * 60, None]]}, {"k" * 90: list(range(80))}, "text"]
)
def test_pretty_json_is_the_same_json(data: Any) -> None:
    """Whatever is broken into lines reads back as it was, in lines that fit."""
    text = pretty(data)
    assert json.loads(text) == data
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.slow
def test_jinja_is_not_imported_at_start() -> None:
    """The server starts without the template engine."""
    code = "import sys, airflow_provider_azureml_classic.server.service; print('jinja2' in sys.modules)"
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "False"

"""The pages of the portal, asked without a browser: sign-in, what is refused, what is shown, what is done."""

from __future__ import annotations

import html
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings
from airflow_provider_azureml_classic.server.portal import retrain
from airflow_provider_azureml_classic.server.portal.chart import Failure, chart, direction
from airflow_provider_azureml_classic.server.portal.sessions import COOKIE, OWNER, Brake, Sessions
from airflow_provider_azureml_classic.server.portal.site import ROUTES
from airflow_provider_azureml_classic.server.state import overview
from airflow_provider_azureml_classic.server.state.kept_calls import KeptCalls
from airflow_provider_azureml_classic.server.state.overview import ModelLine, Queries
from airflow_provider_azureml_classic.server.storage.locations import OwnLocation
from tests.support.portal import BASE, Visitor, text_of
from tests.support.service import TOKEN, WORKSPACE, Clock, Service, line

CSV = {"data": ("january.csv", line(5), "text/csv")}


@pytest.fixture
def stranger(service: Service) -> Visitor:
    """Somebody who has not signed in."""
    return Visitor(service)


@pytest.fixture
def visitor(stranger: Visitor) -> Visitor:
    """Somebody who has."""
    assert stranger.sign_in().headers["location"] == "/portal/services"
    stranger.get("/portal/services")
    return stranger


@pytest.fixture
def mine(visitor: Visitor, scorer: Endpoint) -> str:
    """Path of the page of the endpoint ``mine``."""
    return f"/portal/services/{visitor.service.scoring}/endpoints/mine"


def filled(path: str, visitor: Visitor) -> str:
    """A route's path with names that are there."""
    names = {"service": visitor.service.scoring, "endpoint": "mine", "what": "delete", "job": "0" * 32}
    return "/portal" + path.format(**names, name="output1")


# -- who may come in ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), [(path, method) for path, method, _ in ROUTES])
def test_every_page_asks_for_the_token(stranger: Visitor, path: str, method: str) -> None:
    """Nobody sees or does anything without signing in; a page that was asked for is remembered."""
    where = filled(path, stranger)
    answer = stranger.get(where) if method == "GET" else stranger.post(where)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/portal/sign-in")
    assert ("next=" in answer.headers["location"]) == (method == "GET")


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), [route[:2] for route in ROUTES if route[1] == "POST"])
@pytest.mark.parametrize("csrf", ["", "0" * 64, "é"])
def test_every_form_needs_its_csrf_token(visitor: Visitor, mine: str, path: str, method: str, csrf: str) -> None:
    """A form that another site sends on behalf of somebody who is signed in is refused with 403 and does nothing."""
    before = [endpoint.etag for endpoint in visitor.service.client.list_endpoints(visitor.service.scoring)]
    answer = visitor.http.post(filled(path, visitor), data={"csrf": csrf} if csrf else {})
    assert answer.status_code == 403
    after = [endpoint.etag for endpoint in visitor.service.client.list_endpoints(visitor.service.scoring)]
    assert after == before


def test_sign_in_and_out_need_their_csrf_token_too(visitor: Visitor) -> None:
    """Nobody can be signed in as somebody else, nor signed out, by another site."""
    assert visitor.http.post("/portal/sign-out").status_code == 403
    assert visitor.http.post("/portal/sign-in", data={"token": TOKEN}).status_code == 403


def test_the_cookie_is_for_this_site_only(stranger: Visitor) -> None:
    """HttpOnly, SameSite=Strict, with an end; not Secure where the public address is http."""
    cookie = stranger.sign_in().headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/portal", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert TOKEN not in cookie


@pytest.mark.parametrize("spoil", [lambda c: "", lambda c: c[:-4] + "AAA=", lambda c: "é", lambda c: c[::-1]])
def test_a_forged_cookie_is_none(visitor: Visitor, spoil: Callable[[str], str]) -> None:
    """Whatever was changed in the cookie, the visitor has to sign in."""
    cookie = visitor.http.cookies[COOKIE]
    visitor.http.cookies.clear()
    answer = visitor.http.get("/portal/services", headers={"cookie": f"{COOKIE}={spoil(cookie)}".encode()})
    assert answer.status_code == 303


def test_the_cookie_expires(visitor: Visitor, clock: Clock) -> None:
    """Twelve hours after signing in it opens nothing, whatever was done meanwhile."""
    cookie = {"cookie": f"{COOKIE}={visitor.http.cookies[COOKIE]}"}
    clock.advance(hours=11.9)
    assert visitor.http.get("/portal/services", headers=cookie).status_code == 200
    clock.advance(hours=0.2)
    assert visitor.http.get("/portal/services", headers=cookie).status_code == 303


def test_a_page_does_not_prolong_the_session(visitor: Visitor, mine: str, clock: Clock) -> None:
    """A cookie that is written anew, with a message in it, ends when the first one would have."""
    clock.advance(hours=11)
    visitor.get(f"{mine}/ask/refresh")
    visitor.did(f"{mine}/do/refresh")
    clock.advance(hours=1.1)
    assert visitor.get("/portal/services").status_code == 303


def test_signed_out_is_signed_out(visitor: Visitor) -> None:
    """A copy of the cookie opens nothing once its owner has signed out."""
    cookie = {"cookie": f"{COOKIE}={visitor.http.cookies[COOKIE]}"}
    assert visitor.post("/portal/sign-out").headers["location"] == "/portal/sign-in"
    assert visitor.http.get("/portal/services", headers=cookie).status_code == 303


def test_signed_out_is_signed_out_after_a_restart(
    visitor: Visitor, service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And on every other server of the database. What is kept of it opens nothing, and is not kept for ever."""
    cookie = visitor.http.cookies[COOKIE]
    visitor.post("/portal/sign-out")
    visitor.service.close()
    again = Service(service_dir, clock, monkeypatch)
    other = Visitor(again)
    headers = {"cookie": f"{COOKIE}={cookie}"}
    assert other.http.get("/portal/services", headers=headers).headers["location"].startswith("/portal/sign-in")
    assert other.http.get("/portal/sign-in", headers=headers).status_code == 200
    assert other.sign_in().status_code == 303
    assert other.get("/portal/services").status_code == 200
    with closing(sqlite3.connect(service_dir / "state.db")) as database:
        (kept,) = database.execute("SELECT digest FROM ended_sessions").fetchone()
    assert re.fullmatch("[0-9a-f]{64}", kept)
    clock.advance(hours=13)
    assert other.sign_in().status_code == 303
    other.get("/portal/services")
    other.post("/portal/sign-out")
    with closing(sqlite3.connect(service_dir / "state.db")) as database:
        assert database.execute("SELECT count(*) FROM ended_sessions WHERE digest = ?", [kept]).fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM ended_sessions").fetchone() == (1,)
    again.close()


def test_a_new_token_ends_all_sessions(service: Service, clock: Clock) -> None:
    """A session was opened by one token; it is none for another."""
    old = Sessions(service.settings, clock)
    cookie = old.sealed(old.new(OWNER))
    assert old.opened(cookie) is not None
    for changed in ({"token": "another"}, {"read_token": "another"}):
        assert Sessions(replace(service.settings, **changed), clock).opened(cookie) is None


def test_guessing_is_slowed_down(stranger: Visitor, clock: Clock) -> None:
    """After five wrong tokens each further one costs twice the time, and within it even the right one is refused."""
    assert [stranger.sign_in("wrong").status_code for _ in range(6)] == [401] * 5 + [429]
    assert stranger.sign_in().status_code == 429
    clock.advance(seconds=2)
    assert stranger.sign_in("wrong").status_code == 401
    clock.advance(seconds=1)
    assert stranger.sign_in().status_code == 429
    clock.advance(seconds=2)
    assert stranger.sign_in().status_code == 303


def test_the_brake_forgets(clock: Clock) -> None:
    """It holds a bounded number of addresses, and slows nobody down who came in."""
    brake = Brake(clock)
    for number in range(10_100):
        brake.failed(str(number))
    assert len(brake._tries) == 10_000
    for _ in range(30):
        brake.failed("me")
    assert 0 < brake.wait("me") <= 60
    brake.passed("me")
    assert brake.wait("me") == 0


@pytest.mark.parametrize(
    ("guesses", "waits", "passes"),
    [
        ("2001:db8:1:2::{}", "2001:db8:1:2:ffff::1", "2001:db8:1:3::1"),
        ("2001:db8:1:2::{}%eth0", "2001:db8:1:2::", "2001:db8:1:20::"),
        ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"),
        ("192.0.2.1", "::ffff:c000:201", "192.0.2.2"),
    ],
)
def test_a_network_of_one_host_is_one_address(clock: Clock, guesses: str, waits: str, passes: str) -> None:
    """Another address of the same IPv6 network, or another spelling of an IPv4 address, is no new beginning."""
    brake = Brake(clock)
    for number in range(6):
        brake.failed(guesses.format(number))
    assert (brake.wait(waits) > 0, brake.wait(passes)) == (True, 0)
    brake.passed(waits)
    assert brake.wait(guesses.format(0)) == 0


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        ("/portal/jobs?state=failed", "/portal/jobs?state=failed"),
        ("https://evil.test/portal/", "/portal/services"),
        ("//evil.test/portal/", "/portal/services"),
        ("/portal/../evil", "/portal/services"),
        ("/portal/x/%2E./evil", "/portal/services"),
        ("/portal/\\evil.test", "/portal/services"),
        ("/portal/jobs\r\nx: y", "/portal/services"),
        ("", "/portal/services"),
    ],
)
def test_signing_in_leads_to_our_own_pages_only(stranger: Visitor, wanted: str, goes: str) -> None:
    """The page that was asked for before, unless it is somewhere else."""
    answer = stranger.sign_in(next=wanted)
    assert answer.headers["location"] == goes


def test_start_leads_to_the_portal(stranger: Visitor) -> None:
    """Somebody who types the server's address comes to the portal."""
    assert stranger.get("/").headers["location"] == "/portal/services"


# -- what every page has -----------------------------------------------------------------------------------------------


def pages(visitor: Visitor, mine: str) -> list[str]:
    """Every kind of page."""
    service, trainer = visitor.service, visitor.service.client.get_endpoint(visitor.service.training, "default")
    job = service.submit(trainer, service.put_blob("data/a.csv", line(4)))
    service.ended(trainer, job)
    root = f"/portal/services/{service.scoring}"
    return [
        "/portal/services",
        root,
        f"{root}?q=nothing",
        f"/portal/services/{service.training}",
        mine,
        f"{root}/endpoints/default",
        f"/portal/services/{service.training}/endpoints/default",
        f"{mine}/ask/delete",
        "/portal/jobs",
        f"/portal/jobs/{job}",
    ]


@pytest.mark.slow
def test_pages_are_closed_and_hold_no_secret(visitor: Visitor, mine: str) -> None:
    """A strict policy, no inline script or style, nothing stored by the browser, and no key, token or SAS anywhere."""
    endpoint = visitor.service.client.get_endpoint(visitor.service.scoring, "mine")
    for path in pages(visitor, mine):
        answer = visitor.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<style|<script>|\sstyle=|\son[a-z]+=|javascript:", answer.text), path
        for secret in (endpoint.primary_key, endpoint.secondary_key, TOKEN, "sig=", "SharedAccess"):
            assert secret not in answer.text, path
        assert answer.text.count("<h1") == 1
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text), path


@pytest.mark.slow
def test_titles_differ(visitor: Visitor, mine: str) -> None:
    """Each page has a title of its own."""
    titles = [re.search("<title>(.*?)</title>", visitor.page(path))[1] for path in pages(visitor, mine)]
    assert len(set(titles)) >= len(titles) - 2  # three of them are pages of one web service


def test_unknown_pages_are_pages_too(visitor: Visitor) -> None:
    """What is not there is said in words, with a way back."""
    for path in ("/portal/nothing", "/portal/jobs/x", "/portal/services/x", "/portal/static/x.css"):
        answer = visitor.get(path)
        assert answer.status_code == 404
        assert "There is no such page" in answer.text


def test_static_files_may_be_kept(stranger: Visitor) -> None:
    """Style, script and icon are served to everybody, by an address that changes with them."""
    html = stranger.page("/portal/sign-in")
    found = re.findall(r'"(/portal/static/[^"]+)"', html)
    assert len(set(found)) == 3
    for path in found:
        assert "immutable" in stranger.get(path).headers["cache-control"]


# -- script injection --------------------------------------------------------------------------------------------------

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{40009*50021}}"


@pytest.mark.slow
def test_whatever_comes_back_is_text(visitor: Visitor, mine: str) -> None:
    """Every field that comes back on a page is shown as it was typed, and never run."""
    service = visitor.service
    service.client.add_endpoint(service.scoring, "evil", EndpointSettings(description=EVIL))
    root = f"/portal/services/{service.scoring}"
    answers = [
        visitor.get(root),
        visitor.get(f"{root}/endpoints/evil"),
        visitor.http.get(root, params={"q": EVIL, "state": EVIL, "sort": EVIL, "page": EVIL, "down": EVIL}),
        visitor.http.get(mine, params={"metric": EVIL}),
        visitor.http.get("/portal/jobs", params={"state": EVIL, "service": EVIL}),
        visitor.http.get("/portal/sign-in", params={"next": EVIL}),
        visitor.http.get(f"/portal/{EVIL}"),
        visitor.http.get(f"{mine}/ask/{EVIL.replace('/', '')}"),
        visitor.http.get(f"{mine}/ask/rollback", params={"number": EVIL}),
        visitor.http.get(f"{mine}/ask/use", params={"number": EVIL}),
        visitor.post(f"{root}/endpoints", name=EVIL, description=EVIL, throttle=EVIL, concurrency=EVIL, trace=EVIL),
        visitor.post(f"{root}/limit", amount=EVIL),
        visitor.post(f"{mine}/score", **{"column-0": EVIL}),
        visitor.post(
            f"/portal/services/{service.training}/jobs", for_endpoint=EVIL, until=EVIL, files={"data": (EVIL, EVIL)}
        ),
    ]
    answers.append(Visitor(service).sign_in(EVIL, next=EVIL))
    evil = (f"{EVIL}.csv", f"<b>,{EVIL[1:]},y\n1,2,3\n")
    job = visitor.post(f"/portal/services/{service.training}/jobs", files={"data": evil})
    job_page = job.headers["location"]
    trainer = service.client.get_endpoint(service.training, "default")
    assert service.ended(trainer, job_page.rpartition("/")[2]).status is JobStatus.FAILED
    place = service.put_blob("data/<b>bold<i>.csv", line(3))
    other = service.submit(trainer, place, output1=BlobReference("models/<b>mine</b>/<i>.ilearner"))
    service.ended(trainer, other)
    answers += [visitor.get(job_page), visitor.get(f"/portal/jobs/{other}"), visitor.get("/portal/jobs")]
    answers.append(visitor.get(f"/portal/services/{service.training}"))
    for number, answer in enumerate(answers):
        assert not re.search(r"<script>|<img src=x|<b>|<i>|2001290189", answer.text), number
    seen = [number for number, answer in enumerate(answers) if EVIL in text_of(answer.text) or "&lt;" in answer.text]
    assert {0, 1, 2, 10, 12, 15, 16} <= set(seen)


def test_metrics_of_a_model_from_elsewhere_are_text(visitor: Visitor, mine: str) -> None:
    """Names of metrics come out of the model's file, which whoever patches chooses."""
    database = visitor.service.database
    with database.write() as connection:
        connection.execute(sa.text("UPDATE model_files SET metrics = :m"), {"m": '{"<script>x": 1, "b\\"><i>": 2}'})
    html = visitor.page(mine)
    assert "<script>x" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;x" in html


# -- endpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_services_are_listed(visitor: Visitor, scorer: Endpoint) -> None:
    """One row for an experiment: endpoints by freshness, last retrain, calls, jobs; in front what needs attention."""
    service, row = visitor.service, "Line [predictive exp.] trained by Line"
    page = text_of(visitor.page("/portal/services"))
    assert f"{row} 2 0 0 0 never 0 0" in page
    assert "Nothing needs attention" in page
    place = service.put_blob("models/mine/20160210T000000Z.ilearner", service.read_blob("models/ten.ilearner"))
    assert service.patch("mine", place).status == 200
    service.slope(scorer)
    service.client.get_drift(service.scoring)
    page = text_of(visitor.page("/portal/services"))
    assert f"{row} 2 0 1 stale 0 2016-03-01 12:00 1 0" in page
    assert "Needs attention stale · 20 d 12 h mine of Line" in page
    service.clock.advance(minutes=1)
    failed_job(service, service.client.get_endpoint(service.training, "default"))
    page = text_of(visitor.page("/portal/services"))
    assert f"{row} 2 0 1 stale 1 failed" in page
    assert "Needs attention retrain failed mine of Line 2016-03-01 12:01 : BlobNotFound" in page


def test_many_endpoints_are_counted_twice_a_minute(
    visitor: Visitor, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens the first page meanwhile is shown what was counted; where there are few, it is counted anew."""
    monkeypatch.setattr(overview, "KEPT_SECONDS", 1e9)
    asked: list[None] = []
    counts = Queries.counts
    monkeypatch.setattr(Queries, "counts", lambda *given: asked.append(None) or counts(*given))
    for many, times in ((1_000, 2), (1, 1)):
        monkeypatch.setattr(overview, "MANY", many)
        asked.clear()
        assert visitor.page("/portal/services") == visitor.page("/portal/services")
        assert len(asked) == times


def test_add_an_endpoint(visitor: Visitor) -> None:
    """All that the form offers reaches the endpoint."""
    root = f"/portal/services/{visitor.service.scoring}"
    words = text_of(
        visitor.did(
            f"{root}/endpoints",
            name="north",
            description="The north",
            throttle="High",
            concurrency="40",
            trace="All",
            sample_data="1",
        )
    )
    assert "Endpoint north is added." in words
    endpoint = visitor.service.client.get_endpoint(visitor.service.scoring, "north")
    assert (endpoint.description, endpoint.throttle_level, endpoint.max_concurrent_calls) == ("The north", "High", 40)
    assert (endpoint.diagnostics_trace_level, endpoint.sample_data_enabled) == ("All", True)
    assert "Endpoint north is added." not in visitor.page(f"{root}/endpoints/north")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "North"}, "1 to 24 lower-case letters and digits"),
        ({"name": "mine"}, "There is an endpoint &#39;mine&#39; already."),
        ({"name": "a", "throttle": "High", "concurrency": "x"}, "not a whole number"),
        ({"name": "a", "throttle": "High", "concurrency": "201"}, "at most 200"),
        ({"name": "a", "throttle": "Odd"}, "Choose one of the levels"),
        ({"name": ""}, "cannot be an endpoint"),
    ],
)
def test_an_endpoint_that_cannot_be_added(visitor: Visitor, mine: str, fields: dict[str, str], said: str) -> None:
    """The page says why, keeps what was typed, and changes nothing."""
    root = f"/portal/services/{visitor.service.scoring}"
    answer = visitor.post(f"{root}/endpoints", description="kept text", **fields)
    assert answer.status_code == 400
    assert said in answer.text
    assert "kept text" in answer.text
    assert len(visitor.service.client.list_endpoints(visitor.service.scoring)) == 2


@pytest.mark.slow
def test_search_sort_and_pages(visitor: Visitor) -> None:
    """Found by part of name or description, in any order, page by page; wildcards are plain characters."""
    service = visitor.service
    for number in range(30):
        service.client.add_endpoint(service.scoring, f"n{number:02}", EndpointSettings(description=f"100% of {number}"))
    root = f"/portal/services/{service.scoring}"

    def names(query: str) -> list[str]:
        return re.findall(r'endpoints/(\w+)">', visitor.page(f"{root}?{query}"))

    assert names("")[:3] == ["default", "n00", "n01"]
    assert len(names("")) == 25
    assert names("page=2") == [f"n{number}" for number in range(24, 30)]
    assert names("sort=name&down=1")[0] == "n29"
    assert names("q=N07") == ["n07"]
    assert names("q=OF+29") == ["n29"]
    assert len(names("q=100%25")) == 25
    assert names("q=0_o") == []
    assert "No endpoint found" in visitor.page(f"{root}?page=9")
    visitor.service.patch("n05", BlobReference("models/ten.ilearner"))
    visitor.service.clock.advance(hours=1)
    assert names("sort=placed&down=1")[0] == "n05" or "n05" in names("sort=placed&down=1")


@pytest.mark.slow
def test_freshness_against_a_limit(visitor: Visitor) -> None:
    """Fresh, stale and unknown are told apart by the window in the model's path and the limit that was set."""
    service = visitor.service
    for name, stamp in (("new", "20160229T000000Z"), ("old", "20160210T000000Z")):
        service.client.add_endpoint(service.scoring, name)
        place = service.put_blob(f"models/{name}/{stamp}.ilearner", service.read_blob("models/ten.ilearner"))
        assert service.patch(name, place).status == 200
    root = f"/portal/services/{service.scoring}"
    words = text_of(visitor.page(root))
    assert "3 all endpoints 1 fresh 1 stale 0 age unknown 0 retrain failed" in words
    assert "new fresh · 1 d 12 h" in words
    assert "old stale · 20 d 12 h" in words
    assert re.findall(r'endpoints/(\w+)">', visitor.page(f"{root}?state=stale")) == ["old"]
    assert re.findall(r'endpoints/(\w+)">', visitor.page(f"{root}?state=unknown")) == []
    assert re.findall(r'endpoints/(\w+)">', visitor.page(f"{root}?sort=freshness&down=1")) == ["new", "old", "default"]
    assert "2 fresh 0 stale 0 age unknown" in text_of(visitor.did(f"{root}/limit", amount="30", unit="days"))
    assert "0 fresh 2 stale" in text_of(visitor.did(f"{root}/limit", amount="2", unit="hours"))
    assert "at least one hour" in visitor.post(f"{root}/limit", amount="0", unit="hours").text


@pytest.mark.slow
def test_one_limit_for_all_who_look(visitor: Visitor, mine: str) -> None:
    """An endpoint's own limit, from the call or the page, goes before its web service's; both are told to clients,
    and list, page and metrics count by it. Endpoints of gates are in none of them.
    """
    service = visitor.service
    root, client = f"/portal/services/{service.scoring}", service.client
    place = service.put_blob("models/mine/20160229T000000Z.ilearner", service.read_blob("models/ten.ilearner"))
    assert service.patch("mine", place).status == 200
    client.add_endpoint(service.scoring, "gatecheck0123456789abcde")
    scorer = client.get_endpoint(service.scoring, "mine")
    assert scorer.stale_after is None
    visitor.did(f"{root}/limit", amount="2", unit="days")
    assert client.get_endpoint(service.scoring, "mine").stale_after == timedelta(days=2)
    client.patch_endpoint(scorer, EndpointSettings(stale_after=timedelta(hours=35)))
    assert client.get_endpoint(service.scoring, "mine").stale_after == timedelta(hours=35)
    words = text_of(visitor.page(root))
    assert "2 all endpoints 0 fresh 1 stale 0 age unknown" in words
    assert "gatecheck" not in words
    assert re.findall(r'endpoints/(\w+)">', visitor.page(f"{root}?state=stale")) == ["mine"]
    headers = {"authorization": f"Bearer {TOKEN}"}
    metrics = visitor.http.get("/metrics", headers=headers).text
    assert 'azureml_classic_models{freshness="stale"} 1.0' in metrics
    assert "stale after 37 hours" in text_of(visitor.did(f"{mine}/do/limit", amount="37", unit="hours"))
    assert "fresh" in text_of(visitor.page(mine))
    assert "The web service's limit holds" in html.unescape(text_of(visitor.did(f"{mine}/do/limit", unit="hours")))
    assert client.get_endpoint(service.scoring, "mine").stale_after == timedelta(days=2)
    for amount in ("-1", "3661", "9" * 30):
        assert "must be at most 3,660 days" in visitor.post(f"{mine}/do/limit", amount=amount, unit="days").text


def test_delete_after_a_question(visitor: Visitor, mine: str) -> None:
    """The question changes nothing; the answer deletes."""
    assert "Delete endpoint mine?" in visitor.page(f"{mine}/ask/delete")
    assert visitor.service.client.get_endpoint(visitor.service.scoring, "mine")
    assert "Endpoint mine is deleted." in visitor.did(f"{mine}/do/delete")
    assert visitor.get(mine).status_code == 404


def test_the_default_endpoint_stays(visitor: Visitor) -> None:
    """What the core refuses is said on a page."""
    default = f"/portal/services/{visitor.service.scoring}/endpoints/default"
    visitor.page(default)
    answer = visitor.post(f"{default}/do/delete")
    assert answer.status_code == 400
    assert "The default endpoint cannot be deleted" in answer.text
    assert visitor.post(f"{default}/do/refresh").status_code == 400


def test_keys_are_shown_if_asked_for(visitor: Visitor, mine: str, scorer: Endpoint) -> None:
    """As a page, or as JSON for the script; a look at the address alone shows none."""
    assert scorer.primary_key not in visitor.page(f"{mine}/keys")
    assert scorer.primary_key in visitor.post(f"{mine}/keys").text.replace("&#43;", "+")
    answer = visitor.http.post(f"{mine}/keys", data={"csrf": visitor.csrf}, headers={"accept": "application/json"})
    assert answer.json() == {"primary": scorer.primary_key, "secondary": scorer.secondary_key}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_keys_are_regenerated_after_a_question(visitor: Visitor, mine: str, scorer: Endpoint, which: str) -> None:
    """One key is new, the other stays."""
    assert f"Regenerate the {which} key of mine?" in visitor.page(f"{mine}/ask/regenerate-{which}")
    visitor.did(f"{mine}/do/regenerate-{which}")
    after = visitor.service.client.get_endpoint(visitor.service.scoring, "mine")
    changed = (after.primary_key != scorer.primary_key, after.secondary_key != scorer.secondary_key)
    assert changed == (which == "primary", which == "secondary")


def test_a_row_is_scored(visitor: Visitor, mine: str) -> None:
    """The test form shows the answer, or what is wrong with the row."""
    assert re.search(r"Scored Labels (2\.0|1\.99)", text_of(visitor.post(f"{mine}/score", **{"column-0": "1"}).text))
    answer = visitor.post(f"{mine}/score", **{"column-0": "three"})
    assert answer.status_code == 400
    assert "three" in answer.text


def test_help_pages_are_linked(visitor: Visitor, mine: str) -> None:
    """The dashboard leads to the page with the resource's name."""
    page = visitor.page(mine)
    assert f"PATCH {BASE}/workspaces/{WORKSPACE}/webservices/{visitor.service.scoring}/endpoints/mine<" in page
    (samples,) = re.findall(r'href="([^"]+)#samples"', page)
    assert 'id="samples"' in visitor.page(samples)
    (path,) = re.findall(r'href="([^"]+)">Updatable Resources', page)
    assert "Line [trained model]" in visitor.page(path)


# -- history -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_history_and_roll_back(visitor: Visitor, mine: str, scorer: Endpoint) -> None:
    """Each model put in place is in the table with what put it there, and any of them can be put back."""
    service = visitor.service
    for name in ("ten", "twenty"):
        service.clock.advance(hours=1)
        service.patch("mine", BlobReference(f"models/{name}.ilearner"))
    html = visitor.page(mine)
    rows = re.findall(r"<tr>\s*<th scope=\"row\">.*?</tr>", html, re.DOTALL)
    assert ["twenty" in rows[0], "ten" in rows[1], "the first model" in rows[2]] == [True] * 3
    assert "live now" in rows[0]
    assert html.count("<circle") == 7  # three models, where each can be touched, and the ring around the live one
    (number,) = re.findall(r"rollback\?number=(\d+)", rows[1])
    past = service.client.list_models(service.scoring, "mine").models[1].digests
    assert past
    figures = {"rows": 1200, "changed": 0.034, "stability": None, "refused": {"live": 0, "new": 0}}
    guid = scorer.api_location.rpartition("/")[2]
    KeptCalls(service.database).add_rehearsal(guid, past.file, figures, service.clock())
    question = text_of(visitor.page(f"{mine}/ask/rollback?number={number}"))
    assert "Roll back mine to this model?" in question
    # Both models beside one another: no ids, but what they are.
    compared = question.partition("Live now This one ")[2]
    assert re.match(r"Data up to \S+ \S+ Trained 20\S+ \S+ 20\S+ \S+ Rows \d+ \d+ ", compared), compared
    assert "Mean Absolute Error " in compared
    assert "Answers that change, of the last 1,200 rows - 3.4%" in compared
    assert "The earlier model is live again." in visitor.did(f"{mine}/do/rollback", number=number)
    assert service.slope(scorer) == 10
    assert "rolled back" in visitor.page(mine)


@pytest.mark.slow
def test_a_failed_retrain_is_seen_where_its_owner_looks(visitor: Visitor, mine: str, trainer: Endpoint) -> None:
    """The endpoint's page says when the last retrain for it failed, why, and which job; a newer model ends that."""
    service = visitor.service
    assert "retrain for this endpoint failed" not in visitor.page(mine)
    service.clock.advance(hours=1)
    job = failed_job(service, trainer)
    text = text_of(visitor.page(mine)).partition("The last retrain for this endpoint failed on ")[2][:300]
    assert re.match(rf"20\S+ \S+ ?: .*not-there.csv.* Job {job[:8]}", text), text
    other = service.client.add_endpoint(service.scoring, "other")
    assert "retrain for this endpoint failed" not in visitor.page(mine.replace("/mine", f"/{other.name}"))
    service.clock.advance(hours=1)
    service.patch("mine", BlobReference("models/ten.ilearner"))
    assert "retrain for this endpoint failed" not in visitor.page(mine)
    # The job keeps its target.
    words = text_of(visitor.page(f"/portal/jobs/{job}"))
    assert "Retraining of Line for mine" in words
    assert "The model of mine stays as it is. Train again with another file" in words


def failed_job(service: Service, trainer: Endpoint) -> str:
    """A retrain for ``mine`` that fails; its id."""
    request = JobRequest({"input1": BlobReference("data/not-there.csv")}, purpose=Purpose("mine", service.scoring))
    job = service.client.submit_job(trainer, request)
    service.client.start_job(trainer, job)
    assert service.ended(trainer, job).status is JobStatus.FAILED
    return job


def test_settings_are_changed_after_adding(visitor: Visitor, mine: str, scorer: Endpoint) -> None:
    """Each of them, by one form; the model stays, and what is none of the levels is refused."""
    visitor.page(mine)
    fields = {"description": "shop 7", "throttle": "High", "concurrency": "33", "trace": "Error", "locked": "1"}
    assert "The settings are changed." in visitor.did(f"{mine}/do/settings", **fields)
    changed = visitor.service.client.get_endpoint(visitor.service.scoring, "mine")
    assert (changed.description, changed.max_concurrent_calls, changed.prevent_update) == ("shop 7", 33, True)
    assert (changed.diagnostics_trace_level, changed.resources) == ("Error", scorer.resources)
    assert "The settings are changed." in visitor.did(f"{mine}/do/settings", throttle="Low", trace="None")
    changed = visitor.service.client.get_endpoint(visitor.service.scoring, "mine")
    assert (changed.throttle_level, changed.max_concurrent_calls, changed.prevent_update) == ("Low", 4, False)
    assert "Choose one of the levels" in visitor.post(f"{mine}/do/settings", throttle="Middle").text


def test_the_history_tells_who_has_agreed(visitor: Visitor, mine: str) -> None:
    """As the update told it, whatever is in the name, or that it was the default at the time-out."""
    at, evidence = datetime(2026, 3, 1, 8, tzinfo=UTC), "ab" * 32
    for name, who in (("ten", "Ada <b>"), ("twenty", None)):
        header = Approval(who, at, evidence, "gated/r1/approve").to_header()
        assert visitor.service.patch("mine", BlobReference(f"models/{name}.ilearner"), headers=header).status == 200
    listed = visitor.service.client.list_models(visitor.service.scoring, "mine").models
    assert [model.approval and (model.approval.by, model.approval.at) for model in listed] == [
        (None, at),
        ("Ada <b>", at),
        None,
    ]
    html = visitor.page(mine)
    assert "approved by Ada &lt;b&gt;" in html
    assert "nobody answered: approved by default" in html
    assert f"Asked in gated/r1/approve; SHA-256 of what was shown: {evidence}" in html


@pytest.mark.slow
def test_another_endpoints_history_cannot_be_rolled_back_to(visitor: Visitor, mine: str) -> None:
    """A number of somebody else's history is refused."""
    service = visitor.service
    service.client.add_endpoint(service.scoring, "other")
    html = visitor.page(f"/portal/services/{service.scoring}/endpoints/mine")
    numbers = [int(number) for number in re.findall(r"rollback\?number=(\d+)", html)]
    for number in set(range(1, 12)) - set(numbers):
        answer = visitor.post(f"{mine}/do/rollback", number=str(number))
        assert answer.status_code in (303, 404, 400)
    assert service.slope(service.client.get_endpoint(service.scoring, "mine")) == 2


def test_a_locked_endpoint_offers_no_change(visitor: Visitor, mine: str, scorer: Endpoint) -> None:
    """PreventUpdate holds for the portal too."""
    service = visitor.service
    service.patch("mine", BlobReference("models/ten.ilearner"))
    service.ask("PATCH", service.endpoint_path("mine"), {"PreventUpdate": True})
    html = visitor.page(mine)
    assert "locked" in html
    assert "rollback?number=" not in html
    assert visitor.post(f"{mine}/do/rollback", number="1").status_code == 400


# -- jobs --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_train_from_an_upload_and_put_it_in_place(visitor: Visitor, mine: str, scorer: Endpoint) -> None:
    """Upload, finished job, hollow point on the chart, put in place, live."""
    service = visitor.service
    answer = visitor.post(
        f"/portal/services/{service.training}/jobs", for_endpoint="mine", until="2016-02-28", files=CSV
    )
    job_page = answer.headers["location"]
    trainer = service.client.get_endpoint(service.training, "default")
    job_id = job_page.rpartition("/")[2]
    assert service.ended(trainer, job_id).status is JobStatus.FINISHED
    words = text_of(visitor.page(job_page))
    assert "Trained on data up to 2016-02-28 . It is live nowhere yet." in words
    assert "models/mine/20160228T000000Z.ilearner" in words
    html = visitor.page(mine)
    assert html.count('class="point unused"') == 1
    assert "not used" in html
    assert "Put live on mine" in visitor.page(job_page)
    visitor.page(f"{mine}/ask/use?number={job_id}")
    assert "The model is live." in visitor.did(f"{mine}/do/use", number=job_id)
    assert service.slope(scorer) == 5
    html = visitor.page(mine)
    assert "point unused" not in html
    assert f"/portal/jobs/{job_id}" in html
    assert "mine (live now)" in text_of(visitor.page(job_page))


@pytest.mark.slow
def test_a_new_model_for_an_endpoint(visitor: Visitor, mine: str, scorer: Endpoint) -> None:
    """Upload on the endpoint's page, see how the columns are understood, train, compare, put live."""
    service = visitor.service
    assert "Train a new model for this endpoint" in visitor.page(mine)
    german = line(5).replace("x,y", "x;y;Straße").replace(",", ";").replace(".", ",").replace("\n", ";Süd\n", -1)
    german = german.replace("Straße;Süd", "Straße")
    answer = visitor.post(f"{mine}/train", files={"data": ("Jänner.csv", german.encode("cp1252"), "text/csv")})
    preview = answer.headers["location"]
    words = text_of(visitor.page(preview))
    assert "A new model for mine Janner.csv" in words
    assert re.search(r"x number 0 21 .* y number 0 21 .* Straße not used", words), words
    (file,) = re.findall(r'name="file" value="([^"]+)"', visitor.page(preview))
    job_page = visitor.post(f"{mine}/train/start", file=file, until="2016-02-28").headers["location"]
    trainer = service.client.get_endpoint(service.training, "default")
    assert service.ended(trainer, job_page.rpartition("/")[2]).status is JobStatus.FINISHED
    page = visitor.page(job_page)
    assert "Retraining of Line for mine" in text_of(page)
    assert "Put live on mine" in page
    for other in ("experimentoutput/x.csv", f"{file}/../../models/ten.ilearner", "customers/a/x.csv"):
        assert visitor.post(f"{mine}/train/start", file=other).status_code in (400, 404), other


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("july.csv", "x,Y_\n1,2\n", "no column 'y', the label; its columns are: x, Y_. Is 'Y_' meant?"),
        ("july.csv", "xx_value,y\n1,2\n", "no column 'x'; expected x. Found: xx_value, y."),
        ("july.xlsx", b"PK\x03\x04 and more", "it is an Excel workbook or a zip file; save it as CSV"),
    ],
)
def test_what_cannot_be_trained_on_is_said_before(
    visitor: Visitor, mine: str, name: str, content: str | bytes, said: str
) -> None:
    """All columns found, the likely misspelling, or that it is an Excel file; another file can be chosen at once."""
    preview = visitor.post(f"{mine}/train", files={"data": (name, content)}).headers["location"]
    words = text_of(visitor.page(preview))
    assert said in words
    assert "Choose another file" in words
    assert "Start training" not in words


def test_what_is_too_large_to_be_shown_is_not_fetched(
    visitor: Visitor, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its length is asked for; it can be trained on all the same. One that is gone is not found."""
    preview = visitor.post(f"{mine}/train", files={"data": ("july.csv", line(5))}).headers["location"]
    monkeypatch.setattr(retrain, "MAX_SHOWN", len(line(5)) - 1)
    monkeypatch.setattr(OwnLocation, "fetch", lambda *_: pytest.fail("it is fetched"))
    words = text_of(visitor.page(preview))
    assert "the file is too large to be shown here" in words
    assert "Start training" in words
    assert visitor.get(preview.replace("july.csv", "june.csv")).status_code == 400


@pytest.mark.slow
def test_a_file_is_scored(visitor: Visitor, mine: str) -> None:
    """Its rows with their answers, as a page or as CSV; what cannot be read is said on the endpoint's page."""
    rows = {"data": ("märz.csv", b"x;note\n1,5;a\n3;b\n")}
    words = text_of(visitor.post(f"{mine}/score-file", files=rows).text)
    assert "2 rows, by the model that is live on mine." in words
    assert re.search(r"Row Scored Labels x note 1 2\.95\d* 1\.5 a 2 5\.8\d* 3\.0 b", words), words
    answer = visitor.post(f"{mine}/score-file", files=rows, **{"as": "csv"})
    assert answer.headers["content-disposition"].startswith("attachment")
    lines = answer.content.decode("utf-8-sig").splitlines()
    assert (lines[0], lines[1].rpartition(",")[0], len(lines)) == ("x,note,Scored Labels", "1.5,a", 3)
    answer = visitor.post(f"{mine}/score-file", files={"data": ("a.csv", "X_,z\n1,2\n")})
    assert answer.status_code == 400
    assert "X_, z" in text_of(answer.text)
    assert "is an Excel workbook" in visitor.post(f"{mine}/score-file", files={"data": ("a.xls", b"PK\x03\x04")}).text


@pytest.mark.slow
def test_usage_survives_a_restart(visitor: Visitor, mine: str, scorer: Endpoint) -> None:
    """Calls of today, yesterday and the last month are counted in the database."""
    service = visitor.service
    service.slope(scorer)
    assert "Today 1 Yesterday 0 Last 30 days 1" in text_of(visitor.page(mine))
    service.clock.advance(days=1)
    service.slope(scorer)
    service.client.get_drift(service.scoring)
    reopened = Queries(service.database)
    guid, today = scorer.api_location.rpartition("/")[2], service.clock().toordinal()
    assert reopened.calls_by_day(guid, today - 29) == {today - 1: 1, today: 1}
    assert reopened.calls_on(today) == {service.scoring: 1}


@pytest.mark.slow
def test_a_model_without_a_target_is_put_somewhere(visitor: Visitor, mine: str) -> None:
    """A job that did not say for whom its model is offers the endpoints, and compares before anything changes."""
    service = visitor.service
    trainer = service.client.get_endpoint(service.training, "default")
    job = service.submit(trainer, service.put_blob("data/a.csv", line(4)))
    service.ended(trainer, job)
    page = visitor.page(f"/portal/jobs/{job}")
    assert "Training of Line" in text_of(page)
    assert '<option value="mine">' in page
    answer = visitor.get(f"/portal/jobs/{job}/place?endpoint=mine")
    assert answer.headers["location"] == f"{mine}/ask/use?number={job}"
    assert "Live now This one Data up to" in text_of(visitor.page(answer.headers["location"]))
    assert visitor.get(f"/portal/jobs/{job}/place?endpoint=nobody").headers["location"] == f"/portal/jobs/{job}"
    assert "no scoring endpoint 'nobody'" in html.unescape(visitor.page(f"/portal/jobs/{job}"))


def test_the_chart_says_what_it_shows() -> None:
    """One model is no chart; a failed training is marked where its data end; the first model, if it is far from all
    others, is left out; names of metrics tell which direction is good.
    """
    at = datetime(2026, 3, 1, tzinfo=UTC)

    def model(number: int, days: int) -> ModelLine:
        metrics = {"AUC": number / 10}
        end = at + timedelta(days=days)
        return ModelLine(
            *(number, str(number), "models/x.ilearner", "", end, end, "patch", number == 4, "f" * 32, 1, 1),
            *(None, end, metrics, None),
        )

    assert chart([model(1, 0)], "AUC") is None
    near = [model(number, number) for number in (4, 3, 2)]
    failures = [Failure("e" * 32, at, at + timedelta(days=6)), Failure("d" * 32, at, None)]
    drawn = chart([*near, model(1, -300)], "AUC", failures)
    assert drawn is not None
    assert (drawn.first, drawn.direction, drawn.left_out) == (at - timedelta(days=300), 1, 0)
    assert [point.kind for point in drawn.points] == ["past", "past", "live", "failed"]
    assert drawn.points[-1].x == max(point.x for point in drawn.points)
    assert chart(near, "AUC").first is None  # type: ignore[union-attr]
    assert [direction(name) for name in ("Mean Absolute Error", "Average Log Loss", "Recall", "Rows")] == [-1, -1, 1, 0]


def test_code_has_the_key_where_it_is_asked_for(visitor: Visitor, mine: str, scorer: Endpoint) -> None:
    """The page has a word for the key; the page of the keys has the key itself, in each language."""
    page = visitor.page(mine)
    assert scorer.primary_key not in page
    assert page.count("YOUR-KEY") == 7  # curl, Python, JavaScript, R, C#, Excel, and for the script
    visitor.page(mine)
    filled = html.unescape(visitor.post(f"{mine}/keys").text)
    assert filled.count(scorer.primary_key) == 7
    assert f'Headers = [Authorization = "Bearer {scorer.primary_key}", #"Content-Type"' in filled
    assert '[Inputs = [#"input1" = [' in re.sub(r"\s+", " ", filled).replace("[ Inputs", "[Inputs")


def test_train_from_an_upload_of_arff(visitor: Visitor) -> None:
    """The name that the browser gives says how the file is read."""
    service = visitor.service
    rows = line(5).replace("x,y\n", "@attribute x real\n@attribute y real\n@data\n")
    answer = visitor.post(f"/portal/services/{service.training}/jobs", files={"data": ("five.ARFF", rows)})
    job_id = answer.headers["location"].rpartition("/")[2]
    job = service.ended(service.client.get_endpoint(service.training, "default"), job_id)
    assert (job.status, job.details) == (JobStatus.FINISHED, None)


@pytest.mark.parametrize(
    ("fields", "files", "said"),
    [
        ({}, None, "Choose a CSV file"),
        ({}, {"data": ("a.csv", b"")}, "The file is empty."),
        ({"for_endpoint": "No Such"}, CSV, "cannot be an endpoint"),
        ({"for_endpoint": "mine", "until": "soon"}, CSV, "is not a date"),
    ],
)
def test_an_upload_that_cannot_be(visitor: Visitor, fields: dict[str, str], files: object, said: str) -> None:
    """The form says what is wrong, and no job is made."""
    answer = visitor.post(f"/portal/services/{visitor.service.training}/jobs", files=files, **fields)
    assert answer.status_code == 400
    assert said in answer.text
    assert "No job yet" in visitor.page("/portal/jobs")


@pytest.mark.parametrize(
    ("declared", "chunks"), [(True, 0), (False, 17)], ids=["refused by its declared length", "refused as it comes"]
)
async def test_too_large_a_form(visitor: Visitor, mine: str, declared: bool, chunks: int) -> None:
    """A form over the limit of 1 MiB is refused before it is read, or before more than the limit is."""
    cookie = visitor.http.cookies[COOKIE]
    asked, statuses = [], []
    headers = {"content-type": "application/x-www-form-urlencoded", "cookie": f"{COOKIE}={cookie}"}
    headers |= {"content-length": str(1 << 40)} if declared else {"transfer-encoding": "chunked"}

    async def receive() -> dict[str, Any]:
        asked.append(1)
        assert len(asked) < 100, "the body has no end, and is read on and on"
        return {"type": "http.request", "body": b"x=" + b"y" * ((1 << 16) - 2), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{mine}/score",
        "raw_path": f"{mine}/score".encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "server": ("service.test", 8080),
        "client": ("127.0.0.1", 1),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await visitor.service.http(scope, receive, send)
    assert (statuses, len(asked)) == ([413], chunks)


def test_a_running_job_can_be_cancelled(visitor: Visitor) -> None:
    """While it runs the page says so and asks again by itself; cancelled, it stays so."""
    service = visitor.service
    service.pool.gate.clear()
    try:
        answer = visitor.post(f"/portal/services/{service.training}/jobs", files=CSV)
        job_page = answer.headers["location"]
        assert service.pool.reached.wait(20)
        html = visitor.page(job_page)
        assert "data-poll" in html
        assert "running" in html
        assert "<progress" in html
        words = text_of(visitor.did(f"{job_page}/cancel"))
        assert "The job is cancelled." in words
        assert "data-poll" not in visitor.page(job_page)
    finally:
        service.pool.gate.set()


@pytest.mark.slow
def test_outputs_are_downloaded_through_the_server(visitor: Visitor) -> None:
    """The model's file comes whole, as a download, though no address with a token is on the page."""
    service = visitor.service
    trainer = service.client.get_endpoint(service.training, "default")
    job = service.submit(trainer, service.put_blob("data/a.csv", line(4)))
    place = service.ended(trainer, job).results["output1"].relative_location
    answer = visitor.get(f"/portal/jobs/{job}/outputs/output1")
    assert answer.content == service.read_blob(place)
    assert answer.headers["content-disposition"].startswith("attachment")
    assert visitor.get(f"/portal/jobs/{job}/outputs/other").status_code == 404


@pytest.mark.slow
def test_jobs_are_narrowed_down(visitor: Visitor) -> None:
    """By state and by web service."""
    service = visitor.service
    trainer = service.client.get_endpoint(service.training, "default")
    good = service.submit(trainer, service.put_blob("data/a.csv", line(4)))
    bad = service.submit(trainer, service.put_blob("data/b.csv", "a,b\n1,2\n"))
    for job in (good, bad):
        service.ended(trainer, job)

    def shown(query: str) -> set[str]:
        return set(re.findall(r"/portal/jobs/(\w{32})", visitor.page(f"/portal/jobs?{query}")))

    assert shown("") == {good, bad}
    assert shown("state=failed") == {bad}
    assert shown(f"service={service.scoring}") == set()
    assert shown(f"service={service.training}&state=finished") == {good}
    assert "label" in visitor.page(f"/portal/jobs/{bad}")


def test_secure_cookie_and_prefix_behind_a_proxy(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an https address the cookie is Secure; a path in front of everything is in all links."""
    from airflow_provider_azureml_classic.server.portal.site import Portal

    core = replace(
        service.http._sites["portal"][1]._core,
        settings=replace(service.settings, public_url="https://ml.example.test/ml"),
    )
    monkeypatch.setitem(service.http._sites, "portal/", ("portal", Portal(core)))
    stranger = Visitor(service)
    answer = stranger.get("/portal/sign-in")
    assert 'action="/ml/portal/sign-in"' in answer.text
    assert {"Secure", "Path=/ml/portal"} <= set(answer.headers["set-cookie"].split("; "))
    assert "https://" not in answer.text

"""Many endpoints: the same rules as for a few, and no call that grows with their number."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from starlette.testclient import TestClient

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol import pages
from airflow_provider_azureml_classic.protocol.customers import Quota
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.counters.ledger import Ledger
from airflow_provider_azureml_classic.server.models.pair import Pair
from airflow_provider_azureml_classic.server.service import model_store
from airflow_provider_azureml_classic.server.settings import new_key
from airflow_provider_azureml_classic.server.state import overview
from airflow_provider_azureml_classic.server.state.audit_store import AuditStore
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.ended_sessions import EndedSessions
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.engine import checked_url
from airflow_provider_azureml_classic.server.state.job_overview import JobQueries
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.kept_calls import Keeping, KeptCalls
from airflow_provider_azureml_classic.server.state.overview import Queries
from airflow_provider_azureml_classic.server.state.quota_store import QuotaStore
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    ExperimentRow,
    JobRow,
    KeyRow,
    ModelRow,
    ResourceRow,
    SamplesRow,
    ServiceRow,
)
from airflow_provider_azureml_classic.server.web import json_body, lists
from airflow_provider_azureml_classic.server.workspace import workspace as workspace_module
from airflow_provider_azureml_classic.server.workspace.endpoints import new_endpoint, with_key
from tests.support.service import RESOURCE, SCORING, TOKEN, WORKSPACE, Service

COUNT = 500


@pytest.mark.slow
def test_five_hundred_endpoints_are_as_one(service: Service) -> None:
    """Added by several at once: all are listed once, with keys of their own, and score; one changes, no other does."""
    names = [f"customer{number:03}" for number in range(COUNT)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: service.client.add_endpoint(service.scoring, name), names))
    listed = {endpoint.name: endpoint for endpoint in service.client.list_endpoints(service.scoring)}
    assert sorted(listed) == sorted([*names, "default"])
    keys = {key for endpoint in listed.values() for key in (endpoint.primary_key, endpoint.secondary_key)}
    assert len(keys) == 2 * (COUNT + 1)
    assert service.patch(names[7], service.put_blob("models/own.ilearner", service.read_blob("models/ten.ilearner")))
    assert [service.slope(listed[name]) for name in (names[6], names[7], names[8])] == [2, 10, 2]
    (scoring,) = (one for one in service.client.list_web_services() if one.id == service.scoring)
    assert scoring.endpoint_count == COUNT + 1


def test_the_limit_of_endpoints_holds(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one too many is refused; an existing one may still be changed."""
    monkeypatch.setattr(workspace_module, "MAX_ENDPOINTS", 2)
    assert service.ask("PUT", service.endpoint_path("second"), {}).status == 201
    refused = service.ask("PUT", service.endpoint_path("third"), {})
    assert (refused.status, b"EndpointLimitReached" in refused.body) == (400, True)
    assert service.ask("PUT", service.endpoint_path("second"), {"Description": "x"}).status == 200


def test_endpoints_that_are_remembered_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was read first is read again when it is called again; all answer."""
    monkeypatch.setattr(workspace_module, "MAX_CACHED", 2)
    called = [service.client.add_endpoint(service.scoring, f"e{number}") for number in range(4)]
    assert [service.slope(endpoint) for endpoint in [*called, called[0]]] == [2] * 5
    remembered = [service.workspace.cached(one.api_location.rpartition("/")[2]) is not None for one in called]
    assert remembered == [True, False, False, True]


def test_owners_are_looked_up_for_those_that_were_called(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and in several statements if they are many; one that is gone is left out."""
    monkeypatch.setattr(overview, "_AT_ONCE", 2)
    ids = [
        service.client.add_endpoint(service.scoring, f"e{number}").api_location.rpartition("/")[2]
        for number in range(3)
    ]
    owners = Queries(service.database).services_of_endpoints([*ids, "0" * 32])
    assert owners == dict.fromkeys(ids, service.scoring)


def test_a_start_does_not_read_all_models(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a storage account nobody asks at a start which models of all endpoints can be put back."""
    monkeypatch.setattr(Store, "digests", lambda store: pytest.fail("the models of all endpoints were read"))
    pair = Pair(service.database, service.settings.data_dir)
    assert model_store(service.settings, Store(service.database), pair, lambda: "server", print).digests()


def test_an_unknown_name_is_told_with_a_few_others(service: Service) -> None:
    """The message names ten endpoints and counts the rest, without reading them."""
    for number in range(12):
        service.client.add_endpoint(service.scoring, f"e{number:02}")
    said = service.ask("GET", service.endpoint_path("nothing")).body.decode()
    assert "default, e00, e01, e02, e03, e04, e05, e06, e07, e08 and 3 more." in said


@pytest.fixture
def seven(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A web service with the default endpoint and six others, of which three have one time; a page has two."""
    for name in ("z", "b", "c", "a"):
        service.client.add_endpoint(service.scoring, name)
        service.clock.advance(seconds=name in "zb")
    service.clock.advance(seconds=1)
    for name in ("y", "d"):
        service.client.add_endpoint(service.scoring, name)
    monkeypatch.setattr(lists, "MAX_PAGE", 2)
    monkeypatch.setattr(pages, "MAX_PAGE", 2)
    return service


IN_ORDER = ["default", "z", "b", "a", "c", "d", "y"]


def test_old_clients_are_given_all_endpoints_at_once(seven: Service) -> None:
    """Without the parameter of pages the answer has every endpoint, the oldest first, in the bytes of before; over HTTP
    it is sent while it is read."""
    path = f"/workspaces/{WORKSPACE}/webservices/{seven.scoring}/endpoints"
    answer = seven.ask("GET", path)
    listed = json.loads(answer.body)
    assert [one["Name"] for one in listed] == IN_ORDER
    assert answer.body == json_body.write(listed)
    assert pages.NEXT not in answer.headers
    client = TestClient(seven.http, base_url="http://127.0.0.1")
    sent = client.get(path, headers={"authorization": f"Bearer {TOKEN}"})
    assert "content-length" not in sent.headers
    assert sent.content == answer.body


def test_clients_of_today_are_given_pages(seven: Service) -> None:
    """Each endpoint is listed once, also where one is added, or the last of a page is deleted, in between."""
    asked: list[str] = []
    transport = seven.app

    def send(request: Request) -> Response:
        asked.append(request.url.partition("?")[2])
        response = transport(request)
        if len(asked) == 2:
            seven.client.delete_endpoint(seven.scoring, "a")
            seven.client.add_endpoint(seven.scoring, "new")
        return response

    client = Client("http://127.0.0.1", WORKSPACE, TOKEN, transport=send)
    assert [one.name for one in client.list_endpoints(seven.scoring)] == [*IN_ORDER[:-1], "new", "y"]
    assert asked[0] == "limit=2"
    assert len(asked) == 4


def test_a_service_without_pages_gives_all(seven: Service) -> None:
    """One that does not know the parameters answers as the cloud service did."""

    def send(request: Request) -> Response:
        return seven.app(replace(request, url=request.url.partition("?")[0]))

    client = Client("http://127.0.0.1", WORKSPACE, TOKEN, transport=send)
    assert [one.name for one in client.list_endpoints(seven.scoring)] == IN_ORDER


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        *(
            "limit=0",
            "limit=3",
            "limit=x",
            "limit=-1",
            "limit=%C2%B2",
            "limit=1e9",
            "limit=",
            "limit=2&after=x",
            "after=",
        ),
        *("limit=2&after=2026~z", "after=2016-03-01T12:00:00~%2500", "after=2016-03-01T12:00:00%2B05:00~z"),
        *("after=2016-03-01T12:00:00~%25ff", "after=2016-03-01~z", f"after=2016-03-01T12:00:00~{'z' * 5000}"),
    ],
)
def test_a_page_that_cannot_be_is_refused(seven: Service, query: str) -> None:
    """The message names the parameter and what it must be."""
    answer = seven.ask("GET", f"/workspaces/{WORKSPACE}/webservices/{seven.scoring}/endpoints?{query}")
    assert answer.status == 400
    assert b"InvalidQueryParameter" in answer.body
    assert b"it must be" in answer.body


def test_a_list_that_does_not_end_is_given_up(seven: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that names a next page for ever does not keep a client for ever."""
    monkeypatch.setattr(pages, "MOST_PAGES", 3)

    def send(request: Request) -> Response:
        response = seven.app(request)
        return replace(response, headers={**response.headers, pages.NEXT: "2016-03-01T12:00:00~b"})

    client = Client("http://127.0.0.1", WORKSPACE, TOKEN, transport=send)
    with pytest.raises(ProtocolError, match="does not end"):
        client.list_endpoints(seven.scoring)


def manage(store: Store, row: EndpointRow) -> None:
    """Everything that a call about one endpoint asks of the state, and changes in it."""
    assert store.endpoint_named(row.service_id, row.name) == row
    found = store.endpoint_with_key(row.primary_key)
    assert found is not None
    assert found[0] == row
    assert store.other_keys(row) == ()
    assert store.endpoint(row.id) == row
    assert store.endpoints_of(row.service_id, 10) == [row]
    assert store.endpoints_of(row.service_id, 10, (row.created_at, row.name)) == []
    assert store.service(row.service_id)
    assert store.services(10, (row.created_at, "A")) == store.services(10)
    assert store.endpoint_count(row.service_id)
    assert store.endpoint_counts([row.service_id])
    assert store.endpoint_names(row.service_id, 10)
    now = row.created_at
    assert store.change_endpoint(row, {"description": "x"}, row.resources, now)
    assert store.replace_keys(row, with_key(row, KeyType.PRIMARY, new_key()))
    added = new_endpoint(row.service_id, "added", now)
    models = tuple(replace(model, endpoint_id=added.id) for model in row.resources)
    assert store.add_endpoints(replace(added, resources=models), most=10)
    key = KeyRow("k" * 64, added.id, "reader", "ScoreOnly", now, None)
    assert store.put_key(added, key, 1)
    assert store.revoke_key(added, "reader")
    store.delete_endpoints(added.id)
    assert store.endpoints_of_customer("c" * 32) == []
    assert store.trained_to("d" * 64, "models/x.ilearner", row.id) is None
    assert store.experiment("Line")
    assert store.last_at(row.id, RESOURCE, "models/y.ilearner") is None
    store.redeclare_experiment(ExperimentRow("Line", "e", "{}"))


def work(jobs: JobStore, row: EndpointRow) -> None:
    """Everything that a job asks of the state, and changes in it."""
    now = row.created_at
    job = JobRow("j" * 32, row.id, JobStatus.NOT_STARTED, None, JobRequest({}), None, None, now, None, None)
    jobs.add(job, "Submitted.")
    assert jobs.get(job.id)
    assert jobs.listed(row.id, 10, job) == []
    assert jobs.queue(job.id, row.id, "Started.")
    assert jobs.with_progress(job.id)
    assert jobs.model_of(job.id) is None
    jobs.append_log(job.id, [jobs.stamped("A line.")])
    assert jobs.last_lines([job.id])
    assert not jobs.runs(job.id, "b" * 32)
    assert not jobs.end(job.id, "b" * 32, JobStatus.FINISHED, {}, "Finished.")
    jobs.give_back([job.id], "b" * 32)
    assert jobs.cancel(job.id, now)
    assert jobs.log_of(job.id)


def look(database: Database, row: EndpointRow) -> None:
    """Everything that portal, drift, rehearsals, quotas and the audit list ask about one endpoint or web service."""
    now, queries, jobs = row.created_at, Queries(database), JobQueries(database)
    assert queries.services_of_endpoints([row.id])
    assert queries.has_endpoint(row.service_id, row.name)
    assert queries.fresh_hours(row.service_id)
    assert queries.counts(now, row.service_id)
    for sort in overview.SORTS:
        for search, state in (("", ""), ("x", overview.STALE)):
            asked: dict[str, Any] = {"search": search, "state": state, "sort": sort, "down": True, "page": 2}
            assert queries.endpoints(row.service_id, now=now, **asked)[0] == []
    assert queries.history(row.id)
    assert queries.history(row.id, before=5)
    assert queries.unused(row, "Line") == []
    assert queries.used_by("d" * 64)
    assert queries.scoring_endpoint(row.service_id, row.name)
    assert jobs.jobs(endpoint_id=row.id)[0] == []
    assert jobs.jobs(service_id=row.service_id)[0] == []
    assert jobs.job("j" * 32) is None
    assert jobs.typical_seconds(row.service_id) is None
    assert jobs.failures([row.id]) == {}
    assert jobs.failed_for(row.name, "Line", 5) == []
    assert queries.names(row.service_id, 5) == []
    assert queries.scoring_service(row.service_id)
    assert queries.trained("j" * 32) is None
    assert queries.training_service("Line") is None
    assert queries.calls_on(5) == queries.calls_by_day(row.id, 5) == {}
    kept = KeptCalls(database)
    kept.add(row.id, [Table(("x",), [("1",)])], Keeping(10, 1), now)
    kept.add_rehearsal(row.id, "d" * 64, {}, now)
    kept.forget(row.id)
    assert kept.read(row.id, 10, now) == []
    assert kept.count(row.id, now) == 0
    kept.forget(row.id)
    kept.expire(now)
    assert kept.rehearsals(row.id)
    ledger, quotas, audit = Ledger(database), QuotaStore(database), AuditStore(database)
    assert ledger.of_service(row.service_id, 0)
    assert ledger.bins(["d" * 64]) == {}
    assert quotas.quota("c" * 32)
    assert quotas.jobs_since("c" * 32, now) == 0
    quotas.set_quota("c" * 32, Quota(1, 1))
    entry = {"who": "x", "what": "x", "target": "x", "address": "", "at": now, "status": None}
    audit.end(audit.add(entry), 200)
    assert audit.page(10, 100)
    audit.forget(now, 10)
    sessions = EndedSessions(database)
    sessions.add("session", now, now)
    assert not sessions.has("other")
    store = Store(database)
    assert store.samples_of("c" * 64)
    assert store.samples_of("c" * 64, "c" * 32) is None
    assert store.origins("d" * 64, 3)
    assert store.placement(row.id, 1)
    assert store.has_had(row.id, "d" * 64)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty state of each kind."""
    url = f"sqlite:///{tmp_path / 'state.db'}"
    if request.param == "postgresql":
        url = checked_url(request.getfixturevalue("postgres").new_database())
    made = Database(url, Fernet.generate_key().decode())
    yield made
    made.close()


#: What need not find its rows by an index, and why.
AS_A_WHOLE = {
    **dict.fromkeys(("Store.check_cipher", "Store.set_up_experiment", "Store.isolate"), "at a start"),
    **dict.fromkeys(("Store.digests", "Store.digests_in_place", "KeptCalls.endpoints"), "the janitor, about all"),
    **dict.fromkeys(("Queries.service_lines", "Ledger.services", "Queries.endpoint_count"), "figures of the whole"),
    **dict.fromkeys(
        ("JobQueries.job_counts", "Queries.attention", "Queries.state"),
        "figures of the whole, for the portal's first page",
    ),
    "Store.delete_service": "with all that it has",
    **dict.fromkeys(("Ledger.add", "Ledger.forget"), "sums by primary key; once a day what is old"),
    **dict.fromkeys(("JobStore.claim", "JobStore.running"), "the jobs that run or wait, which are bounded"),
}
WATCHED = (
    *(AuditStore, EndedSessions, JobQueries, JobStore, KeptCalls),
    *(Ledger, Queries, QuotaStore, Store),
)


def watched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each public method is asked of everything that asks the database for others."""
    asked: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            asked[name] += 1
            return function(*arguments, **named)

        return call

    for cls in WATCHED:
        for name, function in vars(cls).items():
            if inspect.isfunction(function) and not name.startswith("_"):
                asked[f"{cls.__name__}.{name}"] = 0
                monkeypatch.setattr(cls, name, counted(f"{cls.__name__}.{name}", function))
    return asked


def plan(connection: sa.Connection, statement: str, parameters: Any) -> str:
    """How the database finds the rows of a statement."""
    words = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    return "; ".join(str(row[-1]) for row in connection.exec_driver_sql(f"{words} {statement}", parameters))


@pytest.mark.slow
def test_no_statement_reads_a_whole_table(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statements of every call about an endpoint or a job, as they are sent: each finds its rows by an index. What
    is not asked here is told with the reason."""
    store = Store(database)
    now = datetime.now(UTC)
    service = ServiceRow("s" * 32, SCORING, "Line", training=False, created_at=now)
    endpoint = new_endpoint(service.id, "default", now)
    endpoint = replace(endpoint, resources=(ResourceRow(endpoint.id, RESOURCE, "", "models/x.ilearner", "d" * 64),))
    model = ModelRow("d" * 64, 1, 1, None, None, None, {})
    samples = SamplesRow("c" * 64, "experimentoutput/x/x-samples.json")
    store.set_up_experiment(ExperimentRow("Line", "d", "{}"), [service], [endpoint], model, samples)
    seen: list[tuple[str, Any]] = []

    def see(connection: object, cursor: object, statement: str, parameters: Any, context: object, many: bool) -> None:
        seen.append((statement, parameters[0] if many else parameters))

    asked = watched(monkeypatch)
    sa.event.listen(database.engine, "before_cursor_execute", see)
    look(database, endpoint)
    manage(store, endpoint)
    work(JobStore(database), endpoint)
    Queries(database).set_fresh_hours(service.id, 5)
    sa.event.remove(database.engine, "before_cursor_execute", see)
    assert {name for name, times in asked.items() if not times} == set(AS_A_WHOLE)
    found = [one for one in seen if one[0].startswith(("SELECT", "UPDATE", "DELETE")) and " pg_" not in one[0]]
    assert len(found) > 60
    with database.engine.connect() as connection:
        if database.shared:
            # What can be found by an index is found by one then, however few rows there are.
            connection.exec_driver_sql("SET enable_seqscan = off")
        plans = {statement: plan(connection, statement, parameters) for statement, parameters in found}
    read = {statement: said for statement, said in plans.items() if re.search(r"\bSCAN [a-z]|Seq Scan", said)}
    # A page of all web services begins where an index begins.
    assert not {one: said for one, said in read.items() if "USING INDEX" not in said or "LIMIT" not in one}
    # To go through all endpoints of a web service is for pages and counts: what finds one must not do it. PostgreSQL
    # decides that by what is in the table.
    through = [statement for statement, said in plans.items() if "endpoints_by_age" in said and not database.shared]
    assert through or database.shared
    assert all("LIMIT" in statement or "count(*)" in statement for statement in through)


@pytest.fixture
def services(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Five web services more, four of one time, whose names need quoting; a page has two."""
    service.clock.advance(seconds=1)
    store, now = Store(service.database), service.clock()
    for number, name in enumerate(("é, ~x", "100%25", "a\nb", "&after=", "later")):
        at = now + timedelta(seconds=name == "later")
        row = ServiceRow(f"{number:032}", name, f"Experiment {number}", training=True, created_at=at)
        model, samples = ModelRow("d" * 64, 1, 1, None, None, None, {}), SamplesRow(f"{number:064}", "x")
        store.set_up_experiment(ExperimentRow(row.experiment, "d", "{}"), [row], [], model, samples)
    monkeypatch.setattr(lists, "MAX_PAGE", 2)
    monkeypatch.setattr(pages, "MAX_PAGE", 2)
    return service


def test_web_services_come_in_pages(services: Service) -> None:
    """Each is listed once, by a client of today in pages and by an old one at once, in the same order; one that is
    deleted in between is not, and hides no other one."""
    old = json.loads(services.ask("GET", f"/workspaces/{WORKSPACE}/webservices").body)
    names = [one["Name"] for one in old]
    assert len(names) == len(set(names)) == len(services.workspace.services())
    assert names[-5:] == ["&after=", "100%25", "a\nb", "é, ~x", "later"]
    assert [one.name for one in services.client.list_web_services()] == names
    first = services.ask("GET", f"/workspaces/{WORKSPACE}/webservices?limit={len(names) - 3}")
    assert first.status == 400  # more than a page
    head = services.ask("GET", f"/workspaces/{WORKSPACE}/webservices?limit=2")
    Store(services.database).delete_service(json.loads(head.body)[-1]["Id"])
    query = urlencode({"limit": 1, "after": head.headers[pages.NEXT]})
    following = json.loads(services.ask("GET", f"/workspaces/{WORKSPACE}/webservices?{query}").body)
    assert [one["Name"] for one in following] == names[2:3]

"""Requests that nobody thought of: never a fault of the server, and every refusal has details."""

from __future__ import annotations

import json
import os
import random
import resource
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from schemathesis.checks import not_a_server_error

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.operations import Credential, Operation
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.mutated import mutated
from tests.support.service import SCORING, Service, line

#: Operations of the service itself; those of blobs have no path of their own.
OPERATIONS = [one for one in vars(ops).values() if isinstance(one, Operation) and one.path]
#: Statuses over 499 that are no fault: what is not offered, and what is too much at the moment.
HONEST = (501, 503)
LONG = bool(os.environ.get("FAULTS_LONG"))
#: How many times as many inputs `make faults-long` makes, and what it sends of each body beside it, changed a little.
MORE, CHANGED = (40, 9) if LONG else (1, 1)
#: The memory that no request may take more, in MiB.
MOST = 200
QUIET = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def assert_answered(status: int, body: bytes) -> None:
    """No fault; a refusal has the protocol's shape with at least one detail."""
    assert status < 500 or status in HONEST, body[:500]
    if status >= 400:
        error = json.loads(body)["error"]
        # The Open Inference Protocol has a text there.
        details = (
            error["details"]
            if isinstance(error, dict)
            else [dict(zip(("code", "message"), error.split(": ", 1), strict=True))]
        )
        assert details
        assert all(detail["code"] and detail["message"] for detail in details)


# -- from the server's own documents ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("service", [BIKES, BIKES_SCORING])
def test_what_the_document_of_an_endpoint_allows_is_no_fault(
    server: ServerProcess, client: Client, service: str
) -> None:
    """Requests that schemathesis makes of an endpoint's Swagger 2.0, right and wrong ones, against a real process."""
    endpoint = client.add_endpoint(client.find_web_service(service).id, "fuzzed")
    document = requests.get(f"{endpoint.api_location}/swagger.json", timeout=30).json()
    schema = schemathesis.openapi.from_dict(document)
    key = {"Authorization": f"Bearer {endpoint.primary_key}"}
    seen: set[int] = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @QUIET
        def check(case: Any) -> None:
            answer = case.call(base_url=endpoint.api_location, headers=key, timeout=30)
            case.validate_response(answer, checks=[not_a_server_error])
            if "json" in answer.headers.get("Content-Type", ""):
                assert_answered(answer.status_code, answer.content)
            seen.add(answer.status_code)

        check()
    assert 200 in seen, "not one of the requests was a good one"


@pytest.mark.slow
def test_what_the_document_of_the_management_allows_is_no_fault(server: ServerProcess, client: Client) -> None:
    """The same for web services and endpoints, with a workspace of which nothing must be left out."""
    service = client.find_web_service(BIKES_SCORING)
    document = requests.get(f"{server.url}{ops.MANAGEMENT_DOCUMENT.path}", timeout=30).json()
    schema = schemathesis.openapi.from_dict(document)
    key = {"Authorization": f"Bearer {server.connection['token']}"}
    fixed = {"workspace": server.connection["workspace_id"], "service": service.id}
    seen: set[int] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.label == f"DELETE {ops.DELETE_SERVICE.path}":
            continue

        @given(case=operation.as_strategy(), good=st.booleans())
        @QUIET
        def check(case: Any, good: bool) -> None:
            if good:
                known = {"endpoint": "fuzzedmanagement", **fixed}
                case.path_parameters = {name: known[name] for name in case.path_parameters or {}}
            answer = case.call(base_url=server.url, headers=key, timeout=30)
            case.validate_response(answer, checks=[not_a_server_error])
            if answer.status_code != 204:
                assert_answered(answer.status_code, answer.content or b"{}")
            seen.add(answer.status_code)

        check()
    assert {200, 201, 404} <= seen


# -- raw requests ----------------------------------------------------------------------------------------------------

texts = st.text(max_size=30) | st.sampled_from(["", "default", "..", "%00", "\ud800", "a" * 300, "jobs"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ["Input", "Inputs", "Outputs", "GlobalParameters", "input1", "output1", "ColumnNames", "Values", "Resources"]
MEMBERS += ["Name", "Location", "BaseLocation", "RelativeLocation", "SasBlobToken", "ConnectionString", "Description"]
MEMBERS += ["ThrottleLevel", "MaxConcurrentCalls", "PreventUpdate", "KeyType", "OverwriteResources", "x"]
likely = st.recursive(
    leaves | st.sampled_from(["Low", "High", "Primary", "http://127.0.0.1:1/", "data/x.csv", "models/ten.ilearner"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=15,
)


def encoded(value: Any) -> bytes:
    """JSON with whatever Python lets through: NaN, lone surrogates."""
    return json.dumps(value).encode()


objects = st.dictionaries(st.sampled_from(MEMBERS), likely, min_size=1, max_size=4)
bodies = objects.map(encoded) | objects.map(encoded) | values.map(encoded) | st.binary(max_size=60)
queries = st.sampled_from(
    ["", "api-version=2.0", "api-version=2.0&format=swagger&details=true", "api-version", "%ff=%00"]
)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_request_is_a_fault(operation: Operation, service: Service, scorer: Endpoint, trainer: Endpoint) -> None:
    """Any body, query and path segment at every operation, with good credentials."""
    ids = {"workspace": service.settings.workspace_id, "service": service.scoring, "endpoint": "mine", "job": "0" * 32}
    ids |= {"file": "a.csv", "key": "0" * 32, "version": "1"}
    key = scorer.primary_key if operation.credential is Credential.ENDPOINT else service.settings.token

    @given(body=bodies, query=queries, odd=st.sampled_from([*[None] * 8, *ids]), text=texts, seed=st.integers(0, 2**32))
    @settings(QUIET, max_examples=50 * MORE, derandomize=not LONG)
    def check(body: bytes, query: str, odd: str | None, text: str, seed: int) -> None:
        if odd is None and operation in (ops.DELETE_SERVICE, ops.DELETE_ENDPOINT):
            return
        names = {**ids, "endpoint_id": urlsplit(scorer.api_location).path.rpartition("/")[2]}
        names["model"] = quote(f"{SCORING}~mine")
        if odd:
            names[odd] = quote(text.encode(errors="replace"), safe="")
        path, choices = operation.path.format(**names), random.Random(seed)  # noqa: S311 - to be repeated
        for sent in [body, *(mutated(choices, body) for _ in range(CHANGED))]:
            asked(service, operation.method, f"{path}?{query}", sent, key)

    check()


def asked(service: Service, method: str, path: str, body: bytes, key: str) -> None:
    """One request is no fault, and takes no more memory than it may."""
    before = peak_memory()
    answer = service.ask(method, path, body, key=key)
    assert peak_memory() - before < MOST
    if answer.status not in (200, 201, 202, 204, 304):
        assert_answered(answer.status, answer.body)


def peak_memory() -> float:
    """The most that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Surface(RuleBasedStateMachine):
    """All operations in any order, with things that are there by then, and those that nobody thought of.

    :param service: what is asked.
    """

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service, self.jobs = service, ["0" * 32]
        self.endpoints = {one.name: one for one in service.client.list_endpoints(service.scoring)}

    @rule(operation=st.sampled_from(OPERATIONS), body=bodies, query=queries, choice=st.integers(0, 5))
    def ask(self, operation: Operation, body: bytes, query: str, choice: int) -> None:
        """Anything."""
        if operation is ops.DELETE_SERVICE:
            return
        name = sorted(self.endpoints)[choice % len(self.endpoints)]
        endpoint = self.endpoints[name]
        names = {"workspace": self.service.settings.workspace_id, "service": self.service.scoring, "endpoint": name}
        names |= {"job": self.jobs[choice % len(self.jobs)], "file": "a.csv", "key": "0" * 32, "version": "1"}
        names |= {"endpoint_id": urlsplit(endpoint.api_location).path.rpartition("/")[2]}
        names["model"] = quote(f"{SCORING}~{name}")
        key = endpoint.primary_key if operation.credential is Credential.ENDPOINT else self.service.settings.token
        asked(self.service, operation.method, f"{operation.path.format(**names)}?{query}", body, key)
        self.endpoints = {one.name: one for one in self.service.client.list_endpoints(self.service.scoring)}

    @rule(number=st.integers(0, 5), settings=likely)
    def add(self, number: int, settings: Any) -> None:
        """An endpoint, with settings or what is taken for them."""
        path = ops.ADD_ENDPOINT.path.format(
            workspace=self.service.settings.workspace_id, service=self.service.scoring, endpoint=f"any{number}"
        )
        asked(self.service, "PUT", path, encoded(settings), self.service.settings.token)
        self.endpoints = {one.name: one for one in self.service.client.list_endpoints(self.service.scoring)}

    @rule()
    def submit(self) -> None:
        """A job, which others may start, cancel and look at."""
        trainer = self.service.client.get_endpoint(self.service.training, "default")
        request = JobRequest({"input1": BlobReference("data/five.csv")})
        self.jobs.append(self.service.client.submit_job(trainer, request))

    @invariant()
    def answers(self) -> None:
        """The default endpoint is there and scores, whatever was asked."""
        default = self.endpoints["default"]
        assert len(self.service.client.score(default, [{"x": 1.0}]).rows) == 1


@pytest.mark.slow
def test_no_order_of_requests_is_a_fault(service: Service) -> None:
    """Any operations one after the other: no fault, and the service goes on."""
    service.put_blob("data/five.csv", line(5))
    run_state_machine_as_test(
        lambda: Surface(service),
        settings=settings(QUIET, max_examples=3 * MORE, stateful_step_count=20, derandomize=not LONG),
    )

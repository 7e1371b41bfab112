"""Who may do what: every operation with every credential, and every form of the portal.

The table stands here, one row an operation; one without a row fails, and so does a route of the portal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.operations import Credential, Operation
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.portal.site import ROUTES
from tests.support.portal import Visitor
from tests.support.service import READ_TOKEN, TOKEN, WORKSPACE, Service

#: Credentials, in the order of the table's letters.
CREDENTIALS = ("workspace token", "own key", "own second key", "key of another endpoint", "key of another service",
               "wrong key", "empty key", "none", "another scheme", "read-only token")  # fmt: skip
#: ``y``: allowed, whatever comes of it; ``n``: 401 or 403, and nothing happens.
OWNER, EITHER, OWN, ALL = "ynnnnnnnnn", "yyynnnnnnn", "nyynnnnnnn", "yyyyyyyyyy"
#: The same, of what the read-only token opens, too.
READERS, READERS_TOO = "ynnnnnnnny", "yyynnnnnny"
#: The key says whose things are meant: each opens its own.
OWN_TOO = "nyyyynnnnn"
#: The web service, for keys of its endpoints: the key of another endpoint of it may list and add.
OF_THE_SERVICE = "yyyynnnnny"
ALLOWED: dict[Operation, str] = {
    ops.LIST_SERVICES: READERS,
    ops.GET_SERVICE: READERS,
    ops.DELETE_SERVICE: OWNER,
    ops.LIST_ENDPOINTS: OF_THE_SERVICE,
    ops.GET_ENDPOINT: READERS_TOO,
    ops.ADD_ENDPOINT: EITHER,
    ops.PATCH_ENDPOINT: EITHER,
    ops.REHEARSE_UPDATE: EITHER,
    ops.DELETE_ENDPOINT: EITHER,
    ops.REFRESH_ENDPOINT: EITHER,
    ops.LIST_MODELS: READERS_TOO,
    ops.REGENERATE_KEYS: EITHER,
    ops.LIST_KEYS: READERS_TOO,
    ops.MAKE_KEY: EITHER,
    ops.REVOKE_KEY: EITHER,
    ops.GET_QUOTA: READERS_TOO,
    ops.SET_QUOTA: OWNER,
    ops.SCORE_MODEL: EITHER,
    ops.SUBMIT_JOB: OWN,
    ops.START_JOB: OWN,
    ops.GET_JOB: OWN,
    ops.CANCEL_JOB: OWN,
    ops.LIST_JOBS: READERS_TOO,
    ops.GET_JOB_LOG: READERS_TOO,
    ops.SCORE: OWN,
    ops.READ_ROWS: OWN,
    **dict.fromkeys((ops.GET_CUSTOMER, ops.LIST_FILES, ops.SIGN_FILE, ops.WRITE_FILE, ops.DELETE_FILE), OWN_TOO),
    ops.GET_WORKSPACE: READERS,
    ops.LIST_DATA_SETS: READERS,
    ops.GET_DRIFT: READERS,
    ops.LIST_AUDIT: READERS,
    ops.SIGN_BLOB: OWNER,
    ops.INFERENCE_LIVE: ALL,
    ops.INFERENCE_READY: ALL,
    ops.INFERENCE_SERVER: ALL,
    ops.INFERENCE_MODEL: OWN,
    ops.INFERENCE_MODEL_READY: OWN,
    ops.INFER: OWN,
    **dict.fromkeys((ops.INFERENCE_VERSION, ops.INFERENCE_VERSION_READY, ops.INFER_VERSION), OWN),
    ops.HELP_INDEX: ALL,
    ops.HELP_SCORE: ALL,
    ops.HELP_JOBS: ALL,
    ops.HELP_UPDATE: ALL,
    ops.HELP_STYLE: ALL,
    ops.API_DOCUMENT: ALL,
    ops.HELP_DOCUMENT: ALL,
    ops.MANAGEMENT_DOCUMENT: ALL,
    ops.SWAGGER: ALL,
}
BODIES = {
    ops.SUBMIT_JOB: JobRequest({"input1": BlobReference("data/rows.csv")}).to_wire(),
    ops.SCORE: {"Inputs": {"input1": [{"x": 1}]}, "GlobalParameters": {}},
    ops.PATCH_ENDPOINT: {"Description": "changed"},
    ops.REHEARSE_UPDATE: {"Resources": []},
    ops.REGENERATE_KEYS: {"KeyType": "Secondary"},
    ops.SIGN_BLOB: {"RelativeLocation": "data/x.csv"},
    ops.SCORE_MODEL: {"Location": {"RelativeLocation": "models/none.ilearner"}, "HeldOut": True},
}


@dataclass
class House:
    """Two endpoints of a web service, and one of another.

    :param mine: the endpoint that is asked for.
    :param headers: of each credential.
    :param job: a job of ``mine``.
    """

    service: Service
    mine: Endpoint
    headers: dict[str, dict[str, str]]
    job: str

    @property
    def keys(self) -> list[str]:
        """The keys of all endpoints."""
        client = self.service.client
        rows = [row for service in client.list_web_services() for row in client.list_endpoints(service.id)]
        return [key for row in rows for key in (row.primary_key, row.secondary_key)]

    def path(self, operation: Operation) -> str:
        """Path and query of a call about ``mine``."""
        guid = self.mine.api_location.rpartition("/")[2]
        names = {"workspace": WORKSPACE, "service": self.service.scoring, "endpoint": "mine", "endpoint_id": guid}
        return operation.url(
            "",
            {
                **names,
                "job": self.job,
                "file": "x.csv",
                "key": "k",
                "version": "1",
                "model": f"{self.service.scoring}~mine",
            },
        )

    def state(self) -> object:
        """What a refused call must not change."""
        mine = self.service.client.get_endpoint(self.service.scoring, "mine")
        names = {one.name for one in self.service.client.list_endpoints(self.service.scoring)}
        job = self.service.client.get_job(mine, self.job)
        return mine, names, job.status, len(self.service.client.list_jobs(mine).jobs)


@pytest.fixture
def house(service: Service, scorer: Endpoint) -> House:
    """One for a test."""
    other = service.client.add_endpoint(service.scoring, "other")
    elsewhere = service.client.add_endpoint(service.other_scoring, "elsewhere")
    job = service.client.submit_job(scorer, JobRequest({"input1": BlobReference("data/rows.csv")}))
    keys = (TOKEN, scorer.primary_key, scorer.secondary_key, other.primary_key, elsewhere.primary_key, "wrong", "")
    headers = {name: {"authorization": f"Bearer {key}"} for name, key in zip(CREDENTIALS, keys, strict=False)}
    headers |= {"none": {}, "another scheme": {"authorization": f"Basic {TOKEN}"}}
    headers["read-only token"] = {"authorization": f"Bearer {READ_TOKEN}"}
    return House(service, scorer, headers, job)


def test_every_operation_has_a_row() -> None:
    """A new one is refused here until somebody has decided who may; and the table agrees with what clients are told."""
    assert set(ALLOWED) == set(ops.OPERATIONS)
    told = {OWNER: Credential.WORKSPACE, EITHER: Credential.EITHER, OF_THE_SERVICE: Credential.EITHER}
    told |= {READERS: Credential.WORKSPACE, READERS_TOO: Credential.EITHER}
    told |= {OWN: Credential.ENDPOINT, OWN_TOO: Credential.ENDPOINT, ALL: Credential.NONE}
    assert {name: told[row] for name, row in ALLOWED.items()} == {name: name.credential for name in ops.OPERATIONS}


def refused_by_turns(operation: Operation) -> list[str]:
    """Credentials, those that are refused first: an allowed call may delete what is asked for."""
    letters = dict(zip(CREDENTIALS, ALLOWED[operation], strict=True))
    return sorted(CREDENTIALS, key=lambda name: letters[name] == "y")


@pytest.mark.slow
@pytest.mark.parametrize("operation", ops.OPERATIONS, ids=lambda operation: operation.name)
def test_operations(house: House, operation: Operation) -> None:
    """Allowed ones are not answered with 401 or 403; refused ones are, and leave everything as it was."""
    letters = dict(zip(CREDENTIALS, ALLOWED[operation], strict=True))
    for name in refused_by_turns(operation):
        before = None if letters[name] == "y" else house.state()
        answer = house.service.ask(
            operation.method, house.path(operation), BODIES.get(operation, b""), key=None, headers=house.headers[name]
        )
        assert (answer.status in (401, 403)) == (letters[name] == "n"), (name, answer.status, answer.body)
        if before is not None:
            assert house.state() == before, name
            assert house.mine.primary_key.encode() not in answer.body, name
            continue
        assert answer.status < 500, (name, answer.body)
        if name == "read-only token":
            assert not operation.changes
            assert not any(key.encode() in answer.body for key in house.keys), (operation.name, answer.body)
        if operation.method == "DELETE":
            break
        if operation is ops.REGENERATE_KEYS:
            second = house.service.client.get_endpoint(house.service.scoring, "mine").secondary_key
            house.headers["own second key"] = {"authorization": f"Bearer {second}"}


def test_a_key_sees_no_other_keys(house: House) -> None:
    """The list is the one thing of its neighbours that an endpoint key opens: without their keys."""
    answer = house.service.ask("GET", house.path(ops.LIST_ENDPOINTS), key=None, headers=house.headers["own key"])
    other = house.service.client.get_endpoint(house.service.scoring, "other")
    assert b'"other"' in answer.body
    assert not any(key.encode() in answer.body for key in (other.primary_key, other.secondary_key))


PAGES = [(path, method) for path, method, _ in ROUTES]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), PAGES, ids=[f"{method} {path}" for path, method in PAGES])
@pytest.mark.parametrize("who", ["guest", "endpoint key", "forged cookie", "without csrf", "read-only token"])
def test_the_portal(house: House, path: str, method: str, who: str) -> None:
    """Each page and form leads somebody who is not signed in to the entrance, and a form of another site nowhere."""
    visitor = Visitor(house.service)
    if who == "endpoint key":
        assert visitor.sign_in(house.mine.primary_key).status_code != 303
    elif who == "forged cookie":
        visitor.http.cookies.set("azureml_classic", "forged", path="/portal")
    elif who == "without csrf":
        assert visitor.sign_in().status_code == 303
        visitor.csrf = "0" * 32
        if method == "GET":
            return
    elif who == "read-only token":
        assert visitor.sign_in(READ_TOKEN).status_code == 303
    before = house.state()
    names = {"service": house.service.scoring, "endpoint": "mine", "name": "mine", "job": house.job, "what": "delete"}
    place = f"/portal{path}"
    for name, value in names.items():
        place = place.replace(f"{{{name}}}", value)
    ask: Callable[..., object] = visitor.http.get if method == "GET" else visitor.http.post
    answer = ask(
        place, **({} if method == "GET" else {"data": {"csrf": visitor.csrf, "confirm": "mine", "name": "mine"}})
    )
    if who == "without csrf" or (who == "read-only token" and (method == "POST" or "outputs" in path)):
        assert answer.status_code == 403
    elif who == "read-only token":
        assert answer.status_code in (200, 303)
    else:
        assert answer.status_code == 303
        assert "/portal/sign-in" in answer.headers["location"]
    assert house.state() == before
    assert house.mine.primary_key not in answer.text

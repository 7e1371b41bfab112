"""Customers apart: two of them, every verb, every form of location, every kind of key; nothing crosses.

What is another's and what does not exist are asked for in turn, and answered with the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.operations import Credential, Operation
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import sign
from airflow_provider_azureml_classic.server.workspace.quotas import Quotas
from tests.support.calls import least_body
from tests.support.customers import Customer, added, apart, finished
from tests.support.service import OTHER_SCORING, RESOURCE, WORKSPACE, Service, line

NOBODY = "0" * 32


@dataclass(frozen=True)
class House:
    """Customers of a service.

    :param mine: who asks.
    :param other: who has what is asked for.
    :param namesake: a customer of another web service who is called as the one who asks.
    :param left: keys of a customer who was deleted.
    :param new: the one who is called so now.
    :param job: of ``other``.
    """

    service: Service
    mine: Customer
    other: Customer
    namesake: Customer
    left: dict[str, str]
    new: Customer
    job: str


@pytest.fixture(scope="module")
def house(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all: what is refused changes nothing."""
    with apart(trained, tmp_path_factory.mktemp("customers")) as service:
        mine, other = added(service, "custa"), added(service, "custb")
        namesake, gone = added(service, "custa", OTHER_SCORING), added(service, "custc")
        left, folder = gone.keys, gone.folder
        service.client.delete_endpoint(gone.scoring, "custc")
        new = added(service, "custc")
        assert new.folder != folder
        for customer in (mine, other):
            for kind in ("ScoreOnly", "Retrain"):
                customer.keys[kind] = made(customer, kind.lower(), kind)
        body = {"Inputs": {"input1": {"RelativeLocation": f"{other.folder}/data.csv"}}, "GlobalParameters": {}}
        yield House(service, mine, other, namesake, left, new, json.loads(other.submit(body).body))


KEYS = ("training, primary", "training, secondary", "scoring, primary", "scoring, secondary")
#: Those that say in their path whose things they are about.
NAMING = tuple(
    one for one in ops.OPERATIONS if {"endpoint", "endpoint_id", "job", "model"} & set(one.pattern.groupindex)
)


def path_of(operation: Operation, customer: Customer, job: str, *, training: bool) -> str:
    """The path of a call about a customer."""
    service, guid = (customer.training, customer.guids[0]) if training else (customer.scoring, customer.guids[1])
    names = {"workspace": WORKSPACE, "service": service, "endpoint": customer.name, "job": job, "key": "phone"}
    names |= {"endpoint_id": guid, "model": f"{service}~{customer.name}", "version": "1"}
    return operation.url("", names)


def keys_path(customer: Customer, name: str = "") -> str:
    """Path of the named keys of a customer, or of one of them."""
    return f"{customer.service.endpoint_path(customer.name, customer.scoring)}/keys{name and '/'}{name}"


def made(customer: Customer, name: str, kind: str, **more: str) -> str:
    """A new named key."""
    answer = customer.ask("PUT", keys_path(customer, name), {"Kind": kind, **more})
    assert answer.status == 201, answer.body
    return str(json.loads(answer.body)["Key"])


def absent(path: str, customer: Customer, job: str) -> str:
    """The same path of a customer who does not exist."""
    for known in (*customer.guids, job):
        path = path.replace(known, NOBODY)
    return path.replace(customer.name, "custx")


def told(answer: Response, *asked: str) -> tuple[int, str, dict[str, str]]:
    """An answer without what differs between any two, and without the words of the question."""
    text = answer.body.decode()
    for word in asked:
        text = text.replace(word, "?")
    return answer.status, text, {name: text for name, text in answer.headers.items() if name != ops.REQUEST_ID}


def secrets_of(customer: Customer) -> tuple[str, ...]:
    """What nobody else may be told."""
    return (*customer.keys.values(), customer.folder)


def state(customer: Customer) -> Any:
    """What must not change."""
    jobs = [customer.service.client.list_jobs(row) for row in (customer.trainer, customer.scorer)]
    return customer.trainer, customer.scorer, jobs


@pytest.mark.slow
@pytest.mark.parametrize("operation", NAMING, ids=lambda operation: operation.name)
def test_another_is_as_one_who_does_not_exist(house: House, operation: Operation) -> None:
    """Every operation that names somebody, with every key: the same bytes, no secret, and nothing happens."""
    before = state(house.other), state(house.new), state(house.namesake)
    body = {ops.SUBMIT_JOB: {}, ops.SCORE: {"Inputs": {}}}.get(operation, least_body(operation))
    for victim, job in ((house.other, house.job), (house.new, NOBODY), (house.namesake, NOBODY)):
        for training in (True, False):
            path = path_of(operation, victim, job, training=training)
            nowhere = absent(path, victim, job)
            if victim is house.namesake and operation.credential is not Credential.NONE:
                nowhere = nowhere.replace(victim.training, "1" * 32).replace(victim.scoring, "1" * 32)
            for key in (*house.mine.keys.values(), *house.left.values()):
                answer = house.service.ask(operation.method, path, body, key=key)
                assert not any(secret in answer.body.decode() for secret in secrets_of(victim)), answer.body
                names = (victim.name, "custx", victim.training, victim.scoring, "1" * 32, job, NOBODY)
                names = (*names, *victim.guids)
                nobody = house.service.ask(operation.method, nowhere, body, key=key)
                assert told(answer, *names) == told(nobody, *names)
                if operation.credential is not Credential.NONE:
                    assert answer.status in (401, 403), answer.body
    assert (state(house.other), state(house.new), state(house.namesake)) == before


@pytest.mark.slow
def test_operations_without_a_name_are_about_the_keys_owner(house: House) -> None:
    """Lists hold one's own; the others are the workspace's, or nobody's after a customer has left."""
    for operation in set(ops.OPERATIONS) - set(NAMING):
        if operation.credential is Credential.NONE:
            continue
        names = {"workspace": WORKSPACE, "service": house.mine.scoring, "file": "x.csv"}
        path = operation.url("", names)
        for key in house.mine.keys.values():
            answer = house.service.ask(operation.method, path, key=key)
            for victim in (house.other, house.new, house.namesake):
                assert not any(secret in answer.body.decode() for secret in secrets_of(victim)), (operation, answer)
                assert victim.name == "custa" or victim.name not in answer.body.decode(), operation
            if operation.credential is Credential.WORKSPACE:
                assert answer.status == 401
        for key in house.left.values():
            assert house.service.ask(operation.method, path, key=key).status in (401, 403), operation


@pytest.mark.parametrize("key", KEYS)
def test_a_key_lists_its_own_endpoint(house: House, key: str) -> None:
    """Of each of the two web services one endpoint, whichever of the customer's keys asks."""
    for service in (house.mine.training, house.mine.scoring):
        answer = house.mine.ask("GET", f"/workspaces/{WORKSPACE}/webservices/{service}/endpoints", key=key)
        assert [one["Name"] for one in json.loads(answer.body)] == ["custa"]


def locations(house: House, path: str) -> dict[str, dict[str, str]]:
    """A path in the own store in every form in which a client may write it."""
    account = house.service.settings.account
    base, (container, blob) = account.endpoint, path.split("/", 1)
    tokens = {
        "blob": sign(account, container, blob, permissions="rcw", expiry=house.service.clock.now.replace(year=2030)),
        "container": sign(
            account, container, None, permissions="rcwl", expiry=house.service.clock.now.replace(year=2030)
        ),
    }
    customer, own = path.split("/")[1], house.mine.folder
    rest = blob.removeprefix(customer).lstrip("/")
    root = base.removesuffix("/mlclassic")
    string = account.connection_string
    paths = {
        "path": path,
        "leading slash": f"/{path}",
        "dots": f"{own}/../{customer}/{rest}",
        "encoded dots": f"{own}/%2e%2e/{customer}/{rest}",
        "twice encoded dots": f"{own}/%252e%252e/{customer}/{rest}",
        "encoded slash": f"{own}%2f..%2f{customer}/{rest}",
        "backslash": f"{own}\\..\\{customer}\\{rest}",
        "empty part": f"{container}//{customer}/{rest}",
        "case": f"{container.upper()}/{customer.upper()}/{rest}",
        "case of the id": f"{container}/{customer.upper()}/{rest}",
        "longer id": f"{own}{customer[:1]}/{rest}",
        "one's own prefix": f"{own}-{customer}/{rest}",
        "another container": f"models/{own}/ten.ilearner",
        "the workspace's": "models/ten.ilearner",
        "the service's outputs": "experimentoutput/x.ilearner",
        "own folder alone": own,
    }
    forms = {name: {"RelativeLocation": text} for name, text in paths.items()}
    forms |= {
        f"{name}, address": {"RelativeLocation": text, "BaseLocation": f"{base}/"} for name, text in paths.items()
    }
    forms |= {
        f"{name}, .NET": {"RelativeLocation": f"/mlclassic/{text}", "BaseLocation": root}
        for name, text in paths.items()
    }
    forms |= {
        f"{name}, {kind} SAS": {"RelativeLocation": text, "BaseLocation": f"{base}/", "SasBlobToken": token}
        for name, text in paths.items()
        for kind, token in tokens.items()
    }
    forms |= {f"{name}, string": {"RelativeLocation": text, "ConnectionString": string} for name, text in paths.items()}
    forms |= {
        f"{name}, account twice, {next(iter(opened))}": {"RelativeLocation": f"/mlclassic/{text}", **opened}
        for name, text in paths.items()
        for opened in ({"BaseLocation": f"{base}/"}, {"ConnectionString": string})
    }
    forms["in the base"] = {"RelativeLocation": rest, "BaseLocation": f"{base}/{container}/{customer}/"}
    forms["in the base, from own"] = {"RelativeLocation": rest, "BaseLocation": f"{base}/{own}/../{customer}/"}
    forms["other port"] = {"RelativeLocation": path, "BaseLocation": "http://service.test:80/mlclassic/"}
    forms["dotted host"] = {"RelativeLocation": path, "BaseLocation": "http://service.test.:8080/mlclassic/"}
    forms["string with a token"] = {
        "RelativeLocation": path,
        "ConnectionString": f"BlobEndpoint={base};SharedAccessSignature={tokens['container'].lstrip('?')}",
    }
    forms["token in the path"] = {"RelativeLocation": f"{path}{tokens['blob']}", "BaseLocation": f"{base}/"}
    return forms


def url_of(form: dict[str, str]) -> str:
    """A location as one text, for a parameter."""
    return f"{form.get('BaseLocation', '')}{form['RelativeLocation']}{form.get('SasBlobToken', '')}"


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "turn"), [("other", 0), ("namesake", 1), ("new", 2)])
def test_no_form_of_location_leads_to_another(house: House, victim: str, turn: int) -> None:
    """Inputs, outputs, parameters and models, in every form and with every key: refused as what does not exist is."""
    theirs: Customer = getattr(house, victim)
    before = [house.service.read_blob(f"{theirs.folder}/{name}") for name in ("data.csv", "m.ilearner")]
    own = {"RelativeLocation": f"{house.mine.folder}/data.csv"}
    for file, there in (("data.csv", True), ("m.ilearner", False)):
        forms = locations(house, f"{theirs.folder}/{file}")
        nowhere = locations(house, f"customers/{NOBODY}/{file}")
        for number, ((name, form), other) in enumerate(zip(forms.items(), nowhere.values(), strict=True)):
            # In turn: each path, each form and each call meets each key. One that may only score is refused before any
            # location is looked at.
            key = (*KEYS, "Retrain")[(number + turn) % 5]

            def asked(place: dict[str, str], key: str = key, there: bool = there) -> Iterator[Response]:
                if there:
                    yield house.mine.submit({"Inputs": {"input1": place}, "GlobalParameters": {}}, key)
                    yield house.mine.submit({"GlobalParameters": {"URI": url_of(place)}}, key)
                else:
                    yield house.mine.patch(place, key)
                    scored = {"Location": place, "Rows": {"ColumnNames": ["x"], "Values": [[1]]}}
                    path = f"{house.service.endpoint_path('custa', house.mine.scoring)}/scoremodel"
                    yield house.mine.ask("POST", path, scored, key)
                    update = {"Resources": [{"Name": RESOURCE, "Location": place}]}
                    yield house.mine.ask("POST", path.replace("scoremodel", "rehearse"), update, key)
                    yield house.mine.submit({"Inputs": {"input1": own}, "Outputs": {"output1": place}}, key)

            for answer, absent_answer in zip(asked(form), asked(other), strict=True):
                # With no calls to rehearse on, no location is looked at.
                nothing = answer.body.startswith(b'{"calls":0,')
                assert nothing or 400 <= answer.status < 500, (name, answer.body)
                assert told(answer, theirs.folder, theirs.folder[10:]) == told(absent_answer, NOBODY), name
    assert [house.service.read_blob(f"{theirs.folder}/{name}") for name in ("data.csv", "m.ilearner")] == before
    assert house.service.slope(house.mine.scorer) == 2


def test_a_customer_puts_the_first_model_back(house: House) -> None:
    """By the place that his list of models tells, which he does not reach: the endpoint has had it. It opens for
    nothing else, nor in another spelling, nor to a customer whose endpoint has not had it.
    """
    me = added(house.service, "custf")
    assert me.patch({"RelativeLocation": f"{me.folder}/m.ilearner"}).status == 200
    assert house.service.patch("custf", BlobReference("models/ten.ilearner")).status == 200
    path = f"{house.service.endpoint_path('custf', me.scoring)}/models"
    places = [one["Location"] for one in json.loads(me.ask("GET", path).body)["Models"]]
    given, first = places[0], places[-1]
    for place, slope in ((first, 2), (given, 10), ({"RelativeLocation": first["RelativeLocation"]}, 2)):
        assert me.patch(place, "training, secondary").status == 200
        assert house.service.slope(me.scorer) == slope
    name = first["RelativeLocation"]
    for odd in (f"{me.folder}/../../{name}", name.replace("/", "/./"), name.upper(), name.replace("/", "//")):
        assert me.patch({"RelativeLocation": odd}).status == 400, odd
    assert house.mine.patch(given).status == 400
    assert me.submit({"Inputs": {"input1": first}, "GlobalParameters": {}}).status == 400
    scored = {"Location": first, "Rows": {"ColumnNames": ["x"], "Values": [[1]]}}
    assert me.ask("POST", path.replace("models", "scoremodel"), scored).status == 400


def test_what_is_ones_own_is_opened_in_every_form(house: House) -> None:
    """The same forms, below one's own folder, are taken: the refusals above are not for another reason."""
    path, base = f"{house.mine.folder}/data.csv", f"{house.service.settings.account.endpoint}/"
    signed = house.service.signed(path)
    for form in (
        {"RelativeLocation": path},
        {"RelativeLocation": path, "BaseLocation": base},
        signed.to_wire(),
        {"RelativeLocation": path, "ConnectionString": house.service.settings.account.connection_string},
    ):
        answer = house.mine.submit({"Inputs": {"input1": form}, "GlobalParameters": {}})
        assert answer.status == 200, answer.body
    assert house.mine.submit({"GlobalParameters": {"URI": signed.url}}).status == 200
    elsewhere = {"RelativeLocation": "theirs/d.csv", "BaseLocation": "https://allowed.test/", "SasBlobToken": "?sig=x"}
    assert house.mine.submit({"Inputs": {"input1": elsewhere}, "GlobalParameters": {}}).status == 200


@pytest.mark.slow
@pytest.mark.parametrize("key", [*KEYS, "Retrain"])
def test_a_customers_whole_loop_with_one_key(house: House, key: str) -> None:
    """Who am I, upload, train, look, put live, score: each key of the pair does it all; outputs lie in the folder."""
    me = added(house.service, f"loop{len(key)}{key[0].lower()}")
    me.keys["Retrain"] = made(me, "laptop", "Retrain")
    known = json.loads(me.ask("GET", "/customer", key=key).body)
    assert (known["Name"], known["Folder"]) == (me.name, me.folder)
    assert me.ask("PUT", "/customer/files/data.csv", line(20).encode(), key).status == 201
    job = finished(me, key)
    assert job.status.value == "Finished", job.details
    assert all(place.relative_location.startswith(f"{me.folder}/") for place in job.results.values())
    assert job.samples is not None
    assert job.samples.relative_location.startswith(f"{me.folder}/")
    assert me.patch(BlobReference(job.results["output1"].relative_location), key).status == 200
    scored = me.ask("POST", me.call("/execute", training=False), {"Inputs": {"input1": [{"x": 1}]}}, key)
    assert scored.status == 200
    assert me.service.slope(me.scorer) == 20
    files = json.loads(me.ask("GET", "/customer/files", key=key).body)["Files"]
    assert {"data.csv", "m.ilearner"} < {one["File"] for one in files}
    assert me.ask("DELETE", "/customer/files/m.ilearner", key=key).status == 204


def test_files_come_in_pages(house: House) -> None:
    """Each of the customer's files is told once, from where the page before ended, also if that is gone; a place
    elsewhere leads to nobody else's files."""
    me = added(house.service, "pages")
    for name in ("b.csv", "a/é.csv", "c.csv"):
        assert me.ask("PUT", f"/customer/files/{quote(name, safe='')}", b"x").status == 201
    told, query = [], "limit=1"
    while query:
        page = json.loads(me.ask("GET", f"/customer/files?{query}").body)
        [file] = page["Files"]
        told.append(file["File"])
        assert me.ask("DELETE", f"/customer/files/{quote(file['File'], safe='')}").status == 204
        assert page["More"] == (page["Next"] is not None)
        query = page["Next"] and urlencode({"limit": 1, "after": page["Next"]})
    assert told == ["a/é.csv", "b.csv", "c.csv", "data.csv", "m.ilearner"]
    for after in ("", "../", f"../{house.other.folder[10:]}/", "%00", "/"):
        assert json.loads(me.ask("GET", f"/customer/files?{urlencode({'after': after})}").body)["Files"] == []
    for limit in ("0", "5001", "x", "-1"):
        assert me.ask("GET", f"/customer/files?limit={limit}").status == 400


def test_a_signed_file_is_one_of_the_folder(house: House) -> None:
    """The token that a key gives opens one blob below the folder, and no name leads out of it."""
    signed = json.loads(house.mine.ask("POST", "/customer/files/deep%2Fnew.csv").body)
    assert signed["RelativeLocation"] == f"{house.mine.folder}/deep/new.csv"
    for name in (
        "..%2Fx.csv",
        "%2E%2E%2F" + house.other.folder[10:] + "%2Fdata.csv",
        "a%2F%2Fb",
        "a%5C..%5Cb",
        "a%252F..%252Fb",
    ):
        for method in ("POST", "PUT", "DELETE"):
            answer = house.mine.ask(method, f"/customer/files/{name}", b"x")
            assert answer.status == 400, (method, name, answer.body)


@pytest.mark.slow
def test_comparing_with_another_is_comparing_with_nobody(house: House) -> None:
    """A submission that says that its model is for another's endpoint learns nothing of the model there."""
    checks = []
    for name in ("custb", "custx"):
        own = {"RelativeLocation": f"{house.mine.folder}/data.csv"}
        body = {"Inputs": {"input1": own}, "GlobalParameters": {}}
        headers = {"x-azureml-classic-purpose": json.dumps({"Endpoint": name, "ComparedWith": name})}
        path = house.service.api_path(house.mine.trainer, "/jobs")
        key = house.mine.trainer.primary_key
        job = json.loads(house.service.ask("POST", path, body, key=key, headers=headers).body)
        house.service.client.start_job(house.mine.trainer, job)
        checks.append(house.service.ended(house.mine.trainer, job).data_check)
    assert checks[0] == checks[1]


def test_settings_that_cost_the_service_are_the_workspaces(house: House) -> None:
    """A customer changes his description, and neither his throttle nor what is logged or shown; and adds nobody."""
    path = house.service.endpoint_path("custa", house.mine.scoring)
    for setting in ({"ThrottleLevel": "High"}, {"SampleDataEnabled": True}, {"DiagnosticsTraceLevel": "All"}):
        assert house.mine.ask("PATCH", path, setting).status == 401
        assert house.mine.ask("PUT", path, setting).status == 401
    assert house.mine.ask("PATCH", path, {"Description": "ours"}).status == 200
    assert house.mine.ask("PUT", house.service.endpoint_path("custy", house.mine.scoring), {}).status == 401
    assert house.mine.ask("DELETE", path).status == 401


def test_deleting_one_endpoint_deletes_the_customer(house: House) -> None:
    """Both endpoints go at once, whichever is named, and so do all four keys."""
    gone = added(house.service, "custd")
    keys = gone.keys
    house.service.client.delete_endpoint(gone.training, "custd")
    names = {one.name for one in house.service.client.list_endpoints(gone.scoring)}
    assert "custd" not in names
    assert {house.service.ask("GET", "/customer", key=key).status for key in keys.values()} == {401}


def test_the_workspace_reaches_all(house: House) -> None:
    """The workspace token puts any customer's model in place for any other, and lists all of them."""
    me = added(house.service, "custe")
    assert house.service.patch("custe", BlobReference(f"{house.other.folder}/m.ilearner")).status == 200
    assert house.service.slope(me.scorer) == 10


def test_a_bare_path_into_a_folder_is_closed_to_keys_of_other_services(service: Service) -> None:
    """Where one web service keeps customers apart, keys of one that does not name no file of theirs either."""
    service.put_blob(f"customers/{NOBODY}/data.csv", line(10))
    trainer = service.client.get_endpoint(service.training, "default")
    for path, status in (
        (f"customers/{NOBODY}/data.csv", 400),
        (f"customers/{'A' * 32}/d.csv", 400),
        ("customers/contoso.csv", 200),
    ):
        body = {"Inputs": {"input1": {"RelativeLocation": path}}, "GlobalParameters": {}}
        assert service.ask("POST", service.api_path(trainer, "/jobs"), body, key=trainer.primary_key).status == status


#: What named keys open; everything else is closed to them.
SCORES = {ops.SCORE, ops.READ_ROWS, ops.INFER, ops.INFERENCE_MODEL, ops.INFERENCE_MODEL_READY}
SCORES |= {ops.INFERENCE_VERSION, ops.INFERENCE_VERSION_READY, ops.INFER_VERSION}
CLOSED = {ops.ADD_ENDPOINT, ops.DELETE_ENDPOINT, ops.REGENERATE_KEYS, ops.MAKE_KEY, ops.REVOKE_KEY}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ScoreOnly", "Retrain"])
def test_a_named_key_opens_what_its_kind_says(house: House, kind: str) -> None:
    """Every operation that takes a key, about the customer's own: the others answer as to nobody's key, and no answer
    has a classic key."""
    me = added(house.service, f"named{kind[0].lower()}")
    key, classic = made(me, "laptop", kind), set(me.keys.values())
    for operation in ops.OPERATIONS:
        if operation.credential is Credential.NONE:
            continue
        names = {"workspace": WORKSPACE, "service": me.scoring, "endpoint": me.name, "endpoint_id": me.guids[1]}
        more = {"model": f"{me.scoring}~{me.name}", "version": "1", "job": NOBODY, "key": "laptop", "file": "x.csv"}
        path = operation.url("", {**names, **more})
        answer = house.service.ask(operation.method, path, least_body(operation), key=key)
        workspace = operation.credential is Credential.WORKSPACE
        closed = operation not in SCORES if kind == "ScoreOnly" else operation in CLOSED or workspace
        assert (answer.status in (401, 403)) == closed, (operation, answer.body)
        assert not any(one in answer.body.decode() for one in classic), operation
        if closed and not workspace:
            assert told(answer) == told(house.service.ask(operation.method, path, least_body(operation), key="wrong"))


@pytest.mark.slow
def test_a_named_key_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its time, when it is revoked, and when one of its name is made; it is found in no list, only its name is."""
    me, clock = added(house.service, "ends"), house.service.clock
    ends = clock.now + timedelta(hours=1)
    key, path = made(me, "laptop", "ScoreOnly", ExpiresAt=ends.isoformat()), me.call("/execute", training=False)

    def scores(key: str) -> int:
        return house.service.ask("POST", path, {"Inputs": {"input1": [{"x": 1}]}}, key=key).status

    assert scores(key) == 200
    listed = me.ask("GET", keys_path(me)).body
    assert [one["Name"] for one in json.loads(listed)] == ["laptop"]
    assert key.encode() not in listed
    again = made(me, "laptop", "ScoreOnly", ExpiresAt=ends.isoformat())
    assert (scores(key), scores(again)) == (401, 200)
    monkeypatch.setattr(clock, "now", ends)
    assert scores(again) == 401
    third = made(me, "laptop", "ScoreOnly")
    assert me.ask("DELETE", keys_path(me, "laptop")).status == 204
    assert scores(third) == 401
    assert me.ask("DELETE", keys_path(me, "laptop")).status == 400
    assert me.ask("PUT", keys_path(me, "late"), {"Kind": "Retrain", "ExpiresAt": "2016-01-01T00:00:00Z"}).status == 400
    assert me.ask("PUT", keys_path(me, "odd"), {"Kind": "Everything"}).status == 400


@pytest.mark.slow
def test_quotas(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal says which quota, and until when; the workspace token sets them; another's jobs do not count."""
    me, clock = added(house.service, "quota"), house.service.clock
    path = f"{house.service.endpoint_path('quota', me.scoring)}/quota"
    assert house.service.ask("PUT", path, {"JobsPerDay": 1, "BytesKept": 100_000}).status == 200
    assert me.ask("PUT", path, {"JobsPerDay": 9}).status == 401
    body = {"Inputs": {"input1": {"RelativeLocation": f"{me.folder}/data.csv"}}, "GlobalParameters": {}}
    assert me.submit(body).status == 200
    refused = me.submit(body)
    assert refused.status == 403
    assert "JobsPerDay" in json.loads(refused.body)["error"]["message"]
    assert "2016-03-02 00:00 UTC" in json.loads(refused.body)["error"]["message"]
    theirs = {"input1": {"RelativeLocation": f"{house.mine.folder}/data.csv"}}
    assert house.mine.submit({**body, "Inputs": theirs}).status == 200
    monkeypatch.setattr(clock, "now", clock.now + timedelta(days=1))
    assert me.submit(body).status == 200
    used = json.loads(me.ask("GET", path).body)
    assert (used["JobsToday"], used["JobsPerDay"]) == (1, 1)
    assert 0 < used["BytesNow"] < 100_000
    refused = me.ask("PUT", "/customer/files/more.csv", b"x" * 100_000)
    assert refused.status == 403
    assert "BytesKept" in json.loads(refused.body)["error"]["message"]
    assert house.service.ask("PUT", path, {"BytesKept": used["BytesNow"]}).status == 200
    assert [me.ask("POST", "/customer/files/more.csv").status, me.submit(body).status] == [403, 403]
    assert me.ask("DELETE", "/customer/files/m.ilearner").status == 204
    assert me.ask("PUT", "/customer/files/more.csv", b"x").status == 201
    house.service.client.delete_endpoint(me.scoring, "quota")
    assert me.ask("PUT", path, {"JobsPerDay": 9}).status == 401


@pytest.mark.slow
def test_a_quota_holds_for_jobs_that_are_submitted_at_the_same_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has been looked at before any of the others is there; they are counted again as they are registered."""
    me = added(house.service, "haste")
    path = f"{house.service.endpoint_path('haste', me.scoring)}/quota"
    assert house.service.ask("PUT", path, {"JobsPerDay": 2}).status == 200
    monkeypatch.setattr(Quotas, "check_job", lambda *_: None)
    body = {"Inputs": {"input1": {"RelativeLocation": f"{me.folder}/data.csv"}}, "GlobalParameters": {}}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: me.submit(body), range(6)))
    assert sorted(answer.status for answer in answers) == [200, 200, 403, 403, 403, 403]
    refused = next(answer for answer in answers if answer.status == 403)
    assert "2016-03-02 00:00 UTC" in json.loads(refused.body)["error"]["message"]
    assert json.loads(me.ask("GET", path).body)["JobsToday"] == 2

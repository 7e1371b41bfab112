"""The audit list: every operation that may change something leaves an entry, no other does, and none holds a secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.keys import KeyKind
from airflow_provider_azureml_classic.protocol.operations import Credential
from airflow_provider_azureml_classic.server.portal.site import READING_FORMS, ROUTES
from airflow_provider_azureml_classic.server.state.audit_store import AuditStore
from airflow_provider_azureml_classic.server.state.database import DatabaseDown
from airflow_provider_azureml_classic.server.workspace import audit as audit_module
from tests.support.calls import least_body, path_of
from tests.support.portal import Visitor, text_of
from tests.support.service import READ_TOKEN, SCORING, TOKEN, Clock, Service, copied


@pytest.fixture(scope="module")
def shared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for those who look at the newest entries only."""
    with copied(trained, tmp_path_factory.mktemp("audit")) as service:
        service.client.add_endpoint(service.scoring, "mine")
        yield service


def count(service: Service) -> int:
    """How many entries there are."""
    return len(service.client.list_audit(limit=500).entries)


@pytest.mark.slow
def test_every_change_leaves_an_entry(shared: Service) -> None:
    """All operations, by the table of operations: what may change something, refused or not, and nothing else."""
    for operation in sorted(ops.OPERATIONS, key=lambda one: one is ops.DELETE_SERVICE):
        mine = shared.client.add_endpoint(shared.scoring, "mine")
        is_key = operation.credential is Credential.ENDPOINT
        key, path = mine.primary_key if is_key else TOKEN, path_of(operation, shared, mine)
        before = count(shared)
        answer = shared.ask(operation.method, path, least_body(operation), key=key)
        assert count(shared) - before == operation.changes, operation.name
        if operation.changes:
            entry = shared.client.list_audit(limit=1).entries[0]
            assert (entry.what, entry.status) == (operation.name, answer.status)
            assert entry.who == (f"primary key of mine ({SCORING})" if is_key else "workspace token")
            assert not {mine.primary_key, mine.secondary_key, TOKEN} & set(str(entry).split("'"))


def test_nobody_fills_the_list(service: Service) -> None:
    """Wrong keys leave nothing; the read-only token is refused and named."""
    path = service.endpoint_path("new")
    for key in (None, "", "wrong"):
        assert service.ask("PUT", path, {}, key=key).status == 401
    assert count(service) == 0
    assert service.ask("PUT", path, {}, key=READ_TOKEN).status == 401
    (entry,) = service.client.list_audit().entries
    assert (entry.who, entry.what, entry.status) == ("read-only token", "add_endpoint", 401)
    assert entry.target == f"{service.scoring} / new"


def test_a_named_key_is_named_and_a_query_is_not_kept(service: Service) -> None:
    """The name of a key tells who it was; what looks like a token in a path is cut off."""
    made = service.client.add_endpoint(service.scoring, "mine")
    from_client = service.client.make_key(service.scoring, "mine", "laptop", KeyKind.RETRAIN)
    assert [key.name for key in service.client.list_keys(service.scoring, "mine")] == ["laptop"]
    service.ask("PATCH", service.endpoint_path("mine%3Fsig=abc"), {}, key=from_client.secret)
    entry = service.client.list_audit(limit=1).entries[0]
    assert (entry.who, entry.target) == (f"key laptop of mine ({SCORING})", f"{service.scoring} / mine")
    text = str(service.client.list_audit().entries)
    assert not any(secret in text for secret in (made.primary_key, from_client.secret, "sig="))


@pytest.mark.slow
def test_forms_of_the_portal_leave_entries(shared: Service) -> None:
    """Every form but those that are said to read only, with the address of the browser; pages leave none."""
    visitor = Visitor(shared)
    service = next(one.id for one in shared.client.list_web_services() if one.name == "Other Line [predictive exp.]")
    shared.client.add_endpoint(service, "mine")
    visitor.sign_in()
    names = {"service": service, "endpoint": "mine", "job": "0" * 32, "what": "refresh", "name": "output1"}
    for path, method, view in ROUTES:
        place, before = f"/portal{path}".format(**names), count(shared)
        answer = visitor.get(place) if method == "GET" else visitor.post(place, name="mine")
        expected = method == "POST" and view not in READING_FORMS
        assert count(shared) - before == expected, (path, answer.text)
        if expected:
            entry = shared.client.list_audit(limit=1).entries[0]
            assert (entry.who, entry.address, entry.status) == ("workspace token", "testclient", answer.status_code)
            assert entry.what.startswith(f"portal {view.__name__}")
    page = text_of(visitor.page("/portal/audit"))
    assert "portal do refresh" in page
    assert "testclient" in page


@pytest.mark.slow
def test_pages_and_an_operation_that_did_not_end(service: Service) -> None:
    """The list goes on with older entries, in API and portal; what a killed server left has no status."""
    entry = {"at": service.clock(), "who": "w", "what": "x", "address": ""}
    for number in range(52):
        AuditStore(service.database).add({**entry, "target": f"s / e{number}", "status": 201})
    AuditStore(service.database).add({**entry, "target": "t", "status": None})
    page = service.client.list_audit(limit=2)
    assert [entry.status for entry in page.entries] == [None, 201]
    assert service.client.list_audit(limit=2, before=page.next).entries[0].target.endswith(" / e50")
    assert service.client.list_audit(limit=500).next is None
    visitor = Visitor(service)
    visitor.sign_in(READ_TOKEN)
    html = visitor.page("/portal/audit")
    assert "not ended" in text_of(html)
    assert "/ e2 " in text_of(visitor.page(f"/portal/audit?before={service.client.list_audit(limit=50).next}"))


def test_entries_end(service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept for a set time, and never more than a set number."""
    service.client.add_endpoint(service.scoring, "one")
    clock.advance(days=89)
    service.client.add_endpoint(service.scoring, "two")
    assert count(service) == 2
    clock.advance(days=2)
    service.client.add_endpoint(service.scoring, "three")
    assert [entry.target[-3:] for entry in service.client.list_audit().entries] == ["ree", "two"]
    monkeypatch.setattr(audit_module, "MAX_ENTRIES", 1)
    clock.advance(hours=1)
    service.client.add_endpoint(service.scoring, "four")
    assert [entry.target[-4:] for entry in service.client.list_audit().entries] == ["four", "hree"]


def test_nothing_is_done_that_cannot_be_written_down(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """No entry, no change; and what was done stays done where only its end could not be written."""

    def down(*_: object) -> None:
        raise DatabaseDown("down", status=503)

    with monkeypatch.context() as broken:
        broken.setattr(AuditStore, "add", down)
        assert service.ask("PUT", service.endpoint_path("new"), {}).status == 503
    assert {row.name for row in service.client.list_endpoints(service.scoring)} == {"default"}
    monkeypatch.setattr(AuditStore, "end", down)
    assert service.ask("PUT", service.endpoint_path("new"), {}).status == 201
    assert service.client.list_audit().entries[0].status is None

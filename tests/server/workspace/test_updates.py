"""PATCH: a retrained model goes in whole or not at all, and every known mistake is told from the others."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pytest

from airflow_provider_azureml_classic.protocol.approval import HEADER, Approval
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support.service import RESOURCE, Service


def detail(response) -> str:
    """Code of the first detail of an error."""
    return json.loads(response.body)["error"]["details"][0]["code"]


def message(response) -> str:
    """Message of an error."""
    return json.loads(response.body)["error"]["message"]


def spelled(service: Service, convention: str) -> dict[str, str | None]:
    """The location of the model of slope 10 in each way that a client was seen to write it."""
    signed = service.signed("models/ten.ilearner", "r")
    base, token = signed.base_location.rstrip("/"), signed.sas_token
    host, _, account = base.rpartition("/")
    return {
        "service": {"BaseLocation": f"{base}/", "RelativeLocation": "models/ten.ilearner", "SasBlobToken": token},
        "sdk": {"BaseLocation": host, "RelativeLocation": f"/{account}/models/ten.ilearner", "SasBlobToken": token},
        "readme": {"BaseLocation": base, "RelativeLocation": "models/ten.ilearner", "SasBlobToken": token},
        "both": {"BaseLocation": f"{base}/", "RelativeLocation": "/models/ten.ilearner", "SasBlobToken": token},
        "no-mark": {"BaseLocation": base, "RelativeLocation": "models/ten.ilearner", "SasBlobToken": token[1:]},
        "https": {
            "BaseLocation": base.replace("http:", "https:"),
            "RelativeLocation": "models/ten.ilearner",
            "SasBlobToken": token,
        },
        "null-string": {
            "ConnectionString": None,
            "BaseLocation": f"{base}/",
            "RelativeLocation": "models/ten.ilearner",
            "SasBlobToken": token,
        },
        "connection": {
            "ConnectionString": service.settings.account.connection_string,
            "RelativeLocation": "models/ten.ilearner",
        },
        "path": {"RelativeLocation": "models/ten.ilearner"},
        "blanks": {"BaseLocation": f" {base} ", "RelativeLocation": " models/ten.ilearner ", "SasBlobToken": token},
    }[convention]


@pytest.mark.slow
@pytest.mark.parametrize(
    "convention",
    ["service", "sdk", "readme", "both", "no-mark", "https", "null-string", "connection", "path", "blanks"],
)
def test_every_spelling_of_a_location_is_understood(service: Service, scorer: Endpoint, convention: str) -> None:
    """Slashes, blanks, a missing question mark and a connection string all name the same model."""
    assert service.slope(scorer) == 2
    response = service.patch("mine", spelled(service, convention))
    assert response.status == 200, response.body
    assert service.slope(scorer) == 10
    (resource,) = json.loads(response.body)["Resources"]
    assert resource["Location"] == {
        "ConnectionString": None,
        "BaseLocation": "http://service.test:8080/mlclassic/",
        "RelativeLocation": "models/ten.ilearner",
        "SasBlobToken": "",
    }


@pytest.mark.parametrize("spelling", [RESOURCE, "Line [Trained Model]", " line [trained model] "])
def test_the_resource_is_found_in_any_case_if_it_is_the_only_one(
    service: Service, scorer: Endpoint, spelling: str
) -> None:
    """Samples differ in the capitals of ``[Trained Model]``."""
    assert service.patch("mine", spelled(service, "path"), resource=spelling).status == 200
    assert service.slope(scorer) == 10


def test_the_endpoints_own_keys_and_the_token_may_patch(service: Service, scorer: Endpoint) -> None:
    """The documentation shows the endpoint's key, azuremlps sends the workspace token."""
    for key in (scorer.primary_key, scorer.secondary_key, service.settings.token):
        assert service.patch("mine", spelled(service, "path"), key=key).status == 200


def test_an_endpoint_can_be_addressed_by_its_guid(service: Service, scorer: Endpoint) -> None:
    """Name first, GUID second."""
    guid = scorer.api_location.rpartition("/")[2]
    assert service.patch(guid, spelled(service, "path"), key=scorer.primary_key).status == 200
    assert service.slope(scorer) == 10


def test_other_settings_can_be_patched_without_touching_the_model(service: Service, scorer: Endpoint) -> None:
    """What a PATCH does not mention stays as it is."""
    body = {"ThrottleLevel": "High", "MaxConcurrentCalls": "40", "DiagnosticsTraceLevel": "all"}
    response = service.ask("PATCH", service.endpoint_path("mine"), body)
    changed = json.loads(response.body)
    assert (changed["ThrottleLevel"], changed["MaxConcurrentCalls"]) == ("High", 40)
    assert (changed["DiagnosticsTraceLevel"], changed["Description"]) == ("All", None)
    assert service.slope(scorer) == 2


def mistakes(service: Service) -> dict[str, tuple[object, str, tuple[str, ...]]]:
    """By name: a location, the code it must give, and words its message must have."""
    put = service.put_blob
    put("models/text.ilearner", "age,income\n1,2\n")
    put("models/page.ilearner", "<!DOCTYPE html><html>sign in</html>")
    put("models/pickle.ilearner", pickle.dumps({"a": 1}))
    put("models/empty.ilearner", b"")
    put("models/cut.ilearner", service.read_blob("models/ten.ilearner")[:-200])
    put("models/csv.csv", "x,y\n")
    good, expired = service.signed("models/ten.ilearner"), service.signed("models/ten.ilearner", hours=-1)
    elsewhere = service.signed("models/three.ilearner")
    writing = service.signed("models/ten.ilearner", "cw")
    path = "models/ten.ilearner"
    base = good.base_location
    token = good.sas_token
    last = "A" if token[-5] != "A" else "B"
    wrong_key = "DefaultEndpointsProtocol=https;AccountName=mlclassic;AccountKey=d3Jvbmc=;"
    wrong_key += f"BlobEndpoint={service.settings.account.endpoint}"
    return {
        "extension": (BlobReference("models/csv.csv"), "InvalidBlobExtension", (".ilearner", "csv.csv")),
        "text": (BlobReference("models/text.ilearner"), "ModelInvalid", ("a CSV", "models/text")),
        "page": (BlobReference("models/page.ilearner"), "ModelInvalid", ("an HTML page",)),
        "pickle": (BlobReference("models/pickle.ilearner"), "ModelInvalid", ("a Python pickle",)),
        "empty": (BlobReference("models/empty.ilearner"), "ModelInvalid", ("an empty file",)),
        "cut": (BlobReference("models/cut.ilearner"), "ModelInvalid", ("damaged or cut short",)),
        "other": (BlobReference("models/other.ilearner"), "ModelInvalid", ("'Other Line'", "'Line'")),
        "missing": (BlobReference("models/none.ilearner"), "BlobNotFound", ("none.ilearner",)),
        "no container": (BlobReference("nowhere/none.ilearner"), "BlobNotFound", ("none.ilearner",)),
        "no path": ({"RelativeLocation": "m.ilearner"}, "InputBlobRelativeLocationInvalid", ("container/path",)),
        "empty path": ({"BaseLocation": base}, "InputBlobRelativeLocationInvalid", ("RelativeLocation",)),
        "upwards": ({"RelativeLocation": "models/../../state.ilearner"}, "InputBlobRelativeLocationInvalid", ()),
        "nul": ({"RelativeLocation": "models/a\0.ilearner"}, "InputBlobRelativeLocationInvalid", ()),
        "surrogate": ({"RelativeLocation": "models/\ud800.ilearner"}, "RequestBodyInvalid", ()),
        "expired": (expired, "ExpiryTimeInThePast", ("expired",)),
        "tampered": ({**good.to_wire(), "SasBlobToken": f"{token[:-5]}{last}{token[-4:]}"}, "InvalidBlob", ()),
        "of another blob": ({**elsewhere.to_wire(), "RelativeLocation": path}, "InvalidBlob", ()),
        "cannot read": (writing, "InvalidBlob", ()),
        "host": (
            {"BaseLocation": "https://evil.test/", "RelativeLocation": path, "SasBlobToken": "?sig=secret"},
            "LocationNotAllowed",
            ("'evil.test'", "own store"),
        ),
        "loopback": ({"BaseLocation": "http://127.0.0.1:22/", "RelativeLocation": path}, "LocationNotAllowed", ()),
        "scheme": ({"BaseLocation": "file:///etc/", "RelativeLocation": "c/passwd.ilearner"}, "InvalidBlob", ()),
        "bracket": ({"BaseLocation": "http://[::1/", "RelativeLocation": path}, "InvalidBlob", ("BaseLocation",)),
        "port": ({"BaseLocation": "http://allowed.test:x/", "RelativeLocation": path}, "InvalidBlob", ()),
        "null": (None, "MissingInputBlobInformation", (RESOURCE,)),
        "string": ("models/ten.ilearner", "MissingInputBlobInformation", (RESOURCE,)),
        "number": ({"RelativeLocation": 7}, "InvalidBlob", ("RelativeLocation",)),
        "typo": ({"RelativLocation": path}, "UnexpectedParameter", ("'RelativLocation'",)),
        "wrong key": (
            {"ConnectionString": wrong_key, "RelativeLocation": path},
            "InvalidBlob",
            ("AccountKey",),
        ),
        "no connection": (
            {"ConnectionString": "nonsense", "RelativeLocation": path},
            "InvalidBlobConnectionString",
            (),
        ),
    }


NAMES = (
    "extension",
    "text",
    "page",
    "pickle",
    "empty",
    "cut",
    "other",
    "missing",
    "no container",
    "no path",
    "empty path",
    "upwards",
    "nul",
    "surrogate",
    "expired",
    "tampered",
    "of another blob",
    "cannot read",
    "host",
    "loopback",
    "scheme",
    "bracket",
    "port",
    "null",
    "string",
    "number",
    "typo",
    "wrong key",
    "no connection",
)


def test_no_mistake_is_left_out(service: Service) -> None:
    """The list of names is the list of mistakes."""
    assert tuple(mistakes(service)) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_bad_location_is_refused_by_its_own_reason_and_changes_nothing(
    service: Service, scorer: Endpoint, name: str
) -> None:
    """The endpoint goes on with the model and the ``ETag`` that it had."""
    service.patch("mine", BlobReference("models/three.ilearner"))
    before = service.client.get_endpoint(service.scoring, "mine")
    location, code, words = mistakes(service)[name]
    response = service.patch("mine", location, key=scorer.primary_key)
    assert (response.status, detail(response)) == (400, code)
    assert all(word in message(response) for word in words), message(response)
    assert "sig=secret" not in response.body.decode()
    after = service.client.get_endpoint(service.scoring, "mine")
    assert after == before
    assert service.slope(scorer) == 3


def test_a_wrong_resource_name_lists_the_right_ones(service: Service, scorer: Endpoint) -> None:
    """A client copies the name from the message."""
    response = service.patch("mine", spelled(service, "path"), resource="Lime [trained model]")
    assert (response.status, detail(response)) == (400, "ResourceNameInvalid")
    assert f"'{RESOURCE}'" in message(response)


def test_the_default_endpoint_keeps_its_model(service: Service) -> None:
    """Only endpoints that were added can be patched."""
    response = service.patch("default", spelled(service, "path"))
    assert (response.status, detail(response)) == (400, "DefaultEndpointReadOnly")
    assert service.slope(service.client.get_endpoint(service.scoring, "default")) == 2


def test_an_endpoint_of_a_training_service_has_nothing_to_update(service: Service) -> None:
    """The message says so instead of naming a resource."""
    service.client.add_endpoint(service.training, "mine")
    body = {"Resources": [{"Name": RESOURCE, "Location": spelled(service, "path")}]}
    response = service.ask("PATCH", service.endpoint_path("mine", service.training), body)
    assert (response.status, detail(response)) == (400, "NoUpdatableResources")


def test_prevent_update_holds_until_it_is_lifted(service: Service, scorer: Endpoint) -> None:
    """Patch and refresh are refused; a PATCH may lift the bar and carry the model at once."""
    path = service.endpoint_path("mine")
    assert service.ask("PATCH", path, {"PreventUpdate": True}).status == 200
    response = service.patch("mine", spelled(service, "path"))
    assert (response.status, detail(response)) == (400, "EndpointUpdatePrevented")
    refreshed = service.ask("POST", f"{path}/refresh", {"OverwriteResources": "True"})
    assert detail(refreshed) == "EndpointUpdatePrevented"
    assert service.slope(scorer) == 2
    resources = [{"Name": RESOURCE, "Location": spelled(service, "path")}]
    assert service.ask("PATCH", path, {"PreventUpdate": "False", "Resources": resources}).status == 200
    assert service.slope(scorer) == 10


@pytest.mark.parametrize("order", [1, -1])
def test_several_resources_are_applied_all_or_none(service: Service, scorer: Endpoint, order: int) -> None:
    """One good and one bad resource change nothing, whichever comes first; nor do the settings beside them."""
    good = {"Name": RESOURCE, "Location": spelled(service, "path")}
    resources = [good, {"Name": "Another", "Location": spelled(service, "path")}][::order]
    body = {"Description": "new", "Resources": resources}
    response = service.ask("PATCH", service.endpoint_path("mine"), body)
    assert detail(response) == "ResourceNameInvalid"
    after = service.client.get_endpoint(service.scoring, "mine")
    assert (after.description, after.etag, service.slope(scorer)) == (None, scorer_etag(service, scorer), 2)


def scorer_etag(service: Service, scorer: Endpoint) -> str:
    """``ETag`` of an endpoint that was never changed."""
    assert scorer.version == service.client.get_endpoint(service.scoring, scorer.name).version
    return '"1"'


def test_if_match_lets_one_of_two_writers_win(service: Service, scorer: Endpoint) -> None:
    """The second one read the endpoint before the first one changed it: 412, and nothing changes."""
    etag = service.client.get_endpoint(service.scoring, "mine").etag
    assert etag
    first = service.patch("mine", BlobReference("models/three.ilearner"), headers={"if-match": etag})
    assert first.status == 200
    assert first.headers["etag"] != etag
    second = service.patch("mine", spelled(service, "path"), headers={"if-match": etag})
    assert (second.status, detail(second)) == (412, "EndpointChanged")
    assert service.slope(scorer) == 3
    assert service.patch("mine", spelled(service, "path"), headers={"if-match": "*"}).status == 200


def test_every_update_changes_etag_and_version(service: Service, scorer: Endpoint, clock) -> None:
    """Both are what a client proves an update by."""
    seen = set()
    for name in ("three", "ten", "three"):
        clock.advance(seconds=1)
        service.patch("mine", BlobReference(f"models/{name}.ilearner"))
        endpoint = service.client.get_endpoint(service.scoring, "mine")
        seen.add((endpoint.etag, endpoint.version))
    assert len(seen) == 3


def test_refresh_undoes_a_patch_only_if_told_to(service: Service, scorer: Endpoint) -> None:
    """``"False"`` or nothing: 304; ``"True"``: the default endpoint's model; then there is nothing left to do."""
    service.patch("mine", spelled(service, "path"))
    path = f"{service.endpoint_path('mine')}/refresh"
    for body in (b"", b"{}", {"OverwriteResources": "False"}, {"OverwriteResources": False}):
        response = service.ask("POST", path, body)
        assert (response.status, response.body) == (304, b"")
    assert service.slope(scorer) == 10
    assert service.ask("POST", path, {"OverwriteResources": "True"}).status == 200
    assert service.slope(scorer) == 2
    assert service.ask("POST", path, {"OverwriteResources": True}).status == 304


def test_the_default_endpoint_cannot_be_refreshed(service: Service) -> None:
    """It is what others are refreshed from."""
    response = service.ask("POST", f"{service.endpoint_path('default')}/refresh", {"OverwriteResources": "True"})
    assert (response.status, detail(response)) == (400, "DefaultEndpointReadOnly")


def test_the_blob_may_be_gone_after_the_update(service: Service, scorer: Endpoint, service_dir, monkeypatch) -> None:
    """The model is copied by the PATCH, so neither blob nor token is needed later, nor after a restart."""
    service.patch("mine", spelled(service, "service"))
    (service_dir / "blobs" / "models" / "ten.ilearner").unlink()
    service.clock.advance(days=2)
    assert service.slope(scorer) == 10
    service.close()
    again = Service(service_dir, service.clock, monkeypatch)
    assert again.slope(again.client.get_endpoint(again.scoring, "mine")) == 10
    again.close()


def test_a_read_that_an_update_overtakes_is_not_kept(service: Service, scorer: Endpoint, monkeypatch) -> None:
    """Scoring that read the endpoint just before a PATCH must not bring the old model back for later calls."""
    workspace = service.workspace
    guid = scorer.api_location.rpartition("/")[2]
    workspace.forget(guid)
    read = service.store.endpoint

    def overtaken(endpoint_id: str):
        row = read(endpoint_id)
        monkeypatch.setattr(service.store, "endpoint", read)
        assert service.patch("mine", spelled(service, "path")).status == 200
        return row

    monkeypatch.setattr(service.store, "endpoint", overtaken)
    assert service.slope(scorer) == 2
    assert service.slope(scorer) == 10


def test_an_approval_of_another_model_changes_nothing(service: Service, scorer: Endpoint) -> None:
    """Nor does one that cannot be read: the history would tell of a person what that person never agreed to."""
    place = BlobReference("models/ten.ilearner")
    for headers, word in (
        (
            Approval("Ada", datetime(2026, 3, 1, tzinfo=UTC), "ab" * 32, "", Digests(None, "cd" * 32)).to_header(),
            "another model",
        ),
        ({HEADER: "Ada"}, "is not JSON"),
        ({HEADER: '{"by": 1}'}, "is not a text"),
        ({HEADER: '{"at": "2026-03-01", "evidence": "ab"}'}, "no SHA-256"),
        ({HEADER: "[" * 5000}, "over 4096 letters"),
    ):
        response = service.patch("mine", place, headers=headers)
        assert (response.status, word in message(response)) == (400, True), message(response)
    assert service.slope(scorer) == 2

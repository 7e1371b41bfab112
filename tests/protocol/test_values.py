"""Web services, endpoints and settings: every variant of section 14 is read, the careful form is written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.values import (
    Endpoint,
    EndpointSettings,
    Resource,
    ThrottleLevel,
    TraceLevel,
    WebService,
    boolean,
    check_endpoint_name,
    is_check_endpoint,
)

SAMPLES = Path(__file__).parents[1] / "samples"
MODEL = BlobReference("models/v1.ilearner", "https://acct.blob.core.windows.net/", "?sig=U0VDUkVU")
FACTORY = settings(database=None, deadline=None, max_examples=60)

_name = st.text(min_size=1, max_size=8)
_text = st.none() | st.text(max_size=8)
_resources = st.builds(Resource, _name, st.sampled_from([None, MODEL, BlobReference("own/store.ilearner")]), _name)
_endpoints = st.builds(
    Endpoint,
    name=_name,
    web_service_id=st.text(max_size=4),
    description=_text,
    api_location=st.just("https://h.example/workspaces/w/services/g"),
    primary_key=st.text(max_size=4),
    secondary_key=st.text(max_size=4),
    version=_text,
    prevent_update=st.booleans(),
    sample_data_enabled=st.booleans(),
    max_concurrent_calls=st.integers(1, 200),
    diagnostics_trace_level=st.sampled_from([level.value for level in TraceLevel]),
    throttle_level=st.sampled_from([level.value for level in ThrottleLevel]),
    resources=st.lists(_resources, max_size=2).map(tuple),
    stale_after=st.none() | st.integers(1, 10**8).map(lambda seconds: timedelta(seconds=seconds)),
)
_settings = st.builds(
    EndpointSettings,
    description=_text,
    throttle_level=st.none() | st.sampled_from(ThrottleLevel),
    max_concurrent_calls=st.none() | st.integers(-5, 500),
    prevent_update=st.none() | st.booleans(),
    sample_data_enabled=st.none() | st.booleans(),
    diagnostics_trace_level=st.none() | st.sampled_from(TraceLevel),
    resources=st.none() | st.just((Resource("Churn Model [trained model]", MODEL),)),
)


FEBRUARY, MARCH = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
RESOURCE = Resource(
    "Churn Model [trained model]", MODEL, "OtherKind", Digests("0" * 64, "1" * 64), ToldWindow(FEBRUARY, last=MARCH)
)
RESOURCE_WIRE = {
    "Name": "Churn Model [trained model]",
    "Kind": "OtherKind",
    "Location": MODEL.to_wire(),
    "ModelDigests": {"File": "0" * 64, "Content": "1" * 64},
    "ModelWindow": {"End": "2026-02-01T00:00:00Z", "IsFirst": False, "Last": "2026-03-01T00:00:00Z"},
}
#: Each member has another value than any other, and than one that is not there.
ENDPOINT = Endpoint(
    name="store017",
    web_service_id="service",
    workspace_id="workspace",
    description="of the store",
    creation_time="2016-02-11T09:30:02Z",
    help_location="https://h.example/apihelp/e",
    api_location="https://h.example/workspaces/w/services/g",
    primary_key="key-1",
    secondary_key="key-2",
    version="7",
    prevent_update=True,
    sample_data_enabled=True,
    experiment_location="https://h.example/experiment",
    max_concurrent_calls=40,
    diagnostics_trace_level="Error",
    throttle_level="High",
    resources=(RESOURCE,),
    folder="customers/store017/",
    stale_after=timedelta(days=2),
)
ENDPOINT_WIRE = {
    "Name": "store017",
    "Description": "of the store",
    "CreationTime": "2016-02-11T09:30:02Z",
    "WorkspaceId": "workspace",
    "WebServiceId": "service",
    "HelpLocation": "https://h.example/apihelp/e",
    "PrimaryKey": "key-1",
    "SecondaryKey": "key-2",
    "ApiLocation": "https://h.example/workspaces/w/services/g",
    "Version": "7",
    "PreventUpdate": True,
    "SampleDataEnabled": True,
    "ExperimentLocation": "https://h.example/experiment",
    "MaxConcurrentCalls": 40,
    "DiagnosticsTraceLevel": "Error",
    "ThrottleLevel": "High",
    "Resources": [RESOURCE_WIRE],
    "Folder": "customers/store017/",
    "StaleAfter": 172800,
}


def sample(name: str) -> Any:
    """A decoded sample."""
    return json.loads((SAMPLES / f"{name}.json").read_text())


def endpoint(*names: str) -> Endpoint:
    """An endpoint with resources of these names."""
    return Endpoint("store017", resources=tuple(Resource(name) for name in names))


@FACTORY
@given(_endpoints)
def test_endpoint_round_trip(value: Endpoint) -> None:
    """An endpoint is read back equal through JSON."""
    assert Endpoint.from_wire(json.loads(json.dumps(value.to_wire()))) == value


@FACTORY
@given(_settings)
def test_settings_round_trip(value: EndpointSettings) -> None:
    """Settings are read back equal through JSON, and what is not set is not written."""
    wire = json.loads(json.dumps(value.to_wire()))
    assert EndpointSettings.from_wire(wire) == value
    assert None not in wire.values()


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (ENDPOINT, ENDPOINT_WIRE),
        (RESOURCE, RESOURCE_WIRE),
        (Resource("m"), {"Name": "m", "Kind": "TrainedModel", "Location": None}),
        (
            WebService("s", "Churn", "workspace", "of all stores", "2016-02-11T09:30:02Z", "first", 3),
            {
                "Id": "s",
                "Name": "Churn",
                "Description": "of all stores",
                "CreationTime": "2016-02-11T09:30:02Z",
                "WorkspaceId": "workspace",
                "DefaultEndpointName": "first",
                "EndpointCount": 3,
            },
        ),
    ],
    ids=["endpoint", "resource", "resource-alone", "service"],
)
def test_every_member(value: Any, wire: dict[str, Any]) -> None:
    """Each is read from its place, and written there."""
    assert value.to_wire() == wire
    assert type(value).from_wire(wire) == value


def test_what_a_server_leaves_out() -> None:
    """Texts are empty, numbers 0, flags false; what has one usual value has that."""
    assert WebService.from_wire({"Id": 5}) == WebService("5", "", "", None, None, "default", 0)
    assert Endpoint.from_wire({"Name": 5}) == Endpoint("5", max_concurrent_calls=0)
    assert Endpoint.from_wire({"Name": "e", "StaleAfter": 0}).stale_after is None


@pytest.mark.parametrize(
    ("window", "path", "window_end", "data_end"),
    [
        (None, "m/20260201T000000Z.ilearner", FEBRUARY, FEBRUARY),
        (ToldWindow(MARCH), "m/20260201T000000Z.ilearner", MARCH, MARCH),
        (ToldWindow(last=MARCH), "m/20260201T000000Z.ilearner", FEBRUARY, FEBRUARY),
        (ToldWindow(last=MARCH), "m/x.ilearner", None, MARCH),
        (ToldWindow(), "m/x.ilearner", None, None),
        (None, "m/20261301T000000Z.ilearner", None, None),
        (None, None, None, None),
    ],
)
def test_how_far_a_models_data_reach(
    window: ToldWindow | None, path: str | None, window_end: datetime | None, data_end: datetime | None
) -> None:
    """As the service tells it, else as the path says, else to the last time in the data."""
    resource = Resource("m", BlobReference(path) if path else None, window=window)
    assert (resource.window_end, resource.data_end) == (window_end, data_end)


@pytest.mark.parametrize("item", sample("web_services"), ids=lambda item: item["Name"])
def test_web_service_sample(item: dict[str, Any]) -> None:
    """A web service as documented is read, and written as it was."""
    assert WebService.from_wire(item).to_wire() == item


@pytest.mark.parametrize("item", sample("endpoints"), ids=lambda item: item["Name"])
def test_endpoint_sample(item: dict[str, Any]) -> None:
    """An endpoint with the 17 documented members is read, and written as it was."""
    assert len(item) == 17
    assert Endpoint.from_wire(item).to_wire() == item


def test_endpoint_tolerated() -> None:
    """The variants that sources disagree about are read: other names, text for numbers, null, missing, unheard of."""
    read = Endpoint.from_wire(sample("endpoint_tolerated"), etag='"v1"')
    assert read.help_location.startswith("https://studio.azureml.net/apihelp/")
    assert (read.max_concurrent_calls, read.prevent_update, read.sample_data_enabled) == (40, True, False)
    assert (read.resources, read.version, read.secondary_key, read.etag) == ((), None, "", '"v1"')
    assert not read.api_location.endswith("/")


def test_minimal_endpoint_is_written_without_null_booleans_and_numbers() -> None:
    """The .NET client cannot read null into a bool or int member (wire document, section 2.2)."""
    wire = Endpoint.from_wire({"Name": "e"}).to_wire()
    assert (wire["PreventUpdate"], wire["SampleDataEnabled"], wire["MaxConcurrentCalls"]) == (False, False, 0)
    assert type(WebService.from_wire({"Id": "s"}).to_wire()["EndpointCount"]) is int


@pytest.mark.parametrize("value", [None, "", 0, "0"])
def test_concurrency_absent(value: Any) -> None:
    """A concurrency that a server leaves out, or empty, is 0 and not an error."""
    assert Endpoint.from_wire({"Name": "e", "MaxConcurrentCalls": value}).max_concurrent_calls == 0


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (WebService, [], "The web service is not an object"),
        (WebService, {"Name": "x"}, "The web service has no Id"),
        (WebService, {"Id": "x", "EndpointCount": "many"}, "EndpointCount is 'many'"),
        (Endpoint, None, "The endpoint is not an object"),
        (Endpoint, {"name": "lower case"}, "The endpoint has no Name"),
        (Endpoint, {"Name": "e", "MaxConcurrentCalls": "many"}, "MaxConcurrentCalls is 'many'"),
        (Endpoint, {"Name": "e", "PreventUpdate": "maybe"}, "PreventUpdate is 'maybe'"),
        (Endpoint, {"Name": "e", "SampleDataEnabled": "maybe"}, "SampleDataEnabled is 'maybe'"),
        (Endpoint, {"Name": "e", "Folder": 5}, "Folder is 5; it must be a string"),
        (Endpoint, {"Name": "e", "ApiLocation": 5}, "ApiLocation is 5; it must be a string"),
        (Endpoint, {"Name": "e", "Resources": 5}, "Resources is 5; it must be a list"),
        (Endpoint, {"Name": "e", "StaleAfter": -1}, "StaleAfter is -1"),
        (Endpoint, {"Name": "e", "Resources": ["model"]}, "The resource is not an object"),
        (Endpoint, {"Name": "e", "Resources": [{"Kind": "x"}]}, "The resource has no Name"),
        (Resource, {"Name": "m", "Location": "https://h.example/m"}, "The resource cannot be read"),
    ],
)
def test_broken_answer(kind: Any, data: Any, said: str) -> None:
    """What a server describes wrongly is a protocol error that names the member, never a bare Python error."""
    with pytest.raises(ProtocolError, match=said):
        kind.from_wire(data)


@pytest.mark.parametrize("location", [None, {}, {"RelativeLocation": None, "BaseLocation": ""}])
def test_resource_without_location(location: Any) -> None:
    """A resource whose server does not say where its model is has no location."""
    assert Resource.from_wire({"Name": "m", "Location": location}) == Resource("m")


def test_endpoint_hides_secrets() -> None:
    """Keys and tokens are told to who masks them and are in no ``repr``."""
    value = Endpoint("e", primary_key="KEY-1", secondary_key="KEY-2", resources=(Resource("m", MODEL), Resource("n")))
    assert value.secrets == ("KEY-1", "KEY-2", "sig=U0VDUkVU")
    assert not any(secret in repr(value) for secret in value.secrets)
    assert Endpoint("e").secrets == ()


@pytest.mark.parametrize("wanted", ["Churn Model [trained model]", "churn model [Trained Model] ", None])
def test_resource_is_found(wanted: str | None) -> None:
    """A resource is found by its name, in any case if that is unique, or as the only one."""
    assert endpoint("Churn Model [trained model]").resource(wanted).name == "Churn Model [trained model]"


def test_resource_exact_name_wins() -> None:
    """Of names that differ in case only, the exact one is meant; another case is ambiguous."""
    both = endpoint("model", "Model")
    assert both.resource("Model").name == "Model"
    with pytest.raises(RequestRejected, match="'model', 'Model'"):
        both.resource("MODEL")


@pytest.mark.parametrize(
    ("value", "wanted", "code", "target"),
    [
        (endpoint("a", "b"), None, "ResourceNameInvalid", None),
        (endpoint("a", "b"), "c", "ResourceNameInvalid", "c"),
        (endpoint("a"), "", "ResourceNameInvalid", ""),
        (endpoint(), "a", "NoUpdatableResources", "store017"),
        (endpoint(), None, "NoUpdatableResources", "store017"),
    ],
)
def test_resource_is_not_found(value: Endpoint, wanted: str | None, code: str, target: str | None) -> None:
    """None or several: the message names the endpoint and lists what it has."""
    with pytest.raises(RequestRejected, match="store017") as caught:
        value.resource(wanted)
    assert (caught.value.detail_code, caught.value.details[0].target) == (code, target)
    assert all(repr(resource.name) in str(caught.value) for resource in value.resources)


@pytest.mark.parametrize("name", ["add_endpoint_aem", "add_endpoint_sdk"])
def test_settings_of_both_sample_clients(name: str) -> None:
    """Both bodies are read alike, concurrency as text or number, with or without the names that repeat the path."""
    read = EndpointSettings.from_wire(sample(name))
    assert (read.description, read.throttle_level, read.max_concurrent_calls) == ("store 17", ThrottleLevel.HIGH, 40)
    assert read.resources is None


def test_settings_of_patch() -> None:
    """A C# client's PATCH, with a null ``ConnectionString``, is read as name and location."""
    read = EndpointSettings.from_wire(sample("patch_endpoint"))
    assert read.resources is not None
    assert [resource.name for resource in read.resources] == ["Churn Model [trained model]"]
    assert read.resources[0].location is not None
    assert read.resources[0].location.url.startswith("https://acct.blob.core.windows.net/experimentoutput/4f6d/")
    assert read.description is read.prevent_update is None
    assert read.to_wire()["Resources"][0]["Location"] == sample("patch_endpoint")["Resources"][0]["Location"]


@pytest.mark.parametrize(
    ("member", "value", "read"),
    [
        ("MaxConcurrentCalls", 40, 40),
        ("MaxConcurrentCalls", "40", 40),
        ("MaxConcurrentCalls", 40.0, 40),
        ("MaxConcurrentCalls", None, None),
        ("MaxConcurrentCalls", "", None),
        ("ThrottleLevel", "high", ThrottleLevel.HIGH),
        ("ThrottleLevel", " LOW ", ThrottleLevel.LOW),
        ("ThrottleLevel", None, None),
        ("ThrottleLevel", "", None),
        ("DiagnosticsTraceLevel", "none", TraceLevel.NONE),
        ("DiagnosticsTraceLevel", "All", TraceLevel.ALL),
        ("PreventUpdate", "True", True),
        ("PreventUpdate", "false", False),
        ("PreventUpdate", True, True),
        ("SampleDataEnabled", None, None),
        ("Description", "", ""),
        ("Resources", None, None),
        ("Resources", [], ()),
        ("StaleAfter", 0, timedelta(0)),
        ("StaleAfter", "60", timedelta(minutes=1)),
        ("StaleAfter", 3660 * 86400, timedelta(days=3660)),
    ],
)
def test_setting_is_tolerated(member: str, value: Any, read: Any) -> None:
    """Numbers, booleans and choices are read in every spelling that clients use."""
    found = EndpointSettings.from_wire({member: value})
    attribute = "".join(f"_{c.lower()}" if c.isupper() else c for c in member).lstrip("_")
    assert getattr(found, attribute) == read


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("MaxConcurrentCalls", "many"),
        ("MaxConcurrentCalls", 4.5),
        ("MaxConcurrentCalls", True),
        ("MaxConcurrentCalls", [4]),
        ("MaxConcurrentCalls", float("inf")),
        ("MaxConcurrentCalls", float("nan")),
        ("ThrottleLevel", "Medium"),
        ("DiagnosticsTraceLevel", 3),
        ("PreventUpdate", "yes"),
        ("PreventUpdate", 1),
        ("Description", 5),
        ("Resources", {}),
        ("Resources", ["m"]),
        ("StaleAfter", -1),
        ("StaleAfter", 3660 * 86400 + 1),
    ],
)
def test_setting_is_refused(member: str, value: Any) -> None:
    """A value that no client means is refused, naming member and value's rule."""
    with pytest.raises(RequestRejected, match=f"{member} (is .*)?must be") as caught:
        EndpointSettings.from_wire({member: value})
    assert (caught.value.detail_code, caught.value.details[0].target) == ("BadParameterValue", member)


@pytest.mark.parametrize(
    ("data", "code", "named", "target"),
    [
        (None, "RequestBodyInvalid", "JSON object", None),
        ([], "RequestBodyInvalid", "JSON object", None),
        ({"Descripton": "x"}, "UnexpectedParameter", "^The endpoint has .*'Descripton'", "Descripton"),
        ({"Resources": [{"Name": " ", "Location": {}}]}, "BadParameterValue", "has no Name", "Name"),
        ({"Resources": [{"Name": 5, "Location": {}}]}, "BadParameterValue", "has no Name", "Name"),
        ({"Resources": [{"Name": "m"}]}, "MissingInputBlobInformation", "Location of 'm'", None),
        ({"Resources": [{"Name": "m", "Location": {}}]}, "InputBlobRelativeLocationInvalid", "Location of 'm'", None),
        (
            {"Resources": [{"Name": "m", "Locaton": {}}]},
            "UnexpectedParameter",
            "^The resource has .*Locaton",
            "Locaton",
        ),
        (
            {"Resources": [{"Name": "m", "Location": {"RelativeLocation": "a", "ConnetionString": "x"}}]},
            "UnexpectedParameter",
            "ConnetionString",
            "ConnetionString",
        ),
    ],
)
def test_bad_settings(data: Any, code: str, named: str, target: str | None) -> None:
    """A body that cannot be meant, or a mistyped member at any depth, is refused by name."""
    with pytest.raises(RequestRejected, match=named) as caught:
        EndpointSettings.from_wire(data)
    assert (caught.value.detail_code, caught.value.details[0].target) == (code, target)


def test_a_resource_as_endpoints_list_it_may_be_sent_back() -> None:
    """With all members that a resource has; of them, name and location are what is set."""
    read = EndpointSettings.from_wire({"Resources": [RESOURCE_WIRE]})
    assert read.resources == (Resource(RESOURCE.name, MODEL),)
    sent = {"Resources": [{"Name": RESOURCE.name, "Location": MODEL.to_wire()}]}
    assert EndpointSettings(resources=(RESOURCE,)).to_wire() == sent
    assert EndpointSettings(resources=(Resource("m"),)).to_wire() == {"Resources": [{"Name": "m", "Location": None}]}


def test_every_setting_is_written() -> None:
    """Each under its name; one of no value is not left out."""
    assert EndpointSettings("", ThrottleLevel.HIGH, 0, False, True, TraceLevel.ALL, (), timedelta(0)).to_wire() == {
        "Description": "",
        "ThrottleLevel": "High",
        "MaxConcurrentCalls": 0,
        "PreventUpdate": False,
        "SampleDataEnabled": True,
        "DiagnosticsTraceLevel": "All",
        "StaleAfter": 0,
        "Resources": [],
    }


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        ("ThrottleLevel", "Medium", "Low or High"),
        ("DiagnosticsTraceLevel", "Some", "None or Error or All"),
        ("PreventUpdate", "yes", "true or false"),
        ("SampleDataEnabled", "yes", "true or false"),
        ("MaxConcurrentCalls", "many", "a whole number"),
        ("Description", 5, "a string"),
        ("StaleAfter", -1, "seconds, of at most 3,660 days, or 0 for none"),
    ],
)
def test_what_a_setting_must_be(member: str, value: Any, expected: str) -> None:
    """The message shows what was sent, and what may be."""
    with pytest.raises(RequestRejected) as caught:
        EndpointSettings.from_wire({member: value})
    assert caught.value.message == f"{member} is {value!r}; it must be {expected}."


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("gatecheck" + "0123456789abcde", True),
        ("gatecheck" + "0123456789abcd", False),
        ("gatecheck" + "0123456789abcdef", False),
        ("gatecheck" + "0123456789abcdg", False),
        ("store017", False),
    ],
)
def test_endpoints_of_gates(name: str, is_one: bool) -> None:
    """They are known by their names, which nobody types."""
    assert is_check_endpoint(name) is is_one


def test_boolean_is_public_for_the_refresh_flag() -> None:
    """``OverwriteResources`` is a boolean, or .NET's text for one; absent stays absent."""
    assert [boolean("Flag", value) for value in (True, "True", " FALSE ", None)] == [True, True, False, None]


@pytest.mark.parametrize("name", ["a", "store017", "a" * 24, " store017 "])
def test_endpoint_name(name: str) -> None:
    """Up to 24 lower-case letters and digits, blanks around them forgiven."""
    assert check_endpoint_name(name) == name.strip()


@pytest.mark.parametrize("name", ["", "a" * 25, "Store017", "store-17", "store 17", "störe", "store\u0661"])
def test_endpoint_name_refused(name: str) -> None:
    """Any other name is refused before it is sent, with the rule in the message."""
    with pytest.raises(RequestRejected, match="1 to 24 lower-case letters and digits") as caught:
        check_endpoint_name(name)
    assert (caught.value.detail_code, caught.value.details[0].target) == ("EndpointNameInvalid", "endpoint")


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("ApiLocation", 5, "ApiLocation is 5; it must be a string"),
        ("Resources", {"a": 1}, r"Resources is \{'a': 1\}; it must be a list"),
        ("PrimaryKey", ["c2VjcmV0"], "PrimaryKey is no string"),
        ("SecondaryKey", {"c2VjcmV0": 1}, "SecondaryKey is no string"),
    ],
)
def test_an_endpoint_of_another_form(member: str, value: Any, words: str) -> None:
    """It is an error of the protocol that names the member, and shows no key."""
    with pytest.raises(ProtocolError, match=f"The endpoint cannot be read: {words}") as caught:
        Endpoint.from_wire({"Name": "n", member: value})
    assert "c2VjcmV0" not in str(caught.value)

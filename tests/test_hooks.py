"""From an Airflow connection to a client, and from an error to "retry" or "fail"."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from airflow_provider_azureml_classic import exceptions as errors
from airflow_provider_azureml_classic.client.retries import Pause, RetryPolicy
from airflow_provider_azureml_classic.hooks import (
    AzureMLClassicHook,
    ConnectionSettings,
    airflow_errors,
    is_stale,
    jittered,
)
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import verify
from tests.support import BIKES, BIKES_SCORING, ServerProcess, wait_for_job
from tests.support.tasks import added, one_line, submitted, trainer


def settings(**fields: Any) -> ConnectionSettings:
    """The settings of a connection that is complete but for what is given."""
    given = {"host": "https://ml.example", "login": "w" * 32, "password": "token", **fields}
    return ConnectionSettings.of(Connection(conn_id="c", conn_type="azureml_classic", **given))


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://ml.example"}, "https://ml.example"),
        ({"host": " ml.example "}, "https://ml.example"),
        ({"host": "ml.example", "schema": "http"}, "http://ml.example"),
        ({"host": "ml.example", "port": 8443}, "https://ml.example:8443"),
        ({"host": "http://ml.example", "port": 8080}, "http://ml.example:8080"),
        ({"host": "http://ml.example:1", "port": 8080}, "http://ml.example:1"),
        ({"host": "http://ml.example/below", "port": 8080}, "http://ml.example:8080/below"),
    ],
)
def test_management_url(fields: dict[str, Any], url: str) -> None:
    """The host may be a whole URL or a name; schema and port complete it and never contradict it."""
    assert settings(**fields).management_url == url


def test_settings_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection in JSON gives every setting."""
    said = {"conn_type": "azureml_classic", "host": "h", "login": "w", "password": "p"}
    extra = {"timeout": "12.5", "verify": "/etc/ca.pem", "storage_connection_string": "AccountName=a"}
    monkeypatch.setenv("AIRFLOW_CONN_HOOKS_JSON", json.dumps({**said, "extra": extra}))
    found = AzureMLClassicHook("hooks_json").settings
    assert found == ConnectionSettings("https://h", "w", "p", 12.5, "/etc/ca.pem", "AccountName=a")


def test_settings_from_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection as a URI gives the same, whose scheme of the host is Airflow's schema."""
    monkeypatch.setenv("AIRFLOW_CONN_HOOKS_URI", "azureml-classic://w:p%3D%3D@ml.example:8080/http?verify=false")
    found = AzureMLClassicHook("hooks_uri").settings
    assert found == ConnectionSettings("http://ml.example:8080", "w", "p==", 30.0, False)


def test_settings_hide_secrets() -> None:
    """Neither the token nor the connection string is in the settings' text."""
    text = repr(settings(password="s3cret", extra='{"storage_connection_string": "AccountKey=k3y"}'))
    assert "s3cret" not in text
    assert "k3y" not in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": None}, "Connection 'c' lacks host (management URL)."),
        ({"login": " "}, "Connection 'c' lacks login (workspace id)."),
        ({"password": ""}, "Connection 'c' lacks password (workspace token)."),
        ({"host": "", "password": ""}, "lacks host (management URL), password (workspace token)."),
        ({"extra": '{"timeout": "soon"}'}, "extra timeout is 'soon'"),
        ({"extra": '{"timeout": 0}'}, "a number of seconds above 0"),
        ({"extra": '{"timeout": [1]}'}, "extra timeout is [1]"),
        ({"extra": '{"timeout": "nan"}'}, "extra timeout is 'nan'"),
    ],
)
def test_wrong_connection(fields: dict[str, Any], said: str) -> None:
    """What is missing or wrong in a connection is named."""
    with pytest.raises(ValueError, match="Connection 'c'") as caught:
        settings(**fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("value", "verify"),
    [(None, True), ("", True), (True, True), ("True", True), (False, False), ("false", False), ("/ca.pem", "/ca.pem")],
)
def test_verify(value: Any, verify: Any) -> None:
    """``verify`` is a switch or the path of a bundle."""
    assert settings(extra=json.dumps({"verify": value})).verify == verify


# -- test_connection ---------------------------------------------------------------------------------------------------


def connection(monkeypatch: pytest.MonkeyPatch, server: ServerProcess, **fields: Any) -> AzureMLClassicHook:
    """A hook whose connection is the server's but for these fields."""
    said = {**json.loads(server.connection["airflow_conn"]), **fields}
    monkeypatch.setenv("AIRFLOW_CONN_HOOKS_TEST", json.dumps(said))
    return AzureMLClassicHook("hooks_test")


def test_connection_right(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good connection says what it reaches."""
    good, said = connection(monkeypatch, server).test_connection()
    assert good
    assert said == (
        f"Workspace {server.connection['workspace_id']} has 4 web services. "
        "A file can be written into storage account 'mlclassic'."
    )


def test_connection_wrong(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad connection says which field is wrong, without its secret."""
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: Pause(0.0))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
        other_key = server.account.connection_string.replace("AccountKey=", "AccountKey=AAAA")
        silent = f"AccountName=a;AccountKey=QQ==;BlobEndpoint={nobody}/a"
        cases = [
            ({"password": "wr0ng"}, "Password: the workspace token was refused. "),
            ({"login": "0" * 32}, "Login: there is no such workspace. "),
            ({"host": nobody}, "Host: the service does not answer. "),
            ({"host": ""}, "Connection 'hooks_test' lacks host (management URL)."),
            ({"extra": '{"storage_connection_string": "AccountName=a;AccountKey"}'}, "Storage connection string: "),
            ({"extra": {"storage_connection_string": other_key}}, "Storage: account 'mlclassic' refuses the key. "),
            ({"extra": {"storage_connection_string": silent}}, "Storage: account 'a' does not answer. "),
            ({"extra": {"storage_connection_string": "AccountName=a"}}, "Storage connection string: "),
            ({"extra": {"time-out": 3}}, "Connection 'hooks_test' has an unknown extra 'time-out'; there are: "),
            ({"extra": "{"}, "Connection 'hooks_test': the extra is not a JSON object"),
            ({"host": "ftp://x"}, "The management URL 'ftp://x' must start with http:// or https://"),
        ]
        for fields, start in cases:
            good, said = connection(monkeypatch, server, **fields).test_connection()
            assert (good, said[: len(start)]) == (False, start)
            assert "wr0ng" not in said


# -- retry or fail -----------------------------------------------------------------------------------------------------

RETRY, FAIL = AirflowException, AirflowFailException
#: The table of the design's section 4.
TABLE: dict[type[errors.AzureMLClassicError], type[AirflowException]] = {
    errors.RequestRejected: FAIL,
    errors.AccessDenied: FAIL,
    errors.NotFound: FAIL,
    errors.ServiceUnavailable: RETRY,
    errors.ProtocolError: RETRY,
    errors.JobFailed: RETRY,
    errors.JobCancelled: FAIL,
    errors.WaitTimeout: FAIL,
    errors.UpdateNotProved: FAIL,
}


def test_table_is_complete() -> None:
    """Every class of error has its row."""
    assert set(TABLE) == set(errors.AzureMLClassicError.__subclasses__())


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_retry_or_fail(kind: type[errors.AzureMLClassicError]) -> None:
    """Each class of error is retried or fails the task at once; its text is one line that holds no query."""
    error = kind(
        "It went wrong with https://a.example/b?sv=1&sig=s3cret",
        status=400,
        code="BadArgument",
        request_id="r1",
        verb="get_job",
        url="https://h.example/x?se=2&sig=s3cret",
        hint="Do this.",
    )
    words = ("get_job https://h.example/x:", "HTTP 400", "BadArgument", "r1", "Do this.")
    with one_line(TABLE[kind], *words), airflow_errors():
        raise error
    with pytest.raises(TABLE[kind]) as caught, airflow_errors():
        raise error
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_value_error_fails() -> None:
    """A wrong argument cannot be mended by a retry."""
    with one_line(FAIL, "no such level"), airflow_errors():
        raise ValueError("no such level")


def test_other_errors_pass() -> None:
    """What is neither is a bug, and shows itself as one."""
    with pytest.raises(KeyError), airflow_errors():
        raise KeyError("x")


def test_stale_is_412_only() -> None:
    """Only a failed ``If-Match`` means that the endpoint was changed in between."""
    assert is_stale(errors.rejection("EndpointChanged", "It changed."))
    assert not is_stale(errors.rejection("EndpointNameInvalid", "No."))
    assert not is_stale(errors.NotFound("No.", status=412))


def test_jitter() -> None:
    """A pause is spread by a tenth each way."""
    pauses = {jittered(10.0) for _ in range(200)}
    assert min(pauses) >= 9
    assert max(pauses) <= 11
    assert len(pauses) > 100


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_secrets_are_masked(airflow_connection: ServerProcess, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token, every key and every SAS token are masked as they are read."""
    masked: set[str] = set()
    monkeypatch.setattr(
        "airflow_provider_azureml_classic.hooks.mask_secret", lambda secret, *_: masked.add(str(secret))
    )
    job_id = submitted(airflow_connection, client, path="training/hookmask.csv")
    client.start_job(trainer(client), job_id)
    ended = wait_for_job(client, trainer(client), job_id)
    assert ended.results, ended.details
    hook = AzureMLClassicHook()
    _, endpoint = hook.find(BIKES, "default")
    job = hook.client.get_job(endpoint, job_id)
    place = job.results["output2"]
    hook.client.fetch_blob(place)
    wanted = {airflow_connection.connection["token"], endpoint.primary_key, endpoint.secondary_key, *job.secrets}
    assert wanted <= masked
    assert len(wanted) == 6


# -- places ------------------------------------------------------------------------------------------------------------


def test_reference_with_an_account(airflow_connection: ServerProcess) -> None:
    """A bare path is in the connection's account; what is complete stays as it is."""
    hook = AzureMLClassicHook()
    account = hook.settings.storage_connection_string
    assert hook.reference("c/x.csv") == BlobReference("c/x.csv", connection_string=account)
    elsewhere = BlobReference("c/x.csv", "https://a.example/", "?sv=1")
    assert hook.reference("https://a.example/c/x.csv?sv=1") == elsewhere
    own = {"RelativeLocation": "c/x.csv", "ConnectionString": "AccountName=other"}
    assert hook.reference(own).connection_string == "AccountName=other"


def test_reference_without_an_account(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an account a bare path is in the service's own store, and no token is minted."""
    hook = connection(monkeypatch, server, extra={})
    assert hook.reference("c/x.csv") == BlobReference("c/x.csv")
    assert hook.readable(hook.reference("c/x.csv")) == BlobReference("c/x.csv")


def test_readable_mints_a_token(airflow_connection: ServerProcess) -> None:
    """A token is minted at the moment of use, for that blob and for reading only."""
    hook = AzureMLClassicHook()
    account, now = airflow_connection.account, datetime.now(UTC)
    for place in (hook.reference("c/x y.csv"), BlobReference("c/x y.csv", f"{account.endpoint}/")):
        found = hook.readable(place)
        assert found.base_location.rstrip("/") == account.endpoint
        assert not found.connection_string
        verify(account, found.sas_token, "c", "x y.csv", permission="r", now=now)
        with pytest.raises(errors.RequestRejected):
            verify(account, found.sas_token, "c", "x y.csv", permission="w", now=now)


def test_readable_leaves_others_alone(airflow_connection: ServerProcess) -> None:
    """A place elsewhere, or one that has its token, is left as it is."""
    hook = AzureMLClassicHook()
    elsewhere = BlobReference("c/x.csv", "https://other.example/")
    opened = BlobReference("c/x.csv", f"{airflow_connection.account.endpoint}/", "?sv=1")
    assert hook.readable(elsewhere) is elsewhere
    assert hook.readable(opened) is opened


def test_readable_with_an_account_without_a_key(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that the connection knows by a token only opens its places with that token."""
    account = "BlobEndpoint=https://a.example;SharedAccessSignature=sv=1&sig=x"
    hook = connection(monkeypatch, server, extra={"storage_connection_string": account})
    assert hook.readable(hook.reference("c/x.csv")) == BlobReference("c/x.csv", "https://a.example/", "?sv=1&sig=x")


def test_minted_token_opens_the_store(airflow_connection: ServerProcess) -> None:
    """The running server accepts a minted token."""
    airflow_connection.upload("hooks/minted.csv", b"a,b\n")
    hook = AzureMLClassicHook()
    assert hook.client.fetch_blob(hook.readable(hook.reference("hooks/minted.csv"))) == b"a,b\n"


# -- what several operators need ---------------------------------------------------------------------------------------


def test_find_updatable(airflow_connection: ServerProcess, client: Any) -> None:
    """An endpoint of a scoring service is found with its service."""
    added(client, "hookfind")
    service, endpoint = AzureMLClassicHook().find_updatable(BIKES_SCORING, "hookfind")
    assert (service.name, endpoint.name) == (BIKES_SCORING, "hookfind")


def test_get_conn_is_the_client(airflow_connection: ServerProcess) -> None:
    """``get_conn`` gives the one client, as Airflow's users expect."""
    hook = AzureMLClassicHook()
    assert hook.get_conn() is hook.client
    assert hook.client.timeout == 30.0


async def test_a_blocking_question_finds_what_an_asynchronous_one_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """`airflow dags test` answers none such: triggers find connections of Airflow's database all the same."""
    found = Connection(conn_id="c", conn_type="azureml_classic", host="h", login="w", password="p")

    async def nothing(conn_id: str, hook: Any) -> Connection:
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr("airflow_provider_azureml_classic.hooks.get_async_connection", nothing)
    monkeypatch.setattr(AzureMLClassicHook, "get_connection", lambda _, conn_id: found)
    async with await AzureMLClassicHook("c").async_client() as client:
        assert client.management_url == "https://h"

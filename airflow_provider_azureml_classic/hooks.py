"""From an Airflow connection to a client; and, in this module only, from an error to "retry" or "fail"."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.connection import get_async_connection
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException
from airflow.sdk.log import mask_secret

from airflow_provider_azureml_classic.client import AsyncClient, Client
from airflow_provider_azureml_classic.client.retries import jittered as jittered
from airflow_provider_azureml_classic.exceptions import (
    AzureMLClassicError,
    did_you_mean,
    rejection,
)
from airflow_provider_azureml_classic.exceptions import is_stale as is_stale
from airflow_provider_azureml_classic.protocol.drift import DRIFTED, EndpointDrift, Terms
from airflow_provider_azureml_classic.protocol.jobs import Job
from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.protocol.model_history import PastModel
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount, expiry_of
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from airflow_provider_azureml_classic.retraining.checkup import Finding, check_service, check_storage
from airflow_provider_azureml_classic.retraining.jobs import JobTicket
from airflow_provider_azureml_classic.retraining.past_models import past_models
from airflow_provider_azureml_classic.retraining.placing import find_updatable

if TYPE_CHECKING:
    from airflow.sdk import Connection

#: Life of the SAS tokens that the hook signs with ``storage_connection_string``.
_SAS_LIFE = timedelta(hours=2)
#: Extras of a connection.
_EXTRAS = ("storage_connection_string", "timeout", "verify")


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Turn an error of the service into Airflow's words: ``AirflowException`` may be retried, ``AirflowFailException``
    fails the task at once. The text is one line that says what was asked, what came back and what to do next.
    """
    try:
        yield
    except AzureMLClassicError as error:
        kind = AirflowException if error.retryable else AirflowFailException
        raise kind(str(error)) from error
    except ValueError as error:
        raise AirflowFailException(str(error)) from error


@dataclass(frozen=True)
class ConnectionSettings:
    """The fields of an Airflow connection of type ``azureml_classic``.

    :param management_url: from the host.
    :param workspace_id: from the login.
    :param token: from the password.
    :param timeout: seconds allowed for one call; extra ``timeout``.
    :param verify: check certificates, or a path to a bundle; extra ``verify``.
    :param storage_connection_string: account in which bare paths of inputs and outputs are; extra of that name.
        Without it they are in the service's own store.
    """

    management_url: str
    workspace_id: str
    token: str = field(repr=False)
    timeout: float = 30.0
    verify: bool | str = True
    storage_connection_string: str = field(default="", repr=False)

    @classmethod
    def of(cls, connection: Connection) -> ConnectionSettings:
        """The settings of a connection.

        :param connection: host, login and password are required.
        :raises ValueError: names the connection and the field that is missing or wrong, or an extra that is not known.
        """
        extra = _extra(connection)
        fields = {"host": connection.host, "login": connection.login, "password": connection.password}
        missing = [name for name, value in fields.items() if not (value or "").strip()]
        if missing:
            meaning = {"host": "management URL", "login": "workspace id", "password": "workspace token"}
            fields_text = ", ".join(f"{name} ({meaning[name]})" for name in missing)
            raise ValueError(f"Connection {connection.conn_id!r} lacks {fields_text}.")
        return cls(
            management_url=_management_url(connection),
            workspace_id=str(connection.login),
            token=str(connection.password),
            timeout=_timeout(connection.conn_id, extra.get("timeout")),
            verify=_verify(extra.get("verify")),
            storage_connection_string=extra.get("storage_connection_string") or "",
        )

    @property
    def client_options(self) -> dict[str, Any]:
        """What either client is made with."""
        return {name: getattr(self, name) for name in ("management_url", "workspace_id", "token", "timeout", "verify")}


def stored_settings(conn_id: str) -> ConnectionSettings:
    """The settings of a connection outside of any task: wherever Airflow's own commands find it, its database included.

    :param conn_id: of the connection.
    :raises ValueError: see :meth:`ConnectionSettings.of`.
    :raises AirflowException: there is none.
    """
    # Airflow's database classes, which no task needs.
    from airflow.models.connection import Connection

    return ConnectionSettings.of(Connection.get_connection_from_secrets(conn_id))


def _extra(connection: Connection) -> dict[str, Any]:
    """The extras; Airflow itself reads those that are not JSON as none at all."""
    text = connection.extra
    try:
        extra = read_json(text) if text and text.strip() else {}
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        # It may hold the key of an account.
        raise ValueError(f"Connection {connection.conn_id!r}: the extra is not a JSON object (its text is not shown).")
    unknown = sorted(set(extra) - set(_EXTRAS))
    if unknown:
        raise ValueError(
            f"Connection {connection.conn_id!r} has an unknown extra {unknown[0]!r}; there are: {', '.join(_EXTRAS)}."
            f"{did_you_mean(unknown[0], _EXTRAS)}"
        )
    return extra


def _management_url(connection: Connection) -> str:
    host = (connection.host or "").strip()
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    if connection.port and urlsplit(host).port is None:
        parts = urlsplit(host)
        host = parts._replace(netloc=f"{parts.netloc}:{connection.port}").geturl()
    return host


def _timeout(conn_id: str, value: Any) -> float:
    try:
        seconds = float(value) if value not in (None, "") else 30.0
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise ValueError(f"Connection {conn_id!r}: extra timeout is {value!r}; it must be a number of seconds above 0.")
    return seconds


def _verify(value: Any) -> bool | str:
    if value is None or value == "":
        return True
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


class AzureMLClassicHook(BaseHook):
    """Reaches a workspace of Azure ML Studio (classic), or of the server in this package.

    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    :param sleep: how the blocking client makes its pauses.
    """

    conn_name_attr = "azureml_classic_conn_id"
    default_conn_name = "azureml_classic_default"
    conn_type = "azureml_classic"
    hook_name = "Azure ML Studio (classic)"

    def __init__(
        self,
        azureml_classic_conn_id: str = default_conn_name,
        *,
        sleep: Callable[[float], None] = time.sleep,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.azureml_classic_conn_id = azureml_classic_conn_id
        self._sleep = sleep

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The fields of the connection."""
        return ConnectionSettings.of(self.get_connection(self.azureml_classic_conn_id))

    def get_conn(self) -> Client:
        """The blocking client; see :attr:`client`."""
        return self.client

    @cached_property
    def client(self) -> Client:
        """A blocking client; every key and SAS token that it reads is masked in the logs."""
        mask_secret(self.settings.token)
        return Client(**self.settings.client_options, on_secret=mask_secret, sleep=self._sleep)

    async def async_client(self) -> AsyncClient:
        """An asynchronous client, for triggers; to be entered with ``async with``.

        It masks nothing: triggers log no answer, and a triggerer that masked every token it ever saw would slow down
        with each.
        """
        try:
            connection = await get_async_connection(self.azureml_classic_conn_id, hook=self)
        except AirflowNotFoundException:
            # `airflow dags test` answers blocking questions only; to an asynchronous one no connection in Airflow's
            # database is there.
            connection = await asyncio.to_thread(self.get_connection, self.azureml_classic_conn_id)
        self.settings = ConnectionSettings.of(connection)
        return AsyncClient(**self.settings.client_options)

    def worker_client(self) -> AsyncClient:
        """An asynchronous client, for a task that makes many calls; to be entered with ``async with``.

        It masks the workspace token alone, for the same reason as :meth:`async_client` masks nothing.
        """
        mask_secret(self.settings.token)
        return AsyncClient(**self.settings.client_options)

    def test_connection(self) -> tuple[bool, str]:
        """Ask for the web services, and write a file into the storage account, if there is one; the answer says which
        of host, workspace id, token and storage is wrong.
        """
        try:
            client, account = self.client, self.settings.storage_connection_string
            findings = client.perform(check_service(client, lambda: datetime.now(UTC)))
            if findings[0].good and account:
                findings.append(client.perform(check_storage(client, account, lambda: datetime.now(UTC))))
        except (AzureMLClassicError, ValueError) as error:
            return False, str(error)
        bad = [one for one in findings if one.good is False]
        shown = bad or [one for one in findings if one.check in ("connection", "storage")]
        return not bad, " ".join(one.found for one in shown)

    def checkup(self) -> list[Finding]:
        """The connection, the versions on both sides, the clocks, and whether a file can be written where bare paths
        are; what is wrong is no error, but found.
        """

        def now() -> datetime:
            return datetime.now(UTC)

        try:
            client, account = self.client, self.settings.storage_connection_string
        except (AzureMLClassicError, ValueError, AirflowException) as error:
            text = error.message if isinstance(error, AzureMLClassicError) else str(error)
            return [Finding("connection", False, text, "Correct the connection.")]
        return [*client.perform(check_service(client, now)), client.perform(check_storage(client, account, now))]

    # -- what several operators need -----------------------------------------------------------------------------------

    def find(self, web_service: str, endpoint: str) -> tuple[WebService, Endpoint]:
        """A web service and one of its endpoints.

        :param web_service: name or id.
        :param endpoint: name.
        :raises AzureMLClassicError: the message lists those that exist.
        """
        service = self.client.find_web_service(web_service)
        return service, self.client.get_endpoint(service.id, endpoint)

    def find_drifted(self, web_service: str, terms: Terms | None = None) -> list[EndpointDrift]:
        """The endpoints of a scoring web service whose callers ask something else than their models were trained on.

        :param web_service: name or id.
        :param terms: what counts as a drift.
        :raises RequestRejected: ``OperationNotSupported``: the service does not count what is asked.
        """
        return self.client.get_drift(self.client.find_web_service(web_service).id, terms, verdict=DRIFTED)

    def find_updatable(self, web_service: str, endpoint: str) -> tuple[WebService, Endpoint]:
        """The same, for an endpoint whose model is to be replaced.

        :param web_service: name or id.
        :param endpoint: name.
        :raises RequestRejected: the default endpoint, or one without updatable resources.
        """
        return self.client.perform(find_updatable(self.client, web_service, endpoint))

    def past_models(self, web_service: str, endpoint: str) -> tuple[PastModel, ...]:
        """The models that an endpoint had, those put live last first: as far as the service remembers them.

        :param web_service: name or id of the scoring web service.
        :param endpoint: name.
        :raises RequestRejected: ``OperationNotSupported``: only the server in this package lists them.
        """
        return self.client.perform(past_models(self.client, self.find(web_service, endpoint)[1]))

    def finished_job(self, result: Any) -> Job:
        """The job that a task names, with fresh SAS tokens for its outputs.

        :param result: what ``BatchExecutionOperator`` returned.
        :raises ValueError: it is something else.
        :raises JobFailed: it did not finish; likewise if it was cancelled.
        """
        ticket = JobTicket.from_json(result)
        _, trainer = self.find(ticket.web_service, ticket.endpoint)
        job = self.client.get_job(trainer, ticket.job_id)
        job.raise_unless_finished()
        return job

    def reference(self, value: BlobReference | Mapping[str, Any] | str) -> BlobReference:
        """The reference that a user wrote, made complete: a bare path is in the connection's storage account, if there
        is one, else in the service's own store.

        :param value: path, URL, wire form or reference.
        :raises RequestRejected: none of these, or its SAS token has expired: a storage service would only refuse it.
        """
        reference = BlobReference.parse(value)
        expiry = expiry_of(reference.sas_token)
        if expiry is not None and expiry <= datetime.now(UTC):
            raise rejection(
                "ExpiryTimeInThePast",
                f"The SAS token of {reference.location!r} expired at {expiry:%Y-%m-%d %H:%M:%S} UTC.",
            )
        account = self.settings.storage_connection_string
        if account and not reference.base_location and not reference.connection_string:
            return replace(reference, connection_string=account)
        return reference

    def readable(self, reference: BlobReference) -> BlobReference:
        """The reference with a fresh SAS token, signed at the moment of use if the connection's account holds the blob.

        :param reference: with or without a token.
        """
        text = reference.connection_string or self.settings.storage_connection_string
        if reference.sas_token or not text:
            return reference
        account = StorageAccount.from_connection_string(text)
        return account.opened(reference, "r", _SAS_LIFE, datetime.now(UTC)) or reference

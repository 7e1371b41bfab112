"""Messages about what is live, to a webhook, as ``on_success_callback`` or ``on_failure_callback``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.connection import get_async_connection
from airflow.sdk import BaseHook, BaseNotifier
from airflow.sdk.exceptions import AirflowException
from airflow.sdk.log import mask_secret

from airflow_provider_azureml_classic.protocol.moments import moment_text, read_time, to_utc
from airflow_provider_azureml_classic.retraining.freshness import Window

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

log = logging.getLogger(__name__)


class ModelUpdatedNotifier(BaseNotifier):
    """Posts ``{"text": ...}`` to a webhook: the form that Slack, Mattermost, Rocket.Chat and Teams accept.

    As a callback of ``UpdateTrainedModelOperator`` the text is the receipt: which model is live now, the end of its
    training data, which model it replaced, and how that was proved. As ``on_failure_callback`` it is the error, as
    ``on_skipped_callback`` that the endpoint keeps its model. Among the ``notifiers`` of ``ApproveModelOperator`` it
    is the question, with what was found and a link to the answer. ``async_notify`` serves deadline alerts.

    :param webhook_conn_id: connection of any type, for example ``http``. Its host is the address; its password, if
        there is one, is the secret end of it: host ``https://hooks.example.com/services``, password ``T0/B0/x``.
        Neither is ever logged. (templated)
    :param note: put before the text, for example whom to mention. (templated)
    :param timeout: seconds allowed for the post.
    """

    template_fields: Sequence[str] = ("webhook_conn_id", "note")

    def __init__(
        self, *, webhook_conn_id: str = "azureml_classic_webhook", note: str = "", timeout: float = 10.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.webhook_conn_id = webhook_conn_id
        self.note = note
        self.timeout = timeout

    def text(self, context: Mapping[str, Any]) -> str:
        """The message.

        :param context: Airflow's context of the callback.
        """
        return " ".join(filter(None, (self.note.strip(), _what(context), _where(context))))

    def notify(self, context: Context) -> None:
        """Post the message.

        :param context: Airflow's context of the callback.
        :raises AirflowException: it was not accepted; the text does not show the address.
        """
        import requests  # heavy: a DAG file that only names the notifier must not load it

        address = webhook_address(BaseHook.get_connection(self.webhook_conn_id))
        mask_secret(address)
        mask_secret(urlsplit(address).path)  # urllib3 logs it apart from the host
        try:
            answer = requests.post(
                address, json={"text": self.text(context)}, timeout=self.timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            raise self._failure(type(error).__name__) from None
        self._check(answer.status_code)

    async def async_notify(self, context: Context) -> None:
        """Post the message from the triggerer.

        :param context: Airflow's context of the callback, which holds less in the triggerer.
        :raises AirflowException: it was not accepted; the text does not show the address.
        """
        import aiohttp  # heavy, as above

        address = webhook_address(await get_async_connection(self.webhook_conn_id))
        limit = aiohttp.ClientTimeout(total=self.timeout)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.post(address, json={"text": self.text(context)}, allow_redirects=False) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._failure(type(error).__name__) from None
        self._check(status)

    def _check(self, status: int) -> None:
        if not 200 <= status < 300:
            raise self._failure(f"HTTP {status}")

    def _failure(self, why: str) -> AirflowException:
        return AirflowException(
            f"The webhook of connection {self.webhook_conn_id!r} did not accept the message: {why}."
        )


def webhook_address(connection: Connection) -> str:
    """The address that a connection holds: a secret.

    :param connection: host, and optionally schema, port and password.
    :raises ValueError: it has no host.
    """
    host = (connection.host or "").strip()
    if not host:
        raise ValueError(f"Connection {connection.conn_id!r} lacks host, the address of the webhook.")
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    if connection.port:
        scheme, _, rest = host.partition("://")
        name, slash, path = rest.partition("/")
        host = f"{scheme}://{name if ':' in name else f'{name}:{connection.port}'}{slash}{path}"
    secret = (connection.password or "").strip().lstrip("/")
    return f"{host.rstrip('/')}/{secret}" if secret else host


def receipt_text(receipt: Mapping[str, Any]) -> str:
    """A receipt in one sentence.

    :param receipt: what ``UpdateTrainedModelOperator`` returned.
    """
    window, replaced, proof = Window.from_json(receipt["window"]), receipt["replaced"], receipt["proof"]
    trained = f", trained on data up to {window.end:%Y-%m-%d %H:%M} UTC" if window else ""
    before = ""
    if replaced["location"]:
        end = replaced["window_end"]
        until = f" (up to {to_utc(end):%Y-%m-%d %H:%M} UTC)" if end else ""
        before = f" It replaced {replaced['location']}{until}."
    return (
        f"Endpoint {receipt['endpoint']!r} of {receipt['web_service']!r} now answers with "
        f"{receipt['model']['location']}{trained}.{before} Proof: {proof['level']}, after {proof['seconds']:g} s."
        f"{_rehearsal(receipt.get('rehearsal'))}"
    )


def _rehearsal(told: Mapping[str, Any] | None) -> str:
    """What both models answered to the endpoint's last calls; where there were none, nothing."""
    if not told or not told.get("figures"):
        return f" {told['text']}" if told and told.get("unusual") else ""
    unusual = " That is unusual: have a look." if told["unusual"] else ""
    return f" {told['text']}{unusual}" if told["figures"]["changed"] is not None else ""


def _what(context: Mapping[str, Any]) -> str:
    if announcement := context.get("announcement"):
        return str(announcement)
    error, ti = context.get("exception"), context.get("ti")
    if error is not None:
        return f"The update failed: {str(error) or type(error).__name__}".rstrip(".") + "."
    receipt = _receipt(ti)
    if receipt is not None:
        return receipt_text(receipt)
    if ti is None:
        return _passed(context.get("deadline"))
    state = getattr(ti, "state", None)
    return f"The task ended {getattr(state, 'value', state)}; the endpoint keeps its model."


def _passed(deadline: Any) -> str:
    """That a deadline has passed, and which."""
    if not deadline:
        return ""
    told = deadline.get("deadline_time") if isinstance(deadline, Mapping) else None
    # A datetime in the triggerer of 3.3.2.
    moment = to_utc(told) if isinstance(told, datetime) else read_time(told)
    return f"A deadline has passed: {moment_text(moment)}." if moment else "A deadline has passed."


def _receipt(ti: Any) -> Mapping[str, Any] | None:
    """The result of the callback's task, if it is a receipt."""
    if ti is None:
        return None
    try:
        result = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index)
    except Exception as error:  # a DAG's own callback runs where there may be no XCom
        log.info("The task's result cannot be read: %s", type(error).__name__)
        return None
    members = {"endpoint", "web_service", "model", "window", "replaced", "proof"}
    return result if isinstance(result, Mapping) and members <= set(result) else None


def _where(context: Mapping[str, Any]) -> str:
    run, ti = context.get("dag_run"), context.get("ti")
    dag_id = getattr(ti, "dag_id", None) or _of(run, "dag_id")
    if not dag_id:
        return ""
    run_id = getattr(ti, "run_id", None) or _of(run, "run_id") or _of(run, "dag_run_id")
    task = f", task {ti.task_id}" if ti is not None else ""
    return f"(DAG {dag_id}, run {run_id}{task})"


def _of(run: Any, name: str) -> Any:
    # Deadline callbacks get the run as plain JSON.
    return run.get(name) if isinstance(run, Mapping) else getattr(run, name, None)

"""The notifier: what the message says, where it goes, and that the address is never shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException

from airflow_provider_azureml_classic.notifications import ModelUpdatedNotifier, receipt_text, webhook_address
from tests.support.tasks import RECEIPT
from tests.support.webhook import SECRET, Webhook


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """A webhook as the connection ``azureml_classic_webhook``, with the secret in its password."""
    with Webhook().running() as running:
        connection = {"conn_type": "http", "host": f"{running.url}/services", "password": SECRET}
        monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_WEBHOOK", json.dumps(connection))
        yield running


def context(result: Any = RECEIPT, *, state: str = "success", **more: Any) -> dict[str, Any]:
    """The context of a task's callback."""
    ti = SimpleNamespace(
        dag_id="retrain", run_id="r1", task_id="update", map_index=-1, state=state, xcom_pull=lambda **_: result
    )
    return {"ti": ti, **more}


def test_receipt_in_one_sentence():
    """The text says what is live, trained to when, what it replaced and how that was proved."""
    assert receipt_text(RECEIPT) == (
        "Endpoint 'bikes' of 'Bike Rental [predictive exp.]' now answers with "
        "https://a/models/bikes/20260116T000000Z.ilearner, trained on data up to 2026-01-16 00:00 UTC. "
        "It replaced https://a/models/old.ilearner. Proof: score, after 0.02 s."
    )
    dated = {**RECEIPT, "replaced": {"location": "x", "window_end": "2026-01-15T00:00:00+00:00"}}
    assert "It replaced x (up to 2026-01-15 00:00 UTC)." in receipt_text(dated)
    bare = {**RECEIPT, "window": None, "replaced": {"location": None, "window_end": None}}
    assert receipt_text(bare).endswith("20260116T000000Z.ilearner. Proof: score, after 0.02 s.")


def test_success_is_posted(webhook: Webhook):
    """As ``on_success_callback`` the receipt is posted, with the note before it and the run behind it."""
    ModelUpdatedNotifier(note="@bikes {{ 1 + 1 }}:")(context())
    [(path, body)] = webhook.messages
    assert path == f"/services/{SECRET}"
    assert body["text"] == f"@bikes 2: {receipt_text(RECEIPT)} (DAG retrain, run r1, task update)"


def test_failure_is_posted(webhook: Webhook):
    """As ``on_failure_callback`` the error's own sentence is posted."""
    ModelUpdatedNotifier()(context(None, state="failed", exception=AirflowException("it still names a.")))
    assert webhook.messages[0][1]["text"] == ("The update failed: it still names a. (DAG retrain, run r1, task update)")


def test_skip_is_posted(webhook: Webhook):
    """As ``on_skipped_callback`` it is told that the endpoint keeps its model."""
    ModelUpdatedNotifier()(context(None, state="skipped"))
    assert "ended skipped; the endpoint keeps its model." in webhook.messages[0][1]["text"]


def test_result_that_cannot_be_read(webhook: Webhook):
    """A callback of a whole DAG, where no result can be read, still tells how it ended."""
    told = context(state="success")
    told["ti"].xcom_pull = None
    ModelUpdatedNotifier()(told)
    assert "The task ended success" in webhook.messages[0][1]["text"]


async def test_deadline_is_posted_from_the_event_loop(webhook: Webhook):
    """A deadline alert awaits the notifier in the triggerer, with the run as plain JSON."""
    run, due = {"dag_id": "retrain", "dag_run_id": "r1"}, datetime(2026, 1, 16, 6, tzinfo=UTC)
    await ModelUpdatedNotifier(context={"deadline": {"id": 1, "deadline_time": due}, "dag_run": run})
    assert webhook.messages[0][1]["text"] == "A deadline has passed: 2026-01-16 06:00 UTC. (DAG retrain, run r1)"


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_refusals_do_not_show_the_address(webhook: Webhook, status: int, caplog: pytest.LogCaptureFixture):
    """A webhook that refuses is an error that names the connection, not the address; redirects are not followed."""
    webhook.status = status
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(AirflowException, match=f"did not accept the message: HTTP {status}") as blocking:
            ModelUpdatedNotifier()(context())
        with pytest.raises(AirflowException, match=f"HTTP {status}") as awaited:
            await ModelUpdatedNotifier(context=context())
    assert len(webhook.messages) == 2
    assert SECRET not in str(blocking.value) + str(awaited.value)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("urllib3")]
    assert SECRET not in "".join(ours)


def test_address_and_path_are_masked(webhook: Webhook, monkeypatch: pytest.MonkeyPatch):
    """Both are given to Airflow's masker: at debug level the HTTP library logs the path by itself."""
    masked: list[str] = []
    monkeypatch.setattr("airflow_provider_azureml_classic.notifications.mask_secret", masked.append)
    ModelUpdatedNotifier()(context())
    assert f"/services/{SECRET}" in masked
    assert f"{webhook.url}/services/{SECRET}" in masked


async def test_no_answer_does_not_show_the_address(monkeypatch: pytest.MonkeyPatch):
    """A webhook that is not there is an error without the address, which the libraries' own texts have."""
    connection = {"conn_type": "http", "host": "http://127.0.0.1:1", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(connection))
    with pytest.raises(AirflowException, match="'hook' did not accept the message: ConnectionError") as blocking:
        ModelUpdatedNotifier(webhook_conn_id="hook")(context())
    with pytest.raises(AirflowException, match="'hook' did not accept the message: Client") as awaited:
        await ModelUpdatedNotifier(webhook_conn_id="hook", context=context())
    assert SECRET not in str(blocking.value) + str(awaited.value)
    for error in (blocking.value, awaited.value):
        assert (error.__cause__, error.__suppress_context__) == (None, True)


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"host": "https://h/services", "password": "a/b"}, "https://h/services/a/b"),
        ({"host": "https://h/whole"}, "https://h/whole"),
        ({"host": "h", "schema": "http", "port": 81, "password": "/x"}, "http://h:81/x"),
        ({"host": "h/path", "port": 81}, "https://h:81/path"),
        ({"host": "http://h:82", "port": 81}, "http://h:82"),
    ],
)
def test_address_of_a_connection(fields: dict[str, Any], address: str):
    """Host, schema, port and password make the address, as in HTTP and Slack connections."""
    assert webhook_address(Connection(conn_id="c", conn_type="http", **fields)) == address


def test_connection_without_host():
    """A connection without a host is refused by name."""
    with pytest.raises(ValueError, match="Connection 'c' lacks host"):
        webhook_address(Connection(conn_id="c", conn_type="http"))

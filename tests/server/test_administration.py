"""``azureml-classic keys``, ``quota`` and ``audit``, against a service in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.cli.arguments import parser
from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.cli.session import DONE, Session
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from tests.support.customers import Customer, added, apart
from tests.support.service import SCORING


@pytest.fixture
def customer(trained: Path, tmp_path: Path) -> Iterator[Customer]:
    """One of a service that keeps them apart."""
    with apart(trained, tmp_path) as service:
        yield added(service, "custa")


def answer(customer: Customer, *words: str) -> Any:
    """What a command prints as JSON."""
    out = io.StringIO()
    arguments = parser().parse_args(words)
    session = Session(customer.service.client, None, arguments, Output("json", out, io.StringIO()))  # type: ignore[arg-type]
    assert arguments.run(session) == DONE
    return json.loads(out.getvalue() or "null")


@pytest.mark.slow
def test_keys(customer: Customer) -> None:
    """Made, shown once, listed without itself, replaced and revoked only if that is meant."""
    place = (SCORING, "custa")
    end = "2030-01-01T00:00:00Z"
    made = answer(customer, "keys", "make", *place, "laptop", "--kind", "Retrain", "--expires-at", end)
    customer.keys["laptop"] = made["key"]
    assert customer.ask("GET", "/customer", key="laptop").status == 200
    (listed,) = answer(customer, "keys", "list", *place)
    assert (listed["name"], listed["kind"], "key" in listed) == ("laptop", "Retrain", False)
    for words in (("make", *place, "laptop", "--kind", "ScoreOnly"), ("revoke", *place, "laptop")):
        with pytest.raises(ValueError, match="--yes"):
            answer(customer, "keys", *words)
    answer(customer, "keys", "revoke", *place, "laptop", "--yes")
    assert customer.ask("GET", "/customer", key="laptop").status == 401
    with pytest.raises(ValueError, match="--expires-at soon: expected a time"):
        answer(customer, "keys", "make", *place, "x", "--kind", "Retrain", "--expires-at", "soon")
    with pytest.raises(AzureMLClassicError, match="There is no key 'laptop'"):
        answer(customer, "keys", "revoke", *place, "laptop", "--yes")


@pytest.mark.slow
def test_quota(customer: Customer) -> None:
    """What is set counts at once, what is not mentioned stays, and ``none`` takes a limit away."""
    place = (SCORING, "custa")
    assert answer(customer, "quota", "set", *place, "--jobs-a-day", "0")["jobs_a_day"] == 0
    body = {"Inputs": {"input1": {"RelativeLocation": f"{customer.folder}/data.csv"}}, "GlobalParameters": {}}
    assert customer.submit(body).status == 403
    shown = answer(customer, "quota", "set", *place, "--bytes-kept", "99")
    assert (shown["jobs_a_day"], shown["bytes_kept"], shown["bytes_now"] > 99) == (0, 99, True)
    shown = answer(customer, "quota", "set", *place, "--jobs-a-day", "none", "--bytes-kept", "none")
    assert answer(customer, "quota", "show", *place) == shown
    assert (shown["jobs_a_day"], shown["bytes_kept"]) == (None, None)
    assert customer.submit(body).status == 200
    for words, message in ((("--jobs-a-day", "few"), "expected a whole number"), ((), "Nothing to change")):
        with pytest.raises(ValueError, match=message):
            answer(customer, "quota", "set", *place, *words)


def test_audit(customer: Customer) -> None:
    """The last operations, over pages."""
    entries = answer(customer, "audit", "--limit", "1")
    assert [(one["who"], one["what"], one["status"]) for one in entries] == [("workspace token", "add_endpoint", 201)]

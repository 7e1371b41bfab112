"""The API document of the management operations."""

from __future__ import annotations

import json
import re
from pathlib import Path

from airflow_provider_azureml_classic.protocol.management import management_document

KEPT = json.loads(Path(__file__).with_name("management.json").read_text())


def test_the_document_is_what_clients_were_generated_from() -> None:
    """A change is seen, and written into the kept document, only if it is meant: clients that are generated of it by
    anybody change with it."""
    assert management_document("https://h.example:8000/base") == KEPT
    root = management_document("http://h.example")
    assert (root["host"], root["basePath"], root["schemes"]) == ("h.example", "/", ["http"])


def test_every_definition_is_there_and_used() -> None:
    """No reference leads nowhere, and none is written for nobody."""
    referred = set(re.findall(r"#/definitions/(\w+)", json.dumps(KEPT)))
    assert referred == set(KEPT["definitions"])

"""The audit list: what is written is read, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.audit import AuditEntry, AuditPage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENTRY = AuditEntry(7, NOON, "workspace token", "patch_endpoint", "bikes/mine", "192.0.2.7", 200)
WIRE = {
    "Number": 7,
    "At": "2026-03-01T12:00:00Z",
    "Who": "workspace token",
    "What": "patch_endpoint",
    "Target": "bikes/mine",
    "From": "192.0.2.7",
    "Status": 200,
}


def test_an_entry() -> None:
    """Every member under its name; what is not told is empty, and a status that is no number is none."""
    assert ENTRY.to_wire() == WIRE
    assert AuditEntry.from_wire(WIRE) == ENTRY
    bare = {"Number": 7, "At": WIRE["At"], "Who": None, "Status": "200"}
    assert AuditEntry.from_wire(bare) == AuditEntry(7, NOON, "", "", "", "", None)


def test_a_page() -> None:
    """Entries, and where the next page begins."""
    for page in (AuditPage((ENTRY,), 7), AuditPage(())):
        assert AuditPage.from_wire(page.to_wire()) == page
    assert AuditPage((ENTRY,), 7).to_wire() == {"Entries": [WIRE], "Next": 7}


@pytest.mark.parametrize("data", [None, [], {}, {"Entries": {}}, {"Entries": [], "Next": "7"}])
def test_no_page(data: Any) -> None:
    """An answer of another shape is an error of the protocol."""
    with pytest.raises(ProtocolError, match="The answer is not an audit list"):
        AuditPage.from_wire(data)


@pytest.mark.parametrize("data", [None, [], {}, {**WIRE, "At": "noon"}, {**WIRE, "Number": "7"}])
def test_no_entry(data: Any) -> None:
    """One without a time or a number is an error of the protocol."""
    with pytest.raises(ProtocolError, match="no time or number"):
        AuditPage.from_wire({"Entries": [data]})

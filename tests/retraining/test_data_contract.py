"""What people are told of data beside those of the live model."""

from __future__ import annotations

from typing import Any

from airflow_provider_azureml_classic.protocol.data_check import BROKEN, NEVER, NOT_KNOWN, NOTE, SATISFIED, VIOLATED
from airflow_provider_azureml_classic.retraining.data_contract import as_expected, columns_as_before, sentences, tell


def test_a_live_model_is_named_only_where_there_is_one() -> None:
    """A verdict is beside the live model; without one, that is said instead. Only a violation is a warning."""
    info, warnings = list[str](), list[str]()
    for verdict in (SATISFIED, NOT_KNOWN, VIOLATED):
        tell({"verdict": verdict, "findings": []}, info.append, warnings.append)
    assert info[0] == "Data check against the live model: satisfied."
    assert info[1].startswith("Data check: there is no live model")
    assert warnings == ["Data check against the live model: violated."]


def findings(*levels: str) -> dict[str, Any]:
    """What a service says of data, with these findings."""
    return {"verdict": VIOLATED, "findings": [{"level": one, "message": f"{n}."} for n, one in enumerate(levels)]}


def test_findings_that_are_more_than_notes_are_told() -> None:
    """The first three of them in a sentence, and how many more there are; in a log all, notes quietly."""
    assert sentences(findings(NOTE, BROKEN, NEVER, BROKEN)) == "1. 2. 3."
    assert sentences(findings(BROKEN, NOTE, *[BROKEN] * 4)) == "0. 2. 3. And 2 more."
    assert sentences(findings(*[BROKEN] * 4)) == "0. 1. 2. And 1 more."
    assert sentences(findings(NOTE)) == ""
    info, warnings = list[str](), list[str]()
    tell(findings(NOTE, BROKEN), info.append, warnings.append)
    assert info == ["note: 0."]
    assert warnings == ["Data check against the live model: violated.", "broken: 1."]
    tell(None, info.append, warnings.append)
    assert len(info) == 1


def test_whether_data_are_as_before() -> None:
    """Satisfied, with labels shared out as before; what nobody knows is not known."""
    for verdict, labels, expected in (
        (SATISFIED, True, True),
        (SATISFIED, False, False),
        (SATISFIED, None, False),
        (VIOLATED, True, False),
        (NOT_KNOWN, True, None),
    ):
        assert as_expected({"verdict": verdict, "labels_as_before": labels}) is expected
    assert as_expected(None) is None
    assert [columns_as_before(one) for one in (None, {}, {"columns_as_before": True})] == [None, None, True]

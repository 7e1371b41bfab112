"""What people are told of data beside those of the live model."""

from __future__ import annotations

from airflow_provider_azureml_classic.protocol.data_check import NOT_KNOWN, SATISFIED, VIOLATED
from airflow_provider_azureml_classic.retraining.data_contract import tell


def test_a_live_model_is_named_only_where_there_is_one() -> None:
    """A verdict is beside the live model; without one, that is said instead. Only a violation is a warning."""
    info, warnings = list[str](), list[str]()
    for verdict in (SATISFIED, NOT_KNOWN, VIOLATED):
        tell({"verdict": verdict, "findings": []}, info.append, warnings.append)
    assert info[0] == "Data check against the live model: satisfied."
    assert info[1].startswith("Data check: there is no live model")
    assert warnings == ["Data check against the live model: violated."]

"""The list of changes that no test is asked to notice tells of code that is there."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.support import ROOT

EXPLAINED = tomllib.loads((Path(__file__).with_name("explained.toml")).read_text())


def test_each_explained_change_is_of_code_that_is_there() -> None:
    """Whoever changes the code sees that the reason is to be thought of again."""
    clean = EXPLAINED.pop("clean")
    for module in {*clean, *EXPLAINED}:
        path = ROOT / "airflow_provider_azureml_classic" / module.replace(".", "/")
        text = " ".join(path.with_suffix(".py").read_text().split())
        for change, reason in EXPLAINED.get(module, {}).items():
            function, _, lines = change.rstrip("*").partition(": ")
            assert f"def {function.rpartition('.')[2]}(" in text, change
            assert lines.partition(" -> ")[0] in text, change
            assert len(reason) > 10, change

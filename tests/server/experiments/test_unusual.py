"""Cells that a model did not see in its training are counted for calls that ask for details."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, TraceLevel
from airflow_provider_azureml_classic.server.experiments import Experiment, Scorer, train
from airflow_provider_azureml_classic.server.experiments.unusual import Unusual
from tests.support.service import Service


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A model of days as numbers, which are shifted, of small numbers and of colours."""
    folder, draw = tmp_path_factory.mktemp("unusual"), random.Random(0)  # noqa: S311 - test data
    rows = [f"{20_260_101 + n % 28},{n % 10},{draw.choice(('red', 'green'))},{n % 7}" for n in range(120)]
    (folder / "d.csv").write_text("\n".join(["day,n,colour,y", *rows, ""]))
    experiment = Experiment("T", "boosting-regressor", "y", "d.csv", folder)
    train(experiment, None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv")
    found = Scorer.load(folder / "m.ilearner")
    assert found.manifest.schema.offsets
    return found


@pytest.mark.parametrize(
    ("row", "unknown", "outside"),
    [
        ((20_260_101, 0, "red"), 0, 0),
        ((20_260_128, 9, " green "), 0, 0),
        ((20_260_100, 9, "red"), 0, 1),
        ((20_260_129, "9.5", "blue"), 1, 2),
        ((None, None, None), 0, 0),
        (("", "?", "?"), 0, 0),
        ((20_260_101, -1, 7), 1, 1),
    ],
)
@pytest.mark.parametrize("times", [1, 40])
def test_unusual_cells(scorer: Scorer, row: tuple[Any, ...], unknown: int, outside: int, times: int) -> None:
    """Numbers outside of their range, at its very ends too, and categories that are not known; nothing is neither. Few
    rows, many rows and rows that are scored together with others count alike.
    """
    table, calls = Table(("day", "n", "colour"), [list(row)] * times), list[Unusual]()
    scorer.score(table, (), None, calls.append)
    assert calls == [Unusual(times, unknown * times, outside * times)]
    assert scorer.unusual(table, scorer.encoded(table)) == calls[0]


def test_a_call_without_rows_or_details_counts_nothing(scorer: Scorer) -> None:
    """There is nothing to count."""
    calls: list[Unusual] = []
    scorer.score(Table(("day", "n", "colour"), []), (), None, calls.append)
    assert calls == []


def test_calls_with_details_are_counted(service: Service, scorer: Scorer) -> None:
    """For the metrics of the server, and in the diagnostics log of the endpoint, where it has one."""
    endpoint: Endpoint = service.client.add_endpoint(service.scoring, "mine")
    settings = EndpointSettings(diagnostics_trace_level=TraceLevel.ALL)
    service.client.patch_endpoint(endpoint, settings)
    path = service.api_path(endpoint, "/execute")
    for query in ("", "&details=true"):
        body = {"Inputs": {"input1": [{"x": 1.0}, {"x": 99.0}]}}
        assert service.ask("POST", path + query, body, key=endpoint.primary_key).status == 200
    assert service.app._scoring.unusual.total == (2, 0, 1)
    service.close()
    folder = service.settings.data_dir / "blobs" / "ml-diagnostics"
    logs = sorted((json.loads(file.read_text()) for file in folder.rglob("score/requests/*.json")), key=len)
    assert ["rows" in log for log in logs] == [False, True]
    assert (logs[1]["rows"], logs[1]["unknownCategories"], logs[1]["outsideTrainedRange"]) == (2, 0, 1)

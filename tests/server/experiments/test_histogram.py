"""What a model is asked is counted in the bins of its training."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, TraceLevel
from airflow_provider_azureml_classic.server.experiments import Experiment, Scorer, train
from airflow_provider_azureml_classic.server.experiments.histogram import MORE, Unusual
from tests.support.service import Service


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A model of days as numbers, which are shifted, of small numbers and of colours."""
    folder, draw = tmp_path_factory.mktemp("unusual"), random.Random(0)  # noqa: S311 - test data
    colours = [draw.choice(("red", "green")) if n % 10 else "" for n in range(120)]
    rows = [f"{20_260_101 + n % 28},{n % 10},{colour},{n % 7}" for n, colour in enumerate(colours)]
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
    rows and many rows count alike.
    """
    table, calls = Table(("day", "n", "colour"), [list(row)] * times), list[Any]()
    scorer.score(table, (), None, calls.append)
    assert scorer.unusual(calls[0], table) == Unusual(times, unknown * times, outside * times)


def test_training_rows_fall_into_the_bins_as_the_profile_says(scorer: Scorer) -> None:
    """Also numbers of few values, of which many equal a quantile, and rows without a value."""
    histogram = scorer.histogram
    colours = [["red", "green", None][n % 3] for n in range(120)]
    table = Table(("day", "n", "colour"), [[20_260_101 + n % 28, n % 10, colours[n]] for n in range(120)])
    calls: list[Any] = []
    scorer.score(table, (), None, calls.append)
    counts, start = histogram.count(calls[0], ((row, table.column_names) for row in table.values)).tolist(), 0
    for expected in histogram.expected:
        assert expected.shares is not None
        assert sum(expected.shares) == pytest.approx(1, abs=1e-3)
        bins = counts[start : start + expected.bins]
        if expected.name != "colour":
            assert [count / 120 for count in bins] == pytest.approx(expected.shares[:-1], abs=1e-3)
        assert len(bins) >= 3
        start += expected.bins + MORE
    assert counts[-MORE:] == [40, 0, 0]
    assert histogram.expected[-1].shares[-1] == pytest.approx(0.1)  # type: ignore[index]


def test_a_call_without_rows_counts_nothing(scorer: Scorer) -> None:
    """There is nothing to count."""
    calls: list[Any] = []
    scorer.score(Table(("day", "n", "colour"), []), (), None, calls.append)
    assert calls == []


def test_unusual_cells_are_told(service: Service) -> None:
    """Those of all calls in the metrics of the server; those of a call in the diagnostics log of its endpoint, if it
    asks for details.
    """
    endpoint: Endpoint = service.client.add_endpoint(service.scoring, "mine")
    settings = EndpointSettings(diagnostics_trace_level=TraceLevel.ALL)
    service.client.patch_endpoint(endpoint, settings)
    path = service.api_path(endpoint, "/execute")
    for query in ("", "&details=true"):
        body = {"Inputs": {"input1": [{"x": 1.0}, {"x": 99.0}]}}
        assert service.ask("POST", path + query, body, key=endpoint.primary_key).status == 200
    service.app._scoring.intake.settle()
    assert service.app._scoring.intake.unusual == (4, 0, 2)
    service.close()
    folder = service.settings.data_dir / "blobs" / "ml-diagnostics"
    logs = sorted((json.loads(file.read_text()) for file in folder.rglob("score/requests/*.json")), key=len)
    assert ["rows" in log for log in logs] == [False, True]
    assert (logs[1]["rows"], logs[1]["unknownCategories"], logs[1]["outsideTrainedRange"]) == (2, 0, 1)

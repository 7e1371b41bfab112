"""What the graph of a model may hold, what is refused, and what becomes of models from before there were rules."""

from __future__ import annotations

import contextvars
import json
import logging
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.experiments import (
    Experiment,
    Scorer,
    conversion,
    graph,
    graph_rules,
    trial,
)
from airflow_provider_azureml_classic.server.experiments.trial import Question, tried
from airflow_provider_azureml_classic.server.models.trials import Trials
from airflow_provider_azureml_classic.server.state.overview import Queries
from airflow_provider_azureml_classic.server.web.lanes import Lane
from airflow_provider_azureml_classic.server.workspace.workspace import Caller
from tests.server.experiments import zoo
from tests.support import graphs
from tests.support.service import TRAINING, Service

EXPERIMENT = Experiment(name="Zoo", estimator="e", label="y", first_data="x.csv", directory=Path())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_graph_may_hold_what_is_written_for_the_estimators_and_nothing_else() -> None:
    """All of them are converted into graphs that keep the rules, and each operator allowed is one of theirs."""
    written: set[tuple[str, str]] = set()
    for name, schema, model, matrix, truth in zoo.models():
        content, _ = conversion.to_onnx(EXPERIMENT, schema, model, matrix, truth, np.arange(len(matrix)))
        assert graph_rules.problem(content) is None, name
        written |= graph_rules.operators(content)
    assert written == {(domain, name) for domain, names in graph_rules.OPERATORS.items() for name in names}


REFUSED: dict[str, tuple[bytes, str]] = {
    "a loop": (graphs.looping(), "operator 'Loop'"),
    "a branch": (graphs.branching(), "operator 'If'"),
    **{
        f"{kind} of what is scored": (graphs.sized(kind), f"the shape that {kind} makes depends")
        for kind in ("ConstantOfShape", "Reshape", "TopK", "Slice")
    },
    **{f"{kind} of what is scored": (graphs.sized(kind), f"operator '{kind}'") for kind in ("Expand", "Range")},
    **{kind: (graphs.picking(kind), f"operator '{kind}'") for kind in ("NonZero", "Unique", "Compress")},
    "a calculated shape": (graphs.calculated_shape(), "the shape that ConstantOfShape makes depends"),
    "an operator in Scan": (graphs.scanning("NonZero"), "operator 'NonZero'"),
    "a shape in Scan": (graphs.scanning("ConstantOfShape"), "the shape that ConstantOfShape makes depends"),
    "an operator in a function": (graphs.functional("NonZero"), "operator 'NonZero'"),
    "a function named like an operator": (graphs.functional("Identity", "", "NonZero"), "operator 'NonZero'"),
    "a second graph": (graphs.fine() + graphs.looping(), "operator 'Loop'"),
    "half a graph": (graphs.fine()[:-20], "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_must_not_hold(name: str) -> None:
    """It is named."""
    content, said = REFUSED[name]
    assert said in str(graph_rules.problem(content))


@pytest.mark.parametrize("content", [graphs.fine(), graphs.scanning("Identity"), graphs.functional("Identity")])
def test_what_a_graph_may_hold(content: bytes) -> None:
    """Scan and functions are no fault, as long as there is none in them."""
    assert graph_rules.problem(content) is None


def test_what_only_looks_like_a_graph_is_no_fault_of_the_server() -> None:
    """Any bytes are read to their end, or refused."""
    content = graphs.scanning("Identity")
    for position in range(len(content)):
        for byte in (0, 255, content[position] ^ 1):
            graph_rules.problem(content[:position] + bytes([byte]) + content[position + 1 :])


@pytest.mark.parametrize(
    "name", ["a loop", "a branch", "ConstantOfShape of what is scored", "an operator in a function"]
)
def test_a_training_whose_graph_breaks_a_rule_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails with the reason, instead of leaving a model that cannot be put in place."""
    _, schema, model, matrix, truth = next(zoo.models())
    content, said = REFUSED[name]
    monkeypatch.setattr(conversion, "_converted", lambda *_: onnx.load_from_string(content))
    with pytest.raises(RequestRejected, match=said):
        conversion.to_onnx(EXPERIMENT, schema, model, matrix, truth, np.arange(len(matrix)))


# -- putting in place --------------------------------------------------------------------------------------------------


@pytest.fixture
def file_of(trained: Path, tmp_path: Path) -> Callable[[bytes], Path]:
    """Makes model files of the experiment with one number."""
    ten = trained / "data" / "blobs" / "models" / "ten.ilearner"
    return lambda content: graphs.put_in(ten, content, tmp_path / "made.ilearner")


def test_a_model_that_breaks_a_rule_is_not_put_in_place(
    service: Service, scorer: Endpoint, file_of: Callable[[bytes], Path]
) -> None:
    """A PATCH with it is refused with what is wrong, and the endpoint goes on with the model that it has."""
    for content, said in ((graphs.looping(), "Loop"), (graphs.sized(), "depends on what is scored")):
        place = service.put_blob("models/bad.ilearner", file_of(content).read_bytes())
        answer = service.patch("mine", place)
        assert answer.status == 400
        detail = json.loads(answer.body)["error"]["details"][0]
        assert detail["code"] == "ModelInvalid"
        assert said in detail["message"]
    assert service.slope(scorer) == 2


def test_a_model_gives_as_many_answers_as_rows(
    service: Service, scorer: Endpoint, file_of: Callable[[bytes], Path]
) -> None:
    """One that is right for one row is tried with several before it is put in place."""
    place = service.put_blob("models/one.ilearner", file_of(graphs.one_answer()).read_bytes())
    answer = service.patch("mine", place)
    assert answer.status == 400
    assert b"for each of 2 rows" in answer.body
    assert (
        service.patch("mine", service.put_blob("models/f.ilearner", file_of(graphs.fine()).read_bytes())).status == 200
    )


def test_a_model_of_before_is_tried_before_it_is_put_back(
    service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going back in the history is putting in place, too."""
    seen: list[Path] = []
    assert service.patch("mine", service.signed("models/ten.ilearner")).status == 200
    monkeypatch.setattr(service.app._scoring._models, "_trial", seen.append)
    guid = scorer.api_location.rpartition("/")[2]
    first = Queries(service.app._workspace._store._db).history(guid)[-1]
    service.app._updates.roll_back(Caller(), service.scoring, "mine", first.number)
    assert [path.parent.name for path in seen] == ["models"]


@pytest.fixture
def trials() -> Iterator[Trials]:
    """Processes for trials, with little time."""
    made = Trials(1, cpu_seconds=2)
    yield made
    made.close()


@pytest.mark.slow
def test_a_trial_ends(trials: Trials, file_of: Callable[[bytes], Path]) -> None:
    """Whatever takes too long or too much memory is refused, and the next model is tried."""
    trials(file_of(graphs.fine()))
    for content in (graphs.hungry(), graphs.hungry(50 << 20), graphs.widening(), graphs.doubling()):
        with pytest.raises(RequestRejected, match=r"it takes more than 3\d MiB of memory for 512 rows"):
            trials(file_of(content))
    trials(file_of(graphs.doubling(8)))
    with pytest.raises(RequestRejected, match="trial was ended"):
        trials(file_of(graphs.slow()))
    with pytest.raises(RequestRejected, match="Loop"):
        trials(file_of(graphs.looping()))
    question = Question(file_of(graphs.fine()), TRAINING, Table(("x",), [[4.0]]))
    assert [float(cell) for cell in trials.ask(question).answers.column("Scored Labels")] == [8.0]
    with pytest.raises(RequestRejected, match="no column 'x'"):
        trials.ask(replace(question, rows=Table(("z",), [[4.0]])))
    with pytest.raises(RequestRejected, match="trial was ended"):
        trials.ask(replace(question, model=file_of(graphs.slow())))


@pytest.mark.slow
def test_a_trial_that_is_killed_is_told(trials: Trials, file_of: Callable[[bytes], Path]) -> None:
    """A process that is gone has refused its model, and another takes its place."""
    path = file_of(graphs.fine())
    trials(path)
    (process,) = trials._idle
    process.kill()
    process.wait()
    with pytest.raises(RequestRejected, match="trial was ended"):
        trials(path)
    trials(path)
    assert trials._idle != [process]


def test_a_trial_ends_with_the_server(file_of: Callable[[bytes], Path]) -> None:
    """One that is under way does not hold up the end, and no process is left."""
    trials = Trials(1, cpu_seconds=100)
    errors: list[str] = []

    def run() -> None:
        try:
            trials(file_of(graphs.slow()))
        except AzureMLClassicError as error:
            errors.append(error.message)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not trials._busy:
        threading.Event().wait(0.01)
    (process,) = trials._busy
    trials.close()
    thread.join(30)
    assert not thread.is_alive()
    assert process.poll() is not None
    assert errors
    with pytest.raises(AzureMLClassicError, match="stopping"):
        trials(file_of(graphs.fine()))


@pytest.mark.slow
def test_a_trial_ends_silently_if_its_server_was_killed(file_of: Callable[[bytes], Path]) -> None:
    """What it says is for nobody, and no error in a log."""
    process = subprocess.Popen(
        [sys.executable, "-m", trial.__name__, "10"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write(json.dumps(Question(file_of(graphs.fine())).to_json()) + "\n")
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    with process.stderr as errors:
        assert errors.read() == ""


# -- what is in place already ------------------------------------------------------------------------------------------


@pytest.fixture
def old(
    service: Service, scorer: Endpoint, file_of: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> Service:
    """A service whose endpoint got a model with a loop before there were rules."""
    models = service.app._scoring._models
    monkeypatch.setattr(models, "_trial", lambda path: None)
    place = service.put_blob("models/old.ilearner", file_of(graphs.looping()).read_bytes())
    assert service.patch("mine", place).status == 200
    models._loaded.clear()
    return service


def ask(service: Service, endpoint: Endpoint, cell: float) -> Any:
    """Ask for a score."""
    body = {"Inputs": {"input1": {"ColumnNames": ["x"], "Values": [[cell]]}}}
    return service.ask("POST", service.api_path(endpoint, "/execute"), body, key=endpoint.primary_key)


def test_a_model_from_before_the_rules_goes_on_answering(
    old: Service, scorer: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log, and never answered where others would have to wait."""
    path = old.api_path(scorer, "/execute").partition("?")[0]
    with caplog.at_level(logging.WARNING):
        assert ask(old, scorer, 3).status == 200
    assert "would not be put in place today: it has the operator 'Loop'" in caplog.text
    assert "'Line'" in caplog.text
    assert old.app.lane("POST", path, b"{}") is Lane.THREAD
    assert old.app._scoring.predictor(old.app._workspace.cached(path.rsplit("/", 2)[1])) is None


@pytest.mark.slow
def test_a_model_from_before_the_rules_is_ended(
    old: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may go round for so many seconds as it likes."""
    assert ask(old, scorer, 1).status == 200
    monkeypatch.setattr(graph, "LIMIT_SECONDS", 0.2)
    answer = ask(old, scorer, 1e18)
    assert answer.status == 408
    assert b"ScoreRequestTimeout" in answer.body
    monkeypatch.undo()
    assert ask(old, scorer, 2).status == 200


def test_a_usual_model_is_answered_at_once(service: Service, scorer: Endpoint) -> None:
    """Nothing of this is felt by others."""
    path = service.api_path(scorer, "/execute").partition("?")[0]
    assert ask(service, scorer, 1).status == 200
    assert service.app.lane("POST", path, b"{}") is Lane.LOOP


def test_a_slow_model_is_answered_in_a_thread(
    service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a few rows take is measured when a model is loaded."""
    monkeypatch.setattr(graph, "_seconds", lambda run, features: 1.0)
    path = service.api_path(scorer, "/execute").partition("?")[0]
    assert ask(service, scorer, 1).status == 200
    assert service.app.lane("POST", path, b"{}") is Lane.THREAD


# -- so many rows at a time --------------------------------------------------------------------------------------------


def test_a_session_is_given_some_rows_at_a_time(file_of: Callable[[bytes], Path]) -> None:
    """However many are asked for: the answers are those of all, in order, and no call is larger than the trial was."""
    scorer = Scorer.load(file_of(graphs.fine()))
    seen: list[int] = []
    run = scorer._run._run
    scorer._run._run = lambda matrix: (seen.append(len(matrix)), run(matrix))[1]
    answers = scorer.answers([[float(number)] for number in range(1300)])
    assert [float(answer[0]) for answer in answers] == [2.0 * number for number in range(1300)]
    assert seen == [graph.STEP, graph.STEP, 1300 - 2 * graph.STEP]


def test_a_call_ends_soon_after_its_caller_was_answered(file_of: Callable[[bytes], Path]) -> None:
    """Between two steps: of many rows, a slow model would hold its thread for hours."""
    scorer = Scorer.load(file_of(graphs.fine()))

    def answers() -> list[tuple[str, ...]]:
        graph.DEADLINE.set(0.0)
        return scorer.answers([[1.0]] * (graph.STEP + 1))

    with pytest.raises(AzureMLClassicError, match="Send fewer rows"):
        contextvars.copy_context().run(answers)
    assert len(scorer.answers([[1.0]] * (graph.STEP + 1))) == graph.STEP + 1


@pytest.mark.parametrize("profile", [{"columns": 5}, {"rows": "x"}, {"rows": 9, "columns": {"x": {"bins": [1, 2]}}}])
def test_a_damaged_profile_is_found_by_the_trial(file_of: Callable[[bytes], Path], profile: dict[str, Any]) -> None:
    """Later it would be met where calls are counted."""
    path = file_of(graphs.fine())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = json.dumps({"profile": profile}).encode()
    with pytest.raises(RequestRejected, match="profile is damaged"):
        tried(path)


@pytest.mark.slow
def test_neighbours_of_many_rows_are_given_fewer() -> None:
    """A row makes a distance to each row that was kept."""
    nodes = [graphs.node("CDist", "X c", "d", domain="com.microsoft"), graphs.node("ReduceMax", "d", "Y")]
    content = graphs.model(nodes, [graphs.constant("c", np.zeros(1 << 20), graphs.FLOAT, [1 << 20, 1])])
    assert graph.step_of(content) == 16
    assert graph.step_of(graphs.fine()) == graph.STEP


def test_the_trial_is_as_large_as_any_call(file_of: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a caller sends makes a run of more rows than one that was tried."""
    seen: list[int] = []
    monkeypatch.setattr(
        "airflow_provider_azureml_classic.server.experiments.scorer.fits_rows",
        lambda manifest, run, rows: not seen.append(rows),
    )
    tried(file_of(graphs.fine()))
    assert max(seen) == graph.STEP

"""Trees as tables of bits: the same answers as ONNX Runtime's, to the last bit, or they are not used."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression

from airflow_provider_azureml_classic.server.experiments import bit_trees, conversion
from airflow_provider_azureml_classic.server.experiments.bit_trees import BitTrees
from airflow_provider_azureml_classic.server.experiments.ensemble import Unsuitable
from airflow_provider_azureml_classic.server.experiments.forest import Forest, Run
from airflow_provider_azureml_classic.server.experiments.graph import ENOUGH, MANY, STEP, WARM, Graph
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Column, Schema

FEATURES = 6
Matrix = NDArray[np.float32]


def rows(count: int, *, missing: float = 0.0, seed: int = 0) -> Matrix:
    """Features of several kinds: many values, few, whole numbers, one that is hardly ever there, and a constant."""
    random = np.random.default_rng(seed)
    columns = [
        random.normal(size=count),
        random.integers(0, 4, count),
        random.integers(17, 90, count),
        random.exponential(1e4, count),
        np.where(random.random(count) < 0.7, np.nan, random.random(count)) if missing else random.random(count),
        np.zeros(count),
    ]
    made = np.stack(columns, axis=1).astype(np.float32)
    made[:, :3][random.random((count, 3)) < missing] = np.nan
    return made


def target(matrix: Matrix) -> NDArray[Any]:
    """Something to learn, for which missing values matter."""
    there = np.nan_to_num(matrix, nan=1.5)
    return there[:, 0] + np.sin(there[:, 1]) + there[:, 2] / 40 + np.log1p(there[:, 3]) / 5 + np.isnan(matrix[:, 4])


def graph_of(estimator: Any, *, missing: float = 0.0, classes: int = 2) -> bytes:
    """The graph of a fitted estimator."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    matrix = rows(1500, missing=missing)
    value = target(matrix)
    classifies = hasattr(estimator, "predict_proba")
    if classifies:
        value = np.digitize(value, np.quantile(value, np.arange(1, classes) / classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(matrix, value)
        types = [("X", FloatTensorType([None, FEATURES]))]
        options = {id(estimator): {"zipmap": False}} if classifies else None
        made = skl2onnx.to_onnx(estimator, initial_types=types, options=options, target_opset=conversion.OPSET)
    content: bytes = made.SerializeToString()
    return content


def runner(content: bytes) -> Run:
    """A session's call."""
    session = conversion.session(content)
    return lambda matrix: session.run(None, {conversion.INPUT: matrix})


def manifest(task: str, classes: tuple[str, ...] = ()) -> Manifest:
    """What a model file says about such a graph."""
    columns = tuple(Column(f"c{number}", NUMBER) for number in range(FEATURES))
    schema = Schema(task=task, label="y", features=columns, classes=classes)
    positive = classes[1] if classes else None
    return Manifest("E", task, schema, {}, 1, None, "", {}, "", positive=positive, probabilities=bool(classes))


def settled(graph: Graph, matrix: Matrix) -> list[NDArray[Any]]:
    """What a graph answers at last: the thread that the first call may have begun has ended."""
    graph(matrix)
    for thread in threading.enumerate():
        if thread.name == "trees":
            thread.join(60)
    return graph(matrix)


SUITABLE = {
    "classes": (HistGradientBoostingClassifier(max_iter=40), 0.0),
    "classes, missing values": (HistGradientBoostingClassifier(max_iter=40), 0.2),
    "64 leaves": (HistGradientBoostingClassifier(max_iter=10, max_leaf_nodes=64), 0.2),
    "number": (HistGradientBoostingRegressor(max_iter=40), 0.0),
    "number, missing values": (HistGradientBoostingRegressor(max_iter=40), 0.2),
    "deep and narrow": (HistGradientBoostingRegressor(max_iter=5, max_leaf_nodes=33, min_samples_leaf=2), 0.2),
    "one leaf": (HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=700), 0.0),
    "exact boosting, classes": (GradientBoostingClassifier(n_estimators=30), 0.0),
    "exact boosting, number": (GradientBoostingRegressor(n_estimators=30), 0.0),
}
UNSUITABLE = {
    "three classes": (HistGradientBoostingClassifier(max_iter=5), 3),
    "65 leaves": (HistGradientBoostingClassifier(max_iter=3, max_leaf_nodes=65, min_samples_leaf=2), 2),
    "forest, classes": (RandomForestClassifier(3, max_depth=4), 2),
    "no trees": (LogisticRegression(max_iter=1000), 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITABLE)
def test_answers_are_those_of_the_session(name: str) -> None:
    """Labels, probabilities and numbers of 20,000 rows, with and without missing values: the same bits."""
    estimator, missing = SUITABLE[name]
    content = graph_of(estimator, missing=missing)
    run = runner(content)
    forest = Forest.read(content)
    trees = BitTrees(forest)
    assert forest.agrees(run, FEATURES)
    assert trees.agrees(run, FEATURES)
    for matrix in (rows(20_000, seed=1), rows(20_000, missing=0.3, seed=2)):
        for some, answers in ((matrix, trees), (matrix[:2000], forest)):
            for mine, theirs in zip(answers(some), run(some), strict=True):
                assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
                assert np.array_equal(mine, theirs)


@pytest.mark.slow
def test_parts_and_single_rows_are_answered_alike() -> None:
    """How many rows come at once changes nothing."""
    content = graph_of(SUITABLE["classes, missing values"][0], missing=0.2)
    run = runner(content)
    forest = Forest.read(content)
    trees = BitTrees(forest)
    matrix = rows(1000, missing=0.2, seed=3)
    for count in (1, 2, 16, 17, 255, 256, 257, 513, 1000):
        assert np.array_equal(trees(matrix[:count])[1], run(matrix[:count])[1])
        assert np.array_equal(forest(matrix[:count])[1], run(matrix[:count])[1])


@pytest.mark.slow
def test_infinite_and_huge_numbers_are_beyond_every_threshold() -> None:
    """A split between missing values and all others has an infinite threshold."""
    content = graph_of(SUITABLE["number, missing values"][0], missing=0.2)
    run = runner(content)
    matrix = rows(300, seed=4)
    matrix[::3, 0], matrix[1::3, 3], matrix[2::3, 4] = np.inf, -np.inf, 3e38
    assert np.array_equal(BitTrees(Forest.read(content))(matrix)[0], run(matrix)[0])
    assert np.array_equal(Forest.read(content)(matrix)[0], run(matrix)[0])


@pytest.mark.parametrize("name", UNSUITABLE)
def test_other_graphs_are_left_to_the_session(name: str) -> None:
    """They are recognized, and answered all the same."""
    estimator, classes = UNSUITABLE[name]
    content = graph_of(estimator, classes=classes)
    with pytest.raises(Unsuitable):
        Forest.read(content)
    graph = Graph(manifest("classification", tuple("abc"[:classes])), content, lambda: content)
    matrix = rows(ENOUGH, seed=5)
    assert np.array_equal(settled(graph, matrix)[1], runner(content)(matrix)[1])
    assert graph._trees is None


def test_a_forests_mean_is_left_to_the_session() -> None:
    """Its trees have more leaves than a word has bits."""
    content = graph_of(RandomForestRegressor(3))
    with pytest.raises(Unsuitable, match="leaves"):
        Forest.read(content)


def test_nodes_with_two_parents_are_not_walked_for_ever() -> None:
    """A graph from elsewhere may be drawn so that a tree of sixty nodes has a quintillion leaves."""
    from onnx import TensorProto, helper

    levels = 60
    numbers = list(range(levels + 1))
    below = [*numbers[1:], 0]
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["X"],
        ["Y"],
        domain="ai.onnx.ml",
        n_targets=1,
        post_transform="NONE",
        nodes_treeids=[0] * len(numbers),
        nodes_nodeids=numbers,
        nodes_featureids=[0] * len(numbers),
        nodes_modes=["BRANCH_LEQ"] * levels + ["LEAF"],
        nodes_values=[0.5] * len(numbers),
        nodes_truenodeids=below,
        nodes_falsenodeids=below,
        target_treeids=[0],
        target_nodeids=[levels],
        target_ids=[0],
        target_weights=[1.0],
    )
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, FEATURES])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1])
    content = helper.make_model(helper.make_graph([node], "g", [x], [y])).SerializeToString()
    with pytest.raises(Unsuitable, match="leaves"):
        Forest.read(content)


@pytest.mark.slow
def test_tables_beyond_the_limit_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of a model is bounded."""
    content = graph_of(SUITABLE["classes"][0])
    monkeypatch.setattr(bit_trees, "_LARGEST", 1000)
    with pytest.raises(Unsuitable, match="bytes"):
        BitTrees(Forest.read(content))


@pytest.mark.slow
def test_tables_are_made_once_they_have_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that are asked for few rows have none; others make theirs once, whoever asks."""
    content = graph_of(SUITABLE["classes"][0])
    made: list[int] = []
    tables = bit_trees.BitTrees
    monkeypatch.setattr(bit_trees, "BitTrees", lambda forest: made.append(1) or tables(forest))
    graph = Graph(manifest("classification", ("a", "b")), content, lambda: content)
    matrix = rows(ENOUGH, seed=6)
    expected = runner(content)(matrix)[1]
    for _ in range(ENOUGH // (MANY - 1) + 1):
        graph(matrix[: MANY - 1])
    graph(matrix[: ENOUGH - 1])
    assert not made
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: graph(matrix)[1], range(12)):
            assert np.array_equal(answer, expected)
    assert np.array_equal(settled(graph, matrix)[1], expected)
    assert len(made) == 1
    assert graph._trees is not None


@pytest.mark.slow
def test_nobody_waits_for_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that has them made is answered by the session meanwhile: it may come from the event loop."""
    content = graph_of(SUITABLE["number"][0])
    asked, go_on = threading.Event(), threading.Event()
    tables = bit_trees.BitTrees

    def made(forest: Forest) -> BitTrees:
        asked.set()
        assert go_on.wait(60)
        return tables(forest)

    monkeypatch.setattr(bit_trees, "BitTrees", made)
    graph = Graph(manifest("regression"), content, lambda: content)
    matrix = rows(ENOUGH, seed=9)
    expected = runner(content)(matrix)[0]
    assert np.array_equal(graph(matrix)[0], expected)
    assert asked.wait(60)
    assert np.array_equal(graph(matrix)[0], expected)
    assert graph._trees is None
    go_on.set()
    assert np.array_equal(settled(graph, matrix)[0], expected)
    assert graph._trees is not None


@pytest.mark.slow
def test_tables_that_answer_otherwise_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release of ONNX Runtime may add in another order; then the session answers, as before."""
    content = graph_of(SUITABLE["number"][0])
    for kind in (BitTrees, Forest):
        sums = kind._scores
        monkeypatch.setattr(
            kind, "_scores", lambda trees, matrix, sums=sums: np.nextafter(sums(trees, matrix), np.float32(9e9))
        )
    graph = Graph(manifest("regression"), content, lambda: content)
    matrix = rows(ENOUGH, seed=7)
    assert not graph.slim()
    assert np.array_equal(settled(graph, matrix)[0], runner(content)(matrix)[0])
    assert graph._trees is None


@pytest.mark.slow
def test_trees_answer_without_a_session() -> None:
    """A graph that was made slim answers alike, whatever it is asked; many rows bring its session back at once, and so
    do many calls, which do not wait for it."""
    content, reads = graph_of(SUITABLE["classes, missing values"][0], missing=0.2), []
    graph = Graph(manifest("classification", ("a", "b")), content, lambda: reads.append(1) or content)
    matrix, full = rows(STEP + 1, missing=0.3, seed=10), graph.size
    expected = runner(content)(matrix)
    assert graph.slim()
    assert not graph.slim()
    assert graph.size < full / 5
    for answers in (graph(matrix[:40]), *(graph(matrix[:40]) for _ in range(WARM // 40 - 2))):
        assert [part.tolist() for part in answers] == [part[:40].tolist() for part in expected]
    assert not reads
    settled(graph, matrix[:80])
    assert (len(reads), graph.size) == (1, full)
    assert graph.slim()
    assert [part.tolist() for part in graph(matrix)] == [part.tolist() for part in expected]
    assert (len(reads), graph.size) == (2, full)


@pytest.mark.slow
def test_a_graph_that_cannot_be_read_again_is_left_to_its_trees() -> None:
    """A damaged copy fails no call."""
    content = graph_of(SUITABLE["number"][0])
    graph = Graph(manifest("regression"), content, lambda: b"\x00")
    matrix = rows(ENOUGH, seed=8)
    expected = runner(content)(matrix)[0]
    assert graph.slim()
    assert np.array_equal(settled(graph, matrix)[0], expected)

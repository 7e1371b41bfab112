"""Many models in use: what each takes in memory, what a call costs while they fit and when half of them does, and how
long a load holds others up.

    python -m benchmarks.models [COUNT]
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import declaration, training
from airflow_provider_azureml_classic.server.experiments.datasets import first_census
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest, read_ilearner, write_ilearner
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.models.store import ModelStore
from benchmarks.common import Figure, Result, median, say
from benchmarks.processes import alone, folder, resident

_COUNT = 20_000
#: Bytes of ``--model-memory`` for each.
_EACH = 82_000
_HALF, _CALLS = 1_000, 4_000
#: Kinds that answer by a session of ONNX Runtime only, and their estimators.
_OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear-classifier", {}),
    "forest": ("sklearn.ensemble.RandomForestClassifier", {"max_depth": 8, "random_state": 0}),
}
#: Seconds between two looks at the clock of the loop that is held up.
_LOOK = 0.0005


def first_model(home: Path, estimator: str = "", parameters: Mapping[str, Any] = MappingProxyType({})) -> Path:
    """A model file of the Census Model.

    :param home: for it and its data.
    :param estimator: another one than is declared.
    :param parameters: of it.
    """
    experiment = next(one for one in declaration.shipped_experiments() if one.name == "Census Model")
    if estimator:
        experiment = replace(
            experiment, estimator=estimator, parameters={}, estimator_parameters=dict(parameters), task=None
        )
    data, path = home / "census.csv", home / f"{estimator or 'trees'}.ilearner"
    with data.open("w", newline="") as stream:
        first_census(stream)
    training.train(experiment, None, data, path, home / "evaluation.csv")
    return path


def distinct(path: Path, target: Path, count: int) -> list[str]:
    """Model files that differ in the value of each leaf; returns their digests.

    :param path: a model of boosted trees.
    :param target: folder of a model store.
    :param count: of models.
    """
    import numpy as np
    import onnx

    manifest, graph = read_ilearner(path)
    model, chance = onnx.load_from_string(graph), np.random.default_rng(0)
    [weights] = [one for node in model.graph.node for one in node.attribute if one.name == "class_weights"]
    before, digests = np.array(weights.floats), []
    for number in range(count):
        weights.floats[:] = (before * chance.uniform(0.9, 1.1, len(before))).tolist()
        changed = model.SerializeToString()
        digests.append(_written(target, changed, manifest, number))
    return digests


def stamped(path: Path, target: Path, count: int) -> list[str]:
    """Model files of one graph that differ in what they say of themselves; returns their digests.

    :param path: a model of any kind.
    :param target: folder of a model store.
    :param count: of models.
    """
    manifest, graph = read_ilearner(path)
    return [_written(target, graph, manifest, number) for number in range(count)]


def _written(target: Path, graph: bytes, manifest: Manifest, number: int) -> str:
    target.mkdir(exist_ok=True)
    temporary = target / ".new"
    marked = replace(manifest, created=f"{number}", sha256=sha256(graph).hexdigest())
    digest, _ = write_ilearner(temporary, graph, marked)
    temporary.rename(target / f"{digest}.ilearner")
    return digest


def weight(path: Path, *, slim: bool, count: int = 100) -> tuple[float, float]:
    """KiB that a loaded model takes, measured and told.

    :param path: its file.
    :param slim: without its session.
    :param count: models.
    """
    models: list[Scorer] = []
    for _ in range(2):
        gc.collect()
        before = resident()
        models += [_loaded(path, slim=slim) for _ in range(count)]
        gc.collect()
    return (resident() - before) / count / 1024, models[0].size / 1024


def _loaded(path: Path, *, slim: bool) -> Scorer:
    scorer = Scorer.load(path, lambda digest: path)
    if slim:
        scorer.slim()
    return scorer


def calls(models: ModelStore, digests: Sequence[str], table: Table) -> list[float]:
    """Milliseconds of this thread's processor for calls of one row, in this order.

    :param models: the store.
    :param digests: whom to ask.
    :param table: what to ask.
    """
    taken = []
    for digest in digests:
        start = time.thread_time()
        models.scorer(digest).score(table)
        taken.append((time.thread_time() - start) * 1000)
    return taken


def p99(values: Sequence[float]) -> float:
    """The 99th percentile.

    :param values: some.
    """
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def held_up(work: Callable[[], Any]) -> list[float]:
    """Milliseconds by which an event loop of this process was late while something was done in a thread of its own.

    :param work: what is done.
    """

    async def look() -> list[float]:
        done, late = asyncio.ensure_future(asyncio.to_thread(work)), []
        while not done.done():
            before = time.perf_counter()
            await asyncio.sleep(_LOOK)
            late.append((time.perf_counter() - before - _LOOK) * 1000)
        return late

    return asyncio.run(look())


class Kind:
    """Models of one kind, and what calls of them cost where half of them fit.

    :param name: of the kind.
    :param path: a model of it.
    :param target: folder of the model store.
    :param digests: of models of this kind.
    :param table: what to ask.
    """

    def __init__(self, name: str, path: Path, target: Path, digests: Sequence[str], table: Table) -> None:
        self.name, slim = name, name not in _OTHERS
        self.memory, self.told = weight(path, slim=slim)
        one = _loaded(target / f"{digests[0]}.ilearner", slim=slim).size
        store, chance = ModelStore(target, memory=len(digests) // 2 * one), random.Random(0)
        self.cold = calls(store, digests, table)
        self.half = calls(store, [chance.choice(digests) for _ in range(2 * len(digests))], table)
        some = digests[:200]
        self.idle = held_up(lambda: time.sleep(2))
        self.late = held_up(lambda: calls(ModelStore(target, memory=len(some) * one), some, table))
        say(f"{name}: {self.memory:.0f} KiB, told {self.told:.0f}; cold {median(self.cold):.1f} ms")

    @property
    def average(self) -> float:
        """Milliseconds of a call where half of them fit."""
        return sum(self.half) / len(self.half)

    @property
    def row(self) -> list[Any]:
        """Of the table."""
        memory = f"{self.memory:.0f}", f"{self.told:.0f}"
        times = median(self.cold), p99(self.cold), self.average, p99(self.half), p99(self.late), max(self.late)
        return [self.name, *memory, *(f"{value:.1f}" for value in times)]


class All:
    """A store that all models fit into, and what calls cost there.

    :param target: folder of the model files.
    :param digests: all models.
    :param table: what to ask.
    """

    def __init__(self, target: Path, digests: Sequence[str], table: Table) -> None:
        # What libraries take is not the models'.
        _loaded(target / f"{digests[0]}.ilearner", slim=True)
        self.count, chance, before = len(digests), random.Random(0), resident()
        store = ModelStore(target, memory=self.count * _EACH)
        calls(store, digests, table)
        self.memory, self.loaded = resident() - before, store.loaded
        self.hot = calls(store, digests[:1] * _CALLS, table)
        self.uniform = calls(store, [chance.choice(digests) for _ in range(_CALLS)], table)
        say(f"{self.loaded:,} of {self.count:,} in {self.memory >> 20} MiB: p99 {p99(self.uniform):.3f} ms")

    @property
    def figures(self) -> list[Figure]:
        """Time and memory."""
        allowed = self.count * (2 << 30) / _COUNT
        ours, hot = p99(self.uniform), p99(self.hot)
        memory = f"{self.memory >> 20:,} MiB", f"{int(allowed) >> 20:,} MiB, as 2 GiB for {_COUNT:,}"
        many = f"p99 of a call, {self.count:,} models that fit"
        return [
            Figure(many, f"{ours:.3f} ms", f"one hot model {hot:.3f} ms", ours / hot, "<= 3"),
            Figure(f"memory of {self.loaded:,} models", *memory, self.memory / allowed, "<= 1"),
        ]


def run(count: int = _COUNT) -> Result:
    """Measure.

    :param count: of models.
    """
    with folder() as home:
        paths = {"trees": alone(first_model, home)}
        paths |= {name: alone(first_model, home, *estimator) for name, estimator in _OTHERS.items()}
        table = Table(*_first_row(home / "census.csv"))
        digests = alone(distinct, paths["trees"], home / "trees", count)
        say(f"{count:,} model files are there")
        kinds = [alone(Kind, "trees", paths["trees"], home / "trees", digests[:_HALF], table)]
        for name in _OTHERS:
            others = stamped(paths[name], home / name, _HALF // 4)
            kinds.append(alone(Kind, name, paths[name], home / name, others, table))
        return _result(alone(All, home / "trees", digests, table), kinds)


def _result(whole: All, kinds: Sequence[Kind]) -> Result:
    result = Result("models", "Many models in use", figures=whole.figures)
    result.columns = [
        "kind",
        "KiB each",
        "told",
        "cold call",
        "p99",
        "half of them fit",
        "p99",
        "loop late, p99",
        "max",
    ]
    result.table = [kind.row for kind in kinds]
    cold, hot = median(kinds[0].cold), median(whole.hot)
    baselines = [("a hot one", hot), *((kinds[0].name, cold) for _ in kinds[1:])]
    for kind, (name, baseline) in zip(kinds, baselines, strict=True):
        own = median(kind.cold)
        ours, half = f"{own:.1f} ms", f"{kind.average:.1f} ms"
        result.figures.append(Figure(f"a cold call, {kind.name}", ours, f"{name} {baseline:.3g} ms", own / baseline))
        result.figures.append(
            Figure(f"a call where half of them fit, {kind.name}", half, f"a cold call {ours}", kind.average / own)
        )
    late = max(p99(kind.late) for kind in kinds)
    holds = "a load holds the event loop up (p99), of 50 ms allowed"
    result.figures.append(Figure(holds, f"{late:.1f} ms", "50 ms", late / 50, "<= 1"))
    bars = [["one hot model", p99(whole.hot)], [f"{whole.count:,} models", p99(whole.uniform)]]
    result.chart = {"kind": "bars", "title": "p99 of a call, ms", "bars": bars, "ours": bars[1][0]}
    result.noise = (
        f"Noise: an event loop without loads is late by {max(p99(kind.idle) for kind in kinds):.1f} ms (p99)."
    )
    result.notes = [
        "Calls of one row without HTTP, in processor time of their thread, so that other work is not in it, in ms.",
        "How late an event loop is beside loads is elapsed time, and other work is in it.",
    ]
    return result


def _first_row(path: Path) -> tuple[tuple[str, ...], list[list[Any]]]:
    names, row = (line.rstrip("\n").split(",") for line in path.read_text().splitlines()[:2])
    return tuple(names), [row]


if __name__ == "__main__":
    begun = time.monotonic()
    measured = run(*map(int, sys.argv[1:]))
    measured.show()
    measured.save(time.monotonic() - begun)

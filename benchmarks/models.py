"""Many models in use: what each takes in memory, what a call costs while they fit and when half of them does, and how
long a load holds others up.

    python -m benchmarks.models [COUNT]
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import declaration, training
from airflow_provider_azureml_classic.server.experiments.datasets import first_census
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest, read_ilearner, write_ilearner
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.models.store import ModelStore
from benchmarks.common import Figure, Result, median, say
from benchmarks.processes import folder

_COUNT = 20_000
#: Bytes of ``--model-memory`` for each.
_EACH = 82_000
_HALF, _CALLS = 1_000, 4_000
#: Seconds between two looks at the clock of the thread that is held up.
_LOOK = 0.0005


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def first_model(home: Path, name: str, estimator: str | None = None) -> Path:
    """A trained model file.

    :param home: for it and its data.
    :param name: of a shipped experiment.
    :param estimator: another one than it declares.
    """
    experiment = next(one for one in declaration.shipped_experiments() if one.name == name)
    if estimator:
        experiment = replace(experiment, estimator=estimator, parameters={}, estimator_parameters={})
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


def _written(target: Path, graph: bytes, manifest: Manifest, number: int) -> str:
    temporary = target / ".new"
    stamped = replace(manifest, created=f"{number}", sha256=sha256(graph).hexdigest())
    digest, _ = write_ilearner(temporary, graph, stamped)
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
    """Milliseconds by which another thread of this process was late while something was done.

    :param work: what is done in a thread of its own.
    """
    done, late = threading.Event(), []
    thread = threading.Thread(target=lambda: (work(), done.set()))
    thread.start()
    while not done.is_set():
        before = time.perf_counter()
        time.sleep(_LOOK)
        late.append((time.perf_counter() - before - _LOOK) * 1000)
    thread.join()
    return late


def run(count: int = _COUNT) -> Result:
    """Measure.

    :param count: of models.
    """
    result = Result("models", "Many models in use", columns=["what", "value", "unit"])
    add = lambda name, value, unit: (result.table.append([name, round(value, 3), unit]), say(f"{name} {value:.3f}"))  # noqa: E731
    with folder() as home:
        trees = first_model(home, "Census Model")
        linear = first_model(home, "Census Model", "linear-classifier")
        target = home / "models"
        target.mkdir()
        digests = distinct(trees, target, count)
        table = Table(*_first_row(home / "census.csv"))
        for name, path, slim in (("trees, slim", trees, True), ("trees", trees, False), ("linear", linear, False)):
            measured, told = weight(path, slim=slim)
            add(f"{name}: memory of a model", measured, f"KiB; told {told:.0f}")
        before, chance = resident(), random.Random(0)
        models = ModelStore(target, memory=count * _EACH)
        cold = calls(models, digests, table)
        add("cold call", median(cold), f"ms of a processor; p99 {p99(cold):.1f}")
        memory = resident() - before
        hot = calls(models, digests[:1] * _CALLS, table)
        many = calls(models, [chance.choice(digests) for _ in range(_CALLS)], table)
        add("one hot model", median(hot), f"ms; p99 {p99(hot):.3f}")
        add(f"{models.loaded:,} of {count:,} models, each as likely", median(many), f"ms; p99 {p99(many):.3f}")
        add("memory of all", memory / 2**20, "MiB")
        some = digests[: min(count, _HALF)]
        small = ModelStore(target, memory=len(some) // 2 * _loaded(target / f"{some[0]}.ilearner", slim=True).size)
        calls(small, some, table)
        half = calls(small, [chance.choice(some) for _ in range(_CALLS // 4)], table)
        add("half of them fit", sum(half) / len(half), f"ms on average; p99 {p99(half):.1f}")
        loader = ModelStore(target, memory=1 << 30)
        idle = held_up(lambda: time.sleep(2))
        late = held_up(lambda: calls(loader, digests[:200], table))
        add("a load holds another thread up", p99(late), f"ms (p99), idle {p99(idle):.2f}; longest {max(late):.1f}")
    texts = (f"{p99(many):.3f} ms", f"one hot model {p99(hot):.3f} ms")
    result.figures.append(Figure(f"p99 of a call, {count:,} models that fit", *texts, p99(many) / p99(hot), "<= 3"))
    allowed = count * (2 << 30) / _COUNT
    texts = (f"{memory / 2**20:.0f} MiB", f"{allowed / 2**20:,.0f} MiB, as 2 GiB for {_COUNT:,}")
    result.figures.append(Figure(f"memory of {count:,} models", *texts, memory / allowed, "<= 1"))
    bars = [["one hot model", p99(hot)], [f"{count:,} models", p99(many)], ["half of them fit", p99(half)]]
    result.chart = {"kind": "bars", "title": "p99 of a call, ms", "bars": bars, "ours": f"{count:,} models"}
    result.notes = ["Calls of one row without HTTP, in processor time of their thread: other work is not in it."]
    return result


def _first_row(path: Path) -> tuple[tuple[str, ...], list[list[Any]]]:
    names, row = (line.rstrip("\n").split(",") for line in path.read_text().splitlines()[:2])
    return tuple(names), [row]


if __name__ == "__main__":
    begun = time.monotonic()
    measured = run(*map(int, sys.argv[1:]))
    measured.show()
    measured.save(time.monotonic() - begun)

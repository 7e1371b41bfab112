"""Loaded models take so much memory and no more: what goes first, what a cold call reads, and what a model weighs."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.server import folders
from airflow_provider_azureml_classic.server.experiments import ilearner
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.models import store as store_module
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.settings.options import parser
from tests.support.graphs import tree_model


class Counted:
    """A stand-in for a loaded model that weighs what it is told."""

    def __init__(self, digest: str, ample: int, slim: int) -> None:
        self.digest, self.size, self._slim = digest, ample, slim
        self.problem = None

    def slim(self) -> bool:
        """Weigh less."""
        before, self.size = self.size, min(self.size, self._slim)
        return self.size < before


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    """A store with room for ten units."""
    return ModelStore(tmp_path, memory=10)


def asked(models: ModelStore, *digests: str) -> None:
    """Ask loaded models."""
    for digest in digests:
        models.scorer(digest)


def weights(models: ModelStore) -> dict[str, int]:
    """What each loaded model weighs, the one first that was not asked for longest."""
    return {digest: scorer.size for digest, scorer in models._loaded.items()}


def loaded(models: ModelStore, *scorers: Any) -> None:
    """Load models."""
    for scorer in scorers:
        models._keep(scorer)


def test_models_become_slim_before_any_goes(models: ModelStore) -> None:
    """What was not asked for longest does without its session first; only then a model goes, and its bytes with it."""
    loaded(models, *(Counted(name, 4, 1) for name in "abc"))
    assert weights(models) == {"a": 1, "b": 4, "c": 4}
    asked(models, "b", "a")
    loaded(models, Counted("d", 4, 1))
    assert weights(models) == {"c": 1, "b": 4, "a": 1, "d": 4}
    loaded(models, *(Counted(name, 4, 3) for name in "efg"))
    assert weights(models) == {"d": 1, "e": 3, "f": 3, "g": 3}
    assert models.loaded_bytes == 10


def test_a_model_that_has_grown_is_weighed_again(models: ModelStore) -> None:
    """A session that was made since the last call counts from the next one on."""
    grown = Counted("a", 2, 1)
    loaded(models, grown, Counted("b", 6, 5))
    grown.size = 6
    asked(models, "a")
    assert weights(models) == {"b": 5, "a": 1}
    assert models.loaded_bytes == 6


def test_a_model_that_is_loaded_again_is_weighed_once(models: ModelStore) -> None:
    """The same model put in place again takes the place of the one before."""
    loaded(models, Counted("a", 4, 1), Counted("a", 4, 1), Counted("b", 4, 1), Counted("c", 4, 1))
    assert weights(models) == {"a": 1, "b": 4, "c": 4}
    assert models.loaded_bytes == 9


def test_one_model_is_kept_however_large_it_is(models: ModelStore) -> None:
    """The last that was asked answers, whatever it takes."""
    loaded(models, Counted("a", 1, 1), Counted("b", 50, 50))
    assert weights(models) == {"b": 50}


def test_a_cold_call_reads_one_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded is what was compared with its digest, in one read."""
    source = tree_model(tmp_path / "m.ilearner")
    first = ModelStore(tmp_path / "models")
    digest = first.put(source, lambda digest: None).digest
    models = ModelStore(tmp_path / "models")
    opened: list[str] = []
    real = folders.open_file
    for module in (store_module, ilearner):
        monkeypatch.setattr(module, "open_file", lambda path: opened.append(path.name) or real(path))
    scorer = models.scorer(digest)
    assert opened == [f"{digest}.ilearner"]
    assert scorer.digest == digest
    assert scorer.slim()


def test_the_option_is_in_mebibytes(capsys: pytest.CaptureFixture[str]) -> None:
    """``--model-memory 512`` are 512 MiB; none at all is refused."""
    assert parser().parse_args(["--data-dir", "d", "--model-memory", "512"]).model_memory == 512
    with pytest.raises(SystemExit):
        parser().parse_args(["--data-dir", "d", "--model-memory", "0"])
    assert "0 is not a number of MiB from 1 on" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_weighs_what_is_told(tmp_path: Path) -> None:
    """What Python and numpy hold of a model without its session is at most its size, and most of it."""
    paths = [tree_model(tmp_path / f"{seed}.ilearner", trees=40, leaves=31, seed=seed) for seed in range(3)]
    warm = Scorer.load(paths[0], lambda digest: paths[0])
    assert warm.slim()
    tracemalloc.start()
    try:
        models = [Scorer.load(path, lambda digest: paths[0]) for path in paths[1:]]
        assert all(model.slim() for model in models)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.4 < held / sum(model.size for model in models) <= 1

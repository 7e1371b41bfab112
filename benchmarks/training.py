"""A whole training of a large CSV file, against one fit of the same estimator on the same encoded rows.

``python -m benchmarks.training ROWS [GIB]`` trains once on so many rows and tells the memory that it took at most.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from benchmarks.common import WORK, Figure, Result, interleaved, median, say, spread
from benchmarks.reading import MEASURED, measured, write_rows

_ROWS = 1_000_000
_IMPORTS = """
import numpy as np, onnxruntime, pyarrow.csv, skl2onnx, sklearn.ensemble
from pathlib import Path
from tempfile import TemporaryDirectory
from threadpoolctl import threadpool_limits
from airflow_provider_azureml_classic.server.experiments import estimators, schema, train
from airflow_provider_azureml_classic.server.experiments.declaration import from_table
from airflow_provider_azureml_classic.server.experiments.frame import Frame, read_table
data = Path(sys.argv[1])
experiment = from_table("rows", data.parent, {"name": "Rows", "label": "label", "task": "classification",
    "estimator": "boosting-classifier", "first_data": data.name})
"""
#: From the file to the model file and its evaluation, as a job's process does it.
_TRAINING = MEASURED.format(
    imports=_IMPORTS,
    work="""
with TemporaryDirectory(dir=data.parent) as folder:
    train(experiment, None, data, Path(folder) / "model.ilearner", Path(folder) / "evaluation.csv")
matrix = np.empty(0)
""",
)
#: The fit alone, on what the training fits on; reading and encoding are not counted.
_FIT = MEASURED.format(
    imports=_IMPORTS
    + """
table = read_table(data, expected=("label",))
learnt, decision = schema.decided(experiment, table, "classification", None)
frame = Frame(table, decision.check().decimal)
learnt, _ = estimators.with_positive(experiment, learnt.learnt(frame))
matrix, truth = schema.encode(learnt, frame), schema.encode_label(learnt, frame)
""",
    work="""
with threadpool_limits(limits=1):
    estimators.make(experiment, learnt).fit(matrix, truth)
""",
)


def run(rounds: int = 3, rows: int = _ROWS) -> Result:
    """Measure.

    :param rounds: fresh processes of each.
    :param rows: of the file.
    """
    path = _file(rows)
    result = Result(
        "training",
        f"Training on {rows:,} rows of 13 columns",
        columns=["what", "processor seconds", "MiB at most"],
    )
    programs = {"training": partial(measured, _TRAINING, path), "one fit": partial(measured, _FIT, path)}
    found = interleaved(rounds, programs)
    path.unlink()
    middle = {who: [median([one[i] for one in runs]) for i in range(2)] for who, runs in found.items()}
    result.table = [[who, round(seconds, 2), round(memory)] for who, (seconds, memory) in middle.items()]
    ours, fit = middle["training"][0], middle["one fit"][0]
    result.figures = [Figure("processor", f"{ours:.2f} s", f"{fit:.2f} s of one fit", ours / fit, "<= 2.4")]
    result.noise = f"Noise: the fit spread by {spread([one[0] for one in found['one fit']]):.0%} in {rounds} rounds."
    result.notes = ["Processor seconds of fresh processes, imports not counted; both with one thread."]
    return result


def once(rows: int, limit: float) -> bool:
    """Train once on so many rows; whether the process took less than a limit at most.

    :param rows: of the file.
    :param limit: of its memory, in GiB.
    """
    path = _file(rows)
    seconds, memory = measured(_TRAINING, path)
    path.unlink()
    say(f"{rows:,} rows: {seconds:.1f} s of a processor, {memory / 1024:.2f} GiB at most, of {limit:g}")
    return memory <= limit * 1024


def _file(rows: int) -> Path:
    WORK.mkdir(exist_ok=True)
    path = WORK / "training.csv"
    write_rows(path, rows)
    say(f"{rows:,} rows: {path.stat().st_size >> 20} MiB")
    return path


if __name__ == "__main__":
    sys.exit(not once(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 8.0))

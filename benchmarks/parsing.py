"""What an import costs each parse of a DAG file, on top of ``airflow.sdk``; all in one environment."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from importlib.metadata import version
from pathlib import Path

from benchmarks.common import ROOT, WORK, Figure, Result, interleaved, median, spread
from benchmarks.peer_servers import environment

_OURS = "this provider: every operator and sensor"
_SDK = "airflow.sdk alone"
_PROVIDERS = ("databricks", "amazon", "microsoft-azure", "google")
_IMPORTS = {
    _SDK: "",
    _OURS: "import airflow_provider_azureml_classic.operators, airflow_provider_azureml_classic.sensors",
    "SageMaker": "import airflow.providers.amazon.aws.operators.sagemaker",
    "Databricks": "import airflow.providers.databricks.operators.databricks",
    "Data Factory": "import airflow.providers.microsoft.azure.operators.data_factory",
    "Vertex": "import airflow.providers.google.cloud.operators.vertex_ai.custom_job",
}
_PROGRAM = """
import sys, time
start = time.process_time()
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task, Context, conf
{0}
print(time.process_time() - start, len(sys.modules))
"""


def providers_environment() -> Path:
    """The Python of an environment with Airflow and the providers compared."""
    names = [f"apache-airflow-providers-{name}" for name in _PROVIDERS]
    return environment("providers", [f"apache-airflow=={version('apache-airflow')}", *names])


def airflow_variables(**further: str) -> dict[str, str]:
    """The environment of a process with Airflow, and nothing of the caller's Airflow.

    :param further: variables.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    plain.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**plain, "AIRFLOW_HOME": str(WORK / "airflow"), "PYTHONPATH": str(ROOT), **further}


def imported(python: Path, what: str) -> tuple[float, int]:
    """Seconds and modules of an import in a fresh process.

    :param python: of the environment.
    :param what: an import statement.
    """
    done = subprocess.run(
        [python, "-c", _PROGRAM.format(what)], capture_output=True, text=True, check=False, env=airflow_variables()
    )
    if done.returncode:
        raise RuntimeError(f"{what} failed: {done.stderr[-1000:]}")
    seconds, modules = done.stdout.split()[-2:]
    return float(seconds), int(modules)


def run(rounds: int = 5) -> Result:
    """Measure.

    :param rounds: fresh processes of each.
    """
    python = providers_environment()
    measures = {name: partial(imported, python, what) for name, what in _IMPORTS.items()}
    for measure in measures.values():
        measure()  # writes bytecode, which every later parse finds
    found = interleaved(rounds, measures)
    seconds = {name: median([one[0] for one in values]) for name, values in found.items()}
    modules = {name: values[-1][1] for name, values in found.items()}
    result = Result(
        "parsing", "Import of operators", columns=["import", "seconds", "times airflow.sdk", "modules more"]
    )
    base = seconds[_SDK]
    for name in _IMPORTS:
        ratio = median([one[0] / sdk[0] for one, sdk in zip(found[name], found[_SDK], strict=True)])
        result.table.append([name, round(seconds[name], 3), round(ratio, 3), modules[name] - modules[_SDK]])
    more, ratio = modules[_OURS] - modules[_SDK], json.loads(json.dumps(result.table))[1][2]
    best = min((name for name in _IMPORTS if name not in (_SDK, _OURS)), key=lambda name: seconds[name])
    mine = f"{seconds[_OURS]:.2f} s"
    result.figures = [
        Figure("import of every operator", mine, f"airflow.sdk alone {base:.2f} s", ratio, "<= 1.05"),
        Figure("modules more, of 20 allowed", str(more), "20", more / 20, "<= 1"),
        Figure(
            "against the lightest peer", mine, f"{best} {seconds[best]:.2f} s", seconds[_OURS] / seconds[best], "<= 1"
        ),
    ]
    result.noise = (
        f"Noise: airflow.sdk alone spread by {spread([one[0] for one in found[_SDK]]):.0%} in {rounds} rounds."
    )
    result.notes = [
        "Processor seconds, `airflow.sdk` included; medians of fresh processes, bytecode written. Of the modules more, "
        "all but one are small files of this provider: it is written in many, and each is counted."
    ]
    bars = [[name.partition(":")[0], seconds[name]] for name in _IMPORTS]
    result.chart = {"kind": "bars", "title": "Import, seconds", "bars": bars, "ours": _OURS.partition(":")[0]}
    return result

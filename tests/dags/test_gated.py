"""The gated DAG: its shape, and three weeks of it with a person who answers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support import BIKES_SCORING, ROOT, ServerProcess
from tests.support.gates import rentals


def test_the_tasks_stand_in_a_row() -> None:
    """Nothing is put live that has not passed the gate and the approval, and who does not answer has said no."""
    path = ROOT / "dags" / "bike_rental_gated.py"
    spec = importlib.util.spec_from_file_location("gated", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dag = module.gate.dag
    row = ["add_endpoint", "train", "gate", "approve", "update", "wait_until_fresh"]
    assert [task.task_id for task in dag.topological_sort()] == row
    assert [dag.task_dict[b].upstream_task_ids >= {a} for a, b in pairwise(row)] == [True] * 5
    assert {task.trigger_rule.value for task in dag.tasks} == {"all_success"}
    assert (module.approve.defaults, module.update.on_failure) == (["Reject"], "rollback")


@pytest.mark.slow
def test_approved_rejected_and_kept(server: ServerProcess, tmp_path: Path) -> None:
    """One week is approved and goes live, one is rejected, one does not pass the gate and nobody is asked."""
    draw = random.Random(5)  # noqa: S311 - test data
    names, *rows = rentals(300).splitlines()
    noise = "\n".join([names, *(f"{row.rpartition(',')[0]},{draw.randint(0, 900)}" for row in rows), ""])
    weeks = {"2026-05-03": rentals(100), "2026-05-10": rentals(200), "2026-05-17": noise}
    for day, content in weeks.items():
        server.upload(f"bike-rental/{day}.csv", content)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"],
    }
    words = ["2026-05-03=Approve", "2026-05-10=Reject", "2026-05-17=Approve"]
    command = [sys.executable, "-m", "tests.support.gated_run", *words]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr[-5000:]
    approved, rejected, kept = json.loads(ran.stdout.splitlines()[-1]).values()
    assert set(approved["states"].values()) == {"success"}
    receipt = approved["returned"]["update"]
    assert approved["subject"].startswith("Put model ")
    assert approved["body"].startswith("Is it the file of 2026-05-03?\n\n| ")
    assert receipt["model"]["content"] in approved["body"]
    assert "| Mean Absolute Error | " in approved["body"]
    assert "Compared on 96 rows " in approved["body"]
    text = hashlib.sha256(f"{approved['subject']}\n{approved['body']}".encode()).hexdigest()
    assert (receipt["approval"]["by"], receipt["approval"]["evidence"]) == ("Ada", text)
    assert approved["event"]["approval"] == receipt["approval"]
    no = rejected["returned"]["approve"]
    assert (no["decision"], no["by"], no["timed_out"]) == ("rejected", "Ada", False)
    passed = {"add_endpoint": "success", "train": "success"}
    after = {"update": "skipped", "wait_until_fresh": "skipped"}
    assert rejected["states"] == {**passed, "gate": "success", "approve": "success", **after}
    assert kept["states"] == {**passed, "gate": "skipped", "approve": "skipped", **after}
    assert "subject" not in kept
    with server.client() as client:
        place = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "approved").resource().location
    assert place is not None
    assert "/approved/20260510T000000Z-" in place.relative_location

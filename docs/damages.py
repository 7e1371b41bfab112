"""Twenty ways to hurt an endpoint, and a hundred retrains that hurt nobody, with real operators against a real server;
renews the tables of docs/damages.md: ``make damages``.

Each damage meets an endpoint of its own, with the same live model and 400 calls that it keeps, and the tasks that the
guides show: training with the data check, gate, update with a rehearsal. What has to become of it is in its row.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from csv import DictReader
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Before anything imports Airflow: operators are called directly, without a database.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import numpy as np  # noqa: E402
from airflow.sdk.exceptions import AirflowException, AirflowSkipException  # noqa: E402

from airflow_provider_azureml_classic.client import Client  # noqa: E402
from airflow_provider_azureml_classic.notifications import receipt_text  # noqa: E402
from airflow_provider_azureml_classic.operators import (  # noqa: E402
    BatchExecutionOperator,
    ModelQualityGate,
    RollbackModelOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.protocol.approval import Approval  # noqa: E402
from airflow_provider_azureml_classic.retraining.approval import APPROVED  # noqa: E402
from airflow_provider_azureml_classic.server.experiments import datasets  # noqa: E402
from tests.support import ServerProcess  # noqa: E402
from tests.support.gates import context  # noqa: E402

PAGE = ROOT / "docs" / "damages.md"
LABEL, TRAINING, SCORING = "income", "People", "People [predictive exp.]"
NAMES = ("day", "age", "workclass", "education", "education-num", "marital-status", "occupation", "relationship", "sex",
         "capital-gain", "hours-per-week", LABEL)  # fmt: skip
ROWS, CALLS, BENIGN_RUNS = 1500, 400, 100
MARCH, APRIL, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5))
#: What the guides recommend for an update.
MAX_CHANGE = {"changed": 0.2, "stability": 1.0, "refused": 0.01}
STOPPED, ANNOUNCED, SILENT = "stopped", "announced", "SILENT"

Row = dict[str, Any]
Rows = list[Row]

DECLARATION = """
[[experiment]]
name = "People"
estimator = "boosting-classifier"
label = "income"
time_column = "day"
first_data = "first.csv"
keep_calls = 1000

[experiment.parameters]
"Learning Rate" = { sets = "estimator.learning_rate", default = 0.1, minimum = 0.0001, maximum = 1 }

[[experiment]]
name = "Others"
estimator = "boosting-classifier"
label = "income"
time_column = "day"
first_data = "first.csv"
"""

#: Real data beside the repository; without them that part is left out.
BIKES = ROOT.parent / "shared" / "data" / "bikes" / "hour.csv"
BIKE_NAMES = ("dteday", "season", "yr", "mnth", "hr", "holiday", "weekday", "workingday", "weathersit", "temp", "atemp",
              "hum", "windspeed", "cnt")  # fmt: skip
RIDES, WEEKS = datetime(2011, 2, 1, tzinfo=UTC), 51
BIKE_DECLARATION = """
[[experiment]]
name = "Bikes"
estimator = "boosting-regressor"
label = "cnt"
time_column = "dteday"
first_data = "rides.csv"
"""


def people(count: int, seed: int, start: datetime = APRIL, days: int = 30) -> Rows:
    """Rows of a month, in the order of their days."""
    columns = datasets.census(count, seed)
    day = [(start + timedelta(days=place * days // count)).date().isoformat() for place in range(count)]
    columns = {**columns, "day": day}
    return [dict(zip(NAMES, row, strict=True)) for row in zip(*(columns[name] for name in NAMES), strict=True)]


def csv(rows: Rows) -> str:
    """A file of them."""
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows), ""])


def each(**changes: Callable[[Row], Any]) -> Callable[[Rows], Rows]:
    """A change of cells of each row."""
    named = {name.replace("_", "-"): make for name, make in changes.items()}
    return lambda rows: [{**row, **{name: make(row) for name, make in named.items()}} for row in rows]


@dataclass
class Ending:
    """What became of a retrain.

    :param what: stopped, announced or silent.
    :param by: which task said it first.
    :param says: its words.
    """

    what: str
    by: str
    says: str
    warnings: list[str] = field(default_factory=list)


@dataclass
class House:
    """A server, one finished training of March, and endpoints that have its model.

    :param server: the server.
    :param client: of its workspace.
    """

    server: ServerProcess
    client: Client
    base: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def prepare(self) -> None:
        """Train the model that is live everywhere."""
        start = APRIL - timedelta(days=30)
        self.base = self.train("base", csv(people(ROWS, 10, start)), start, APRIL)

    def earlier(self) -> dict[str, Any]:
        """A training of the month before that."""
        start = MARCH - timedelta(days=30)
        return self.train("first", csv(people(ROWS, 11, start)), start, MARCH)

    def train(
        self, endpoint: str, data: str, start: datetime = APRIL, end: datetime = MAY, said: list[str] | None = None,
        service: str = TRAINING, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """The result of the training task."""
        place = f"training/{endpoint}-{self.count}.csv"
        self.server.upload(place, data)
        task = BatchExecutionOperator(
            task_id="train", web_service=service, inputs={"input1": place}, model_for=endpoint, poll_interval=0.2,
            window_start=start.isoformat(), window_end=end.isoformat(), **more,
        )  # fmt: skip
        return dict(run(task, said))

    def endpoint(self) -> str:
        """A new endpoint with the model of March, which was called."""
        self.count += 1
        name = f"e{self.count}"
        service = self.client.find_web_service(SCORING)
        endpoint = self.client.add_endpoint(service.id, name)
        run(UpdateTrainedModelOperator(task_id="first", web_service=SCORING, endpoint=name, job=self.base))
        rows = [{key: value for key, value in row.items() if key not in (LABEL, "day")} for row in people(CALLS, 99)]
        for first in range(0, CALLS, 100):
            self.client.score(endpoint, rows[first : first + 100])
        return name

    def retrain(self, data: str, *, gate: dict[str, Any] | None = None, **more: Any) -> Ending:
        """Training, gate and update of a new endpoint."""
        name, said = self.endpoint(), list[str]()
        task = "training"
        try:
            job = self.train(name, data, said=said, **more)
            task = "gate"
            allowed = {"AUC": 0.02, "Average Log Loss": "10%"}
            run(ModelQualityGate(task_id="gate", web_service=SCORING, endpoint=name, job=job, max_worse=allowed), said)
            task = "update"
            return ended(run(self.update(name, job), said), said)
        except (AirflowException, AirflowSkipException) as error:
            return Ending(STOPPED, task, str(error), said)

    def update(self, name: str, job: Any, **more: Any) -> UpdateTrainedModelOperator:
        """The task."""
        return UpdateTrainedModelOperator(
            task_id="update", web_service=SCORING, endpoint=name, job=job, **{"max_change": MAX_CHANGE, **more}
        )


def run(task: Any, said: list[str] | None = None) -> Any:
    """Execute a task; its warnings are added to ``said``."""
    told = [] if said is None else said

    def warn(text: str, *arguments: Any, **_: Any) -> None:
        told.append(str(text) % arguments if arguments else str(text))

    with patch.object(task.log, "warning", side_effect=warn):
        return task.execute(context())


def ended(receipt: Any, said: list[str]) -> Ending:
    """What became of an update that went through."""
    text = receipt_text(receipt)
    unusual = (receipt.get("rehearsal") or {}).get("unusual")
    if said or unusual:
        return Ending(ANNOUNCED, "warning" if said else "notification", said[0] if said else text, said)
    return Ending(SILENT, "", text)


#: Name -> (what must become of it, how it is done).
Damage = Callable[[House], Ending]
DAMAGES: dict[str, tuple[str, Damage]] = {}


def damage(name: str, expected: str) -> Callable[[Damage], Damage]:
    """Adds a row of the table."""

    def add(function: Damage) -> Damage:
        DAMAGES[name] = expected, function
        return function

    return add


def of_file(name: str, expected: str, change: Callable[[Rows], Rows], **more: Any) -> None:
    """Adds a row whose damage is in the training file."""
    DAMAGES[name] = expected, lambda house: house.retrain(csv(change(people(ROWS, 20))), **more)


def _shuffled(rows: Rows) -> Rows:
    order = np.random.default_rng(1).permutation(len(rows))
    return [{**row, LABEL: rows[place][LABEL]} for row, place in zip(rows, order, strict=True)]


def _flipped(rows: Rows) -> Rows:
    one, other = sorted({row[LABEL] for row in rows})
    return [{**row, LABEL: other if row[LABEL] == one else one} for row in rows]


def _somebody_elses(rows: Rows) -> Rows:
    few = [row for row in rows if int(row["age"]) < 30 and row["marital-status"] == "Never-married"]
    return [
        {**few[place % len(few)], "day": row["day"], "age": few[place % len(few)]["age"]}
        for place, row in enumerate(rows)
    ]


def _at_day(days: int) -> Callable[[Row], Any]:
    return lambda row: (datetime.fromisoformat(row["day"]) + timedelta(days=days)).date().isoformat()


def _upper(name: str) -> Callable[[Row], Any]:
    return lambda row: str(row[name]).upper()


of_file("changed units", STOPPED, each(age=lambda r: r["age"] * 365, capital_gain=lambda r: r["capital-gain"] / 1000))
of_file("changed spelling", STOPPED, each(relationship=_upper("relationship"), occupation=_upper("occupation")))
SHIFTED = {"age": "education-num", "education-num": "capital-gain", "capital-gain": "hours-per-week",
           "hours-per-week": "age"}  # fmt: skip
of_file(
    "shifted column", STOPPED, lambda rows: [{**row, **{to: row[of] for to, of in SHIFTED.items()}} for row in rows]
)
of_file("blanks", STOPPED, each(education=lambda _: ""))
of_file("duplicates", STOPPED, lambda rows: [rows[place % 30] for place in range(len(rows))])
of_file("tiny file", STOPPED, lambda rows: rows[::125])
of_file("somebody else's file", STOPPED, _somebody_elses)
of_file("leaked label", STOPPED, each(hours_per_week=lambda r: 80 if str(r[LABEL]).startswith(">") else 20))
of_file("flipped label", STOPPED, _flipped)
of_file("labels of other rows", STOPPED, _shuffled)
of_file("one class missing", STOPPED, lambda rows: [row for row in rows if not str(row[LABEL]).startswith(">")])
of_file(
    "new categories",
    STOPPED,
    each(workclass=lambda r: f"W-{r['workclass']}", occupation=lambda r: f"O{hash(r['occupation']) % 97}"),
)
of_file("rows of the future", STOPPED, each(day=_at_day(400)))
of_file("half a file", STOPPED, lambda rows: rows[: len(rows) // 2])
of_file("clock of the source wrong", STOPPED, each(day=_at_day(-31)))
of_file("a worse estimator setting", STOPPED, list, global_parameters={"Learning Rate": 0.0005})
of_file("a future window", STOPPED, list, end=datetime(2036, 1, 1, tzinfo=UTC))


@damage("yesterday's file again", STOPPED)
def _again(house: House) -> Ending:
    return house.retrain(csv(people(ROWS, 10, MARCH)))


@damage("a model of another experiment", STOPPED)
def _other(house: House) -> Ending:
    name, said = house.endpoint(), list[str]()
    job = house.train(name, csv(people(ROWS, 20)), service="Others")
    try:
        return ended(run(house.update(name, job), said), said)
    except (AirflowException, AirflowSkipException) as error:
        return Ending(STOPPED, "update", str(error), said)


@damage("a rollback to a stale model", ANNOUNCED)
def _stale(house: House) -> Ending:
    name, said, first = house.endpoint(), list[str](), house.earlier()
    try:
        run(house.update(name, first, max_change=None), said)
        return Ending(SILENT, "update", "an older model went live")
    except AirflowSkipException:
        pass
    receipt = run(house.update(name, first, only_if_newer=False, max_change=None))
    back = run(RollbackModelOperator(task_id="back", receipt=receipt), said)
    text = receipt_text(back)
    return Ending(ANNOUNCED, "notification", text) if "up to 2026-04-01" in text else Ending(SILENT, "", text)


@damage("an approver who looked at another model's evidence", STOPPED)
def _approver(house: House) -> Ending:
    name, said = house.endpoint(), list[str]()
    job = house.train(name, csv(people(ROWS, 20)))
    trainer = house.client.get_endpoint(house.client.find_web_service(TRAINING).id, "default")
    shown = house.client.get_job(trainer, house.base["job_id"]).model
    about = {"decision": APPROVED, "endpoint": name, "job_id": house.base["job_id"]}
    about["web_service_id"] = house.client.find_web_service(SCORING).id
    decision = {**Approval("Ada", datetime.now(UTC), "0" * 64, "", shown).to_json(), **about}
    try:
        return ended(run(house.update(name, job, approval=decision), said), said)
    except (AirflowException, AirflowSkipException) as error:
        return Ending(STOPPED, "update", str(error), said)


@damage("drifted callers", ANNOUNCED)
def _callers(house: House) -> Ending:
    name, service = house.endpoint(), house.client.find_web_service(SCORING)
    rows = [{key: value for key, value in row.items() if key not in (LABEL, "day")} for row in people(1200, 98)]
    old = [{**row, "age": min(90, row["age"] + 25)} for row in rows]
    for first in range(0, len(old), 100):
        house.client.score(house.client.get_endpoint(service.id, name), old[first : first + 100])
    (found,) = [one for one in house.client.get_drift(service.id) if one.name == name]
    return Ending(ANNOUNCED if found.drifted else SILENT, "drift", str(found))


def benign(number: int) -> tuple[str, Rows]:
    """A retrain that nobody should stop."""
    generator = np.random.default_rng(number)
    kind = ("new days", "growth", "a season", "a new shop", "fewer rows")[number % 5]
    rows = people(
        int(ROWS * 1.5) if kind == "growth" else ROWS * 7 // 10 if kind == "fewer rows" else ROWS, 1000 + number
    )
    if kind == "a season":
        rows = [row for row in rows if row["age"] > 25 or generator.random() < 0.5]
    if kind == "a new shop":
        rows = [{**row, "workclass": "New-shop"} if generator.random() < 0.15 else row for row in rows]
    return kind, rows


def damages(house: House, only: str = "") -> str:
    """The table of the damages."""
    lines = ["| damage | must be | is | by | in its words |", "|---|---|---|---|---|"]
    for name, (expected, do) in DAMAGES.items():
        if only and not re.search(only, name):
            continue
        ending = do(house)
        says = " ".join(ending.says.split()).replace("|", "/")
        says = re.sub(r"https?://\S+/", "", says)
        lines.append(
            f"| {name} | {expected} | {ending.what} | {ending.by} | {says[:260]}{'...' if len(says) > 260 else ''} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def hundred(house: House, runs: int) -> str:
    """The table of the retrains that hurt nobody."""
    counts: dict[str, list[int]] = {}
    for number in range(runs):
        kind, rows = benign(number)
        ending = house.retrain(csv(rows))
        row = counts.setdefault(kind, [0, 0, 0])
        row[0] += 1
        row[1] += ending.what == STOPPED
        row[2] += ending.what == ANNOUNCED
        if ending.what != SILENT:
            print(number, kind, ending, flush=True)
    lines = ["| benign retrain | runs | stopped | announced |", "|---|---|---|---|"]
    lines += [f"| {kind} | {' | '.join(map(str, row))} |" for kind, row in counts.items()]
    total = [sum(row[place] for row in counts.values()) for place in range(3)]
    return "\n".join([*lines, f"| all | {' | '.join(map(str, total))} |", ""])


def rentals() -> list[tuple[datetime, Row]]:
    """Bike rentals of two years by the hour, with the days that they are of."""
    with BIKES.open(newline="") as file:
        rows = [{name: row[name].replace(",", ".") for name in BIKE_NAMES} for row in DictReader(file, delimiter=";")]
    dated = [(datetime.strptime(row["dteday"], "%d/%m/%Y").replace(tzinfo=UTC), row) for row in rows]
    return [(day, {**row, "dteday": day.date().isoformat()}) for day, row in dated]


def year(house: House, days: int, weeks: int) -> tuple[int, int]:
    """A retrain a week with the last days of rentals, each compared with the model that is live then: how many were
    stopped, and how many announced.
    """
    rows, stopped, announced = rentals(), 0, 0
    name, where = f"rides{days}", {"web_service": "Bikes [predictive exp.]"}
    house.client.add_endpoint(house.client.find_web_service(where["web_service"]).id, name)
    for week in range(weeks + 1):
        end, said = RIDES + timedelta(weeks=week), list[str]()
        start, where["endpoint"], house.count = end - timedelta(days=days), name, house.count + 1
        try:
            part = csv([row for day, row in rows if start <= day < end])
            job = house.train(name, part, start, end, said, service="Bikes")
            if week:
                run(ModelQualityGate(task_id="gate", job=job, max_worse={"Mean Absolute Error": "10%"}, **where), said)
            run(UpdateTrainedModelOperator(task_id="update", job=job, **where), said)
            announced += bool(said and week)
        except (AirflowException, AirflowSkipException) as error:
            stopped += 1
            print(end.date(), error, said, flush=True)
    return stopped, announced


def years(house: House, weeks: int) -> str:
    """The table of the retrains with rentals."""
    lines = ["| retrain a week, with the data of | runs | stopped | announced |", "|---|---|---|---|"]
    for days in (7, 28):
        lines.append(f"| {days} days | {weeks} | {' | '.join(map(str, year(house, days, weeks)))} |")
    return "\n".join([*lines, ""])


@contextmanager
def house(folder: Path, declaration: str = DECLARATION) -> Iterator[House]:
    """A server with its experiments, and the model of March.

    :param folder: for its files.
    :param declaration: of the experiments.
    """
    place = folder / "experiments.toml"
    place.write_text(declaration + (BIKE_DECLARATION if BIKES.exists() else ""))
    place.with_name("rides.csv").write_text(csv([row for day, row in rentals()[:700]]) if BIKES.exists() else "")
    place.with_name("first.csv").write_text(csv(people(ROWS, 5, MARCH - timedelta(days=90))))
    server = ServerProcess(folder / "data", "--experiments", str(place), "--workers", "1", "--no-samples")
    connection = {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"]}
    try:
        with patch.dict(os.environ, connection), server.client() as client:
            made = House(server, client)
            made.prepare()
            yield made
    finally:
        server.stop()


def main() -> None:
    """Run both, and renew the page."""
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 0 if only else BENIGN_RUNS
    with tempfile.TemporaryDirectory() as folder, house(Path(folder)) as made:
        tables = [] if only == "-" else [damages(made, only)]
        tables += [hundred(made, runs)] if runs else []
        tables += [years(made, WEEKS)] if runs == BENIGN_RUNS and BIKES.exists() else []
    for table in tables:
        print(table)
        head = re.escape(table.split("|", 2)[1])
        if only in ("", "-"):
            text = re.sub(rf"^\|{head}\|.*\n(?:\|.*\n)*", lambda _, made=table: made, PAGE.read_text(), flags=re.M)
            PAGE.write_text(text)


if __name__ == "__main__":
    main()

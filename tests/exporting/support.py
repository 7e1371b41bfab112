"""A small model with a column of every kind."""

from __future__ import annotations

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Experiment, train
from airflow_provider_azureml_classic.tables.kinds import declared_kind

#: Forms of dates, by column.
FORMS = {"iso": "", "british": "%d/%m/%Y", "short": "%m-%d-%y", "named": "%d-%b-%Y", "timed": "%d.%m.%Y %H:%M"}
NAMES = ("size", "id", "city", "member", "code", "signed", *FORMS, "y", "z")
NUMBERS = ("size", "id", "signed")


def written(folder: Path, rows: int = 200) -> Table:
    """Write rows of all kinds, some cells of which are missing, and return them."""
    chance = random.Random(1)  # noqa: S311 - always the same rows
    table = Table(NAMES, [_row(chance, number) for number in range(rows)])
    with (folder / "d.csv").open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *table.values])
    return table


def _row(chance: random.Random, number: int) -> list[str]:
    moment = datetime(2019, 1, 1) + timedelta(days=chance.randint(0, 1500), seconds=chance.randint(0, 86399))
    size, identity = chance.gauss(0, 1), 2**40 + chance.randint(0, 1000)
    city, member = chance.choice(["Bern", "Chur", "true", "7", ""]), chance.choice(["yes", "no", "YES", ""])
    y = size + identity % 7 + 2 * (city == "Bern") + moment.day / 10 + moment.hour / 5 + 3 * (member == "no")
    cells = [repr(size), str(identity), city, member, chance.choice(["01", "1.10", "a"])]
    cells.append(chance.choice(["-", "1.5", "2.5", ""]))
    clock = ("", f"{moment: %H:%M:%S}", f"{moment:T%H:%M}")[number % 3]
    for name, form in FORMS.items():
        tail = "" if "%H" in form or name == "short" else clock.replace("T", " ") if form else clock
        cells.append("" if chance.random() < 0.05 else moment.strftime(form or "%Y-%m-%d") + tail)
    return [*cells, repr(y + 1.7e9), "high" if y > 8 else "low"]


def trained(folder: Path, estimator: str, label: str) -> bytes:
    """The file of a model of the rows in a folder; ``y`` is a number far from zero, ``z`` has two classes."""
    kinds = {name: {"kind": "date", **({"date_format": form} if form else {})} for name, form in FORMS.items()}
    kinds |= {"signed": {"kind": "number", "missing": ["-"]}, "member": {"kind": "boolean"}}
    columns = {name: declared_kind(name, said) for name, said in kinds.items()}
    aside = ("z",) if label == "y" else ("y",)
    experiment = Experiment("E", estimator, label, "d.csv", folder, ignore=aside, columns=columns, optional=("code",))
    train(experiment, None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv")
    return (folder / "m.ilearner").read_bytes()

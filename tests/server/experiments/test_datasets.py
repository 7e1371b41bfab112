"""Generated data: the same day has the same rows, the city drifts, and incomes depend on people."""

from __future__ import annotations

import io
from datetime import date, timedelta

import pytest

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Scorer, datasets, shipped_experiments, train

DAY = date(2026, 2, 10)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a shipped experiment on generated columns and returns summary and scorer."""
    folder = tmp_path_factory.mktemp("datasets")

    def run(experiment, columns):
        with (folder / "d.csv").open("w", newline="") as stream:
            datasets.write_csv(columns, stream)
        summary = train(experiment, None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv")
        return summary, Scorer.load(folder / "m.ilearner")

    return run


def day_of(columns, day=DAY):
    """The rows of one day."""
    return [row for row in zip(*columns.values(), strict=True) if row[0] == day.isoformat()]


def test_a_day_is_the_same_whatever_range_it_is_asked_for_in():
    """Backfills in any order see the same data."""
    alone = datasets.bike_rentals(DAY, 1, locations=3)
    among = datasets.bike_rentals(DAY - timedelta(days=5), 9, locations=3)
    assert day_of(alone) == day_of(among)
    assert len(day_of(alone)) == 3 * 24


def test_a_location_is_the_same_whatever_their_number():
    """More locations do not change those that were there."""
    few, many = (datasets.bike_rentals(DAY, 1, locations=number) for number in (2, 5))
    assert day_of(few) == day_of(many)[: 2 * 24]


def test_another_seed_is_another_city():
    """The seed changes the counts."""
    assert datasets.bike_rentals(DAY, 1, seed=1)["cnt"] != datasets.bike_rentals(DAY, 1, seed=2)["cnt"]


def test_bike_columns_are_within_the_ranges_of_the_real_file():
    """Generated rows have the columns of hour.csv plus location, in its units."""
    columns = datasets.bike_rentals(date(2025, 6, 25), 20, locations=2)
    assert tuple(columns) == datasets.BIKE_COLUMNS
    for name in ("temp", "atemp", "hum", "windspeed"):
        assert all(0 <= cell <= 1 for cell in columns[name])
    assert set(columns["weathersit"]) <= {1, 2, 3, 4}
    assert set(columns["hr"]) == set(range(24))
    assert set(columns["weekday"]) == set(range(7))
    assert set(columns["holiday"]) == {0, 1}
    assert set(columns["location"]) == {"loc001", "loc002"}
    assert min(columns["cnt"]) >= 0


def test_rush_hours_belong_to_working_days():
    """At eight in the morning there are more rentals than at three at night, by far, on working days."""
    columns = datasets.bike_rentals(date(2026, 3, 2), 5, locations=20)
    by_hour = {hour: 0 for hour in range(24)}
    for hour, count in zip(columns["hr"], columns["cnt"], strict=True):
        by_hour[hour] += count
    assert by_hour[8] > 5 * by_hour[3]


@pytest.mark.slow
def test_rentals_grow():
    """The same month has more rentals a year later."""
    earlier, later = (sum(datasets.bike_rentals(date(year, 2, 1), 14)["cnt"]) for year in (2025, 2026))
    assert later > 1.3 * earlier


@pytest.mark.slow
def test_an_old_model_is_worse_on_a_new_day(trained):
    """Drift: trained up to the half of a day, a model knows the other half better than one of weeks ago."""
    _, bikes = shipped_experiments()
    old = datasets.bike_rentals(DAY - timedelta(days=60), 30, locations=12)
    new = datasets.bike_rentals(DAY - timedelta(days=30), 31, locations=12)
    held = [index for index, day in enumerate(new["dteday"]) if day == DAY.isoformat() and index % 2]
    kept = [index for index in range(len(new["cnt"])) if index not in set(held)]
    rows = Table(tuple(new), [[cells[index] for cells in new.values()] for index in held])
    errors = {}
    for name, columns in (("old", old), ("new", {key: [cells[i] for i in kept] for key, cells in new.items()})):
        _, scorer = trained(bikes, columns)
        answers = [float(cell) for cell in scorer.score(rows).column("Scored Labels")]
        errors[name] = sum(abs(a - t) for a, t in zip(answers, rows.column("cnt"), strict=True)) / len(answers)
    assert errors["new"] < 0.8 * errors["old"]


@pytest.mark.slow
def test_census_has_the_columns_of_the_real_file(trained):
    """Generated people train the shipped Census Model to a believable quality."""
    census, _ = shipped_experiments()
    columns = datasets.census(3000)
    assert set(columns) == {*census.features, "income"}
    assert set(columns["income"]) == {"<=50K", ">50K"}
    assert 0.15 < columns["income"].count(">50K") / 3000 < 0.35
    summary, _ = trained(census, columns)
    assert 0.8 < summary.metrics["AUC"] < 0.97


def test_census_is_seeded():
    """The same seed gives the same people, another one others."""
    assert datasets.census(50) == datasets.census(50)
    assert datasets.census(50, seed=2) != datasets.census(50)
    assert datasets.census(0) == {}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", shipped_experiments(), ids=lambda experiment: experiment.name)
def test_first_data_is_a_csv_of_bounded_size(experiment):
    """The first training data of both shipped experiments has the label and at most 20,000 rows."""
    lines = experiment.first_rows().decode().splitlines()
    assert experiment.label in lines[0].split(",")
    assert 5000 <= len(lines) - 1 <= 20_000


def test_csv_quotes_what_needs_it():
    """A cell with a comma survives."""
    stream = io.StringIO()
    datasets.write_csv({"a": ["x,y"], "b": [1]}, stream)
    assert stream.getvalue() == 'a,b\n"x,y",1\n'

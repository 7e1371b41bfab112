"""Generated training data for the experiments that come with the package.

Made with a seed, day by day: a day's rows are the same whatever range they are asked for in.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from numpy import float64
    from numpy.random import Generator
    from numpy.typing import NDArray

Columns = dict[str, list[Any]]

BIKE_COLUMNS = (
    *("dteday", "season", "yr", "mnth", "hr", "holiday", "weekday", "workingday", "weathersit"),
    *("temp", "atemp", "hum", "windspeed", "location", "cnt"),
)

#: Rentals grow to many times what they were: the day of the fastest growth (3 % a week), and its pace in days.
_FASTEST = date(2026, 2, 1)
_GROWTH = 9.0
_PACE = 100.0
_HOLIDAYS = {(1, 1), (5, 1), (7, 4), (11, 11), (12, 25), (12, 26)}


def write_csv(columns: Mapping[str, Sequence[Any]], stream: TextIO) -> None:
    """Write columns as CSV with a header row.

    :param columns: cells by column name.
    :param stream: where to.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))


def first_bike_rentals(stream: TextIO) -> None:
    """First training data of *Bike Rental*: the 60 days before 2026, 12 locations.

    :param stream: where to write CSV.
    """
    write_csv(bike_rentals(date(2025, 11, 2), 60, locations=12), stream)


def first_census(stream: TextIO) -> None:
    """First training data of *Census Model*: 5,000 people.

    :param stream: where to write CSV.
    """
    write_csv(census(5000), stream)


def bike_rentals(start: date, days: int, *, locations: int = 48, seed: int = 2011) -> Columns:
    """Hourly rentals, with the columns of ``hour.csv`` plus ``location``.

    Seasons, weather, rush hours and a level for each location. The level, the hour of the rush and the total drift
    over weeks, so that a model trained on an earlier period is worse on a later day than one trained with that day.

    :param start: first day.
    :param days: number of days.
    :param locations: number of locations; ``loc001`` is the same whatever the number.
    :param seed: another seed, another city.
    """
    columns: Columns = {name: [] for name in BIKE_COLUMNS}
    for offset in range(days):
        day = start + timedelta(days=offset)
        shared = _day(day, seed)
        for location in range(1, locations + 1):
            for name, cells in shared.items():
                columns[name] += cells
            columns["location"] += [f"loc{location:03}"] * 24
            columns["cnt"] += _counts(day, location, seed, shared)
    return columns


def _generator(*key: int) -> Generator:
    import numpy as np

    return np.random.default_rng(key)


def _waves(day: date, *key: int) -> NDArray[float64]:
    """Three numbers that wander smoothly between about -1 and 1 as days go by."""
    import numpy as np

    generator = _generator(*key)
    periods = generator.uniform((60, 90, 140), (90, 140, 250), (3, 3))
    phases = generator.uniform(0, 2 * np.pi, (3, 3))
    waves = np.sin(2 * np.pi * day.toordinal() / periods + phases)
    return np.asarray(waves @ (0.45, 0.35, 0.3))


def _day(day: date, seed: int) -> Columns:
    """What all locations share on one day, hour by hour."""
    import numpy as np

    generator = _generator(seed, day.toordinal(), 0)
    wander = _waves(day, seed, 0, 0)
    hours = np.arange(24)
    warmth = 0.5 - 0.27 * np.cos(2 * np.pi * (day.timetuple().tm_yday - 20) / 365.25) + 0.06 * wander[0]
    temp = np.clip(warmth + generator.normal(0, 0.04) - 0.08 * np.cos(2 * np.pi * (hours - 3) / 24), 0.02, 1)
    wet = 0.55 + 0.12 * wander[1] + generator.normal(0, 0.12) + generator.normal(0, 0.04, 24)
    wind = np.clip(0.19 + 0.06 * wander[2] + generator.normal(0, 0.06) + generator.normal(0, 0.03, 24), 0, 0.9)
    weather = 1 + (wet > 0.62).astype(int) + (wet > 0.78) + (wet > 0.97)
    holiday, weekday = int((day.month, day.day) in _HOLIDAYS), day.isoweekday() % 7
    constant = {
        "dteday": day.isoformat(),
        "season": day.month % 12 // 3 + 1,
        "yr": day.year - 2011,
        "mnth": day.month,
        "holiday": holiday,
        "weekday": weekday,
        "workingday": int(not holiday and 0 < weekday < 6),
    }
    varying = {"temp": temp, "atemp": temp * 0.9 + 0.05 - wind * 0.1, "hum": np.clip(wet, 0.1, 1), "windspeed": wind}
    return {
        **{name: [value] * 24 for name, value in constant.items()},
        "hr": hours.tolist(),
        "weathersit": weather.tolist(),
        **{name: [round(value, 4) for value in cells.tolist()] for name, cells in varying.items()},
    }


def _counts(day: date, location: int, seed: int, shared: Columns) -> list[int]:
    """Rentals of one location on one day."""
    import numpy as np

    size, commuters, lateness = _generator(seed, 0, location).uniform((25, 0.3, -0.5), (90, 0.8, 0.5))
    level, habit, shift = _waves(day, seed, 0, location)
    hours = np.arange(24)
    late = lateness + 1.2 * shift
    rush = np.exp(-(((hours - 8 - late) / 1.3) ** 2)) + 1.2 * np.exp(-(((hours - 17.5 - late) / 1.8) ** 2))
    leisure = 0.9 * np.exp(-(((hours - 14 - late) / 4) ** 2))
    working = shared["workingday"][0]
    share = np.clip(commuters + 0.25 * habit, 0.05, 0.95) if working else 0.05
    pattern = 0.04 + 2 * share * rush + (1 - share) * leisure
    weather = np.array((0, 1, 0.85, 0.55, 0.2))[shared["weathersit"]]
    warmth = 0.25 + 1.1 * np.array(shared["temp"]) - 0.5 * np.clip(np.array(shared["temp"]) - 0.75, 0, 1)
    growth = 1 + _GROWTH / (1 + np.exp((_FASTEST - day).days / _PACE))
    mean = size * growth * np.exp(0.7 * level) * pattern * weather * warmth
    noise = _generator(seed, day.toordinal(), location)
    counts: list[int] = noise.poisson(mean * noise.gamma(100, 0.01, 24)).tolist()
    return counts


#: Education: name, years, share of the people.
_EDUCATION = (
    ("7th-8th", 4, 0.04),
    ("10th", 6, 0.05),
    ("11th", 7, 0.06),
    ("HS-grad", 9, 0.33),
    ("Some-college", 10, 0.22),
    ("Assoc-voc", 11, 0.05),
    ("Bachelors", 13, 0.17),
    ("Masters", 14, 0.06),
    ("Doctorate", 16, 0.02),
)
_WORK = (("Private", 0.7), ("Self-emp-not-inc", 0.08), ("Local-gov", 0.07), ("State-gov", 0.05), ("Federal-gov", 0.04))
_JOBS = (
    (0, "Handlers-cleaners Machine-op-inspct Other-service Farming-fishing"),
    (8, "Craft-repair Transport-moving Adm-clerical Sales"),
    (12, "Prof-specialty Exec-managerial Tech-support Sales"),
)
_RACES = (("White", 0.85), ("Black", 0.1), ("Asian-Pac-Islander", 0.03), ("Other", 0.02))
_COUNTRIES = (("United-States", 0.9), ("Mexico", 0.03), ("Philippines", 0.01), ("Germany", 0.01), ("?", 0.02))


def census(rows: int, seed: int = 1994) -> Columns:
    """People, with the columns of ``adult.data``: income depends on education, age, marriage, job and hours.

    :param rows: number of people.
    :param seed: another seed, other people.
    """
    generator = _generator(seed, rows)
    return _columns_of([_person(generator) for _ in range(rows)])


def _columns_of(rows: list[dict[str, Any]]) -> Columns:
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _choice(generator: Generator, options: Sequence[tuple[str, float]]) -> str:
    point = generator.random() * sum(share for _, share in options)
    for name, share in options:
        point -= share
        if point < 0:
            return name
    return options[-1][0]


def _person(generator: Generator) -> dict[str, Any]:
    education = _choice(generator, [(name, share) for name, _, share in _EDUCATION])
    years = next(number for name, number, _ in _EDUCATION if name == education)
    age = int(min(90, 17 + generator.gamma(2.6, 8.5)))
    male = generator.random() < 0.67
    married = generator.random() < min(0.75, max(0.0, (age - 20) / 22)) * (1 if male else 0.5)
    alone = "Never-married" if age < 30 or generator.random() < 0.4 else "Divorced"
    relation = ("Husband" if male else "Wife") if married else ("Own-child" if age < 25 else "Not-in-family")
    work, job = _work(generator, years)
    hours = int(min(99, max(1, generator.normal(43 if male else 37, 11))))
    gain = int(generator.choice((2174, 5178, 7688, 15024))) if generator.random() < 0.04 + 0.005 * years else 0
    loss = int(generator.choice((1602, 1887, 1977))) if not gain and generator.random() < 0.05 else 0
    person = {
        "age": age,
        "workclass": work,
        "fnlwgt": int(generator.gamma(3.2, 59000)) + 12000,
        "education": education,
        "education-num": years,
        "marital-status": "Married-civ-spouse" if married else alone,
        "occupation": job,
        "relationship": relation,
        "race": _choice(generator, _RACES),
        "sex": "Male" if male else "Female",
        "capital-gain": gain,
        "capital-loss": loss,
        "hours-per-week": hours,
        "native-country": _choice(generator, _COUNTRIES),
    }
    return {**person, "income": ">50K" if generator.logistic(0, 0.8) < _prospects(person) else "<=50K"}


def _work(generator: Generator, years: int) -> tuple[str, str]:
    if generator.random() < 0.05:
        return "?", "?"
    jobs = next(jobs for least, jobs in reversed(_JOBS) if years >= least).split()
    return _choice(generator, _WORK), jobs[int(generator.integers(len(jobs)))]


def _prospects(person: Mapping[str, Any]) -> float:
    score = 0.38 * (person["education-num"] - 10) + 0.05 * min(person["age"] - 38, 18) - 3.1
    score += 0.035 * (person["hours-per-week"] - 40) + 2.4 * (person["marital-status"] == "Married-civ-spouse")
    score += 0.6 * (person["occupation"] in ("Exec-managerial", "Prof-specialty"))
    return float(score + 2.5 * (person["capital-gain"] > 5000) + 0.6 * (person["capital-loss"] > 1800))

"""The data contract: what new training data are beside those of the live model."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_azureml_classic.protocol.data_check import LIMITS, NOT_KNOWN, SATISFIED, VIOLATED, check_limits
from airflow_provider_azureml_classic.server.experiments import Experiment, read_ilearner, train
from airflow_provider_azureml_classic.server.experiments.contract import (
    Contract,
    Terms,
)
from airflow_provider_azureml_classic.server.experiments.spread import independent_share
from airflow_provider_azureml_classic.server.experiments.training import train_checked

Row = dict[str, Any]
EXPERIMENT = Experiment(
    name="Shops",
    estimator="linear-classifier",
    label="y",
    first_data="unused.csv",
    directory=Path(),
    time_column="day",
    ignore=("day",),
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
TICKETS = 1_000_000


def shop(seed: int, count: int = 400, first_day: int = 1) -> list[Row]:
    """Rows of a shop: two numbers, a text, a ticket of its own for each, a day in January, and a label."""
    source = random.Random(seed)  # noqa: S311 - test data
    # Far from those of another shop, and in no order.
    tickets = random.Random(seed).sample(range(seed * TICKETS, (seed + 1) * TICKETS), count)  # noqa: S311 - test data
    rows = []
    for number in range(count):
        age, sales = source.randint(18, 80), source.gauss(50, 10)
        colour = source.choice(["Red", "Green", "Blue"])
        label = "yes" if age / 50 + sales / 50 + (colour == "Red") + source.gauss(0, 0.5) > 2.4 else "no"
        day = f"2026-01-{first_day + number % 10:02}"
        rows.append(
            {
                "day": day,
                "age": age,
                "sales": f"{sales:.2f}",
                "colour": colour,
                "ticket": tickets[number],
                "y": label,
            }
        )
    return rows


def write(path: Path, rows: list[Row]) -> Path:
    """The rows as CSV."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A live model."""
    folder = tmp_path_factory.mktemp("live")
    train(EXPERIMENT, None, write(folder / "d.csv", shop(1)), folder / "m.ilearner", folder / "e.csv")
    return folder / "m.ilearner"


@pytest.fixture
def look(live: Path, tmp_path: Path) -> Callable[..., Contract]:
    """Looks at rows beside those of the live model."""

    def looked(rows: list[Row], model: Path | None = live, **terms: Any) -> Contract:
        schema, data = read_ilearner(live)[0].schema, write(tmp_path / "n.csv", rows)
        said = Terms(**{"now": NOW, "only": True, **terms})
        files = (data, tmp_path / "m.ilearner", tmp_path / "e.csv")
        contract, summary = train_checked(said, model, EXPERIMENT, schema, *files)
        assert summary is None
        return contract

    return looked


def changed(rows: list[Row], **changes: Callable[[Row], Any]) -> list[Row]:
    """The rows with other cells in some columns."""
    return [{**row, **{name: change(row) for name, change in changes.items()}} for row in rows]


DAMAGES: Mapping[str, tuple[Callable[[], list[Row]], str, str]] = {
    "units": (lambda: changed(shop(2), age=lambda row: row["age"] * 365), "outside", "'age' is far from 18 to 80"),
    "degrees": (
        lambda: changed(shop(2), sales=lambda row: f"{float(row['sales']) * 1.8 + 32:.1f}"),
        "outside",
        "those of before times 1.8",
    ),
    "shifted": (lambda: changed(shop(2), sales=lambda row: float(row["sales"]) + 500), "outside", "'sales'"),
    "case": (
        lambda: changed(shop(2), colour=lambda row: row["colour"].upper()),
        "respelled",
        "'GREEN', before 'Green'",
    ),
    "codes": (lambda: changed(shop(2), colour=lambda row: f"c-{ord(row['colour'][0])}"), "unknown", "new in 100%"),
    "holes": (
        lambda: changed(shop(2), age=lambda row: "" if row["age"] % 3 else row["age"]),
        "missing",
        "no value in 6",
    ),
    "tiny": (lambda: shop(2, 30), "fewer", "There are 30 rows, before there were 400"),
    "repeated": (lambda: shop(2, 20) * 20, "duplicates", "95% of the rows repeat"),
    "flipped": (
        lambda: changed(shop(2), y=lambda row: "yes" if row["age"] < 70 else "no"),
        "labels",
        "shared out in another way",
    ),
    "another column": (
        lambda: changed(shop(2), ticket=lambda row: row["age"]),
        "outside",
        "Column 'ticket' has the numbers that column 'age' had before",
    ),
    "future": (lambda: changed(shop(2), day=lambda row: "2027-01-01"), "future", "in the future in 100%"),
}


def test_a_sign_that_was_never_set(look: Callable[..., Contract], tmp_path: Path) -> None:
    """A column that was zero in all rows, as of holidays in a week without one, has no scale: that it is set now is a
    note, and no change of units.
    """
    model = tmp_path / "quiet.ilearner"
    data = write(tmp_path / "quiet.csv", changed(shop(1), sales=lambda _: 0))
    train(EXPERIMENT, None, data, model, tmp_path / "quiet-e.csv")
    contract = look(changed(shop(2), sales=lambda row: int(row["age"] % 3 == 0)), model)
    assert contract.verdict == SATISFIED
    assert [one.rule for one in contract.findings if one.column == "sales"] == ["beyond"]


@pytest.mark.parametrize(("kind", "share"), [("independent", (0.8, 1.0)), ("hours", (0.005, 0.1)), ("days", (0, 0.15))])
def test_how_much_rows_in_time_tell(kind: str, share: tuple[float, float]) -> None:
    """Independent rows tell as much as they are; hours whose weather goes on tell little, so do texts of whole days."""
    draw = np.random.default_rng(1)
    steps = draw.normal(size=700)
    cells = {
        "independent": steps,
        "hours": np.convolve(steps, np.ones(24), "valid"),
        "days": np.repeat(draw.integers(0, 4, 28), 24),
    }[kind]
    assert share[0] <= independent_share(cells) <= share[1]


@pytest.mark.parametrize("name", DAMAGES)
def test_what_a_person_would_stop_is_found(look: Callable[..., Contract], name: str) -> None:
    """Each breaks the contract by a rule of its own; the message says column, share and what it was before."""
    make, rule, message = DAMAGES[name]
    contract = look(make())
    assert contract.verdict == VIOLATED
    found = {finding.rule: finding.message for finding in contract.findings if finding.level != "note"}
    assert set(found) == {rule}
    assert message in found[rule]
    assert contract.problem(strict=False) is None
    assert "break the contract" in str(contract.problem(strict=True))


def test_a_column_without_any_value_is_never_benign(look: Callable[..., Contract]) -> None:
    """No model that anybody wants comes out of it, so it is refused unless the check is off."""
    contract = look(changed(shop(2), age=lambda row: ""))
    assert "'age' has no value any more" in str(contract.problem(strict=False))


@pytest.mark.parametrize(
    "rows",
    [
        shop(2),
        shop(3, 900),
        shop(4, 200, first_day=11),
        changed(shop(5), sales=lambda row: float(row["sales"]) * 1.2),
        changed(shop(6), colour=lambda row: "Black" if row["age"] > 70 else row["colour"]),
        changed(shop(7), age=lambda row: "" if row["age"] % 10 == 0 else row["age"]),
        changed(shop(8), age=lambda row: row["age"] + 20),
    ],
    ids=["day", "growth", "later", "season", "new colour", "some holes", "another decade"],
)
def test_what_happens_to_everybody_is_no_violation(look: Callable[..., Contract], rows: list[Row]) -> None:
    """New days, growth, a season, a new category, some holes."""
    contract = look(rows)
    assert contract.verdict == SATISFIED, contract.findings
    assert contract.labels_as_before
    assert contract.problem(strict=True) is None


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("age", lambda row: min(80, row["age"] + 20)),
        ("age", lambda row: row["age"] // 2 + 9),
        ("sales", lambda row: float(row["sales"]) / 2 + 30),
        ("colour", lambda row: "Red" if row["colour"] == "Blue" else row["colour"]),
    ],
    ids=["shifted", "halved", "narrower", "two made one"],
)
def test_a_column_that_is_spread_in_another_way_is_noted(
    look: Callable[..., Contract], column: str, change: Callable[[Row], Any]
) -> None:
    """Within its range and its texts it violates nothing; another day, or few rows of one, are spread as before."""
    contract = look(changed(shop(2), **{column: change}))
    assert contract.verdict == SATISFIED
    assert [one.column for one in contract.findings if one.rule == "spread"] == [column]
    assert contract.columns_as_before is False
    for rows in (shop(2), shop(3, 900), shop(4, 100)):
        assert look(rows).columns_as_before is True


def test_rows_outside_the_declared_window_are_found(look: Callable[..., Contract]) -> None:
    """The end of a window is exclusive."""
    january = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 11, tzinfo=UTC))
    assert look(shop(2), window=january).verdict == SATISFIED
    short = look(shop(2), window=(january[0], datetime(2026, 1, 10, tzinfo=UTC)))
    assert [finding.rule for finding in short.findings] == ["window"]
    assert "in 10% of the rows" in short.findings[0].message


def test_a_limit_can_be_set_for_each_column(look: Callable[..., Contract]) -> None:
    """Or for a rule as a whole."""
    rows = changed(shop(2), age=lambda row: row["age"] * 365)
    assert look(rows, limits={"age.outside": 1.0}).verdict == SATISFIED
    assert look(rows, limits={"outside": 1.0}).verdict == SATISFIED
    assert look(rows, limits={"sales.outside": 1.0}).verdict == VIOLATED


def test_the_first_model_of_a_web_service_binds_nobody(look: Callable[..., Contract]) -> None:
    """Its data are somebody else's: what is unlike them is a note, and the contract not known; blanks still fail."""
    contract = look(DAMAGES["tiny"][0](), first=True)
    assert (contract.verdict, {finding.level for finding in contract.findings}) == (NOT_KNOWN, {"note"})
    assert look(changed(shop(2), age=lambda row: ""), first=True).problem(strict=False) is not None


def test_a_leaked_label_and_old_data_are_notes(look: Callable[..., Contract]) -> None:
    """They may be meant; a column that is none of the model's is told, too."""
    leaked = look(changed(shop(2), age=lambda row: 70 if row["y"] == "yes" else 30))
    assert [(finding.level, finding.rule, finding.column) for finding in leaked.findings] == [("note", "leak", "age")]
    assert leaked.verdict == SATISFIED
    again = look([{**row, "more": 1} for row in shop(1)])
    assert [finding.rule for finding in again.findings] == ["again", "new"]


def test_without_a_profile_nothing_is_known(look: Callable[..., Contract], live: Path, tmp_path: Path) -> None:
    """As with models of earlier versions, and with none: that is no violation; what the data alone show still is."""
    content = live.read_bytes()
    (tmp_path / "old.ilearner").write_bytes(content[: content.rindex(b"PK\x05\x06") + 20] + b"\0\0")
    for model in (None, tmp_path / "old.ilearner"):
        contract = look(shop(2), model)
        assert (contract.verdict, contract.labels_as_before) == (NOT_KNOWN, None)
        assert contract.problem(strict=True) is None
    assert look(DAMAGES["future"][0](), None).verdict == VIOLATED


def test_what_is_told_is_bounded(look: Callable[..., Contract]) -> None:
    """It goes to logs and XCom: no row, and so many findings at most."""
    contract = look([{**row, **{f"more{number}": 1 for number in range(80)}} for row in shop(2)])
    told = contract.to_json()
    assert len(told["findings"]) == 50
    assert told["left_out"] == 30


def test_each_limit_can_be_set_by_a_client() -> None:
    """The rules that a submission may name are those that have a limit."""
    assert check_limits({rule: 1.0 for rule in LIMITS} | {f"age.{rule}": 0.0 for rule in LIMITS})
    assert {Terms().limit(rule) for rule in LIMITS} == set(LIMITS.values())
    with pytest.raises(ValueError, match="ouside"):
        check_limits({"ouside": 0.5})


def test_a_window_tells_half_a_file_and_a_day_that_is_yet_to_come(look: Callable[..., Contract]) -> None:
    """The last third of the declared window has rows, and its end has come; a shop that opened late is no finding."""
    january, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 11, tzinfo=UTC)

    def found(rows: list[Row], start: datetime, until: datetime) -> list[str]:
        contract = look(rows, window=(start, until))
        return [one.message for one in contract.findings if one.rule in ("window", "future")]

    assert found(shop(2), january, end) == []
    assert found([row for row in shop(2) if row["day"] > "2026-01-06"], january, end) == []
    half = [row for row in shop(2) if row["day"] < "2026-01-06"]
    assert "The last 50% of the declared window" in found(half, january, end)[0]
    assert not any("future" in one for one in found(shop(2), january, NOW + timedelta(hours=20)))
    assert "ends in the future, on 2036" in found(shop(2), january, datetime(2036, 1, 1, tzinfo=UTC))[0]

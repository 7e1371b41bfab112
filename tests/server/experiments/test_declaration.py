"""Experiments as declared in TOML: what a short declaration means, and what each mistake is told."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.server.experiments import Experiment, load_experiments, shipped_experiments

MINIMAL = """
[[experiment]]
name = "Churn Model"
estimator = "boosting-classifier"
label = "churned"
first_data = "churn.csv"
"""


@pytest.fixture
def declared(tmp_path):
    """Writes a declaration beside a small CSV file and returns its path."""
    (tmp_path / "churn.csv").write_text("age,plan,churned\n30,a,yes\n40,b,no\n")

    def write(text: str) -> Path:
        path = tmp_path / "experiments.toml"
        path.write_text(text)
        return path

    return write


def test_five_lines_are_an_experiment(declared):
    """A name, an estimator, a label and first data are enough; all else has a default."""
    (experiment,) = load_experiments(declared(MINIMAL))
    assert experiment.features is None
    assert experiment.missing == ("", "NaN", "?")
    assert experiment.test_fraction == 0.2
    assert experiment.first_rows().startswith(b"age,plan,churned")


def test_names_of_services_and_resource_follow_from_the_name(declared):
    """The training service has the experiment's name; Studio's suffixes give the other two."""
    (experiment,) = load_experiments(declared(MINIMAL))
    assert experiment.training_service == "Churn Model"
    assert experiment.scoring_service == "Churn Model [predictive exp.]"
    assert experiment.resource_name == "Churn Model [trained model]"


def test_every_key_is_read(declared):
    """All keys reach the value of the same name, lists as tuples."""
    text = MINIMAL + (
        'features = ["age"]\noptional = ["plan"]\npassthrough = ["*"]\nignore = ["id"]\ntask = "classification"\n'
        'positive = "yes"\ntime_column = "day"\nmissing = ["-"]\ntest_fraction = 0.5\n'
        "estimator_parameters = { max_iter = 5 }\n"
    )
    path = declared(text.replace("churn.csv", "mydata:write"))
    (path.parent / "mydata.py").write_text("def write(stream):\n    stream.write('age,churned\\n')\n")
    (experiment,) = load_experiments(path)
    assert experiment == Experiment(
        name="Churn Model",
        estimator="boosting-classifier",
        label="churned",
        first_data="mydata:write",
        directory=path.parent.resolve(),
        features=("age",),
        optional=("plan",),
        passthrough=("*",),
        ignore=("id",),
        task="classification",
        positive="yes",
        time_column="day",
        missing=("-",),
        test_fraction=0.5,
        estimator_parameters={"max_iter": 5},
    )


def test_first_data_may_come_from_a_function_beside_the_declaration(declared):
    """A function named as first data is called with a stream and writes the CSV."""
    path = declared(MINIMAL.replace("churn.csv", "firstrows:write"))
    (path.parent / "firstrows.py").write_text("def write(stream):\n    stream.write('age,churned\\n1,yes\\n')\n")
    (experiment,) = load_experiments(path)
    assert experiment.first_rows() == b"age,churned\n1,yes\n"


def test_an_experiment_can_be_sent_to_a_worker_process(declared):
    """An experiment survives pickling."""
    (experiment,) = load_experiments(declared(MINIMAL))
    assert pickle.loads(pickle.dumps(experiment)) == experiment  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('label = "churned"', 'labell = "churned"', ["'labell' is not a known key", "Did you mean 'label'?"]),
        ('label = "churned"\n', "", ["'label' is missing", "a text"]),
        ('label = "churned"', "label = 3", ["label = 3 is wrong", "a text"]),
        ('label = "churned"', 'label = "gone"', ["expected the columns gone", "age, plan, churned"]),
        ("churn.csv", "none.csv", ["there is no file", "none.csv", "package.module:function"]),
        ("churn.csv", "nowhere_at_all:write", ["there is no module 'nowhere_at_all'"]),
        ("boosting-classifier", "boosting-clasifier", ["neither a pipeline", "boosting-classifier", "dotted path"]),
        ("boosting-classifier", "sklearn.linear_model.LogisticRegresion", ["did you mean 'LogisticRegression'?"]),
        ("boosting-classifier", "sklearn.linear_models.Ridge", ["there is no module 'sklearn.linear_models'"]),
        ("boosting-classifier", "os.path:join", ["'task' is missing"]),
        ('label = "churned"', 'label = "churned"\nfeatures = ["churned"]', ["the label 'churned' is among 'features'"]),
        ('label = "churned"', 'label = "churned"\nfeatures = []', ["features = []", "at least one"]),
        (
            'label = "churned"',
            'label = "churned"\nfeatures = ["age"]\nignore = ["age"]',
            ["both a feature and ignored"],
        ),
        ('label = "churned"', 'label = "churned"\ntime_column = "churned"', ["both label and time_column"]),
        ('label = "churned"', 'label = "churned"\ntest_fraction = 1.5', ["between 0 and 1"]),
        ('label = "churned"', 'label = "churned"\ntask = "regression"', ["does classification"]),
        ("boosting-classifier", 'os.path:join"\npositive = "yes"\ntask = "regression', ["no classes"]),
    ],
)
def test_a_mistake_is_told_with_file_experiment_and_remedy(declared, old, new, said):
    """Each wrong declaration is refused in words that name the file, the experiment and what was expected."""
    path = declared(MINIMAL.replace(old, new))
    with pytest.raises(ValueError, match=r"experiments\.toml, experiment 'Churn Model'") as caught:
        load_experiments(path)
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "declares no experiment"),
        ("[experiment]\nname = 'x'", "double brackets"),
        ("experiment = [1]", "experiment number 1 is not a table"),
        ("[[experiment", "is not TOML"),
        ("[[experiments]]\nname = 'x'", "Did you mean 'experiment'?"),
        ("[[experiment]]\nlabel = 'x'", "experiment number 1: the key 'name' is missing"),
        (MINIMAL + MINIMAL.replace("Churn", "CHURN"), "'CHURN Model': the name is used twice"),
    ],
)
def test_a_wrong_file_is_told(declared, text, said):
    """What is wrong with the file as a whole is said as well."""
    with pytest.raises(ValueError, match=r"experiments\.toml") as caught:
        load_experiments(declared(text))
    assert said in str(caught.value)


def test_a_headerless_first_csv_is_told_at_once(declared):
    """First data without a header row is refused when the declaration is read, not at the first job."""
    path = declared(MINIMAL)
    (path.parent / "churn.csv").write_text("30,a,yes\n40,b,no\n")
    with pytest.raises(ValueError, match="needs a header row"):
        load_experiments(path)


def test_shipped_experiments_are_those_of_the_articles():
    """The package brings Census Model and Bike Rental."""
    census, bikes = shipped_experiments()
    assert (census.name, census.label, census.positive, len(census.features)) == ("Census Model", "income", ">50K", 14)
    assert (bikes.name, bikes.label, bikes.time_column, len(bikes.features)) == ("Bike Rental", "cnt", "dteday", 12)
    assert not {"casual", "registered", "instant"} & {*bikes.features, *bikes.optional}


@pytest.mark.slow
def test_reading_declarations_imports_no_heavy_library():
    """The server's start stays fast: neither importing the package nor reading declarations loads scikit-learn."""
    code = (
        "import sys\n"
        "from airflow_provider_azureml_classic.server.experiments import shipped_experiments\n"
        "shipped_experiments()\n"
        "print([m for m in ('sklearn', 'pandas', 'numpy', 'onnx', 'skl2onnx', 'onnxruntime') if m in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

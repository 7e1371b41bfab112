"""Experiments as they are declared: TOML in, frozen values out, every mistake named.

::

    [[experiment]]
    name = "Churn Model"
    estimator = "boosting-classifier"
    label = "churned"
    first_data = "churn.csv"

A declaration gives two web services: one that trains, one that scores.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, cause, did_you_mean
from airflow_provider_azureml_classic.protocol.jobs import EVALUATION_OUTPUT, INPUT, MODEL_OUTPUT, SCORED_OUTPUT
from airflow_provider_azureml_classic.protocol.limits import MAX_DECLARATION, MAX_KEPT_CALLS
from airflow_provider_azureml_classic.protocol.messages import read_toml
from airflow_provider_azureml_classic.protocol.references import CSV_EXTENSION, INPUT_EXTENSIONS
from airflow_provider_azureml_classic.protocol.values import SCORING_SUFFIX
from airflow_provider_azureml_classic.server.experiments import imports, parameters
from airflow_provider_azureml_classic.server.experiments.parameters import Parameter
from airflow_provider_azureml_classic.tables import encodings, reading
from airflow_provider_azureml_classic.tables.kinds import MISSING, Kind, declared_kind

CLASSIFICATION = "classification"
REGRESSION = "regression"

#: Pipelines of this package, by the name used in a declaration: what they solve.
PIPELINES: Mapping[str, str] = MappingProxyType(
    {
        "boosting-classifier": CLASSIFICATION,
        "boosting-regressor": REGRESSION,
        "linear-classifier": CLASSIFICATION,
        "linear-regressor": REGRESSION,
    }
)

#: What an input of the training web service is for: rows to train on, or rows for the metrics instead of held-out ones.
TRAIN, EVALUATE = "train", "evaluate"
#: What an output is: the trained model, its evaluation; the scored rows, which the scoring web service has alone.
MODEL, EVALUATION, SCORED = "model", "evaluation", "scored"
#: Value of ``isolation``.
BY_CUSTOMER = "customer"
#: What an input or output may be called: a part of paths and of addresses within documents.
_PORT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Experiment:
    """One declared experiment.

    :param name: name of the training web service; the other names derive from it.
    :param estimator: a name of :data:`PIPELINES`, ``package.module.Class`` of an estimator with scikit-learn's
        interface, or ``package.module:function``: ``function(schema, **estimator_parameters)`` returns an unfitted
        estimator or pipeline that takes the encoded matrix (see :func:`~.schema.encode`).
    :param label: the column to predict.
    :param first_data: a CSV, TSV or ARFF file, or ``package.module:function``: ``function(stream)`` writes CSV text.
    :param directory: folder of the declaration: relative paths and modules beside it are found from here.
    :param features: columns to predict from; ``None``: every column of the first training data but the label, the
        time column and ``ignore``.
    :param optional: features that a CSV file or a request may leave out; they then count as missing.
    :param passthrough: input columns that the scoring service repeats in its answer; ``("*",)``: all.
    :param ignore: columns that are no features although ``features`` is not given.
    :param task: ``classification`` or ``regression``; ``None``: ask the estimator.
    :param positive: the class that *Scored Probabilities* is about; ``None``: the last in sorted order.
    :param time_column: date or time of a row, from which the training window is read.
    :param missing: cells that mean "no value".
    :param test_fraction: share of the rows held out for the metrics.
    :param estimator_parameters: keyword arguments for the estimator.
    :param inputs: the training service's inputs by name, each ``train`` or ``evaluate``; several to train on are put
        below one another.
    :param outputs: the training service's outputs by name, in their order: one ``model``, at most one ``evaluation``.
    :param scoring_input: name of the scoring service's input; likewise of its output.
    :param parameters: what callers may set, by name.
    :param rows: column and cell that a row must have to be used; nothing: all rows. Set by parameters only.
    :param steps: parameters of the pipeline's steps, by scikit-learn's names (``step__parameter``). Set by parameters
        only.
    :param columns: what is known of columns, by name; see :func:`~.tables.kinds.declared_kind`.
    :param encoding: of text files; ``None``: it is recognized.
    :param keep_calls: calls that each endpoint of the scoring service keeps, so that an update can be rehearsed on
        them; none without it. The workspace's owner may set another number for an endpoint in the portal.
    :param keep_calls_days: days after which a call is no longer kept.
    :param isolation: ``"customer"``: a key reaches what is its own customer's and nothing else; ``None``: the workspace
        is one, as the cloud's was.
    """

    name: str
    estimator: str
    label: str
    first_data: str
    directory: Path
    features: tuple[str, ...] | None = None
    optional: tuple[str, ...] = ()
    passthrough: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    task: str | None = None
    positive: str | None = None
    time_column: str | None = None
    missing: tuple[str, ...] = MISSING
    test_fraction: float = 0.2
    estimator_parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=lambda: {INPUT: TRAIN})
    outputs: dict[str, str] = field(default_factory=lambda: {MODEL_OUTPUT: MODEL, EVALUATION_OUTPUT: EVALUATION})
    scoring_input: str = INPUT
    scoring_output: str = SCORED_OUTPUT
    parameters: dict[str, Parameter] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Kind] = field(default_factory=dict)
    encoding: str | None = None
    keep_calls: int = 0
    keep_calls_days: int = 30
    isolation: str | None = None

    def parameters_of(self, *, training: bool) -> dict[str, Parameter]:
        """The parameters of one of the two web services.

        :param training: of the one that trains.
        """
        return {name: parameter for name, parameter in self.parameters.items() if parameter.scoring != training}

    def inputs_of(self, *, training: bool) -> dict[str, str]:
        """What each input of one of the two web services is for, by its name.

        :param training: of the one that trains.
        """
        return self.inputs if training else {self.scoring_input: TRAIN}

    def outputs_of(self, *, training: bool) -> dict[str, str]:
        """What each output of one of the two web services is, by its name, in their order.

        :param training: of the one that trains.
        """
        return self.outputs if training else {self.scoring_output: SCORED}

    @property
    def training_service(self) -> str:
        """Name of the web service that trains."""
        return self.name

    @property
    def scoring_service(self) -> str:
        """Name of the web service that scores."""
        return self.name + SCORING_SUFFIX

    @property
    def resource_name(self) -> str:
        """Name under which an endpoint's trained model is updated."""
        return f"{self.name} [trained model]"

    @property
    def first_extension(self) -> str:
        """The extension that says how the first training data is read."""
        suffix = Path(self.first_data).suffix.lower()
        return suffix if suffix in INPUT_EXTENSIONS else CSV_EXTENSION

    def first_rows(self) -> bytes:
        """The first training data; what a function writes is CSV.

        :raises OSError: the file cannot be read.
        """
        path = self.directory / self.first_data
        if path.is_file():
            return path.read_bytes()
        stream = StringIO(newline="")
        imports.load(self.first_data, self.directory)(stream)
        return stream.getvalue().encode()


def load_experiments(path: str | Path) -> tuple[Experiment, ...]:
    """The experiments that a TOML file declares, in its order.

    :param path: the file.
    :raises ValueError: the file cannot be read, or a declaration is wrong; the message names the file, the experiment,
        the key and the remedy.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            document = read_toml(file.read(MAX_DECLARATION + 1), MAX_DECLARATION)
    except OSError as error:
        raise ValueError(
            f"The declarations {path} cannot be read: {error.strerror}. Expected a TOML file that the user whom the "
            "server runs as may read, or MODULE:NAME."
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{path} is not TOML: {cause(error)}. Write one [[experiment]] table for each experiment."
        ) from None
    tables = document.pop("experiment", None)
    if document:
        raise ValueError(f"{path}: {_unknown(document, ('experiment',))} Put every key into an [[experiment]] table.")
    if not isinstance(tables, list) or not tables:
        raise ValueError(f"{path} declares no experiment. Write at least one [[experiment]] table (double brackets).")
    experiments = tuple(_experiment(path, number, table) for number, table in enumerate(tables, 1))
    check_names(path, experiments)
    return experiments


def shipped_experiments() -> tuple[Experiment, ...]:
    """The experiments that come with the package: *Census Model* and *Bike Rental*."""
    return load_experiments(Path(__file__).with_name("shipped.toml"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value == value.strip()


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _is_port(value: Any) -> bool:
    return isinstance(value, str) and _PORT.fullmatch(value) is not None


def _are_inputs(value: Any) -> bool:
    roles = list(value.values()) if isinstance(value, dict) and all(value) else []
    return TRAIN in roles and all(role in (TRAIN, EVALUATE) for role in roles)


def _are_outputs(value: Any) -> bool:
    roles = list(value.values()) if isinstance(value, dict) and all(map(_is_port, value)) else []
    return sorted(map(str, roles)) in ([MODEL], [EVALUATION, MODEL])


def _is_whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


_TEXT = ("a text, not empty and without blanks around it", _is_text)
_PORT_NAME = ("a name of at most 64 letters, digits, dots, hyphens and underscores", _is_port)
_NAMES = ("a list of different column names", _is_names)

#: Key of an [[experiment]] table: what it must be, in words and as a test.
KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "name": _TEXT,
        "estimator": _TEXT,
        "label": _TEXT,
        "first_data": _TEXT,
        "features": ("a list of at least one column name", lambda value: _is_names(value) and bool(value)),
        "optional": _NAMES,
        "passthrough": ('a list of column names, or ["*"] for all', _is_names),
        "ignore": _NAMES,
        "task": (f'"{CLASSIFICATION}" or "{REGRESSION}"', lambda value: value in (CLASSIFICATION, REGRESSION)),
        "positive": _TEXT,
        "time_column": _TEXT,
        "missing": (
            'a list of texts, for example ["", "?"]',
            lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
        ),
        "test_fraction": ("a number between 0 and 1, for example 0.2", _is_fraction),
        "estimator_parameters": ("a table of keyword arguments", lambda value: isinstance(value, dict)),
        "inputs": (
            f'a table of names with "{TRAIN}" (at least one) or "{EVALUATE}", for example {{ input1 = "{TRAIN}" }}',
            _are_inputs,
        ),
        "outputs": (
            f'a table of names (letters, digits, ".", "-", "_") with "{MODEL}" (one) and "{EVALUATION}" (one or none), '
            f'for example {{ output2 = "{MODEL}", output1 = "{EVALUATION}" }}',
            _are_outputs,
        ),
        "scoring_input": _PORT_NAME,
        "scoring_output": _PORT_NAME,
        "parameters": ("a table of tables", lambda value: isinstance(value, dict)),
        "columns": ("a table of tables", lambda value: isinstance(value, dict)),
        "encoding": _TEXT,
        "keep_calls": (f"a whole number from 0 to {MAX_KEPT_CALLS:,}", _is_whole(0, MAX_KEPT_CALLS)),
        "keep_calls_days": ("a whole number from 1 to 365", _is_whole(1, 365)),
        "isolation": (f'"{BY_CUSTOMER}", or left out', lambda value: value == BY_CUSTOMER),
    }
)

_REQUIRED = ("name", "estimator", "label", "first_data")


def _unknown(keys: Mapping[str, Any], known: tuple[str, ...]) -> str:
    key = next(key for key in keys if key not in known)
    return f"{key!r} is not a known key.{did_you_mean(key, known)} Known keys: {', '.join(known)}."


def _experiment(path: Path, number: int, table: Any) -> Experiment:
    name = table.get("name") if isinstance(table, dict) else None
    where = f"{path}, experiment {name!r}" if isinstance(name, str) else f"{path}, experiment number {number}"
    if not isinstance(table, dict):
        raise ValueError(f"{where} is not a table. Write [[experiment]] above its keys.")
    return from_table(where, path.resolve().parent, table)


def from_table(where: str, directory: Path, table: Mapping[str, Any]) -> Experiment:
    """The experiment that a table of keys declares, checked.

    :param where: what declares it, for messages.
    :param directory: where relative paths begin.
    :param table: :data:`KEYS` and their values; lists, not tuples.
    :raises ValueError: a key or value is wrong.
    """
    if not set(table) <= set(KEYS):
        raise ValueError(f"{where}: {_unknown(table, tuple(KEYS))}")
    for key in _REQUIRED:
        if key not in table:
            raise ValueError(f"{where}: the key {key!r} is missing. It must be {KEYS[key][0]}.")
    for key, value in table.items():
        expected, accepts = KEYS[key]
        if not accepts(value):
            raise ValueError(f"{where}: {key} = {value!r} is wrong. It must be {expected}.")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    said = parameters.problem(table.get("parameters", {}))
    if said:
        raise ValueError(f"{where}: {said}")
    values["parameters"] = {key: parameters.read(key, entry) for key, entry in values.get("parameters", {}).items()}
    try:
        values["columns"] = {name: declared_kind(name, said) for name, said in values.get("columns", {}).items()}
        if "encoding" in values:
            values["encoding"] = encodings.check_encoding(values["encoding"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    experiment = _with_defaults(Experiment(directory=directory, **values))
    for said in (_estimator_problem(experiment), _column_problem(experiment), _data_problem(experiment)):
        if said:
            raise ValueError(f"{where}: {said}")
    return experiment


def _with_defaults(experiment: Experiment) -> Experiment:
    """The experiment with the defaults of its parameters, which the first training uses, too."""
    values = {name: parameter.default for name, parameter in experiment.parameters.items()}
    return applied(experiment, {name: value for name, value in values.items() if value is not None})


def _estimator_problem(experiment: Experiment) -> str | None:
    estimator = experiment.estimator
    if estimator in PIPELINES:
        if experiment.task not in (None, PIPELINES[estimator]):
            return f"task = {experiment.task!r}, but {estimator!r} does {PIPELINES[estimator]}. Remove one of them."
        return None
    if not imports.is_dotted(estimator):
        return (
            f"estimator = {estimator!r} is neither a pipeline of this package ({', '.join(PIPELINES)}) "
            "nor a dotted path such as 'sklearn.linear_model.LogisticRegression'."
        )
    if ":" in estimator and experiment.task is None:
        return f"the key 'task' is missing: a function as estimator needs it. It must be {KEYS['task'][0]}."
    found = imports.problem(estimator, experiment.directory)
    return f"estimator = {estimator!r} is not to be found: {found}." if found else None


def _column_problem(experiment: Experiment) -> str | None:
    for key in ("features", "optional", "ignore"):
        if experiment.label in (getattr(experiment, key) or ()):
            return f"the label {experiment.label!r} is among {key!r}. Remove it there: it is what is predicted."
    if experiment.label == experiment.time_column:
        return f"{experiment.label!r} is both label and time_column. Name two different columns."
    both = set(experiment.ignore) & {*(experiment.features or ()), *experiment.optional}
    if both:
        return f"{sorted(both)[0]!r} is both a feature and ignored. Remove it from one of them."
    if experiment.task == REGRESSION and experiment.positive is not None:
        return f"positive = {experiment.positive!r}, but a regression has no classes. Remove the key."
    return None


def _data_problem(experiment: Experiment) -> str | None:
    said = f"first_data = {experiment.first_data!r}"
    path = experiment.directory / experiment.first_data
    if path.is_file():
        return _header_problem(experiment, path)
    if ":" in experiment.first_data and imports.is_dotted(experiment.first_data):
        found = imports.problem(experiment.first_data, experiment.directory)
        return f"{said} is not to be found: {found}." if found else None
    return (
        f"{said}: there is no file {path}. Give a CSV, TSV or ARFF file, relative to the declaration, "
        "or 'package.module:function' for a function that writes CSV to the stream it is given."
    )


def _header_problem(experiment: Experiment, path: Path) -> str | None:

    needed = {experiment.label, *(experiment.features or ()), experiment.time_column} - {None, *experiment.optional}
    try:
        title = reading.title_of(path.name)
        columns = reading.read_names(path, title, encoding=experiment.encoding, expected=(experiment.label,))
    except AzureMLClassicError as error:
        # Either key may be the wrong one: a first row without the label looks like a row of data.
        return f"first_data = {experiment.first_data!r}, label = {experiment.label!r}: {error.message}"
    absent = sorted(str(name) for name in needed - set(columns))
    if absent:
        return f"{experiment.first_data} has no column {absent[0]!r}. Its columns are: {', '.join(columns)}."
    return None


def check_names(where: object, experiments: tuple[Experiment, ...]) -> None:
    """Refuse two experiments of one name.

    :param where: what declares them, for the message.
    :param experiments: as declared.
    :raises ValueError: the name.
    """
    seen: set[str] = set()
    for experiment in experiments:
        if experiment.name.casefold() in seen:
            raise ValueError(
                f"{where}, experiment {experiment.name!r}: the name is used twice. "
                "Names of experiments must differ in more than upper and lower case."
            )
        seen.add(experiment.name.casefold())


def applied(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """The experiment as the values of a call change it.

    :param experiment: as declared.
    :param values: by parameter name; parameters that are no longer declared are left out.
    """
    estimator, rows, fraction = dict(experiment.estimator_parameters), dict(experiment.rows), experiment.test_fraction
    steps = dict(experiment.steps)
    for name, value in values.items():
        sets = experiment.parameters[name].sets if name in experiment.parameters else ""
        if sets.startswith(parameters.ESTIMATOR):
            estimator[sets.removeprefix(parameters.ESTIMATOR)] = value
        elif sets.startswith(parameters.ROWS):
            rows[sets.removeprefix(parameters.ROWS)] = value
        elif sets == parameters.TEST_FRACTION:
            fraction = value
        elif name in experiment.parameters and experiment.parameters[name].is_of_step:
            steps["__".join(sets.split("."))] = value
    return replace(experiment, estimator_parameters=estimator, rows=rows, test_fraction=fraction, steps=steps)

"""The API documents of old web services as declarations of experiments that are called in the same way. Pure.

A document says what a web service is called with and what it answers: never what is predicted from what by which
algorithm. So the declaration begins with a pipeline of this package and with rows that are made up of the columns'
types, ranges and categories; both are listed to be replaced.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.importing.factory import Finding
from airflow_provider_azureml_classic.protocol.messages import finite
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION
from airflow_provider_azureml_classic.protocol.swagger import FIRST
from airflow_provider_azureml_classic.protocol.tables import GLOBAL_PARAMETERS, INPUTS, OUTPUTS
from airflow_provider_azureml_classic.protocol.values import SCORING_SUFFIX

#: Rows that are made up.
ROWS = 60
_REFERENCES = 10
_SCORED, _PROBABILITIES = "Scored ", "Scored Probabilities"
_CLASS = re.compile(r'Scored Probabilities for Class "(.*)"', re.DOTALL)
_PORT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_NUMBERS = ("number", "integer")
_NUMERIC = int | float
_KINDS = ("string", "boolean", *_NUMBERS)
_TAKEN = {"type", "format", "x-nullable", "enum", "minimum", "maximum", "description", "default"}
_SECRET = re.compile(r"password|secret|token|key|connection|[?&]sig=", re.IGNORECASE)
#: Words for parameters of trees, letters only, by the keyword of the pipeline's estimator.
_KEYWORDS: Mapping[str, tuple[str, str]] = {
    "learningrate": ("learning_rate", "number"),
    "numberoftrees": ("max_iter", "integer"),
    "numberoftreesconstructed": ("max_iter", "integer"),
    "totalnumberoftreesconstructed": ("max_iter", "integer"),
    "maxiter": ("max_iter", "integer"),
    "maximumnumberofleavespertree": ("max_leaf_nodes", "integer"),
    "maxleafnodes": ("max_leaf_nodes", "integer"),
    "maxdepth": ("max_depth", "integer"),
    "minsamplesleaf": ("min_samples_leaf", "integer"),
    "lregularization": ("l2_regularization", "number"),
    "randomnumberseed": ("random_state", "integer"),
    "randomstate": ("random_state", "integer"),
}


@dataclass(frozen=True)
class Document:
    """What the API document of one web service says.

    :param file: it stands in.
    :param title: name of the web service.
    :param training: it trains, so that one of its outputs is a model.
    :param columns: to send, by name: their definitions.
    :param required: names of the columns that must be sent; empty: it is not said.
    :param answers: columns of a scoring call's answer.
    :param call: names of the input and the output of a scoring call, as far as there are.
    :param inputs: names of a job's inputs; the first is the one that a client means that names none.
    :param outputs: names of a job's outputs, in their order.
    :param model: which of the outputs is the model; empty: it is not said.
    :param evaluating: inputs with rows for the metrics.
    :param parameters: web service parameters by name: their definitions.
    :param obligatory: names of the parameters that must be given.
    """

    file: str
    title: str
    training: bool
    columns: Mapping[str, Mapping[str, Any]]
    required: frozenset[str]
    answers: Mapping[str, Mapping[str, Any]]
    call: tuple[tuple[str, ...], tuple[str, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: str
    evaluating: frozenset[str]
    parameters: Mapping[str, Mapping[str, Any]]
    obligatory: frozenset[str]

    @property
    def experiment(self) -> str:
        """Name of the experiment that it comes of."""
        title, suffix = self.title, SCORING_SUFFIX
        return title[: -len(suffix)].strip() if title.lower().endswith(suffix) else title


@dataclass
class Declaration:
    """A declaration, as text, with the rows that its first model is trained on.

    :param name: of the experiment, which its file is named after.
    :param toml: the declaration.
    :param rows: CSV, made up.
    :param findings: what could not be taken along, and what to replace.
    """

    name: str
    toml: str = ""
    rows: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def stem(self) -> str:
        """Name of its files without extension."""
        return _stem(self.name)


def is_document(data: Any) -> bool:
    """Whether decoded JSON is an API document.

    :param data: of a file.
    """
    return isinstance(data, Mapping) and "swagger" in data and isinstance(data.get("definitions"), Mapping)


def declarations(files: Sequence[tuple[str, Any]], label: str, sets: Mapping[str, str]) -> list[Declaration]:
    """A declaration for each experiment; the documents of its two web services are one.

    :param files: name and decoded JSON of each document.
    :param label: the column to predict; empty: the one that only the training web service is sent.
    :param sets: what parameters set, by name.
    :raises ValueError: no column is named, or two documents are of one web service.
    """
    pairs: dict[str, dict[bool, Document]] = {}
    for file, data in files:
        document = _document(file, data)
        pair = pairs.setdefault(document.experiment.casefold(), {})
        if document.training in pair:
            raise ValueError(
                f"{file} and {pair[document.training].file} are both of {document.title!r}; name one of them."
            )
        pair[document.training] = document
    return [_Writer(pair, label, sets).declaration() for pair in pairs.values()]


def _document(file: str, data: Mapping[str, Any]) -> Document:
    definitions = data["definitions"]

    def properties(node: Any) -> dict[str, Any]:
        found = _resolved(node, definitions).get("properties")
        return dict(found) if isinstance(found, Mapping) else {}

    def item(ports: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        array = _resolved(ports.get(name), definitions)
        return _resolved(array.get("items") or definitions.get(f"{name}Item"), definitions)

    def columns(node: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        return {name: _checked(file, name, _resolved(one, definitions)) for name, one in properties(node).items()}

    sent, answered = (properties(definitions.get(f"Execution{what}")) for what in (INPUTS, OUTPUTS))
    read, written = (_resolved(definitions.get(f"Batch{what}"), definitions) for what in (INPUTS, OUTPUTS))
    first = _text(read.get(FIRST)) or next(iter(sent or properties(read)), "input1")
    row, parameters = item(sent, first), _resolved(definitions.get(GLOBAL_PARAMETERS), definitions)
    said = json.dumps([written, _resolved(definitions.get("BatchExecutionRequest"), definitions).get("example")])
    info = data.get("info")
    return Document(
        file=file,
        title=str((info.get("title") if isinstance(info, Mapping) else None) or Path(file).stem).strip(),
        training=not answered or MODEL_EXTENSION in said,
        columns=columns(row),
        required=_names(row.get("required")),
        answers={name: one for port in list(answered)[:1] for name, one in columns(item(answered, port)).items()},
        call=(tuple(sent), tuple(answered)),
        inputs=_first(tuple(properties(read)), first),
        outputs=tuple(properties(written)),
        model=_text(written.get(FIRST)) or _model_of(said, tuple(properties(written))),
        evaluating=frozenset(n for n in properties(read) if f"{n}: rows for the metrics" in str(read["description"]))
        if "description" in read
        else frozenset(),
        parameters=columns(parameters),
        obligatory=_names(parameters.get("required")),
    )


def _resolved(node: Any, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(_REFERENCES):
        if not isinstance(node, Mapping):
            return {}
        target = node.get("$ref")
        if not isinstance(target, str):
            return node
        node = definitions.get(target.rpartition("/")[2])
    return {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _names(value: Any) -> frozenset[str]:
    return frozenset(map(str, value)) if isinstance(value, list) else frozenset()


def _checked(file: str, name: str, one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definition of a column or parameter whose members are of the types that Swagger gives them."""
    expected: dict[str, Any] = {
        "type": str,
        "format": str,
        "description": str,
        "enum": list,
        "minimum": _NUMERIC,
        "maximum": _NUMERIC,
    }
    for member, kind in expected.items():
        if not isinstance(one.get(member), kind | None):
            raise ValueError(f"{file}: {member} of {name!r} is not as in Swagger 2.0. Fetch swagger.json again.")
    return one


def _first(names: tuple[str, ...], first: str) -> tuple[str, ...]:
    return (first, *(name for name in names if name != first)) if first in names else names


def _model_of(said: str, outputs: tuple[str, ...]) -> str:
    """The output whose example is a model file; the only one there is."""
    found = [name for name in outputs if re.search(rf"{re.escape(name)}[\w-]*{re.escape(MODEL_EXTENSION)}", said)]
    return found[0] if len(found) == 1 else outputs[0] if len(outputs) == 1 else ""


def _stem(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_") or "experiment"


class _Writer:
    def __init__(self, pair: Mapping[bool, Document], label: str, sets: Mapping[str, str]) -> None:
        self._training, self._scoring, self._sets = pair.get(True), pair.get(False), sets
        known = self._known = self._scoring or pair[True]
        self._findings: list[Finding] = []
        self._label = label or self._extra_column()
        self._features = {
            name: one for name, one in known.columns.items() if name != self._label and self._is_name(known, name)
        }
        if not self._features:
            raise ValueError(f"{known.file} names no columns to send; name the document of the scoring web service.")

    def declaration(self) -> Declaration:
        known = self._known
        name = (self._training or known).experiment
        lines = [
            "[[experiment]]",
            f"name = {_toml(name)}",
            f"estimator = {_toml('boosting-' + ('classifier' if self._classifies else 'regressor'))}",
            f"label = {_toml(self._label)}",
            f"first_data = {_toml(_stem(name) + '.csv')}",
            f"features = {_toml(list(self._features))}",
            *self._lists(),
            *self._ports(),
            *self._columns(),
            *self._parameters(),
        ]
        self._standing()
        return Declaration(name, "\n".join(lines) + "\n", self._rows(), self._findings)

    def _find(self, document: Document, property: str, todo: str) -> None:
        self._findings.append(Finding(document.file, document.title, property, todo))

    def _extra_column(self) -> str:
        if self._training and self._scoring:
            extra = [name for name in self._training.columns if name not in self._scoring.columns]
            if len(extra) == 1:
                return extra[0]
        self._find(self._known, "label", "no document says which column is predicted: name it with --label COLUMN")
        return "label"

    def _is_name(self, document: Document, name: str) -> bool:
        good = bool(name) and name == name.strip()
        if not good:
            self._find(document, name, "a column's name has no blanks around it: rename it, in the calls too")
        return good

    @property
    def _classifies(self) -> bool:
        answers = self._scoring.answers if self._scoring else {}
        if answers:
            labels = answers.get("Scored Labels", {}).get("type")
            return any(name.startswith(_PROBABILITIES) for name in answers) or labels in ("string", "boolean")
        return self._label_definition.get("type") not in _NUMBERS

    @property
    def _label_definition(self) -> Mapping[str, Any]:
        for document in (self._training, self._scoring):
            if document and self._label in document.columns:
                return document.columns[self._label]
        return {}

    def _lists(self) -> Iterator[str]:
        required = self._known.required
        optional = [name for name in self._features if required and name not in required]
        if optional:
            yield f"optional = {_toml(optional)}"
        if self._scoring:
            answers = self._scoring.answers
            repeated = [name for name in answers if name in self._features]
            if repeated:
                yield f"passthrough = {_toml(repeated)}"
            self._compare(self._scoring, [name for name in answers if name not in self._features])

    def _compare(self, scoring: Document, answers: Sequence[str]) -> None:
        """List what the answers have and have not that those of a model here have."""
        for name in answers:
            if name == self._label:
                self._find(scoring, name, "is not repeated in answers: add it to passthrough if clients send it")
            elif not name.startswith(_SCORED) or (name == "Scored Label Mean" and not self._classifies):
                self._find(scoring, name, "no model here answers with this column: let its readers read Scored Labels")
        if self._classifies and not any(map(_CLASS.fullmatch, answers)):
            self._find(scoring, _PROBABILITIES, "answers have a column for the probability of each class besides")
        if self._label in scoring.columns:
            self._find(
                scoring, self._label, "is predicted, so it is no column to send: calls that send it are answered"
            )

    def _ports(self) -> Iterator[str]:
        training = self._training
        if training:
            inputs = {n: "evaluate" if n in training.evaluating else "train" for n in self._named(training, "inputs")}
            outputs = self._outputs(training)
            if len(inputs) > 1 and not training.evaluating:
                self._find(training, "inputs", 'all are put to "train": say which one is to "evaluate"')
            yield from (f"{key} = {_table(one)}" for key, one in (("inputs", inputs), ("outputs", outputs)) if one)
        if self._scoring:
            for key, names in zip(("input", "output"), self._scoring.call, strict=True):
                for name in names[1:]:
                    self._find(
                        self._scoring, name, f"a scoring call here has one {key}: put its columns into the first"
                    )
                if names and self._is_port(self._scoring, names[0]):
                    yield f"scoring_{key} = {_toml(names[0])}"

    def _named(self, document: Document, what: str) -> list[str]:
        return [name for name in getattr(document, what) if self._is_port(document, name)]

    def _is_port(self, document: Document, name: str) -> bool:
        good = _PORT.fullmatch(name) is not None
        if not good:
            self._find(
                document, name, "a name here has letters, digits, dots, hyphens, underscores: rename it in calls"
            )
        return good

    def _outputs(self, training: Document) -> dict[str, str]:
        names = self._named(training, "outputs")
        model = training.model if training.model in names else next(iter(names), "")
        if names and not training.model:
            self._find(
                training, model, "no document says which output is the model: exchange model and evaluation if not"
            )
        kept = [name for name in names if name == model or name == next(n for n in names if n != model)]
        for name in names:
            if name not in kept:
                self._find(
                    training, name, "a training here writes a model and its evaluation: read this from elsewhere"
                )
        return {name: "model" if name == model else "evaluation" for name in kept}

    def _columns(self) -> Iterator[str]:
        for name, one in self._features.items():
            yield from ("", f"[experiment.columns.{_toml(name)}]", f"kind = {_toml(_kind(one))}")
            if one.get("type") in ("integer", "boolean"):
                described = "number, double" if one["type"] == "integer" else "string"
                self._find(self._known, name, f"is {one['type']} there, and {described} in the API document here")
            self._left(self._known, name, one, _TAKEN - {"default"})
            if any(member in one for member in ("minimum", "maximum", "enum")):
                self._find(
                    self._known, name, "range and categories are those of the made rows: no call is refused by them"
                )

    def _left(self, document: Document, name: str, one: Mapping[str, Any], taken: set[str]) -> None:
        for member in one:
            if member not in taken:
                self._find(document, f"{name}: {member}", "is not taken along: check it where the calls are made")

    def _parameters(self) -> Iterator[str]:
        used: set[str] = set()
        names: set[str] = set()
        lines: list[str] = []
        for document in filter(None, (self._training, self._scoring)):
            for name, one in document.parameters.items():
                sets = self._sets.get(name) or self._guess(document, name, one)
                if not sets or sets in used or name in names or one.get("type", "string") not in _KINDS:
                    todo = "nothing here is set by it: say --parameter 'NAME=SETS', or leave it out of the calls"
                    self._find(document, name, todo)
                    continue
                used.add(sets)
                names.add(name)
                lines.append(f"{_toml(name)} = {_table(self._parameter(document, name, one, sets))}")
        if lines:
            yield from ("", "[experiment.parameters]", *lines)

    def _guess(self, document: Document, name: str, one: Mapping[str, Any]) -> str:
        word, kind = re.sub("[^a-z]", "", name.lower()), one.get("type")
        if not document.training:
            return "threshold" if kind == "number" and word.endswith("threshold") else ""
        if word in _KEYWORDS and kind == _KEYWORDS[word][1]:
            return f"estimator.{_KEYWORDS[word][0]}"
        if kind == "number" and word == "testfraction":
            return "test_fraction"
        if kind != "string":
            return ""
        column = next((one for one in self._features if one.lower() == name.lower()), None)
        return f"rows.{column}" if column else "data" if word.endswith(("uri", "url")) else ""

    def _parameter(self, document: Document, name: str, one: Mapping[str, Any], sets: str) -> dict[str, Any]:
        self._left(document, name, one, _TAKEN)
        default = one.get("default")
        entry: dict[str, Any] = {"sets": sets, "type": one.get("type", "string")}
        if default is not None and (sets == "data" or _SECRET.search(f"{name} {default}")):
            self._find(document, name, "its default is an address or may be a secret: it is not taken along")
            default = None
        if default is None and sets.startswith("rows."):
            default = "" if name not in document.obligatory else None
        if default is None and sets not in ("data", "threshold") and name not in document.obligatory:
            self._find(document, name, "has no default, so that each call must give it: write one")
        more = {"default": default, "minimum": one.get("minimum"), "maximum": one.get("maximum")}
        more |= {"choices": one.get("enum"), "description": one.get("description")}
        return entry | {key: value for key, value in more.items() if _is_plain(value)}

    def _standing(self) -> None:
        known = self._known
        self._find(known, "estimator", "an API document names no algorithm: choose one")
        self._find(known, "first_data", "its rows are made up of types and ranges: replace them with yours")
        self._find(
            known, "time_column", "an API document does not say when rows are of: name the column, if there is one"
        )
        for document, what in ((self._training, "training"), (self._scoring, "scoring")):
            if document is None:
                todo = f"there is no document of the {what} web service: its names are the usual ones; name both files"
                self._find(known, what, todo)

    def _rows(self) -> str:
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*self._features, self._label])
        labels = self._label_cells()
        columns = [_cells(one) for one in self._features.values()]
        for row in range(ROWS):
            # Neighbouring columns do not change in step.
            cells = [cells[(row // (1 + place % 3) + place) % len(cells)] for place, cells in enumerate(columns)]
            writer.writerow([*cells, labels[row % len(labels)]])
        return out.getvalue()

    def _label_cells(self) -> list[str]:
        answers = self._scoring.answers if self._scoring else {}
        if not self._classifies:
            return _cells({"type": "number", **self._label_definition})
        classes = [match[1] for match in map(_CLASS.fullmatch, answers) if match]
        enum = self._label_definition.get("enum") or answers.get("Scored Labels", {}).get("enum") or []
        classes = classes or [str(one) for one in enum if str(one)]
        if len(classes) < 2:
            self._find(self._known, self._label, "the classes are not known: they are 0 and 1 in the made rows")
        return classes if len(classes) > 1 else ["0", "1"]


def _kind(one: Mapping[str, Any]) -> str:
    if one.get("type") in _NUMBERS:
        return "number"
    if one.get("type") == "boolean":
        return "boolean"
    return "date" if str(one.get("format", "")).startswith("date") else "text"


def _cells(one: Mapping[str, Any]) -> list[str]:
    """Cells that a column may have: its categories, or numbers from its smallest to its largest."""
    kind, enum = _kind(one), [str(cell) for cell in one.get("enum") or () if str(cell).strip()]
    if kind == "number":
        low, high = finite(one.get("minimum")), finite(one.get("maximum"))
        low = (0.0 if high is None else min(0.0, high - 9)) if low is None else low
        high = low + 9 if high is None else high
        steps = [low + (high - low) * step / 9 for step in range(10)]
        whole = one.get("type") == "integer"
        return enum or list(dict.fromkeys(str(round(step)) if whole else repr(step) for step in steps))
    usual = {"boolean": ["true", "false"], "date": [f"2016-01-{day:02}" for day in range(1, 11)]}
    return (enum if kind == "text" else []) or usual.get(kind, ["a", "b", "c"])


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_plain, value))
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _toml(value: Any) -> str:
    # A basic string of TOML is written as one of JSON, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _table(value: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + " }"

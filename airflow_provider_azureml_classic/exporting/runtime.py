"""An exported model that takes cells as its endpoint did, beside other tools: needs ONNX Runtime and numpy, no more.

This file goes along with an export, with the modules that it imports (see :mod:`.companions`). The graph answers
alone; what is here is what a graph cannot do: numbers that are sent as texts, other spellings of a category, a cell
that is refused, numbers of an answer as texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.errors import json_object
from airflow_provider_azureml_classic.protocol.tables import (
    INPUTS,
    Table,
    global_parameters,
    read_call,
    read_input,
    write_output,
    write_results,
)
from airflow_provider_azureml_classic.tables import dates
from airflow_provider_azureml_classic.tables.spelling import NumberRule, category_key, shown, truth_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Name of the graph's metadata that says how cells are read.
FACTS = "azureml_classic"
GRAPH = "model.onnx"
_LARGEST = 3.4e38


class ExportedModel:
    """A self-contained graph, and how its cells are read. Safe to be used by several threads at once.

    :param graph: the file, or its content.
    :raises ValueError: the graph was not exported from an endpoint.
    """

    def __init__(self, graph: Path | bytes) -> None:
        # Slow to import; this module is also read by those who only write exports.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        source = graph if isinstance(graph, bytes) else str(graph)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        facts = self._session.get_modelmeta().custom_metadata_map.get(FACTS)
        if facts is None:
            raise ValueError(f"{graph if isinstance(graph, Path) else 'The graph'} was not exported from an endpoint.")
        self._facts: dict[str, Any] = json.loads(facts)
        self._cells = {column["name"]: _Cells(column) for column in self._facts["columns"]}
        self._types = {output.name: output.type for output in self._session.get_outputs()}

    @property
    def answers(self) -> tuple[str, ...]:
        """Names of the columns of an answer."""
        return tuple(self._facts["answers"])

    def feed(self, table: Table) -> dict[str, NDArray[Any]]:
        """What the graph is given for the cells of a call.

        :param table: the columns by name, in any order; further ones are passed over.
        :raises RequestRejected: a column is absent, or a cell is none of its kind.
        """
        rows = len(table.values)
        absent = next(
            (n for n, cells in self._cells.items() if not cells.optional and n not in table.column_names), None
        )
        if absent is not None:
            names = ", ".join(table.column_names)
            message = f"The input has no column {absent!r}. Found: {names or 'no columns'}."
            raise rejection("InputMismatchError", message, target=absent)
        return {
            name: cells.read(table.column(name) if name in table.column_names else [None] * rows)
            for name, cells in self._cells.items()
        }

    def run(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The columns of the graph's answer.

        :param feed: see :meth:`feed`.
        """
        return dict(zip(self._types, self._session.run(list(self._types), dict(feed)), strict=True))

    def score(self, table: Table) -> Table:
        """The answer of the endpoint: every cell a text.

        :param table: see :meth:`feed`, which raises the same.
        """
        found = self.run(self.feed(table)) if table.values else {}
        columns = [self._texts(found[name]) if found else [] for name in self.answers]
        types = tuple("String" if self._types[name] == "tensor(string)" else "Double" for name in self.answers)
        return Table(self.answers, list(zip(*columns, strict=True)), types)

    def _texts(self, column: NDArray[Any]) -> list[str]:
        import numpy as np

        if column.dtype.kind != "f":
            return list(map(str, column))
        offset: float = self._facts["offset"]
        # The model answers in 32 bits; what was added to that is added to its text, digit by digit.
        texts = [str(number) for number in (column - offset).astype(np.float32)]
        return [str(Decimal(text) + Decimal(repr(offset))) for text in texts] if offset else texts

    def call(self, body: Any) -> dict[str, Any]:
        """The answer to a request/response call, in the form in which its rows were sent.

        :param body: decoded JSON.
        :raises RequestRejected: as the endpoint would.
        """
        members = read_call(body)
        inputs = json_object(INPUTS, members.get(INPUTS) or {})
        if len(inputs) != 1:
            raise rejection("MissingRequestInput", f"The body has {len(inputs)} Inputs; it needs one.")
        parameter = next(iter(global_parameters(members)), None)
        if parameter is not None:
            raise rejection("BadParameterValue", f"This model takes no parameter {parameter!r}.", target=parameter)
        name, rows = next(iter(inputs.items()))
        scored = self.score(read_input(name, rows))
        output = write_output(scored, swagger=isinstance(rows, list), details=False)
        return write_results({self._facts["output"]: output})


class _Cells:
    """How the cells of one column are read."""

    def __init__(self, column: Mapping[str, Any]) -> None:
        self._name: str = column["name"]
        self._kind: str = column["kind"]
        self._form: str = column["date_format"]
        self.optional = bool(column["optional"])
        self._rule = NumberRule(frozenset(column["missing"]), dressed=column["dressed"])
        key = truth_key if self._kind == "boolean" else category_key
        self._categories = {key(text): text for text in column["categories"]}
        self._key = key

    def read(self, cells: Sequence[Any]) -> NDArray[Any]:
        import numpy as np

        read = {"date": self._date, "text": self._text, "boolean": self._text}.get(self._kind)
        if read is None:
            return np.array([self._number(cell, row) for row, cell in enumerate(cells, 1)], np.float64)
        return np.array([read(cell, row) for row, cell in enumerate(cells, 1)], object)

    def _number(self, cell: Any, row: int) -> float:
        number = self._rule.number(cell)
        if number is None or abs(number) >= _LARGEST:
            raise self._wrong(row, f"{shown(cell)} is not a number (or too large)")
        return number

    def _text(self, cell: Any, row: int) -> str:
        if cell is None or cell != cell:
            return ""
        if not isinstance(cell, str | int | float):
            raise self._wrong(row, f"{type(cell).__name__} where a text or a number is expected")
        stripped = cell.strip() if isinstance(cell, str) else cell
        if stripped in self._rule.missing:
            return ""
        known = self._categories.get(self._key(stripped))
        if known is None and isinstance(cell, bool):
            known = self._categories.get(str(int(cell)))
        return str(stripped) if known is None else known

    def _date(self, cell: Any, row: int) -> str:
        """The date in the form that the graph reads, with its time of day in UTC."""
        text = "" if cell is None else str(cell).strip()
        if text in self._rule.missing:
            return ""
        found = dates.parse_time(text, self._form)
        if found is None:
            raise self._wrong(row, f"{shown(cell)} is not a date in the form {self._form or 'YYYY-MM-DD'}")
        moment = dates.with_zone(found[0]).astimezone(UTC)
        day = moment.strftime(self._form) if self._form else f"{moment:%Y-%m-%d}"
        return day if "%H" in self._form or "%I" in self._form else f"{day} {moment:%H:%M:%S}"

    def _wrong(self, row: int, message: str) -> AzureMLClassicError:
        return rejection("InputParseError", f"Column {self._name!r}, row {row}: {message}.", target=self._name)


class Predictor:
    """What MLflow asks for answers.

    :param model: the exported model.
    """

    def __init__(self, model: ExportedModel) -> None:
        self._model = model

    def predict(self, data: Any, params: Any = None) -> Any:
        """The answers to the rows of a data frame, as another one: labels as texts, probabilities as numbers.

        :param data: of pandas.
        :param params: not used.
        """
        # Where this runs, MLflow has brought it along.
        import pandas

        cells = data.astype(object).where(data.notna(), None)
        table = Table(tuple(map(str, data.columns)), cells.to_numpy().tolist())
        found = self._model.run(self._model.feed(table))
        # Texts as objects: what serves the model may not know the type that pandas 3 has for them.
        columns = {name: pandas.Series(found[name], data.index, found[name].dtype) for name in self._model.answers}
        return pandas.DataFrame(columns)


def _load_pyfunc(path: str) -> Predictor:
    """What MLflow calls to load the model.

    :param path: of the graph.
    """
    return Predictor(ExportedModel(Path(path)))

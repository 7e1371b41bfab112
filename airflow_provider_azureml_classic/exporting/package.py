"""What is exported of one endpoint, whatever for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_azureml_classic.exporting.model import Model
from airflow_provider_azureml_classic.protocol.tables import Table

#: Files by their paths below the folder of the export.
Files = dict[str, bytes]
#: Folder of the models that were live before.
EARLIER = "versions"
#: Rows of an example.
_EXAMPLE = 5


@dataclass(frozen=True)
class Package:
    """One model, with what an export says of it.

    :param service: name of the web service.
    :param endpoint: name of the endpoint.
    :param model: the model.
    :param graph: the self-contained one.
    :param rows: that show what is sent.
    :param tags: what tells the model from others, as texts.
    """

    service: str
    endpoint: str
    model: Model
    graph: bytes
    rows: Table
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """Of a model, elsewhere: letters, digits and dashes, of service and endpoint."""
        words = re.findall("[a-z0-9]+", f"{self.service.partition(' [')[0]} {self.endpoint}".lower())
        return "-".join(words) or "model"

    @property
    def version(self) -> str:
        """Of the model: the digits of the time when it was trained, so that a later one is the larger number."""
        digits = re.sub("[^0-9]", "", self.model.created.partition("+")[0])
        return digits or "1"

    def example(self) -> tuple[list[str], list[list[Any]]]:
        """Names of the columns, and some rows."""
        return list(self.rows.column_names), [list(row) for row in self.rows.values[:_EXAMPLE]]


@dataclass(frozen=True)
class Target:
    """What an export is made for.

    :param live: the files of the live model.
    :param earlier: those of another model, each version apart.
    :param place: of another model, for the list of versions.
    """

    live: Callable[[Package], Files]
    earlier: Callable[[Package], Files]
    place: Callable[[Package], str]

"""The files of a Data Factory: pipelines, datasets and linked services, alone or within a Resource Manager template."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import cause
from airflow_provider_azureml_classic.importing.expressions import resolved
from airflow_provider_azureml_classic.protocol.messages import read_json

#: Bytes of one file, files of one import, and depth of JSON.
MAX_FILE, MAX_FILES, MAX_DEPTH = 16 << 20, 2_000, 60
_LONGEST_START = 1024


@dataclass(frozen=True)
class Finding:
    """What could not be converted, or has to be filled in.

    :param file: it stands in.
    :param activity: or linked service, dataset.
    :param property: of it.
    :param todo: what to do, in a sentence.
    """

    file: str
    activity: str
    property: str
    todo: str


@dataclass(frozen=True)
class Resource:
    """A pipeline, dataset or linked service.

    :param file: it stands in.
    :param name: of it.
    :param properties: as written, Resource Manager expressions resolved.
    """

    file: str
    name: str
    properties: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its ``typeProperties``."""
        found = self.properties.get("typeProperties")
        return found if isinstance(found, Mapping) else {}

    @property
    def type(self) -> str:
        """Its type in lower case."""
        return str(self.properties.get("type") or "").lower()


@dataclass
class Factory:
    """All resources of the files; names are compared without case, as Data Factory did."""

    pipelines: list[Resource] = field(default_factory=list)
    datasets: dict[str, Resource] = field(default_factory=dict)
    services: dict[str, Resource] = field(default_factory=dict)

    def dataset(self, name: Any) -> Resource | None:
        """A dataset by name."""
        return self.datasets.get(str(name).lower())

    def service(self, name: Any) -> Resource | None:
        """A linked service by name."""
        return self.services.get(str(name).lower())


def reference(value: Any) -> str:
    """The name in a reference, as version 1 (a text, or ``name``) and version 2 (``referenceName``) write it.

    :param value: decoded JSON.
    """
    if isinstance(value, Mapping):
        return str(value.get("referenceName") or value.get("name") or "")
    return str(value or "")


def load(paths: Iterable[Path]) -> list[tuple[str, Any]]:
    """Names and decoded JSON of files, and of all JSON files in folders.

    :param paths: files and folders.
    :raises ValueError: a file that is no JSON, too large, or too many of them.
    """
    files = [file for path in paths for file in (_json_files(path) if path.is_dir() else [path])]
    if len(files) > MAX_FILES:
        raise ValueError(f"{len(files)} files are too many; at most {MAX_FILES} are read. Name a folder below.")
    return [(file.name, _json(file)) for file in files]


def read(files: Iterable[tuple[str, Any]]) -> Factory:
    """The resources of files.

    :param files: name and decoded JSON of each.
    :raises ValueError: no pipeline is in them.
    """
    factory = Factory()
    for file, data in files:
        _take(factory, file, data)
    if not factory.pipelines:
        raise ValueError(
            "No pipeline is in these files: none has properties.activities. Name the pipelines' files too."
        )
    return factory


def _json_files(folder: Path) -> list[Path]:
    """The ``.json`` files of a folder and of those in it, and the ``.txt`` files that hold an object.

    Some solution templates have their pipelines, datasets and linked services as text files, beside notes.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [file for file in files if file.suffix.lower() == ".json" or _is_object(file)]


def _is_object(file: Path) -> bool:
    if file.suffix.lower() != ".txt":
        return False
    with file.open("rb") as content:
        return content.read(_LONGEST_START).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def _json(file: Path) -> Any:
    if file.stat().st_size > MAX_FILE:
        raise ValueError(f"{file} has over {MAX_FILE:,} bytes; what can be imported is smaller.")
    try:
        return read_json(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {cause(error)}. Export it again.") from None


def _take(factory: Factory, file: str, data: Any) -> None:
    for kind, resource in _resources(file, data):
        if kind == "pipeline":
            factory.pipelines.append(resource)
        else:
            (factory.datasets if kind == "dataset" else factory.services)[resource.name.lower()] = resource


def _resources(file: str, data: Any) -> Iterator[tuple[str, Resource]]:
    if isinstance(data, list):
        for item in data:
            yield from _resources(file, item)
    elif isinstance(data, Mapping) and "resources" in data:
        names = _names(data)
        for item in _nested(data["resources"]):
            yield from _resources(file, _filled(item, names, 0))
    elif isinstance(data, Mapping) and isinstance(data.get("properties"), Mapping):
        properties = data["properties"]
        kind = _kind(properties)
        if kind:
            name = str(data.get("name") or Path(file).stem).rpartition("/")[2].strip("<>")
            yield kind, Resource(file, name, properties)


def _kind(properties: Mapping[str, Any]) -> str:
    if isinstance(properties.get("activities"), list):
        return "pipeline"
    if not isinstance(properties.get("typeProperties"), Mapping):
        return ""
    return "dataset" if "linkedServiceName" in properties else "service"


def _nested(items: Any) -> Iterator[Mapping[str, Any]]:
    """The resources of a template, those within others and within nested deployments too."""
    left = list(items) if isinstance(items, list) else []
    while left:
        item = left.pop(0)
        if not isinstance(item, Mapping):
            continue
        yield {key: value for key, value in item.items() if key != "resources"}
        inner = item.get("resources")
        left += inner if isinstance(inner, list) else []
        properties = item.get("properties")
        deployed = properties.get("template") if isinstance(properties, Mapping) else None
        if isinstance(deployed, Mapping) and isinstance(deployed.get("resources"), list):
            left += deployed["resources"]


def _names(data: Mapping[str, Any]) -> dict[str, Any]:
    """Values of parameters and variables; a secret has none."""
    parameters, variables = (
        value if isinstance(value, Mapping) else {} for value in (data.get("parameters"), data.get("variables"))
    )
    names = {
        f"parameters.{name}": entry["defaultValue"]
        for name, entry in parameters.items()
        if isinstance(entry, Mapping)
        and "defaultValue" in entry
        and not str(entry.get("type", "")).lower().startswith("secure")
    }
    return {**names, **{f"variables.{name}": value for name, value in variables.items()}}


def _filled(value: Any, names: Mapping[str, Any], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"The template is nested over {MAX_DEPTH} deep.")
    if isinstance(value, str):
        return resolved(value, names)
    if isinstance(value, list):
        return [_filled(item, names, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {key: _filled(item, names, depth + 1) for key, item in value.items()}
    return value

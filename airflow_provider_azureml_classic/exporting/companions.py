"""The code that goes along with an export: :mod:`.runtime` and what it imports, under a name of its own.

The modules are copied as they are but for the name of the package, so that an export needs nothing of this one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import MappingProxyType

_OURS = "airflow_provider_azureml_classic"
#: What the package is called in an export.
PACKAGE = "azureml_classic_model"
RUNTIME = f"{PACKAGE}.exporting.runtime"
_ROOT = Path(__file__).parents[1]


@cache
def companions() -> MappingProxyType[str, bytes]:
    """The files, by their paths below the folder of the code."""
    sources: dict[str, str] = {}
    waiting = [f"{_OURS}.exporting.runtime"]
    while waiting:
        module = waiting.pop()
        if module in sources:
            continue
        sources[module] = _file(module).read_text(encoding="utf-8")
        waiting += [module.rpartition(".")[0]] if "." in module else []
        waiting += _imports(sources[module])
    return MappingProxyType({_path(module): _renamed(text) for module, text in sorted(sources.items())})


def _file(module: str) -> Path:
    path = _ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _path(module: str) -> str:
    return f"{PACKAGE}/{_file(module).relative_to(_ROOT).as_posix()}"


def _renamed(text: str) -> bytes:
    return text.replace(_OURS, PACKAGE).encode()


def _imports(text: str) -> Iterator[str]:
    """Our modules that a module imports when it is loaded."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(_OURS):
            module = str(node.module)
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from [name for name in names if _file(name).exists()] or [module]

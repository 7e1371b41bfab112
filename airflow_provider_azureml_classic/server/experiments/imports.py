"""Names of Python objects in a declaration: found without importing them, imported when they are needed.

Looking without importing keeps the server's start under a second: scikit-learn alone takes longer than that.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from difflib import get_close_matches
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.server.experiments import boosting

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_WORD = re.compile(r"[A-Za-z_]\w*")


def is_dotted(text: str) -> bool:
    """Whether ``text`` has the form ``package.module.Name`` or ``package.module:name``.

    :param text: what a declaration says.
    """
    return _DOTTED.fullmatch(text) is not None


def split(dotted: str) -> tuple[str, str]:
    """Module and name of ``package.module.Name`` or ``package.module:name``.

    :param dotted: a text for which :func:`is_dotted` holds.
    """
    module, _, name = dotted.rpartition(":" if ":" in dotted else ".")
    return module, name


def problem(dotted: str, directory: Path) -> str | None:
    """What is wrong with ``dotted``, or ``None``; the module is imported only if reading its source does not settle it.

    :param dotted: a text for which :func:`is_dotted` holds.
    :param directory: folder of the declaration, searched last.
    """
    module, name = split(dotted)
    try:
        words = _words(module, directory)
    except ModuleNotFoundError as error:
        extra = f" (the extra '{boosting.EXTRA}' has it)" if error.name in boosting.LIBRARIES else ""
        return f"there is no module {error.name!r}; install it{extra}, or put it beside the declaration"
    if name in words:
        return None
    try:
        load(dotted, directory)
    except Exception as error:  # importing runs code of the user, which may raise anything
        similar = get_close_matches(name, words, 1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        return f"{type(error).__name__}: {error}{hint}"
    return None


def load(dotted: str, directory: Path) -> Any:
    """The object that ``dotted`` names.

    :param dotted: a text for which :func:`is_dotted` holds.
    :param directory: folder of the declaration; modules beside it can be imported, installed ones come first.
    :raises ImportError: there is no such module.
    :raises AttributeError: the module has no such name.
    """
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
    module, name = split(dotted)
    return getattr(importlib.import_module(module), name)


def _words(module: str, directory: Path) -> set[str]:
    """Names that ``module`` may have: those in its source, empty where there is no source to read."""
    if module in sys.modules:
        return set(vars(sys.modules[module]))
    parts = module.split(".")
    spec = importlib.util.find_spec(parts[0]) or PathFinder.find_spec(parts[0], [str(directory)])
    for depth in range(2, len(parts) + 1):
        if spec is None:
            raise ModuleNotFoundError(name=".".join(parts[: depth - 1]))
        # find_spec("a.b") of importlib.util imports a; the path finder only looks.
        spec = PathFinder.find_spec(".".join(parts[:depth]), list(spec.submodule_search_locations or []))
    if spec is None:
        raise ModuleNotFoundError(name=module)
    origin = Path(spec.origin) if spec.origin else None
    if origin is None or origin.suffix != ".py":
        return set()
    return set(_WORD.findall(origin.read_text("utf-8", errors="replace")))

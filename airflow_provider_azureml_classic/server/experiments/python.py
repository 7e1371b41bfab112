"""Experiments declared in Python: the same keys and checks as in TOML, with objects where they are at hand.

::

    EXPERIMENTS = [
        declare(
            name="Churn Model",
            estimator=HistGradientBoostingClassifier(max_iter=200),
            label="churned",
            first_data="churn.csv",
            directory=Path(__file__).parent,
        )
    ]

``azureml-classic-server --experiments package.module:EXPERIMENTS`` serves them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import cause
from airflow_provider_azureml_classic.server.experiments import imports
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment, check_names, from_table


def declare(
    *,
    name: str,
    estimator: str | Callable[..., Any] | Any,
    label: str,
    first_data: str | Path | Callable[..., Any],
    directory: str | Path = ".",
    **keys: Any,
) -> Experiment:
    """One experiment, checked.

    :param name: name of the training web service.
    :param estimator: an unfitted estimator of scikit-learn's interface, cloned for each training; a function of
        a module, ``function(schema, **estimator_parameters)``, which returns one; or a text as in TOML.
    :param label: the column to predict.
    :param first_data: a CSV file, or a function of a module that writes CSV text to the stream it is given.
    :param directory: where relative paths begin, and where modules are searched after the installed ones.
    :param keys: the other keys of a declaration, see :class:`~.declaration.Experiment`.
    :raises ValueError: what is wrong; the message names the experiment, the key and the remedy.
    """
    said = f"The declaration of {name!r}"
    table: dict[str, Any] = {"name": name, "label": label, **keys}
    if isinstance(first_data, Path):
        first_data = str(first_data)
    table["first_data"] = first_data if isinstance(first_data, str) else _name(said, "first_data", first_data)
    if isinstance(estimator, str):
        table["estimator"] = estimator
    elif hasattr(estimator, "get_params") and not isinstance(estimator, type):
        if "estimator_parameters" in keys:
            raise ValueError(f"{said}: the estimator has its parameters already; remove estimator_parameters.")
        table["estimator"] = _name(said, "estimator", type(estimator)).replace(":", ".")
        table["estimator_parameters"] = _changed(estimator)
    else:
        named = _name(said, "estimator", estimator)
        table["estimator"] = named.replace(":", ".") if isinstance(estimator, type) else named
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}
    return from_table(said, Path(directory).resolve(), listed)


def _changed(estimator: Any) -> dict[str, Any]:
    """The parameters that differ from the defaults, unfitted."""
    from sklearn.base import clone

    given = clone(estimator).get_params(deep=False)
    try:
        usual = type(estimator)().get_params(deep=False)
    except TypeError:  # it cannot be made without parameters
        return dict(given)
    return {key: value for key, value in given.items() if repr(value) != repr(usual.get(key))}


def _name(said: str, key: str, thing: Any) -> str:
    """``module:name`` of a class or function: worker processes import it, so it must be found by name."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    found = getattr(sys.modules.get(module or ""), name or "", None)
    if module in (None, "__main__") or found is not thing:
        raise ValueError(
            f"{said}: {key} = {thing!r} cannot be found by a worker process. Give an estimator, or a function or class "
            "on the first level of a module that can be imported."
        )
    return f"{module}:{name}"


def experiments_in(dotted: str, directory: Path) -> tuple[Experiment, ...]:
    """The experiments that a module declares.

    :param dotted: ``package.module:NAME`` of an experiment, a list of them, or a function that returns either.
    :param directory: where modules are searched after the installed ones.
    :raises ValueError: there is no such module or name, or it holds something else.
    """
    try:
        found = imports.load(dotted, directory)
        found = found() if callable(found) else found
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--experiments {dotted}: {cause(error)}. Give FILE.toml or package.module:NAME.") from None
    listed = (found,) if isinstance(found, Experiment) else tuple(found) if isinstance(found, Iterable) else ()
    if not listed or not all(isinstance(one, Experiment) for one in listed):
        raise ValueError(f"--experiments {dotted}: it must be an Experiment or a list of them, made by declare().")
    check_names(dotted, listed)
    return listed

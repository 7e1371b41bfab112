"""The libraries that an export needs, which come with an extra."""

from __future__ import annotations

from importlib.util import find_spec

_NEEDED = ("numpy", "onnx", "onnxruntime")


def check_libraries() -> None:
    """Return if an export can be made here.

    :raises ValueError: a library is not installed; the message says how to install it.
    """
    absent = [name for name in _NEEDED if find_spec(name) is None]
    if absent:
        raise ValueError(
            f"An export needs {' and '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed. "
            "Run: pip install 'airflow-provider-azureml-classic[export]'"
        )

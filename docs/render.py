"""Writes the parts of README.md that come from the code: ``make docs``. A test checks that they are up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from airflow_provider_azureml_classic import exceptions
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, error_class

ROOT = Path(__file__).resolve().parent.parent
_STATUSES = (400, 401, 403, 404, 405, 408, 409, 412, 413, 429, 500, 503, 504)


def rendered(text: str) -> str:
    """``text`` with every part that comes from the code made anew.

    :param text: a Markdown document.
    """
    text = re.sub(r"(<!-- dag: (\S+) -->\n```python\n).*?(```)", _dag, text, flags=re.S)
    return re.sub(r"(<!-- errors -->\n\|.*?\n\|.*?\n)(?:\|.*\n)*", lambda m: m[1] + errors(), text)


def _dag(found: re.Match[str]) -> str:
    source = (ROOT / found[2]).read_text()
    body = source[source.index("\nSCORING") + 1 :]
    return f"{found[1]}{body}{found[3]}"


def errors() -> str:
    """A table row for each class of error."""
    lines = []
    for kind in (value for value in vars(exceptions).values() if isinstance(value, type)):
        if not issubclass(kind, AzureMLClassicError) or kind is AzureMLClassicError:
            continue
        statuses = ", ".join(str(status) for status in _STATUSES if error_class(status) is kind) or "-"
        statuses += " or no answer" if kind is exceptions.ServiceUnavailable else ""
        action = "may be retried (`AirflowException`)" if kind.retryable else "fails at once (`AirflowFailException`)"
        summary = (kind.__doc__ or "").partition("\n")[0].partition(":")[0].partition(";")[0].rstrip(".")
        lines.append(f"| `{kind.__name__}`: {summary[0].lower()}{summary[1:]} | {statuses} | {action} |\n")
    return "".join(lines)


if __name__ == "__main__":
    path = ROOT / "README.md"
    before = path.read_text()
    path.write_text(rendered(before))
    sys.exit(0)

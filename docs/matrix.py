"""Tests the package with each Airflow and Python, with the lowest and the newest dependencies, and renews the table of
docs/install.md: ``make matrix``. A row that was not run stays as it is.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE, ENVIRONMENTS = ROOT / "docs" / "install.md", ROOT / ".venv-matrix"
#: What is asked of Airflow. 3.2 itself, without this package, fails with later versions of fastapi and svcs.
AIRFLOWS = {"3.2": "apache-airflow>=3.2,<3.3\nfastapi<0.137\nsvcs<26.2", "3.3": "apache-airflow>=3.3,<3.4"}
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
EXTRAS = ("server", "data", "azure", "boosting", "postgres", "dask")
#: What the tests themselves import, always the newest.
TOOLS = (
    *("pytest", "pytest-asyncio", "pytest-mock", "pytest-timeout", "pytest-xdist", "hypothesis", "jsonschema"),
    *("psutil", "httpx2", "vcrpy", "setuptools"),
)
#: The quick tests of what stands on other packages, and DAG runs in a real Airflow, in the worker and deferred.
QUICK = (
    *("client", "scheduling", "server/experiments", "server/models", "test_hooks.py", "test_plugin.py"),
    *("test_provider_info.py", "test_sensors.py", "test_stored.py", "test_triggers.py", "test_watchers.py"),
)
#: Of these, tests of what Airflow 3.2 does not have: partitions, retry policies, shared streams.
SINCE_3_3 = ("scheduling", "test_watchers.py", "test_provider_info.py::test_every_module_is_listed")
DAGS = ("dags/test_examples.py",)
#: Packages whose versions the table shows.
_SHOWN = ("apache-airflow", "scikit-learn", "numpy", "onnxruntime", "pyarrow", "sqlalchemy", "starlette")
_HEAD = "| Airflow | Python | dependencies | versions | quick tests | DAG runs | on |\n"
_FORM = re.compile(re.escape(_HEAD) + r"(?:\|.*\n)*")


class Pair:
    """One Airflow, one Python, one set of dependencies, in an environment of its own.

    :param airflow: minor version.
    :param python: minor version.
    :param dependencies: ``lowest`` or ``newest``.
    """

    def __init__(self, airflow: str, python: str, dependencies: str) -> None:
        self.name = (airflow, python, dependencies)
        self.folder = ENVIRONMENTS / "-".join(self.name)
        self.python = self.folder / "bin" / "python"

    def install(self) -> None:
        """Make the environment anew.

        :raises subprocess.CalledProcessError: no such Python can be had, or the dependencies cannot be installed.
        """
        airflow, python, dependencies = self.name
        shutil.rmtree(self.folder, ignore_errors=True)
        _uv("venv", "--clear", "--python", python, self.folder)
        constraints, versions = self.folder / "airflow.txt", self.folder / "versions.txt"
        constraints.write_text(AIRFLOWS[airflow] + "\n")
        (wanted := self.folder / "wanted.txt").write_text(_requirements())
        # The lowest that there is a wheel of: nobody builds numpy to try this.
        resolution = ("--no-build", "--resolution", RESOLUTIONS[dependencies], "--python-version", python)
        _uv("pip", "compile", wanted, *resolution, "--constraint", constraints, "--output-file", versions)
        _uv("pip", "install", "--python", self.python, "--requirement", versions)
        _uv("pip", "install", "--python", self.python, "--constraint", versions, *TOOLS)
        _uv("pip", "install", "--python", self.python, "--no-deps", "--editable", ROOT)

    def row(self) -> str:
        """The line of the table, with what the tests said."""
        text = (self.folder / "versions.txt").read_text()
        versions = [(name, re.search(rf"^{name}==(\S+)", text, re.M)) for name in _SHOWN]
        shown = ", ".join(f"{name} {version[1]}" for name, version in versions if version)
        exact = self._run("-c", "import platform; print(platform.python_version())").stdout.strip()
        left_out = SINCE_3_3 if self.name[0] == "3.2" else ()
        quick = tuple(path for path in QUICK if path not in left_out)
        deselected = [f"--deselect=tests/{path}" for path in left_out if "::" in path]
        results = (self._tested(quick, "-m", "not slow", *deselected), self._tested(DAGS))
        cells = (self.name[0], exact, self.name[2], shown, *results, f"{datetime.now(UTC):%Y-%m-%d}")
        return f"| {' | '.join(cells)} |\n"

    def _tested(self, paths: tuple[str, ...], *more: str) -> str:
        # Old libraries warn of what new ones have changed: only failures count here.
        # Airflow 3.2 makes its API anew for each task of a test run, which takes seconds.
        options = ("-q", "-n", os.environ.get("JOBS", "2"), "-p", "no:cacheprovider", "-o", "filterwarnings=default")
        options += ("--timeout", "1800")
        done = self._run("-m", "pytest", *options, *more, *(f"tests/{path}" for path in paths))
        (self.folder / f"{Path(paths[0]).name}.log").write_text(done.stdout + done.stderr)
        counts = re.findall(r"(\d+) (passed|failed|errors?|skipped)\b", done.stdout.strip().rpartition("\n")[2])
        return ", ".join(f"{count} {what}" for count, what in counts) or f"exit status {done.returncode}"

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self.python), *arguments], cwd=ROOT, capture_output=True, text=True)  # noqa: S603 - our own


def _requirements() -> str:
    """What the package and its extras require, by themselves: the lowest versions are chosen of what is asked for."""
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    lists = [declared["options"]["install_requires"], *(declared["options.extras_require"][name] for name in EXTRAS)]
    return "\n".join(lists)


def _uv(*arguments: str | Path) -> None:
    certificates = ("--system-certs",) if Path("/etc/ssl/certs/ca-certificates.crt").exists() else ()
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([str(uv), *map(str, arguments), "--quiet", *certificates], check=True)  # noqa: S603


def renewed(page: str, row: str) -> str:
    """The page with a row in its place in the table.

    :param page: has the table.
    :param row: the row; one of the same Airflow, minor Python and dependencies is replaced.
    """
    rows = {_key(line): line for line in [*_FORM.search(page)[0].splitlines(keepends=True)[2:], row]}  # type: ignore[index]
    table = _HEAD + "|---" * 7 + "|\n" + "".join(rows[key] for key in sorted(rows))
    return _FORM.sub(lambda _: table, page)


def _key(line: str) -> tuple[str, ...]:
    airflow, python, dependencies = (cell.strip() for cell in line.split("|")[1:4])
    return airflow, ".".join(python.split(".")[:2]), dependencies


if __name__ == "__main__":
    wanted = set(os.environ.get("ONLY", "").split())
    for name in product(AIRFLOWS, PYTHONS, RESOLUTIONS):
        if wanted <= set(name):
            pair = Pair(*name)
            try:
                pair.install()
            except subprocess.CalledProcessError as error:
                print(f"{' '.join(name)}: not installed: {error}", flush=True)
                continue
            line = pair.row()
            print(line, end="", flush=True)
            PAGE.write_text(renewed(PAGE.read_text(), line))

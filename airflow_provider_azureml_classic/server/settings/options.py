"""The options of ``azureml-classic-server``: of its command line, and of a configuration file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import cause, did_you_mean
from airflow_provider_azureml_classic.protocol.messages import read_toml
from airflow_provider_azureml_classic.server.settings import (
    ACCOUNT_KEY_VARIABLE,
    AUDIT_DAYS,
    CIPHER_KEY_VARIABLE,
    MAX_AUDIT_DAYS,
    MAX_RETENTION_DAYS,
    MODEL_MEMORY,
    READ_TOKEN_VARIABLE,
    SCORE_TIMEOUT,
    STORAGE_ACCOUNTS_VARIABLE,
    STORAGE_VARIABLE,
    TOKEN_VARIABLE,
    WORKSPACE_VARIABLE,
)
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE

#: What can be done, each in a line: all options of a server would hide it.
_USAGE = """azureml-classic-server quickstart [FOLDER]               try it: sample data, DAGs, and what to do next
       azureml-classic-server --data-dir DIR [OPTION ...]       start a server
       azureml-classic-server check FILE.toml                   check options, or show what an experiment's columns are
       azureml-classic-server backup --data-dir DIR BACKUP      copy the data while the server runs
       azureml-classic-server restore --data-dir DIR BACKUP     put the copy back"""
#: Most bytes of a configuration file.
_MAX_CONFIG = 1 << 20
_REPEATABLE = (
    ("--experiments", "FILE.toml|MODULE:NAME", "declarations, in TOML or in Python"),
    ("--redeclare", "NAME", "experiment whose declaration has changed: ids, keys and endpoints' models stay"),
    ("--allow-host", "HOST[:PORT]", "another host that locations of data and models may name"),
    ("--allow-private-host", "HOST[:PORT]", "the same for a name that resolves to a private address"),
    ("--trusted-proxy", "ADDRESS[/BITS]", "proxy, or network of proxies alone, whose X-Forwarded-For is believed"),
)
#: Options that say how long is kept what jobs leave, and what it is.
_KEPT = (
    ("--model-days", "models are kept that are neither live nor needed for a rollback, with their evaluations"),
    ("--output-days", "scored files are kept"),
    ("--log-days", "logs are kept"),
)


def parser() -> argparse.ArgumentParser:
    """The arguments of ``azureml-classic-server``."""
    options = argparse.ArgumentParser(
        prog="azureml-classic-server",
        usage=_USAGE,
        description="Azure Machine Learning Studio (classic) web services, self-hosted: trains models, keeps them, and "
        "answers for each at an address of its own.",
        epilog=f"Environment: {WORKSPACE_VARIABLE} and {TOKEN_VARIABLE} set the workspace id and its token, "
        f"{READ_TOKEN_VARIABLE} another one that changes nothing, "
        f"{ACCOUNT_KEY_VARIABLE} and {CIPHER_KEY_VARIABLE} the keys of the own store and of secrets in the database; "
        f"without them they are made at the first start and kept in DIR/secrets.json. {DATABASE_VARIABLE} is the same "
        f"as --database, {STORAGE_VARIABLE} as --storage: they keep secrets out of the list of processes. "
        f"{STORAGE_ACCOUNTS_VARIABLE} holds --storage-account items, blanks between them.",
    )
    options.add_argument(
        "--data-dir", type=Path, required=True, metavar="DIR", help="folder for all data; created if absent"
    )
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    options.add_argument("--port", type=int, default=8080, help="port to listen on, 0 = any free one (default: 8080)")
    for option, what in (("--tls-cert", "certificate with its chain"), ("--tls-key", "its key, without a password")):
        options.add_argument(option, type=Path, metavar="FILE", help=f"PEM file: {what}; read again when it changes")
    options.add_argument("--public-url", metavar="URL", help="base of the URLs handed out, if a proxy is in front")
    options.add_argument("--config", type=Path, metavar="FILE.toml", help="the other options, by their names")
    options.add_argument("--check-config", action="store_true", help="check options and experiments, and end")
    options.add_argument("--no-samples", action="store_true", help="without the two experiments that come along")
    for option, metavar, meaning in _REPEATABLE:
        options.add_argument(option, action="append", default=[], metavar=metavar, help=f"{meaning}; repeatable")
    options.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="trainings at the same time (default: number of cores)",
    )
    _add_places(options)
    _add_operation(options)
    _add_retention(options)
    options.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options.add_argument("--log-format", default="text", choices=["text", "json"], help="(default: text)")
    return options


def _add_places(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--database",
        metavar="URL",
        help="PostgreSQL, postgresql://USER:PASSWORD@HOST:PORT/DATABASE (default: SQLite in DIR)",
    )
    options.add_argument(
        "--adopt",
        action="store_true",
        help="data directory, database and storage account belong together from now on, whatever they were used with",
    )
    options.add_argument(
        "--scheduler", metavar="tcp://HOST:8786", help="Dask scheduler that trainings are sent to (extra 'dask')"
    )
    options.add_argument(
        "--storage",
        metavar="CONNECTION_STRING",
        help=f"Azure Storage account that keeps outputs and models; it is a secret, so prefer {STORAGE_VARIABLE}",
    )
    options.add_argument(
        "--storage-account",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="address of the account that clients call NAME.blob.core.windows.net; 'own' is this server; repeatable",
    )


def _add_operation(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--score-timeout",
        type=_seconds,
        default=SCORE_TIMEOUT,
        metavar="SECONDS",
        help="time limit of a scoring call (default: %(default)g)",
    )
    options.add_argument(
        "--model-memory",
        type=_mebibytes,
        default=MODEL_MEMORY >> 20,
        metavar="MIB",
        help="memory for loaded models, in MiB (default: %(default)d)",
    )
    options.add_argument(
        "--evaluation-columns",
        action="store_true",
        help="write golden and check rows into the evaluation, too, for providers of version 0.1",
    )
    options.add_argument(
        "--audit-days",
        type=_days(MAX_AUDIT_DAYS),
        default=AUDIT_DAYS,
        metavar="N",
        help="days for which the audit list is kept (default: %(default)d)",
    )
    options.add_argument("--open-metrics", action="store_true", help="/metrics needs no token")
    options.add_argument("--access-log", action="store_true", help="log each request to stderr as a line of JSON")


def _add_retention(options: argparse.ArgumentParser) -> None:
    for option, what in _KEPT:
        options.add_argument(
            option, type=_days(MAX_RETENTION_DAYS), metavar="N", help=f"days for which {what} (default: for ever)"
        )
    options.add_argument(
        "--retention-report", action="store_true", help="list what these days would remove, remove nothing, and end"
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def _days(most: int) -> Callable[[str], int]:
    """What reads a number of days.

    :param most: the largest.
    """

    def days(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to {most}")
        return int(text)

    return days


def _mebibytes(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of MiB from 1 on")
    return value


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a configuration file, then those of the command line, which count where both are there."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    path = first.parse_known_args(argv)[0].config
    return parser().parse_args([*configured(path), *argv] if path else argv)


def is_configuration(path: Path) -> bool:
    """Whether a file holds options of the server, and no experiments.

    :param path: perhaps of a TOML file.
    """
    try:
        with path.open("rb") as file:
            document = read_toml(file.read(_MAX_CONFIG + 1), _MAX_CONFIG)
    except (OSError, ValueError):
        return False
    known = {option for action in parser()._actions for option in action.option_strings}
    return any(f"--{name}" in known for name in document) and "experiment" not in document


def configured(path: Path) -> list[str]:
    """The options that a configuration file holds, as they would stand on a command line.

    :param path: a TOML file: ``port = 8080``, ``allow-host = ["a", "b"]``, ``access-log = true``.
    :raises ValueError: it cannot be read, or has something that is no option, or not of its kind.
    """
    try:
        with path.open("rb") as file:
            document = read_toml(file.read(_MAX_CONFIG + 1), _MAX_CONFIG)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {cause(error)}.") from None
    options = {name[2:]: action for action in parser()._actions for name in action.option_strings if name[:2] == "--"}
    words: list[str] = []
    for name, value in document.items():
        if name not in options or name in ("help", "config", "check-config", "retention-report"):
            hint = did_you_mean(name, options)
            raise ValueError(f"{path}: {name!r} is no option of the server.{hint} `--help` lists them, without dashes.")
        words += _words(path, name, options[name], value)
    return words


def _words(path: Path, name: str, action: argparse.Action, value: object) -> list[str]:
    """One option as it would stand on a command line."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"{path}: {name} is {value!r}; it must be true or false.")
        return [f"--{name}"] if value else []
    repeatable = isinstance(action.default, list)
    values = value if isinstance(value, list) and repeatable else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            kinds = "a text, a number, or a list of them" if repeatable else "a text or a number"
            # A value may be a secret, such as the password of a database.
            raise ValueError(f"{path}: {name} must be {kinds}.")
    return [f"--{name}={one}" for one in values]

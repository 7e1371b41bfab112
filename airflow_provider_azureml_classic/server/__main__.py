"""Command line of the server: reads arguments and environment, takes the port, serves until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import logging
import os
import secrets
import signal
import socket
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import uvicorn

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable, cause
from airflow_provider_azureml_classic.server import quickstart
from airflow_provider_azureml_classic.server.experiments import preview
from airflow_provider_azureml_classic.server.experiments.declaration import (
    Experiment,
    load_experiments,
    shipped_experiments,
)
from airflow_provider_azureml_classic.server.experiments.imports import is_dotted
from airflow_provider_azureml_classic.server.experiments.python import experiments_in
from airflow_provider_azureml_classic.server.folders import in_use, scratch_folder, usable, write_private
from airflow_provider_azureml_classic.server.models import backup
from airflow_provider_azureml_classic.server.service import running
from airflow_provider_azureml_classic.server.settings import (
    ACCOUNT_KEY_VARIABLE,
    AUDIT_DAYS,
    CIPHER_KEY_VARIABLE,
    MAX_AUDIT_DAYS,
    MODEL_MEMORY,
    READ_TOKEN_VARIABLE,
    SCORE_TIMEOUT,
    STORAGE_ACCOUNTS_VARIABLE,
    STORAGE_VARIABLE,
    TOKEN_VARIABLE,
    WORKSPACE_VARIABLE,
    Settings,
    airflow_connections,
    checked_proxy,
    checked_public_url,
    connection_document,
    load_secrets,
    new_secrets,
    read_token,
    storage_from,
)
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE, checked_url
from airflow_provider_azureml_classic.server.web.app import App
from airflow_provider_azureml_classic.server.web.certificate import Certificate, Renewal
from airflow_provider_azureml_classic.server.web.connections import Connection, check_all, raise_file_limit

if TYPE_CHECKING:
    from airflow_provider_azureml_classic.server.web.app import App

#: Exit status for what the user can mend: a wrong argument, a port that is taken.
USAGE = 2
#: Objects that are made between two collections of garbage, and how many of those lead to one of an older generation. A
#: call with 1,000 rows makes some thousands, none of them in cycles.
_COLLECTIONS = (50_000, 20, 50)
#: Of the extra ``server``, what Airflow does not bring.
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "skl2onnx", "sklearn")

#: Most bytes of a configuration file.
_MAX_CONFIG = 1 << 20
_REPEATABLE = (
    ("--experiments", "FILE.toml|MODULE:NAME", "declarations, in TOML or in Python"),
    ("--redeclare", "NAME", "experiment whose declaration has changed: ids, keys and endpoints' models stay"),
    ("--allow-host", "HOST[:PORT]", "another host that locations of data and models may name"),
    ("--allow-private-host", "HOST[:PORT]", "the same for a name that resolves to a private address"),
    ("--trusted-proxy", "ADDRESS[/BITS]", "proxy, or network of proxies alone, whose X-Forwarded-For is believed"),
)


def parser() -> argparse.ArgumentParser:
    """The arguments of ``azureml-classic-server``."""
    options = argparse.ArgumentParser(
        prog="azureml-classic-server",
        description="Azure Machine Learning Studio (classic) web services, self-hosted. "
        "azureml-classic-server check FILE.toml shows what the columns of an experiment's first data are taken for.",
        epilog=f"Environment: {WORKSPACE_VARIABLE} and {TOKEN_VARIABLE} set the workspace id and its token, "
        f"{READ_TOKEN_VARIABLE} another one that changes nothing, "
        f"{ACCOUNT_KEY_VARIABLE} and {CIPHER_KEY_VARIABLE} the keys of the own store and of secrets in the database; "
        f"without them they are made at the first start and kept in DIR/secrets.json. {DATABASE_VARIABLE} is the same "
        f"as --database, {STORAGE_VARIABLE} as --storage: they keep secrets out of the list of processes. "
        f"{STORAGE_ACCOUNTS_VARIABLE} holds --storage-account items, blanks between them. "
        "`azureml-classic-server quickstart` starts a server with sample data and says what to do next; "
        "`... backup --data-dir DIR BACKUP` copies the data while it runs, `... restore` puts the copy back.",
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
        type=_audit_days,
        default=AUDIT_DAYS,
        metavar="N",
        help="days for which the audit list is kept (default: %(default)d)",
    )
    options.add_argument("--open-metrics", action="store_true", help="/metrics needs no token")
    options.add_argument("--access-log", action="store_true", help="log each request to stderr as a line of JSON")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def _audit_days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= MAX_AUDIT_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days from 1 to {MAX_AUDIT_DAYS}")
    return days


def _mebibytes(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of MiB from 1 on")
    return value


def main(argv: Sequence[str] | None = None, make_app: Callable[..., App] | None = None) -> int:
    """Run the server; returns its exit status.

    :param argv: arguments; those of the process by default.
    :param make_app: makes another service than the usual one, which no argument can.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["check"]:
        return _check(preview.parser().parse_args(argv[1:]).source)
    quick = quickstart.parser().parse_args(argv[1:]) if argv[:1] == ["quickstart"] else None
    os.umask(0o077)
    try:
        if argv[:1] and argv[0] in backup.COMMANDS:
            print(backup.main(argv))
            return 0
        if quick:
            check_libraries()
            quick.folder = quick.folder.resolve()
            quickstart.prepare(quick.folder)
            argv = ["--data-dir", str(quick.folder / "data"), "--port", str(quick.port), "--log-level", "WARNING"]
        return _run(_parsed(argv), make_app, quick.folder if quick else None)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (ValueError, OSError, ServiceUnavailable) as error:
        text = f"{cause(error)}." if isinstance(error, OSError) else error
        print(f"azureml-classic-server: {text}", file=sys.stderr)
        return USAGE


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a configuration file, then those of the command line, which count where both are there."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    path = first.parse_known_args(argv)[0].config
    return parser().parse_args([*configured(path), *argv] if path else argv)


def configured(path: Path) -> list[str]:
    """The options that a configuration file holds, as they would stand on a command line.

    :param path: a TOML file: ``port = 8080``, ``allow-host = ["a", "b"]``, ``access-log = true``.
    :raises ValueError: it cannot be read, or has something that is no option, or not of its kind.
    """
    try:
        with path.open("rb") as file:
            document = tomllib.loads(file.read(_MAX_CONFIG).decode())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {cause(error)}.") from None
    options = {name[2:]: action for action in parser()._actions for name in action.option_strings if name[:2] == "--"}
    words: list[str] = []
    for name, value in document.items():
        if name not in options or name in ("help", "config", "check-config"):
            near = get_close_matches(name, options, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
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


def _run(arguments: argparse.Namespace, make_app: Callable[..., App] | None, folder: Path | None) -> int:
    """Serve with these arguments.

    :param arguments: parsed.
    :param make_app: see :func:`main`.
    :param folder: that of a quickstart, if it is one.
    """
    set_up_logs(arguments.log_level, as_json=arguments.log_format == "json")
    # While the first models are trained: leave through the same clean-up as later.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    check_libraries()
    experiments = declared(arguments.experiments, samples=not arguments.no_samples)
    if arguments.check_config:
        settings_from(arguments, None, database_of(arguments), arguments.port)
        print(f"azureml-classic-server: the options are valid; {len(experiments)} experiments: {_names(experiments)}")
        return 0
    listener = listen(arguments.host, arguments.port)
    with listener:
        database = database_of(arguments)
        data_dir: Path = arguments.data_dir.resolve()
        with in_use(data_dir, shared=bool(database)) as lock, scratch_folder():
            settings = settings_from(arguments, data_dir, database, listener.getsockname()[1])
            if folder:
                settings = replace(settings, sign_in_code=secrets.token_urlsafe(24))
            return serve(settings, experiments, listener, make_app, lock, folder)


def _names(experiments: Sequence[Experiment]) -> str:
    return ", ".join(experiment.name for experiment in experiments)


def set_up_logs(level: str, *, as_json: bool) -> None:
    """Log to stderr.

    :param level: the least that is logged.
    :param as_json: each record is an object on a line of its own.
    """
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if as_json:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    for library in ("alembic", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """A record as a JSON object on one line: ``time``, ``level``, ``logger``, ``message``, and ``exception`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line.

        :param record: what is logged.
        """
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def check_libraries() -> None:
    """Refuse to start without the libraries that train and score.

    :raises ValueError: names what is missing and how to install it.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} is missing. Install the package with its extra: "
            "pip install '.[server]' in its folder."
        )


def declared(sources: Sequence[str], *, samples: bool = True) -> list[Experiment]:
    """The shipped experiments and those of ``sources``.

    :param sources: TOML files, and ``package.module:NAME`` of experiments declared in Python.
    :param samples: whether the shipped ones are wanted.
    :raises ValueError: there is none at all, or one cannot be used.
    """
    experiments = [*shipped_experiments()] if samples else []
    experiments += (experiment for source in sources for experiment in declared_in(source))
    if not experiments:
        raise ValueError("There is nothing to serve: --no-samples needs --experiments with experiments of your own.")
    return experiments


def declared_in(source: str) -> Iterable[Experiment]:
    """The experiments of a source.

    :param source: see :func:`declared`.
    :raises ValueError: one cannot be used.
    """
    in_python = is_dotted(source) and ":" in source and not Path(source).exists()
    return experiments_in(source, Path.cwd()) if in_python else load_experiments(source)


def _check(source: str) -> int:
    try:
        check_libraries()
        return 0 if preview.show(declared_in(source)) else USAGE
    except (ValueError, OSError, AzureMLClassicError) as error:
        print(f"azureml-classic-server check: {error}", file=sys.stderr)
        return USAGE


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before anything else, so that a taken port costs nothing.

    :param host: address.
    :param port: 0 means any free one.
    :raises OSError: the message names address and port and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(
            f"cannot listen on {host} port {port}: {cause(error)}. Give an address of this machine with --host, and "
            "another port with --port; --port 0 takes any free one."
        ) from None
    return listener


def certificate_of(arguments: argparse.Namespace) -> tuple[Path, Path] | None:
    """Files of the certificate to answer with, if there is one, and of its key.

    :param arguments: parsed.
    :raises ValueError: it cannot be used.
    """
    chain, key = arguments.tls_cert, arguments.tls_key
    if not chain and not key:
        return None
    if not chain or not key:
        raise ValueError("--tls-cert and --tls-key go together: give both.")
    Certificate(chain.resolve(), key.resolve()).check()
    return chain.resolve(), key.resolve()


def own_url(arguments: argparse.Namespace, port: int) -> str:
    """The base of every URL that is handed out.

    :param arguments: parsed.
    :param port: the port taken.
    :raises ValueError: the one that was given is none.
    """
    host = "127.0.0.1" if arguments.host in ("0.0.0.0", "::") else arguments.host  # noqa: S104 - compared, not bound
    address = f"[{host}]" if ":" in host else host
    scheme = "https" if arguments.tls_cert else "http"
    return checked_public_url(arguments.public_url or f"{scheme}://{address}:{port}")


def database_of(arguments: argparse.Namespace) -> str:
    """The URL of a database for several servers that arguments or environment say; empty: there is none.

    :param arguments: parsed.
    :raises ValueError: it is not the URL of one.
    """
    database = arguments.database or os.environ.get(DATABASE_VARIABLE, "")
    return checked_url(database) if database.strip() else ""


def settings_from(arguments: argparse.Namespace, data_dir: Path | None, database: str, port: int) -> Settings:
    """The settings that arguments and environment say.

    :param arguments: parsed.
    :param data_dir: the data directory, in use by this process; ``None``: they are only checked, nothing is written.
    :param database: see :func:`database_of`.
    :param port: the port taken.
    """
    if data_dir is None:
        loaded = new_secrets(os.environ)
    else:
        with usable(data_dir):
            loaded = load_secrets(data_dir, os.environ)
    storage, storage_accounts = storage_from(arguments.storage, arguments.storage_account, os.environ)
    return Settings(
        data_dir=data_dir or arguments.data_dir,
        public_url=own_url(arguments, port),
        workspace_id=loaded.workspace_id,
        token=loaded.token,
        account_key=loaded.account_key,
        cipher_key=loaded.cipher_key,
        read_token=read_token(loaded, os.environ),
        allowed_hosts=frozenset(arguments.allow_host),
        private_hosts=frozenset(arguments.allow_private_host),
        workers=max(1, arguments.workers),
        database=database,
        storage=storage,
        storage_accounts=storage_accounts,
        scheduler=arguments.scheduler,
        open_metrics=arguments.open_metrics,
        access_log=arguments.access_log,
        score_timeout=arguments.score_timeout,
        model_memory=arguments.model_memory << 20,
        adopt=arguments.adopt,
        trusted_proxies=tuple(map(checked_proxy, arguments.trusted_proxy)),
        evaluation_columns=arguments.evaluation_columns,
        redeclared=frozenset(arguments.redeclare),
        certificate=certificate_of(arguments),
        audit_days=arguments.audit_days,
    )


def serve(
    settings: Settings,
    experiments: Sequence[Experiment],
    listener: socket.socket,
    make_app: Callable[..., App] | None = None,
    lock: TextIO | None = None,
    folder: Path | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM.

    :param settings: of this process.
    :param experiments: what is declared.
    :param listener: the listening socket.
    :param make_app: see :func:`main`.
    :param lock: the open file with which this process holds the data directory.
    :param folder: that of a quickstart, if it is one.
    """

    with running(settings, experiments, make_app=make_app or App, lock=lock) as (_, application):
        # What is loaded by now stays: the collector would go through it again and again while requests wait.
        gc.freeze()
        gc.set_threshold(*_COLLECTIONS)
        raise_file_limit()
        config = uvicorn.Config(
            application,
            http=partial(Connection, batcher=application.batcher),  # type: ignore[arg-type]  # called like a class
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            # Without a word the web server would believe everybody on this machine.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            ssl_certfile=settings.certificate[0] if settings.certificate else None,
            ssl_keyfile=settings.certificate[1] if settings.certificate else None,
        )
        AnnouncingServer(config, settings, folder).run(sockets=[listener])
    return 0


class AnnouncingServer(uvicorn.Server):
    """Says that it is ready once it answers.

    :param config: of the web server.
    :param settings: of this process.
    :param folder: that of a quickstart, if it is one.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings, folder: Path | None = None) -> None:
        super().__init__(config)
        self._settings = settings
        self._renewal: Renewal | None = None
        self._folder = folder

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM; unlike the base class, do not raise the signal again, so that what is open is
        closed afterwards.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer, then say so."""
        await super().startup(sockets)
        if self._settings.certificate and self.config.ssl:
            self._renewal = Renewal(Certificate(*self._settings.certificate), self.config.ssl)
        announce(self._settings)
        if self._folder:
            print(quickstart.next_steps(self._settings, self._folder), flush=True)

    async def on_tick(self, counter: int) -> bool:
        """Close connections over a limit of time, once a second.

        :param counter: tenths of a second.
        """

        if counter % 10 == 0:
            if self._renewal:
                self._renewal.poll()
            check_all(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def announce(settings: Settings) -> None:
    """Write ``connection.json`` and ``airflow_connections.json``, then say that the server is ready.

    :param settings: of this process.
    """
    documents = {"connection": connection_document(settings), "airflow_connections": airflow_connections(settings)}
    for name, document in documents.items():
        write_private(settings.data_dir / f"{name}.json", json.dumps(document, indent=2))
    print(f"azureml-classic-server is ready at {settings.public_url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

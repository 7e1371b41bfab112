"""Command line of the server: reads arguments and environment, takes the port, serves until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import importlib.util
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import uvicorn

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable, cause, did_you_mean
from airflow_provider_azureml_classic.protocol.secrecy import redact
from airflow_provider_azureml_classic.server import quickstart
from airflow_provider_azureml_classic.server.counters.traffic import access_logger
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
from airflow_provider_azureml_classic.server.service import retention_report, running
from airflow_provider_azureml_classic.server.settings import (
    Retention,
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
from airflow_provider_azureml_classic.server.settings.options import is_configuration, parsed
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
_COMMANDS = ("quickstart", "check", *backup.COMMANDS)
#: Of the extra ``server``, what Airflow does not bring.
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "skl2onnx", "sklearn")


def main(argv: Sequence[str] | None = None, make_app: Callable[..., App] | None = None) -> int:
    """Run the server; returns its exit status.

    :param argv: arguments; those of the process by default.
    :param make_app: makes another service than the usual one, which no argument can.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["check"]:
        source = preview.parser().parse_args(argv[1:]).source
        if not is_configuration(Path(source)):
            return _check(source)
        argv = ["--config", source, "--check-config"]
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
        if argv[:1] and not argv[0].startswith("-"):
            near = did_you_mean(argv[0], _COMMANDS)
            raise ValueError(f"there is no command {argv[0]!r}.{near} There are {', '.join(_COMMANDS)}; see --help.")
        return _run(parsed(argv), make_app, quick.folder if quick else None)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (ValueError, OSError, ServiceUnavailable) as error:
        text = f"{cause(error)}." if isinstance(error, OSError) else error
        print(f"azureml-classic-server: {text}", file=sys.stderr)
        return USAGE


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
    if arguments.retention_report:
        return _report_retention(arguments)
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


def _report_retention(arguments: argparse.Namespace) -> int:
    """Print what would be removed, a blob a line."""
    data_dir: Path = arguments.data_dir.resolve()
    if not (data_dir / "secrets.json").is_file():
        raise ValueError(
            f"{data_dir} has no data of a server in it. Name the one that the server was started with, its --data-dir."
        )
    settings = settings_from(arguments, data_dir, database_of(arguments), arguments.port)
    for line in retention_report(settings):
        print(line)
    return 0


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
        what = "Give an address of this machine with --host, and another port with --port"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            what = "Perhaps this server runs already; if not, give another port with --port"
        raise OSError(
            f"cannot listen on {host} port {port}: {cause(error)}. {what}; --port 0 takes any free one."
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
        retention=Retention(arguments.model_days, arguments.output_days, arguments.log_days),
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
        # Clients that confuse the token with an id put it into an address, and addresses are logged.
        loggers = (logging.getLogger(), *([access_logger()] if settings.access_log else []))
        redact([handler for logger in loggers for handler in logger.handlers], settings.secrets)
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

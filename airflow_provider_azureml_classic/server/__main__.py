"""Command line of the server: reads arguments and environment, takes the port, serves until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import uvicorn

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.server.experiments.declaration import (
    Experiment,
    load_experiments,
    shipped_experiments,
)
from airflow_provider_azureml_classic.server.experiments.imports import is_dotted
from airflow_provider_azureml_classic.server.experiments.python import experiments_in
from airflow_provider_azureml_classic.server.folders import in_use, scratch_folder, usable, write_private
from airflow_provider_azureml_classic.server.service import running
from airflow_provider_azureml_classic.server.settings import (
    ACCOUNT_KEY_VARIABLE,
    CIPHER_KEY_VARIABLE,
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
    storage_from,
)
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE, checked_url
from airflow_provider_azureml_classic.server.web.app import App
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

_REPEATABLE = (
    ("--experiments", "FILE.toml|MODULE:NAME", "declarations, in TOML or in Python"),
    ("--allow-host", "HOST[:PORT]", "another host that locations of data and models may name"),
    ("--allow-private-host", "HOST[:PORT]", "the same for a name that resolves to a private address"),
    ("--trusted-proxy", "ADDRESS[/BITS]", "proxy, or network of proxies alone, whose X-Forwarded-For is believed"),
)


def parser() -> argparse.ArgumentParser:
    """The arguments of ``azureml-classic-server``."""
    options = argparse.ArgumentParser(
        prog="azureml-classic-server",
        description="Azure Machine Learning Studio (classic) web services, self-hosted.",
        epilog=f"Environment: {WORKSPACE_VARIABLE} and {TOKEN_VARIABLE} set the workspace id and its token, "
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
    options.add_argument("--public-url", metavar="URL", help="base of the URLs handed out, if a proxy is in front")
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
        "--evaluation-columns",
        action="store_true",
        help="write golden and check rows into the evaluation, too, for providers of version 0.1",
    )
    options.add_argument("--open-metrics", action="store_true", help="/metrics needs no token")
    options.add_argument("--access-log", action="store_true", help="log each request to stderr as a line of JSON")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def main(argv: Sequence[str] | None = None, make_app: Callable[..., App] | None = None) -> int:
    """Run the server; returns its exit status.

    :param argv: arguments; those of the process by default.
    :param make_app: makes another service than the usual one, which no argument can.
    """
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for library in ("alembic", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)
    os.umask(0o077)
    # While the first models are trained: leave through the same clean-up as later.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        check_libraries()
        experiments = declared(arguments.experiments)
        listener = listen(arguments.host, arguments.port)
        with listener:
            database = database_of(arguments)
            data_dir: Path = arguments.data_dir.resolve()
            with in_use(data_dir, shared=bool(database)) as lock, scratch_folder():
                settings = settings_from(arguments, data_dir, database, listener.getsockname()[1])
                return serve(settings, experiments, listener, make_app, lock)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (ValueError, OSError, ServiceUnavailable) as error:
        print(f"azureml-classic-server: {error}", file=sys.stderr)
        return USAGE


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


def declared(sources: Sequence[str]) -> list[Experiment]:
    """The shipped experiments and those of ``sources``.

    :param sources: TOML files, and ``package.module:NAME`` of experiments declared in Python.
    """
    experiments = [*shipped_experiments()]
    for source in sources:
        in_python = is_dotted(source) and ":" in source and not Path(source).exists()
        experiments += experiments_in(source, Path.cwd()) if in_python else load_experiments(source)
    return experiments


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
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            f"cannot listen on {host} port {port}: {reason}. Give an address of this machine with --host, and another "
            "port with --port; --port 0 takes any free one."
        ) from None
    return listener


def database_of(arguments: argparse.Namespace) -> str:
    """The URL of a database for several servers that arguments or environment say; empty: there is none.

    :param arguments: parsed.
    :raises ValueError: it is not the URL of one.
    """
    database = arguments.database or os.environ.get(DATABASE_VARIABLE, "")
    return checked_url(database) if database.strip() else ""


def settings_from(arguments: argparse.Namespace, data_dir: Path, database: str, port: int) -> Settings:
    """The settings that arguments and environment say.

    :param arguments: parsed.
    :param data_dir: the data directory, in use by this process.
    :param database: see :func:`database_of`.
    :param port: the port taken.
    """
    with usable(data_dir):
        secrets = load_secrets(data_dir, os.environ)
    storage, storage_accounts = storage_from(arguments.storage, arguments.storage_account, os.environ)
    host = "127.0.0.1" if arguments.host in ("0.0.0.0", "::") else arguments.host  # noqa: S104 - compared, not bound
    address = f"[{host}]" if ":" in host else host
    return Settings(
        data_dir=data_dir,
        public_url=checked_public_url(arguments.public_url or f"http://{address}:{port}"),
        workspace_id=secrets.workspace_id,
        token=secrets.token,
        account_key=secrets.account_key,
        cipher_key=secrets.cipher_key,
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
        adopt=arguments.adopt,
        trusted_proxies=tuple(map(checked_proxy, arguments.trusted_proxy)),
        evaluation_columns=arguments.evaluation_columns,
    )


def serve(
    settings: Settings,
    experiments: Sequence[Experiment],
    listener: socket.socket,
    make_app: Callable[..., App] | None = None,
    lock: TextIO | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM.

    :param settings: of this process.
    :param experiments: what is declared.
    :param listener: the listening socket.
    :param make_app: see :func:`main`.
    :param lock: the open file with which this process holds the data directory.
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
        )
        AnnouncingServer(config, settings).run(sockets=[listener])
    return 0


class AnnouncingServer(uvicorn.Server):
    """Says that it is ready once it answers.

    :param config: of the web server.
    :param settings: of this process.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

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
        announce(self._settings)

    async def on_tick(self, counter: int) -> bool:
        """Close connections over a limit of time, once a second.

        :param counter: tenths of a second.
        """

        if counter % 10 == 0:
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

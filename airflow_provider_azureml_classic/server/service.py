"""A whole server, put together: from settings to an ASGI application, and down again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.server.blobs.app import blob_app
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.clock import Clock, system_clock
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment
from airflow_provider_azureml_classic.server.help.description import Describer
from airflow_provider_azureml_classic.server.jobs.arguments import Arguments
from airflow_provider_azureml_classic.server.jobs.dask import Cluster
from airflow_provider_azureml_classic.server.jobs.jobs import Jobs
from airflow_provider_azureml_classic.server.jobs.processes import Workers
from airflow_provider_azureml_classic.server.jobs.runner import Runner
from airflow_provider_azureml_classic.server.jobs.work import JobWork
from airflow_provider_azureml_classic.server.models.janitor import Janitor
from airflow_provider_azureml_classic.server.models.pins import Pins
from airflow_provider_azureml_classic.server.models.remote import Vault
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.models.trials import Trials
from airflow_provider_azureml_classic.server.portal.site import Portal
from airflow_provider_azureml_classic.server.portal.visit import Core
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.peers import Peers
from airflow_provider_azureml_classic.server.storage.accounts import Accounts
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.locations import MAX_DOWNLOAD, Locations
from airflow_provider_azureml_classic.server.traffic import Observer
from airflow_provider_azureml_classic.server.web.app import App
from airflow_provider_azureml_classic.server.web.asgi import HttpServer, Sites
from airflow_provider_azureml_classic.server.web.health import Health
from airflow_provider_azureml_classic.server.web.microbatch import Express
from airflow_provider_azureml_classic.server.web.threads import Threads, database_threads
from airflow_provider_azureml_classic.server.workspace.catalogue import Catalogue, Setup
from airflow_provider_azureml_classic.server.workspace.diagnostics import Diagnostics
from airflow_provider_azureml_classic.server.workspace.scoring import Scoring
from airflow_provider_azureml_classic.server.workspace.updates import Updates
from airflow_provider_azureml_classic.server.workspace.workspace import Workspace

#: Advisory lock of the server that sets up new experiments.
_SETUP_LOCK = 0x617A6D6C03


@contextmanager
def running(
    settings: Settings,
    experiments: Sequence[Experiment],
    *,
    clock: Clock = system_clock,
    make_app: Callable[..., App] = App,
) -> Iterator[tuple[App, HttpServer]]:
    """A server with its worker processes: the service as a function, and as an ASGI application.

    :param settings: what the process is told.
    :param experiments: what is declared.
    :param clock: gives the present time.
    :param make_app: makes the service of its parts.
    :raises ValueError: an experiment cannot be set up; the message says which and why.
    """
    with ExitStack() as stack:
        database, peers = _state(stack, settings)
        store, job_store, pins = Store(database), JobStore(database, clock), Pins(database, peers)
        blobs = BlobStore(settings.data_dir / "blobs", settings.account, lambda: peers.id)
        models = model_store(settings, store, peers, stack.enter_context(closing(Trials())))
        janitor = Janitor(store, models, blobs, pins, peers)
        janitor.start()
        stack.callback(janitor.close)
        workers = Cluster(settings.scheduler, settings.workers) if settings.scheduler else Workers(settings.workers)
        stack.callback(workers.close)
        accounts = Accounts(settings.account, settings.storage_accounts, settings.storage)
        # An account of the configuration may be anywhere.
        reach = Reach(settings.allowed_hosts, settings.private_hosts | accounts.hosts)
        locations = Locations(blobs, reach, clock, accounts)
        catalogue = Catalogue(experiments, store)
        with database.exclusive(_SETUP_LOCK):
            Setup(store, models, locations, workers, clock, pins).run(catalogue.experiments.values())
        workspace = Workspace(settings, store, locations, clock, lambda: peers.fresh)
        diagnostics = Diagnostics(blobs, settings.workspace_id, clock)
        stack.callback(diagnostics.close)
        work = JobWork(store, job_store, catalogue, models, locations, workers, peers, pins)
        runner = Runner(work, store, job_store, settings.workers, clock, peers, diagnostics)
        stack.callback(runner.close)
        updates = Updates(workspace, models, locations, pins, store)
        jobs = Jobs(store, job_store, Arguments(catalogue, locations), locations, runner, clock)
        scoring = Scoring(store, catalogue, models, diagnostics)
        describer = Describer(workspace, store, catalogue, models, settings.public_url)
        threads = database_threads()
        core = Core(settings, workspace, updates, jobs, scoring, describer, locations, models, database, clock, threads)
        app = make_app(workspace, updates, jobs, scoring, describer)
        peers.on_change, peers.on_job, peers.on_death = workspace.forget, runner.look, janitor.wake
        runner.look()
        yield app, http_server(app, core, blobs)


def http_server(app: App, core: Core, blobs: BlobStore) -> HttpServer:
    """All that answers over HTTP.

    :param app: the API.
    :param core: the service behind it.
    :param blobs: the own store.
    """
    sites = Sites(
        blobs=blob_app(blobs, core.clock),
        account=core.settings.account.name,
        portal=Portal(core),
        health=Health(core.settings, core.database, core.models, core.traffic, core.queries, core.job_queries),
    )
    observer = Observer(core.traffic, log=core.settings.access_log)
    express = Express(core.workspace, core.scoring, observer) if app.answers_at_once else None
    threads = Threads(app, core.settings.score_timeout, core.threads)
    return HttpServer(app, sites, observer, threads, express)


def model_store(settings: Settings, store: Store, peers: Peers, trial: Callable[[Path], object]) -> ModelStore:
    """The model files: in the data directory, and in the storage account if there is one.

    :param settings: what the process is told.
    :param store: knows the models in place.
    :param peers: the servers that share them.
    :param trial: tries a model before it is put in place.
    :raises ValueError: the storage account cannot be used; the message says why.
    """
    folder = settings.data_dir / "models"
    if settings.storage is None:
        return ModelStore(folder, lambda: peers.id, trial=trial)
    vault = Vault(settings.storage, MAX_DOWNLOAD)
    models = ModelStore(folder, lambda: peers.id, vault=vault, trial=trial)
    try:
        vault.prepare()
        in_use = store.digests()
        models.fill_vault(in_use)
        # Ages of blobs are by the account's clock, whatever clock the service is given.
        vault.clean(in_use, system_clock())
    except AzureMLClassicError as error:
        raise ValueError(f"The storage account of --storage cannot be used: {error.message}") from None
    return models


def _state(stack: ExitStack, settings: Settings) -> tuple[Database, Peers]:
    """The database, and the servers that share it, this one among them."""
    database = Database(settings.database_url, settings.cipher_key)
    stack.callback(database.close)
    Store(database).check_cipher()
    peers = Peers(database)
    stack.callback(peers.close)
    peers.start()
    return database, peers

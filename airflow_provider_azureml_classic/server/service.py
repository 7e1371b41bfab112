"""A whole server, put together: from settings to an ASGI application, and down again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TextIO, TypeVar

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.server.blobs.app import blob_app
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.clock import Clock, system_clock
from airflow_provider_azureml_classic.server.counters.drift import Drift
from airflow_provider_azureml_classic.server.counters.intake import Intake
from airflow_provider_azureml_classic.server.counters.ledger import Ledger
from airflow_provider_azureml_classic.server.counters.traffic import Observer
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment
from airflow_provider_azureml_classic.server.help.description import Describer
from airflow_provider_azureml_classic.server.jobs.arguments import Arguments
from airflow_provider_azureml_classic.server.jobs.dask import DaskExecutor
from airflow_provider_azureml_classic.server.jobs.jobs import Jobs
from airflow_provider_azureml_classic.server.jobs.processes import ProcessExecutor
from airflow_provider_azureml_classic.server.jobs.retention import Remover, Selection, why_gone
from airflow_provider_azureml_classic.server.jobs.runner import Runner
from airflow_provider_azureml_classic.server.jobs.work import JobWork
from airflow_provider_azureml_classic.server.models.janitor import Janitor
from airflow_provider_azureml_classic.server.models.origins import Origins
from airflow_provider_azureml_classic.server.models.pair import MODELS_FOLDER, Pair, check_database_file
from airflow_provider_azureml_classic.server.models.pins import Pins
from airflow_provider_azureml_classic.server.models.remote import Vault
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.models.trials import Trials
from airflow_provider_azureml_classic.server.portal.site import Portal
from airflow_provider_azureml_classic.server.portal.visit import Core
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.state.audit_store import AuditStore
from airflow_provider_azureml_classic.server.state.database import Database, DatabaseDamaged, DatabaseDown
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.engine import make_engine
from airflow_provider_azureml_classic.server.state.job_store import JobStore
from airflow_provider_azureml_classic.server.state.kept_calls import KeptCalls
from airflow_provider_azureml_classic.server.state.overview import Queries
from airflow_provider_azureml_classic.server.state.peers import Peers
from airflow_provider_azureml_classic.server.state.quota_store import QuotaStore
from airflow_provider_azureml_classic.server.state.retention_store import RetentionStore
from airflow_provider_azureml_classic.server.state.revision import is_current
from airflow_provider_azureml_classic.server.storage.accounts import Accounts
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.lending import Lending
from airflow_provider_azureml_classic.server.storage.locations import MAX_DOWNLOAD, Locations
from airflow_provider_azureml_classic.server.web.app import App
from airflow_provider_azureml_classic.server.web.asgi import HttpServer, Sites
from airflow_provider_azureml_classic.server.web.health import Health
from airflow_provider_azureml_classic.server.web.microbatch import MicroBatcher
from airflow_provider_azureml_classic.server.web.threads import Threads, database_threads
from airflow_provider_azureml_classic.server.workspace.audit import Audit
from airflow_provider_azureml_classic.server.workspace.catalogue import Catalogue, Setup
from airflow_provider_azureml_classic.server.workspace.customers import Customers
from airflow_provider_azureml_classic.server.workspace.diagnostics import Diagnostics
from airflow_provider_azureml_classic.server.workspace.keeping import Keeper
from airflow_provider_azureml_classic.server.workspace.keys import Keys
from airflow_provider_azureml_classic.server.workspace.quotas import Quotas
from airflow_provider_azureml_classic.server.workspace.rehearsals import Rehearsals
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
    lock: TextIO | None = None,
) -> Iterator[tuple[App, HttpServer]]:
    """A server with its worker processes: the service as a function, and as an ASGI application.

    :param settings: what the process is told.
    :param experiments: what is declared.
    :param clock: gives the present time.
    :param make_app: makes the service of its parts.
    :param lock: see :class:`.models.pair.Pair`.
    :raises ValueError: the message says which experiment cannot be set up, or what does not belong together.
    """
    with ExitStack() as stack:
        database, store, pair = _state(stack, settings, lock)
        models = model_store(settings, store, pair, lambda: peers.id, stack.enter_context(closing(Trials())))
        peers = _started(stack, Peers(database))
        job_store, pins = JobStore(database, clock), Pins(database, peers)
        blobs = _blobs(settings, database, lambda: peers.id)
        janitor = _started(stack, Janitor(store, models, blobs, pins, peers, pair.is_whole))
        locations = _locations(settings, blobs, clock)
        workers = stack.enter_context(closing(_engine(settings, Lending(locations, settings.account, clock))))
        models.origin = Origins(store, locations)
        catalogue, columns, anew = Catalogue(experiments, store), settings.evaluation_columns, settings.redeclared
        with database.exclusive(_SETUP_LOCK), _beside(settings, workers) as first:
            Setup(store, models, locations, first.submit, clock, pins).run(catalogue.experiments.values(), anew)
        workspace = Workspace(settings, store, locations, clock, lambda: peers.fresh)
        diagnostics = stack.enter_context(closing(Diagnostics(blobs, settings.workspace_id, clock)))
        work = JobWork(store, job_store, catalogue, models, locations, workers, peers, pins, columns)
        runner = Runner(work, store, job_store, settings.workers, clock, peers, diagnostics)
        stack.callback(runner.close)
        updates = Updates(workspace, models, locations, pins, store, _asked(stack), Queries(database))
        jobs, customers = _jobs_of_customers(store, job_store, catalogue, locations, runner, clock, database)
        intake, drift = _counters(stack, database, clock)
        keeper = _started(stack, Keeper(store, catalogue, KeptCalls(database), clock))
        scoring = Scoring(store, catalogue, models, diagnostics, keeper, intake)
        describer = Describer(workspace, store, catalogue, models, settings.public_url)
        keys, audit = Keys(store, workspace, clock), Audit(settings, AuditStore(database), store, clock)
        _started(stack, Remover(selection_of(settings, database, locations, clock), blobs, pins, audit, pair.is_whole))
        parts = (updates, jobs, scoring, describer, drift, customers, keys, audit)
        core = Core(settings, workspace, *parts, locations, models, database, clock, database_threads())
        app = make_app(workspace, *parts, Rehearsals(workspace, updates, scoring, clock))
        peers.on_change, peers.on_job, peers.on_death = workspace.forget, runner.poll, janitor.wake
        runner.start()
        yield app, http_server(app, core, blobs)


def _blobs(settings: Settings, database: Database, owner: Callable[[], str]) -> BlobStore:
    blobs = BlobStore(settings.data_dir / "blobs", settings.account, owner)
    blobs.why_gone = why_gone(RetentionStore(database))
    return blobs


def _asked(stack: ExitStack) -> Trials:
    # Not those that try what is put in place: questions do not hold up updates.
    return stack.enter_context(closing(Trials()))


def _locations(settings: Settings, blobs: BlobStore, clock: Clock) -> Locations:
    accounts = Accounts(settings.account, settings.storage_accounts, settings.storage)
    # An account of the configuration may be anywhere.
    reach = Reach(settings.allowed_hosts, settings.private_hosts | accounts.hosts)
    return Locations(blobs, reach, clock, accounts)


def _jobs_of_customers(
    store: Store,
    job_store: JobStore,
    catalogue: Catalogue,
    locations: Locations,
    runner: Runner,
    clock: Clock,
    database: Database,
) -> tuple[Jobs, Customers]:
    """The jobs, and those who submit them: quotas are counted in both."""
    quotas = Quotas(QuotaStore(database), locations, clock)
    jobs = Jobs(store, job_store, Arguments(catalogue, locations), locations, runner, clock, quotas)
    return jobs, Customers(store, locations, quotas, clock)


class _Part(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


P = TypeVar("P", bound=_Part)
T = TypeVar("T")


def _started(stack: ExitStack, part: P) -> P:
    """A part with a thread of its own, which ends before what was made before it."""
    stack.enter_context(closing(part))
    part.start()
    return part


def _engine(settings: Settings, lending: Lending) -> DaskExecutor | ProcessExecutor:
    if settings.scheduler:
        return DaskExecutor(settings.scheduler, settings.workers, lending)
    return ProcessExecutor(settings.workers)


def _beside(settings: Settings, engine: T) -> AbstractContextManager[T | ProcessExecutor]:
    """What trains while nobody can ask this server for data yet: processes of this machine."""
    return closing(ProcessExecutor(settings.workers)) if settings.scheduler else nullcontext(engine)


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
        health=Health(
            *(core.settings, core.database, core.models, core.traffic, core.queries, core.job_queries),
            Store(core.database).digests_in_place,
            core.scoring.intake,
            core.drift,
        ),
    )
    observer = Observer(core.traffic, log=core.settings.access_log)
    batcher = MicroBatcher(core.workspace, core.scoring, observer) if not app.waits else None
    threads = Threads(app, core.settings.score_timeout, core.threads)
    return HttpServer(app, sites, observer, threads, batcher)


def model_store(
    settings: Settings, store: Store, pair: Pair, owner: Callable[[], str], trial: Callable[[Path], object]
) -> ModelStore:
    """The model files of a database: in the data directory, and in the storage account if there is one.

    :param settings: what the process is told.
    :param store: knows the models in place.
    :param pair: the database and the data directory.
    :param owner: gives the id of this server.
    :param trial: tries a model before it is put in place.
    :raises ValueError: the storage account cannot be used, or it or the data directory belongs to another database; the
        message says why.
    """
    vault = Vault(settings.storage, MAX_DOWNLOAD) if settings.storage else None
    folder = settings.data_dir / MODELS_FOLDER
    models = ModelStore(folder, owner, memory=settings.model_memory, vault=vault, trial=trial, whole=pair.is_whole)
    try:
        if vault:
            vault.prepare()
        pair.settle(models, adopt=settings.adopt)
        if vault:
            # All models that can be put back are many; without an account nobody needs to know them now.
            models.fill_vault(store.digests())
    except (DatabaseDown, DatabaseDamaged):
        raise
    except AzureMLClassicError as error:
        raise ValueError(f"The storage account of --storage cannot be used: {error.message}") from None
    return models


def selection_of(settings: Settings, database: Database, locations: Locations, clock: Clock) -> Selection:
    """What tells which outputs of jobs may go.

    :param settings: what the process is told.
    :param database: the state.
    :param locations: places of what jobs read and write.
    :param clock: gives the present time.
    """
    return Selection(settings.retention, Store(database), RetentionStore(database), locations, clock)


def retention_report(settings: Settings) -> Iterator[str]:
    """What would be removed because of its age, a blob a line; nothing is removed, nor noted.

    :param settings: what the process is told.
    :raises ValueError: there is no data directory of a server.
    """
    check_database_file(settings.data_dir, settings.database_url)
    engine = make_engine(settings.database_url)
    try:
        current = is_current(engine)
    finally:
        engine.dispose()
    if not current:
        # A server of another version may use it in this moment.
        raise ValueError("The database is of another version of the package. Start this version's server once, first.")
    with ExitStack() as stack:
        database, _, _ = _state(stack, settings, None)
        blobs = BlobStore(settings.data_dir / "blobs", settings.account)
        selection = selection_of(settings, database, _locations(settings, blobs, system_clock), system_clock)
        count = 0
        for due in selection.due():
            for output in due.job.outputs:
                count += 1
                when = f"not before {due.at:%Y-%m-%d %H:%M} UTC"
                yield f"{output.location}  job {due.job.id}  {due.rule.text}  {when}"
        logs = len(selection.old_logs())
        yield f"Blobs that would be removed: {count}. Jobs whose logs would be removed: {logs}."


def _counters(stack: ExitStack, database: Database, clock: Clock) -> tuple[Intake, Drift]:
    ledger = Ledger(database)
    intake = stack.enter_context(closing(Intake(ledger, clock)))
    return intake, Drift(ledger, intake.settle, clock)


def _state(stack: ExitStack, settings: Settings, lock: TextIO | None) -> tuple[Database, Store, Pair]:
    if not settings.adopt:
        check_database_file(settings.data_dir, settings.database_url)
    database = Database(settings.database_url, settings.cipher_key)
    stack.callback(database.close)
    store = Store(database)
    store.check_cipher()
    return database, store, Pair(database, settings.data_dir, lock)

"""What survives a crash: experiments, web services, endpoints and the models in place.

Rule 1: a change of state is one transaction; what an answered call did is on disk before it is answered.
Rule 2: keys are encrypted with the key of ``secrets.json``.
Rule 3: rows leave this module as frozen dataclasses.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.state.cipher import WrongKey
from airflow_provider_azureml_classic.server.state.database import EVERYTHING, Database, columns, to_row
from airflow_provider_azureml_classic.server.state.history import (
    How,
    add_models,
    add_placements,
    add_samples,
    kept_digests,
)
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    ExperimentRow,
    KeyRow,
    ModelRow,
    PlacementRow,
    ResourceRow,
    SamplesRow,
    ServiceRow,
    UtcTime,
    endpoints,
    experiments,
    freshness_limits,
    jobs,
    keys,
    model_files,
    model_samples,
    placements,
    put,
    quotas,
    resources,
    trained_models,
    web_services,
)

#: Name, web services that have an endpoint of it, and customer -> the endpoint that is missing, if one is.
Completing = Callable[[str, list[str], str], EndpointRow | None]
#: Members of endpoints that are no columns of theirs.
_ELSEWHERE = frozenset({"resources", "other_keys", "service_stale_after"})
_READ = {
    # Where customers are not kept apart now, an endpoint is nobody's.
    "customer": sa.case((web_services.c.isolated, endpoints.c.customer)).label("customer"),
    "service_stale_after": (freshness_limits.c.hours * 3600).label("service_stale_after"),
}
#: Columns in the order of the members of their rows.
_COLUMNS = [
    _READ[member.name] if member.name in _READ else endpoints.c[member.name]
    for member in fields(EndpointRow)
    if member.name not in ("resources", "other_keys")
]
_RESOURCE = [
    *(resources.c[member.name] for member in fields(ResourceRow) if member.name in resources.c),
    model_files.c.window_end,
    model_files.c.created_at,
]


def _reading(*where: sa.ColumnElement[bool]) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Statements that read endpoints and their models, made once: to put them together takes longer than to read.

    :param where: which endpoints.
    """
    located = (
        sa.select(*_RESOURCE)
        .join(endpoints, endpoints.c.id == resources.c.endpoint_id)
        .outerjoin(model_files, model_files.c.digest == resources.c.digest)
        .where(*where)
    )
    query = (
        sa.select(*_COLUMNS)
        .join_from(endpoints, web_services, web_services.c.id == endpoints.c.service_id)
        .outerjoin(freshness_limits, freshness_limits.c.service_id == web_services.c.id)
        .where(*where)
    )
    return query, located.order_by(resources.c.name)


_BY_ID = _reading(endpoints.c.id == sa.bindparam("endpoint"))
_NAMED = _reading(
    endpoints.c.service_id == sa.bindparam("service"),
    sa.or_(endpoints.c.name == sa.bindparam("name"), endpoints.c.id == sa.bindparam("name")),
)
_OF_CUSTOMER = _reading(endpoints.c.customer == sa.bindparam("customer"))
_SAMPLES_OF_CUSTOMER = (
    sa.select(jobs.c.samples)
    .join(endpoints, endpoints.c.id == jobs.c.endpoint_id)
    .join(trained_models, trained_models.c.job_id == jobs.c.id)
    .join(model_files, model_files.c.digest == trained_models.c.digest)
    .order_by(jobs.c.created_at.desc())
    .limit(1)
)
#: Endpoints of a web service, the first ones and those behind one of them, by an index; then their models.
_FIRST = (
    _reading(endpoints.c.service_id == sa.bindparam("service"))[0]
    # No other statement has an order: SQLite would read all endpoints of a web service in it to find one.
    .order_by(endpoints.c.created_at, endpoints.c.name)
    .limit(sa.bindparam("limit"))
)
_PLACE = sa.tuple_(endpoints.c.created_at, endpoints.c.name)
_FURTHER = _FIRST.where(sa.tuple_(sa.bindparam("at", type_=UtcTime), sa.bindparam("name", type_=sa.String)) < _PLACE)
_MODELS = (
    sa.select(*_RESOURCE)
    .outerjoin(model_files, model_files.c.digest == resources.c.digest)
    .where(resources.c.endpoint_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(resources.c.name)
)
_KEY = [keys.c[member.name] for member in fields(KeyRow)]
_KEYS = sa.select(*_KEY).where(keys.c.endpoint_id == sa.bindparam("endpoint"), keys.c.name.is_not(None))
#: Keys of a customer, but for the two that an endpoint of his has itself.
_KEYS_OF_CUSTOMER = (
    sa.select(*_KEY)
    .join(endpoints, endpoints.c.id == keys.c.endpoint_id)
    .where(
        endpoints.c.customer == sa.bindparam("customer"),
        sa.or_(endpoints.c.id != sa.bindparam("endpoint"), keys.c.name.is_not(None)),
    )
)
_SERVICE = sa.select(web_services).where(web_services.c.id == sa.bindparam("service"))
_COUNT = sa.select(sa.func.count()).where(endpoints.c.service_id == sa.bindparam("service"))


def _stored(model: ResourceRow) -> dict[str, Any]:
    return {name: value for name, value in columns(model).items() if name in resources.c}


def key_hash(key: str) -> str:
    """What a key is found by; keys have 512 random bits, so a plain digest gives nothing away.

    :param key: an endpoint key.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def _own(row: EndpointRow) -> sa.Select[tuple[str]]:
    """Ids of an endpoint and of the others of its customer."""
    same = endpoints.c.customer == row.customer if row.customer else endpoints.c.id == row.id
    return sa.select(endpoints.c.id).where(same)


def _locked(connection: sa.Connection, table: sa.Table, ids: Iterable[str]) -> list[str]:
    """Lock rows until the transaction ends, so that what belongs to them is counted by one at a time. Rows that refer
    to them may be added meanwhile, by those who do not count.
    """
    query = sa.select(table.c.id).where(table.c.id.in_(list(ids))).order_by(table.c.id)
    return list(connection.scalars(query.with_for_update(key_share=True)))


class Store:
    """The state of one workspace.

    :param database: where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def shared(self) -> bool:
        """Whether several servers may use it at the same time."""
        return self._db.shared

    def check_cipher(self) -> None:
        """Find out at start that the secrets are not those of this database.

        :raises ValueError: they cannot be decrypted; the message says what to do.
        """
        with self._db.read() as connection:
            some = connection.execute(sa.select(endpoints.c.primary_key).limit(1)).scalar()
        if some is None:
            return
        try:
            self._db.decrypt(some)
        except WrongKey:
            raise ValueError(
                "The endpoint keys in the database were encrypted with another key. Restore the secrets.json of this "
                "database, or let servers that share it share the data directory or the variables of its secrets."
            ) from None

    # -- experiments and web services ------------------------------------------------------------------------------

    def experiment(self, name: str) -> ExperimentRow | None:
        """An experiment that has been set up, or ``None``."""
        with self._db.read() as connection:
            row = connection.execute(sa.select(experiments).where(experiments.c.name == name)).mappings().first()
        return to_row(ExperimentRow, row) if row else None

    def set_up_experiment(
        self,
        row: ExperimentRow,
        services: Sequence[ServiceRow],
        defaults: Sequence[EndpointRow],
        first: ModelRow,
        samples: SamplesRow,
    ) -> None:
        """Record an experiment with its web services, their default endpoints and the first model, all or nothing."""
        with self._db.write() as connection:
            add_models(connection, [first])
            add_samples(connection, samples)
            put(connection, experiments, columns(row))
            for service in services:
                connection.execute(sa.insert(web_services).values(**columns(service)))
            for endpoint in defaults:
                self._insert_endpoint(connection, endpoint)

    def redeclare_experiment(self, row: ExperimentRow) -> None:
        """Record another declaration and schema of an experiment; its services, endpoints and models stay."""
        with self._db.write() as connection:
            put(connection, experiments, columns(row))

    def samples_of(self, content: str, customer: str | None = None) -> str | None:
        """Where the samples of a model are, as a path in the store of the service's outputs; ``None``: not known.

        :param content: digest of what it answers with, see :func:`~.ilearner.content_digest`.
        :param customer: whose jobs alone are looked at: an equal model of another's is of the other's rows.
        """
        query = sa.select(model_samples.c.relative_location).where(model_samples.c.content == content)
        if customer is not None:
            query = _SAMPLES_OF_CUSTOMER.where(model_files.c.content == content, endpoints.c.customer == customer)
        with self._db.read() as connection:
            return connection.execute(query).scalar()

    def services(self, limit: int | None = None, after: tuple[datetime, str] | None = None) -> list[ServiceRow]:
        """Web services, oldest first: all, or so many, behind the one that was made then and is called so."""
        order = web_services.c.created_at, web_services.c.name
        query = sa.select(web_services).order_by(*order).limit(limit)
        if after is not None:
            query = query.where(sa.tuple_(*order) > sa.tuple_(*after))
        with self._db.read() as connection:
            return [to_row(ServiceRow, row) for row in connection.execute(query).mappings()]

    def service(self, service_id: str) -> ServiceRow | None:
        """A web service by id, or ``None``."""
        with self._db.read() as connection:
            row = connection.execute(_SERVICE, {"service": service_id}).mappings().first()
        return to_row(ServiceRow, row) if row else None

    def delete_service(self, service_id: str) -> None:
        """Delete a web service with its endpoints and their jobs."""
        with self._db.write(slow=True) as connection:
            connection.execute(sa.delete(web_services).where(web_services.c.id == service_id))
            self._db.notify(connection, EVERYTHING)

    def endpoint_counts(self, service_ids: Sequence[str]) -> dict[str, int]:
        """Number of endpoints by service id; of none that has none."""
        own = endpoints.c.service_id
        query = sa.select(own, sa.func.count()).where(own.in_(service_ids)).group_by(own)
        with self._db.read() as connection:
            return {service: count for service, count in connection.execute(query)}

    def endpoint_count(self, service_id: str) -> int:
        """Number of endpoints of one service."""
        with self._db.read() as connection:
            return int(connection.execute(_COUNT, {"service": service_id}).scalar_one())

    def endpoint_names(self, service_id: str, limit: int) -> list[str]:
        """The first names of a service's endpoints, in alphabetical order."""
        query = sa.select(endpoints.c.name).where(endpoints.c.service_id == service_id)
        with self._db.read() as connection:
            return list(connection.execute(query.order_by(endpoints.c.name).limit(limit)).scalars())

    # -- endpoints -------------------------------------------------------------------------------------------------

    def _insert_endpoint(self, connection: sa.Connection, row: EndpointRow) -> None:
        values = {name: value for name, value in columns(row).items() if name not in _ELSEWHERE}
        values["primary_key"] = self._db.encrypt(row.primary_key)
        values["secondary_key"] = self._db.encrypt(row.secondary_key)
        connection.execute(sa.insert(endpoints).values(**values))
        hashes = {key_hash(row.primary_key), key_hash(row.secondary_key)}
        connection.execute(sa.insert(keys), [{"hash": value, "endpoint_id": row.id} for value in hashes])
        if row.resources:
            connection.execute(sa.insert(resources), [_stored(resource) for resource in row.resources])
            add_placements(connection, row.resources, How.ADDED, row.created_at)

    def add_endpoints(self, *rows: EndpointRow, most: int) -> bool:
        """Add endpoints, all or none; ``False`` if the service of one has one of that name already.

        :param rows: the endpoints.
        :param most: of one service.
        :raises RequestRejected: ``EndpointLimitReached``.
        """
        try:
            with self._db.write() as connection:
                _locked(connection, web_services, [row.service_id for row in rows])
                for row in rows:
                    if connection.execute(_COUNT, {"service": row.service_id}).scalar_one() >= most:
                        raise rejection("EndpointLimitReached", f"A web service has at most {most} endpoints.")
                    self._insert_endpoint(connection, row)
        except sa.exc.IntegrityError:
            return False
        return True

    def _endpoints(self, reading: tuple[sa.Select[Any], sa.Select[Any]], **which: str) -> list[EndpointRow]:
        query, located = reading
        with self._db.read() as connection:
            models = connection.execute(located, which).all()
            return self._rows(connection.execute(query, which), models)

    def _rows(self, plain_rows: Iterable[Any], models: Iterable[Any]) -> list[EndpointRow]:
        by_endpoint: dict[str, list[ResourceRow]] = {}
        for row in models:
            by_endpoint.setdefault(row[0], []).append(ResourceRow(*row))
        decrypt = self._db.decrypt
        # Mappings of SQLAlchemy would be half of what a list of 10,000 endpoints costs.
        return [
            EndpointRow(*plain, decrypt(primary), decrypt(secondary), tuple(by_endpoint.get(plain[0], ())))  # type: ignore[call-arg]
            for *plain, primary, secondary in plain_rows
        ]

    def endpoints_of(self, service_id: str, limit: int, after: tuple[datetime, str] | None = None) -> list[EndpointRow]:
        """Endpoints of a service, oldest first: so many, behind the one that was made then and is called so."""
        which: dict[str, Any] = {"service": service_id, "limit": limit}
        if after is not None:
            which |= {"at": after[0], "name": after[1]}
        with self._db.read() as connection:
            found = connection.execute(_FIRST if after is None else _FURTHER, which).all()
            return self._rows(found, connection.execute(_MODELS, {"ids": [row[0] for row in found]}))

    def endpoint_named(self, service_id: str, name_or_id: str) -> EndpointRow | None:
        """An endpoint of a service by name first, by GUID second, or ``None``."""
        rows = self._endpoints(_NAMED, service=service_id, name=name_or_id)
        rows.sort(key=lambda row: row.name != name_or_id)
        return rows[0] if rows else None

    def endpoint(self, endpoint_id: str) -> EndpointRow | None:
        """An endpoint by GUID, or ``None``; with the other keys that open it."""
        rows = self._endpoints(_BY_ID, endpoint=endpoint_id)
        return replace(rows[0], other_keys=self.other_keys(rows[0])) if rows else None

    def other_keys(self, row: EndpointRow) -> tuple[KeyRow, ...]:
        """The keys that open an endpoint besides its own two."""
        if row.customer is None:
            query, which = _KEYS, {"endpoint": row.id}
        else:
            query, which = _KEYS_OF_CUSTOMER, {"customer": row.customer, "endpoint": row.id}
        with self._db.read() as connection:
            return tuple(KeyRow(*one) for one in connection.execute(query, which))

    def put_key(self, row: EndpointRow, key: KeyRow, most: int) -> bool:
        """Add a named key of an endpoint, in the place of the one that is called so; ``False`` if there are too many.

        :param row: the endpoint.
        :param key: the new key.
        :param most: named keys of the endpoint, or of its customer.
        """
        with self._db.write() as connection:
            # Those who do the same at the same time would not see each other's key.
            own = _locked(connection, endpoints, connection.scalars(_own(row)))
            named = sa.select(keys.c.name).where(keys.c.endpoint_id.in_(own), keys.c.name.is_not(None))
            if len(set(connection.scalars(named)) - {key.name}) >= most:
                return False
            self._delete_key(connection, row, key.name)
            connection.execute(sa.insert(keys).values(**columns(key)))
            self._db.notify(connection, EVERYTHING)
        return True

    def revoke_key(self, row: EndpointRow, name: str) -> bool:
        """Remove a named key of an endpoint, or of its customer; ``False`` if there is none."""
        with self._db.write() as connection:
            gone = self._delete_key(connection, row, name)
            self._db.notify(connection, EVERYTHING)
        return gone

    def _delete_key(self, connection: sa.Connection, row: EndpointRow, name: str | None) -> bool:
        gone = sa.delete(keys).where(keys.c.endpoint_id.in_(_own(row)), keys.c.name == name, keys.c.name.is_not(None))
        return bool(connection.execute(gone).rowcount)

    def endpoints_of_customer(self, customer: str) -> list[EndpointRow]:
        """The endpoints of a customer: one that trains and one that scores; none where they are not kept apart."""
        return self._endpoints(_OF_CUSTOMER, customer=customer)

    def endpoint_with_key(self, key: str) -> tuple[EndpointRow, KeyRow] | None:
        """The endpoint that a key belongs to, and the key, or ``None``; a named key may have ended."""
        return self.endpoint_with_digest(key_hash(key))

    def endpoint_with_digest(self, digest: str) -> tuple[EndpointRow, KeyRow] | None:
        """The same, by :func:`key_hash` of the key."""
        with self._db.read() as connection:
            found = connection.execute(sa.select(*_KEY).where(keys.c.hash == digest)).first()
        key_row = KeyRow(*found) if found else None
        row = self.endpoint(key_row.endpoint_id) if key_row else None
        return (row, key_row) if row and key_row else None

    def change_endpoint(
        self,
        row: EndpointRow,
        values: Mapping[str, Any],
        models: Sequence[ResourceRow],
        now: datetime,
        *,
        how: How = How.PATCHED,
        files: Sequence[ModelRow] = (),
        approval: Approval | None = None,
    ) -> bool:
        """Change settings and models in one step; ``False`` if the endpoint has changed since ``row`` was read.

        :param row: the endpoint as read.
        :param values: settings by column.
        :param models: models that take the place of those of the same name.
        :param now: the present time.
        :param how: what puts the models in place.
        :param files: what the models' files say of themselves, where that is not known yet.
        :param approval: who has agreed to the models.
        """
        with self._db.write() as connection:
            update = connection.execute(
                sa.update(endpoints)
                .where(endpoints.c.id == row.id, endpoints.c.revision == row.revision)
                .values(**values, revision=row.revision + 1, changed_at=now)
            )
            if update.rowcount != 1:
                return False
            for model in models:
                same = (resources.c.endpoint_id == row.id, resources.c.name == model.name)
                connection.execute(sa.update(resources).where(*same).values(**_stored(model)))
            add_models(connection, files)
            add_placements(connection, models, how, now, approval)
            self._db.notify(connection, row.id)
        return True

    def replace_keys(self, row: EndpointRow, changed: EndpointRow) -> bool:
        """Put the one key that differs in ``changed`` in its place; ``False`` if the old one opens nothing any more."""
        before, after = ({key_hash(each.primary_key), key_hash(each.secondary_key)} for each in (row, changed))
        old, new = before - after, after - before
        with self._db.write() as connection:
            # Deleting what opened the endpoint is also the lock: of two at once, the second one finds nothing.
            gone = connection.execute(sa.delete(keys).where(keys.c.endpoint_id == row.id, keys.c.hash.in_(old)))
            if gone.rowcount != len(old):
                return False
            connection.execute(sa.insert(keys), [{"hash": value, "endpoint_id": row.id} for value in new])
            values = {"primary_key": changed.primary_key, "secondary_key": changed.secondary_key}
            fresh = {name: self._db.encrypt(value) for name, value in values.items() if value != getattr(row, name)}
            connection.execute(sa.update(endpoints).where(endpoints.c.id == row.id).values(**fresh))
            self._db.notify(connection, row.id)
            for sibling in self._siblings(connection, row):
                self._db.notify(connection, sibling)
        return True

    def _siblings(self, connection: sa.Connection, row: EndpointRow) -> list[str]:
        """The customer's other endpoint, which the keys of this one open as well."""
        others = sa.select(endpoints.c.id).where(endpoints.c.customer == row.customer, endpoints.c.id != row.id)
        return list(connection.execute(others).scalars()) if row.customer else []

    def isolate(self, experiment: str, isolated: bool, complete: Completing) -> bool:
        """Keep the customers of an experiment's web services apart from now on, or no longer.

        :param experiment: its name.
        :param isolated: they are to be kept apart.
        :param complete: gives, for the endpoints of one name, the endpoint that is missing beside them, if one is.
        :return: whether anything changed.
        """
        of_it = web_services.c.experiment == experiment
        with self._db.write(slow=True) as connection:
            change = sa.update(web_services).where(of_it, web_services.c.isolated != isolated).values(isolated=isolated)
            if not connection.execute(change).rowcount:
                return False
            if isolated:
                self._pair(connection, experiment, complete)
            self._db.notify(connection, EVERYTHING)
        return True

    def _pair(self, connection: sa.Connection, experiment: str, complete: Completing) -> None:
        plain = sa.select(endpoints.c.id, endpoints.c.service_id, endpoints.c.name, endpoints.c.customer)
        query = plain.join(web_services, web_services.c.id == endpoints.c.service_id)
        named: dict[str, list[Any]] = {}
        for one in connection.execute(query.where(web_services.c.experiment == experiment)):
            named.setdefault(one.name, []).append(one)
        for name, pair in named.items():
            customers = {one.customer for one in pair}
            known = next(iter(customers)) if len(customers) == 1 and len(pair) == 2 else None
            # Who is paired anew has never been this pair: what lies in folders of before is not for it.
            customer = known or uuid.uuid4().hex
            ids = [one.id for one in pair]
            connection.execute(sa.update(endpoints).where(endpoints.c.id.in_(ids)).values(customer=customer))
            missing = complete(name, [one.service_id for one in pair], customer)
            if missing is not None:
                self._insert_endpoint(connection, missing)

    def delete_endpoints(self, *endpoint_ids: str) -> None:
        """Delete endpoints with their jobs, all or none."""
        with self._db.write() as connection:
            customers = sa.select(endpoints.c.customer).where(endpoints.c.id.in_(endpoint_ids))
            connection.execute(sa.delete(quotas).where(quotas.c.customer.in_(customers)))
            connection.execute(sa.delete(endpoints).where(endpoints.c.id.in_(endpoint_ids)))
            for endpoint_id in endpoint_ids:
                self._db.notify(connection, endpoint_id)

    def digests(self) -> set[str]:
        """Digests of all models in place, and of those that can be put back."""
        with self._db.read(slow=True) as connection:
            in_place = connection.execute(sa.select(resources.c.digest).distinct()).scalars()
            return {*in_place, *kept_digests(connection)}

    def digests_in_place(self) -> set[str]:
        """Digests of the models that endpoints have now."""
        with self._db.read() as connection:
            return set(connection.execute(sa.select(resources.c.digest).distinct()).scalars())

    def origins(self, digest: str, limit: int) -> list[BlobReference]:
        """Where a model came from, to the endpoints that have it or had it.

        :param digest: SHA-256 of the model file.
        :param limit: the most that are wanted.
        """
        columns = [(table.c.relative_location, table.c.base_location) for table in (resources, placements)]
        live, past = (sa.select(*pair).where(pair[0].table.c.digest == digest) for pair in columns)
        with self._db.read() as connection:
            rows = connection.execute(live.union(past).limit(limit)).all()
        return [BlobReference.at(base, relative) for relative, base in rows]

    def trained_to(
        self, digest: str, relative_location: str, endpoint_id: str, meant: datetime | None = None
    ) -> datetime | None:
        """End of the training window of a model that a job here wrote or the endpoint had, ``None`` if it is not known.

        Jobs of different windows may write the same bytes. Then the window is the one that is meant, if there is a job
        of it; else that of the last job that wrote to the place; else it is not known: none is guessed.

        :param digest: SHA-256 of the file.
        :param relative_location: where the model lies.
        :param endpoint_id: the endpoint that gets it.
        :param meant: end of the window, as the caller says.
        """
        trained, placed = trained_models.c, placements.c
        written = (
            sa.select(trained.window_end, trained.relative_location)
            .join(jobs, jobs.c.id == trained.job_id)
            .where(trained.digest == digest, trained.window_end.is_not(None))
            .order_by(jobs.c.end_time.desc())
        )
        had = (
            sa.select(placed.window_end, placed.relative_location)
            .where(placed.endpoint_id == endpoint_id, placed.digest == digest, placed.window_end.is_not(None))
            .order_by(placed.id.desc())
        )
        with self._db.read() as connection:
            rows: list[tuple[datetime, str]] = [
                (end, place) for query in (written, had) for end, place in connection.execute(query)
            ]
        ends = {end for end, _ in rows}
        if meant in ends:
            return meant
        there = next((end for end, place in rows if place == relative_location), None)
        return there if there or len(ends) != 1 else ends.pop()

    def placement(self, endpoint_id: str, number: int) -> PlacementRow | None:
        """A model that an endpoint had, or ``None``."""
        query = sa.select(placements).where(placements.c.endpoint_id == endpoint_id, placements.c.number == number)
        with self._db.read() as connection:
            row = connection.execute(query).mappings().first()
        return to_row(PlacementRow, row) if row else None

    def last_at(self, endpoint_id: str, resource: str, relative_location: str) -> PlacementRow | None:
        """The last model that a resource of an endpoint had from a place, or ``None``."""
        query = sa.select(placements).where(
            placements.c.endpoint_id == endpoint_id,
            placements.c.resource == resource,
            placements.c.relative_location == relative_location,
        )
        with self._db.read() as connection:
            row = connection.execute(query.order_by(placements.c.id.desc()).limit(1)).mappings().first()
        return to_row(PlacementRow, row) if row else None

    def has_had(self, endpoint_id: str, digest: str) -> bool:
        """Whether the history of an endpoint has a model."""
        query = sa.select(placements.c.id).where(placements.c.endpoint_id == endpoint_id, placements.c.digest == digest)
        with self._db.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

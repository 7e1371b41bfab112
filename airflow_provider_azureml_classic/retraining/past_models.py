"""Which of the models that an endpoint had is to be put back: for the operator and the command line alike. No Airflow,
no I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import NotFound, rejection
from airflow_provider_azureml_classic.protocol.digests import Digests, same_model
from airflow_provider_azureml_classic.protocol.job_history import MAX_PAGE
from airflow_provider_azureml_classic.protocol.model_history import ModelPage, PastModel
from airflow_provider_azureml_classic.protocol.moments import moment_text
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target

#: Pages that are read at most; the server keeps 200 entries of each resource.
_MOST_PAGES = 20
#: Models that a message names.
_NAMED = 10
#: Letters of a digest that tell a model, at least.
SHORTEST_DIGEST = 6


def past_models(client: Verbs, endpoint: Endpoint) -> Program[tuple[PastModel, ...]]:
    """All models that an endpoint had and the service remembers, those put live last first.

    :param client: of the workspace.
    :param endpoint: as read before.
    :raises RequestRejected: ``OperationNotSupported``: the service does not list them.
    """
    models: list[PastModel] = []
    before: int | None = None
    for _ in range(_MOST_PAGES):
        page: ModelPage = yield Verbs.list_models.steps(
            client, endpoint.web_service_id, endpoint.name, limit=MAX_PAGE, before=before
        )
        models += page.models
        before = page.next
        if before is None:
            break
    return tuple(models)


@dataclass(frozen=True)
class Choice:
    """Which model is meant: one of a window or of a digest, else the one that was live before the present one.

    :param window_end: end of its training window. Of several models of that window, the one that was put live last.
    :param digest: beginning of the digest of its file or its content, in hex.
    :raises ValueError: the digest is too short.
    """

    window_end: datetime | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        if self.digest and len(self.digest) < SHORTEST_DIGEST:
            raise ValueError(
                f"The digest {self.digest!r} is too short: give its first {SHORTEST_DIGEST} letters or more."
            )

    def of(self, models: Sequence[PastModel], resource: Resource) -> PastModel:
        """The model.

        :param models: that the endpoint had, those put live last first.
        :param resource: the one whose model is meant, as it is now.
        :raises NotFound: there is none; the message names those that there are.
        :raises RequestRejected: several different models fit the beginning of a digest.
        """
        own = [model for model in models if model.resource == resource.name]
        if self.digest:
            return _one(self.digest, [model for model in own if _has(model.digests, self.digest.lower())], own)
        if self.window_end is not None:
            end = Window(self.window_end).end
            return _first(
                f"of the training window that ends at {moment_text(end)}", own, lambda model: model.window_end == end
            )
        return _first("but the one that is live", own, lambda model: not _is_live(model, resource))


def past_candidate(
    client: Verbs, target: Target, choice: Choice, readable: Callable[[BlobReference], BlobReference]
) -> Program[Candidate]:
    """A model that an endpoint had, to be put back.

    :param client: of the workspace.
    :param target: the endpoint as it is now.
    :param choice: which model.
    :param readable: gives a reference a fresh token where one is needed and can be had.
    :raises NotFound: see :meth:`Choice.of`; likewise for the other errors.
    """
    models = yield from past_models(client, target.endpoint)
    model = choice.of(models, target.resource)
    window = Window(model.window_end) if model.window_end else None
    return Candidate(readable(model.location), window, digests=model.digests)


def short(digests: Digests | None) -> str:
    """What a model is called in a table: the beginning of its content's digest, else of its file's.

    :param digests: of the model.
    """
    return ((digests and (digests.content or digests.file)) or "")[:12]


def _is_live(model: PastModel, resource: Resource) -> bool:
    return model.is_live or same_model(model.digests, resource.digests) is True


def _has(digests: Digests | None, beginning: str) -> bool:
    known = (digests.file, digests.content) if digests else ()
    return any(digest and digest.startswith(beginning) for digest in known)


def _one(digest: str, fitting: list[PastModel], own: list[PastModel]) -> PastModel:
    model = _first(f"whose digest begins with {digest!r}", fitting, lambda _: True, own)
    if any(same_model(model.digests, other.digests) is not True for other in fitting):
        raise rejection("ModelInvalid", f"Several models have a digest that begins with {digest!r}; give more of it.")
    return model


def _first(
    which: str, models: Sequence[PastModel], fits: Callable[[PastModel], bool], own: Sequence[PastModel] = ()
) -> PastModel:
    model = next(filter(fits, models), None)
    if model is None:
        names = dict.fromkeys(
            f"{short(one.digests)} ({moment_text(one.window_end) if one.window_end else 'window unknown'})"
            for one in own or models
        )
        listed = ", ".join(list(names)[:_NAMED]) or "none"
        raise NotFound(f"The endpoint never had a model {which}, as far as the service remembers; it had: {listed}.")
    return model

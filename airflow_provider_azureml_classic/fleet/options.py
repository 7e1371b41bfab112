"""How a fleet is run. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_azureml_classic.protocol.jobs import MODEL_OUTPUT
from airflow_provider_azureml_classic.retraining.judging import Rules
from airflow_provider_azureml_classic.retraining.order import UNKNOWN_WINDOW
from airflow_provider_azureml_classic.retraining.proof import Level
from airflow_provider_azureml_classic.retraining.quality import METRICS, Allowance, check_limits
from airflow_provider_azureml_classic.retraining.rehearsing import OFF, Rehearsing

#: Jobs that the cloud service ran at once for one endpoint; further ones waited (azure-docs, ``studio/faq``).
MAX_ACTIVE_JOBS = 40


@dataclass(frozen=True)
class Options:
    """What holds for all endpoints of a fleet; plain JSON, as it is an argument of triggers.

    :param training_id: id of the training web service.
    :param training_endpoint: its endpoint.
    :param paired: customers are kept apart: each item is trained at the training endpoint of its own name instead.
    :param scoring_id: id of the scoring web service.
    :param resource: name of the updatable resource; ``None`` means the only one.
    :param model_output: the job's output that is the model.
    :param max_active_jobs: jobs in flight at most.
    :param poll_interval: seconds between two polls of a job, at most.
    :param job_timeout: seconds that a job may take from its start; ``None`` for no limit.
    :param deadline: seconds since 1970 at which whatever is in flight is cancelled; ``None`` for never.
    :param attempt_ends: seconds since 1970 at which the jobs in flight are cancelled and everything that has not ended
        is left to another attempt; ``None`` for never.
    :param thresholds: limits by metric of the evaluation.
    :param allow_training_metrics: they may be metrics of the training rows.
    :param max_worse: by metric, how much worse than the live model a new one may be.
    :param on_undecided: what to do where the rows do not tell, see :func:`~.judgement.judge`.
    :param only_if_newer: keep a live model that was trained on newer data.
    :param unknown_window: what to do if that cannot be told.
    :param rehearsal: whether updates are rehearsed, see :class:`~..retraining.rehearsing.Rehearsing`.
    :param max_change: what of the answers may change.
    :param proof: level to reach.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param on_failure: ``keep`` or ``rollback``.
    """

    training_id: str
    training_endpoint: str
    scoring_id: str
    resource: str | None = None
    model_output: str = MODEL_OUTPUT
    max_active_jobs: int = MAX_ACTIVE_JOBS
    poll_interval: float = 10.0
    job_timeout: float | None = None
    deadline: float | None = None
    attempt_ends: float | None = None
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    allow_training_metrics: bool = False
    max_worse: Mapping[str, Any] = field(default_factory=dict)
    on_undecided: str | None = None
    only_if_newer: bool = True
    unknown_window: str | None = None
    rehearsal: str = OFF
    max_change: float | Mapping[str, float] | None = None
    proof: str = "strongest"
    proof_timeout: float = 120.0
    on_failure: str = "rollback"
    paired: bool = False

    def check(self) -> None:
        """Refuse what would fail every endpoint, before anything is asked of the service.

        :raises ValueError: naming the option.
        """
        if self.proof not in ("strongest", *(level.value for level in Level)):
            raise ValueError(f"proof is {self.proof!r}; it must be strongest, resource, version, score or content.")
        if self.on_failure not in ("keep", "rollback"):
            raise ValueError(f"on_failure is {self.on_failure!r}; it must be 'keep' or 'rollback'.")
        if self.unknown_window not in UNKNOWN_WINDOW:
            raise ValueError(f"unknown_window is {self.unknown_window!r}; it must be 'replace', 'refuse' or None.")
        if self.max_active_jobs < 1:
            raise ValueError(f"max_active_jobs is {self.max_active_jobs}; it must be 1 or more.")
        self.rules().check()
        Rehearsing.of(self.rehearsal, self.max_change)

    def trainer_of(self, customer: str) -> str:
        """Name of the endpoint that trains for a customer.

        :param customer: name of the scoring endpoint.
        """
        return customer if self.paired else self.training_endpoint

    def rules(self) -> Rules:
        """What a new model has to be.

        :raises ValueError: naming the option.
        """
        allowances = {name: Allowance.parse(name, value) for name, value in self.max_worse.items()}
        limits = check_limits(self.thresholds)
        return Rules(limits, allowances, METRICS, self.on_undecided, self.allow_training_metrics)

    def to_json(self) -> dict[str, Any]:
        """For a trigger's arguments."""
        return asdict(self)

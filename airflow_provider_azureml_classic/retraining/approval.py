"""Whether a person's answer lets an update happen. Pure: no I/O, no Airflow.

Rule: an approval is for one model on one endpoint, instead of the live model that the person was shown. Any other
update is refused, and so is an approval that cannot be read: it never counts as "none is needed".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, cause, rejection
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.digests import Digests, same_model
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target

#: Values of ``decision``.
APPROVED, REJECTED = "approved", "rejected"
#: Of an update that asks nobody.
NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Decision:
    """What ``ApproveModelOperator`` returned.

    :param approval: who answered, when, and to which text.
    :param approved: whether the answer was "yes".
    :param facts: what the question was about.
    """

    approval: Approval
    approved: bool
    facts: Mapping[str, Any]

    @classmethod
    def from_json(cls, data: Any) -> Decision | None:
        """The decision that a task returned; ``None``: the update needs none.

        :param data: what the task was given as ``approval``.
        :raises ValueError: it is empty, or something else.
        """
        if data == NOT_NEEDED:
            return None
        if data in (None, "", "None"):
            raise ValueError(
                "approval is empty, so nobody has agreed to this update. If it is an upstream task's output, that task "
                "left no result in this run: it was skipped, failed, or has not run since it was cleared."
            )
        members = {"decision", "evidence", "endpoint", "web_service_id", "job_id"}
        if not isinstance(data, Mapping) or not members <= set(data):
            raise ValueError(f"approval must be what ApproveModelOperator returned, not {type(data).__name__}.")
        try:
            return cls(Approval.from_json(data), data["decision"] == APPROVED, data)
        except ValueError as error:
            raise ValueError(f"approval must be what ApproveModelOperator returned: {cause(error)}.") from None

    def check(self, target: Target, candidate: Candidate) -> None:
        """Return if it is about this endpoint and this model.

        :param target: what would be updated.
        :param candidate: the model that would be put live.
        :raises RequestRejected: it is about another one, or that cannot be told.
        """
        about = self.facts["web_service_id"], self.facts["endpoint"]
        if about != (target.service.id, target.endpoint.name):
            raise _refused(f"for endpoint {about[1]!r} of web service {about[0]}, not for {target.endpoint.name!r}")
        same = same_model(self.approval.model, candidate.digests)
        if same is None:
            # Services that tell no digests: the job says which model is meant.
            same = candidate.job is not None and candidate.job.job_id == self.facts["job_id"]
        if not same:
            meant, other = _name(self.approval.model), _name(candidate.digests)
            raise _refused(
                f"for {meant} of job {self.facts['job_id']}, and what would be put live is another one, {other}"
            )

    def check_live(self, target: Target, candidate: Candidate) -> None:
        """Return if the live model is still the one that the new one was compared with.

        :param target: what would be updated.
        :param candidate: the model that would be put live.
        :raises RequestRejected: somebody else has updated the endpoint since.
        """
        live, shown = target.resource.digests, Digests.from_json(self.facts.get("live"))
        if same_model(shown, live) is False and not same_model(candidate.digests, live):
            raise _refused(
                f"for an update that replaces {_name(shown)}; meanwhile {_name(live)} is live on endpoint "
                f"{target.endpoint.name!r}, which nobody was shown"
            )


def _name(model: Digests | None) -> str:
    digest = (model.content or model.file) if model else None
    return f"the model {digest[:12]}" if digest else "a model whose digest is not known"


def _refused(what: str) -> AzureMLClassicError:
    return rejection(
        "InvalidOperation", f"The approval is {what}. Nothing was changed. Trigger a new DAG run to ask again."
    )

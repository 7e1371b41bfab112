"""The receipt of an update. Pure: no I/O, no Airflow."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

from airflow_provider_azureml_classic.client.answers import BlobFacts
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import window_end_of
from airflow_provider_azureml_classic.retraining.placing import Update


def receipt_of(update: Update, facts: BlobFacts | None, approval: Approval | None = None) -> dict[str, Any]:
    """What an update returns: plain JSON, and nothing secret.

    :param update: the update, once it is proved.
    :param facts: about the model's file, if known.
    :param approval: who has agreed to it, if anybody was asked.
    """
    target, candidate, patch = update.target, update.candidate, update.patch
    replaced, in_path, job = patch.replaced, window_end_of(patch.replaced), candidate.job
    model = patch.model or Digests()
    return {
        "web_service": target.service.name,
        "web_service_id": target.service.id,
        "endpoint": target.endpoint.name,
        "resource": target.resource.name,
        "model": {
            "location": candidate.location.location,
            "length": facts.length if facts and model.file in (None, facts.sha256) else None,
            "sha256": model.file or (facts.sha256 if facts else None),
            "content": model.content,
        },
        "window": candidate.window.to_json() if candidate.window else None,
        "job_id": job.job_id if job else None,
        "trained_by": job.to_json() if job else None,
        "metrics": {name: value for name, value in (candidate.metrics or {}).items() if math.isfinite(value)} or None,
        "rehearsal": patch.rehearsal,
        "proof": {"level": patch.level.value, "seconds": round(max(0.0, time.time() - patch.patched_at), 3)},
        "replaced": {
            "location": replaced.location if replaced else None,
            "window_end": patch.replaced_end or (in_path.isoformat() if in_path else None),
            "answers": patch.answers.to_wire() if patch.answers else None,
            **(patch.replaced_model or Digests()).to_json(),
        },
        "approval": approval.to_json() if approval else None,
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }

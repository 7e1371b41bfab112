"""Files for whatever loads ONNX: one for each model."""

from __future__ import annotations

from airflow_provider_azureml_classic.exporting.package import EARLIER, Target
from airflow_provider_azureml_classic.exporting.runtime import GRAPH

TARGET = Target(
    live=lambda package: {GRAPH: package.graph},
    earlier=lambda package: {f"{EARLIER}/{package.version}/{GRAPH}": package.graph},
    place=lambda package: f"{EARLIER}/{package.version}/{GRAPH}",
)

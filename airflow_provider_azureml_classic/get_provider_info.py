"""What Airflow asks a provider about itself."""

from __future__ import annotations

from typing import Any

_NAME = "Azure ML Studio (classic)"
_PACKAGE = "airflow_provider_azureml_classic"
_OPERATORS = (
    "approval",
    "batch",
    "data_check",
    "doctor",
    "endpoints",
    "fleet",
    "gate",
    "jobs",
    "rollback",
    "scoring",
    "table",
    "update",
    "upload",
)
_TRIGGERS = ("triggers", "watchers")
_LINKS = ("BatchJobLink", "EndpointHelpLink", "PortalLink", "UpdateHelpLink")


def get_provider_info() -> dict[str, Any]:
    """The provider's description, as ``provider_info.schema.json`` of Airflow wants it."""
    return {
        "package-name": "airflow-provider-azureml-classic",
        "name": _NAME,
        "description": "Retrain models and update scoring endpoints of Azure Machine Learning Studio (classic) web "
        "services, or of the self-hosted server in this package.",
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://learn.microsoft.com/previous-versions/azure/machine-learning/classic/",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": _NAME, "python-modules": [f"{_PACKAGE}.hooks"]}],
        "operators": [
            {
                "integration-name": _NAME,
                "python-modules": [f"{_PACKAGE}.operators.{name}" for name in _OPERATORS],
            }
        ],
        "sensors": [{"integration-name": _NAME, "python-modules": [f"{_PACKAGE}.sensors"]}],
        "triggers": [{"integration-name": _NAME, "python-modules": [f"{_PACKAGE}.{name}" for name in _TRIGGERS]}],
        "asset-uris": [
            {
                "schemes": ["azureml-classic"],
                "handler": f"{_PACKAGE}.assets.sanitize_uri",
                "factory": f"{_PACKAGE}.assets.create_asset",
                "to_openlineage_converter": f"{_PACKAGE}.assets.convert_asset_to_openlineage",
            }
        ],
        "extra-links": [f"{_PACKAGE}.links.{name}" for name in _LINKS],
        "notifications": [f"{_PACKAGE}.notifications.ModelUpdatedNotifier"],
        "plugins": [{"name": "azureml_classic", "plugin-class": f"{_PACKAGE}.plugin.AzureMLClassicPlugin"}],
        "connection-types": [_CONNECTION_TYPE],
    }


_CONNECTION_TYPE: dict[str, Any] = {
    "connection-type": "azureml_classic",
    "hook-class-name": f"{_PACKAGE}.hooks.AzureMLClassicHook",
    "hook-name": _NAME,
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port"],
        "relabeling": {"host": "Management URL", "login": "Workspace id", "password": "Workspace token"},
        "placeholders": {
            "host": "http://127.0.0.1:8080",
            "login": "32 hexadecimal digits",
            "password": "authorization token of the workspace",
        },
    },
    # Names ending in `connection_string` and the password are masked by Airflow itself.
    "conn-fields": {
        "storage_connection_string": {
            "label": "Storage connection string",
            "description": "Azure Storage account in which bare paths of data and models are. Leave it empty to "
            "use the service's own store.",
            "schema": {"type": ["string", "null"], "format": "password"},
        },
        "timeout": {
            "label": "Time-out (s)",
            "description": "Seconds allowed for one call.",
            "schema": {"type": ["number", "null"], "default": 30, "minimum": 1},
        },
        "verify": {
            "label": "TLS verification",
            "description": "true, false, or the path of a bundle of certificates.",
            "schema": {"type": ["string", "null"], "default": "true"},
        },
    },
}

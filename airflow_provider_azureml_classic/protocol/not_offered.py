"""Calls of the cloud service that the server does not offer, and what to do instead (wire document, sections 3 and 13).

Clients know their addresses, so they are answered with a sentence instead of a bare 404.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.operations import OPERATIONS

_BELOW = "/workspaces/{workspace}/"
#: What stands behind the workspace in paths of the server's own: a wrong method there is told as that.
_OFFERED = "|".join(
    sorted({one.path.removeprefix(_BELOW).partition("/")[0] for one in OPERATIONS if one.path.startswith(_BELOW)})
)


@dataclass(frozen=True)
class NotOffered:
    """A group of calls.

    :param what: what they do, and which clients make them.
    :param methods: their HTTP methods, separated by blanks; empty: all.
    :param path: regular expression of their paths, as they are below the server's one address.
    :param instead: what to do.
    """

    what: str
    methods: str
    path: str
    instead: str

    def matches(self, method: str, path: str) -> bool:
        """Whether a request is one of them.

        :param method: HTTP method.
        :param path: raw path.
        """
        return (not self.methods or method in self.methods.split()) and re.fullmatch(self.path, path) is not None


NOT_OFFERED: tuple[NotOffered, ...] = (
    NotOffered(
        "Publishing code as a web service (`publishWebService` of R, `azureml.services.publish` of Python)",
        "PUT POST PATCH",
        r"/workspaces/[^/]+/webservices(/[^/]+)?/?",
        "Declare an experiment in a TOML file and start the server with --experiments FILE.toml.",
    ),
    NotOffered(
        "Publishing a Studio experiment (azuremlps, `New-AmlWebService`)",
        "",
        r"(/api)?/workspaces/[^/]+/experiments/[^/]+/webservice/?",
        "Declare an experiment in a TOML file and start the server with --experiments FILE.toml.",
    ),
    NotOffered(
        "Studio's datasets, experiments, modules, trained models, notebooks, projects (`azureml.Workspace`, azuremlps, "
        "R `datasets`, `experiments`)",
        "",
        rf"/api/.*|/workspaces/[^/]+/(?!({_OFFERED})(\W|$))[^/]+(/.*)?",
        "Keep data and models as blobs and name them in batch jobs.",
    ),
    NotOffered(
        "Scoring in version 1 (`/score`)",
        "",
        r"/workspaces/[^/]+/services/[^/]+/score(multirow)?/?",
        "Use /execute?api-version=2.0; Input and Output became Inputs and Results.",
    ),
    NotOffered(
        "New (Azure Resource Manager) web services and commitment plans",
        "",
        r"/subscriptions/.*",
        "Use the classic web services of this server: retrain with a batch job, then PATCH an added endpoint.",
    ),
)


def not_offered(method: str, path: str) -> AzureMLClassicError | None:
    """The error for a call that the cloud service had and the server has not; ``None``: it is none of those.

    :param method: HTTP method.
    :param path: raw path.
    """
    for group in NOT_OFFERED:
        if group.matches(method, path):
            call = group.what.replace("`", "")
            return rejection("OperationNotSupported", f"This server does not offer this: {call}. {group.instead}")
    return None

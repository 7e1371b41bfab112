"""How far into the service's own store somebody reaches: all of it, or one customer's folder.

Rule: this is decided here and nowhere else. :meth:`~.locations.Locations.resolve` asks for a scope before it resolves
anything, so a way in that does not say who asks is no valid program.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.server.blobs.names import customer_folder

#: Decodings of a path until it stays as it is; what takes more is no honest path.
_MOST_DECODINGS = 4


@dataclass(frozen=True)
class Scope:
    """What of the service's own store somebody reaches.

    :param customer: id of a customer, who reaches his own folder alone; ``None``: the whole store.
    """

    customer: str | None = None

    @property
    def folder(self) -> str | None:
        """The customer's folder, ``container/name`` without a slash at its end; ``None``: no limit."""
        return None if self.customer is None else customer_folder(self.customer)

    def admits(self, path: str) -> bool:
        """Whether a path of the service's store is inside.

        A path that means another one after decoding, or to another system (``..``, an empty part, a backslash), is
        outside. Parts are compared whole and exactly.

        :param path: container and name, decoded or not.
        """
        if self.customer is None:
            return True
        home = customer_folder(self.customer).split("/")
        for _ in range(_MOST_DECODINGS):
            parts = path.split("/")
            plain = all(part.strip(". ") for part in parts) and "\\" not in path
            if not plain or parts[: len(home)] != home or len(parts) == len(home):
                return False
            if (decoded := unquote(path)) == path:
                return True
            path = decoded
        return False

    def check(self, path: str) -> None:
        """Refuse a path that is outside; in words that do not depend on what is there.

        :param path: container and name.
        :raises RequestRejected: ``LocationOutsideFolder``.
        """
        if not self.admits(path):
            raise rejection(
                "LocationOutsideFolder",
                f"This key reaches only what is below {self.folder}/ in the store of the service. Name a location "
                "there, or one in a storage account of your own.",
            )


#: Of the server itself, and of those who have the workspace token.
WHOLE_STORE = Scope()

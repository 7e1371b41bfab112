"""The two reads of the Studio API with which clients begin: R's ``workspace()``, azuremlps' ``Get-AmlWorkspace``. Pure.

Nothing else of that API is offered: see :mod:`.not_offered`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

#: The list of data sets, of which there are none: R's package reads an item without a name as that, and an empty list
#: as an error.
NO_DATA_SETS = (MappingProxyType({"Name": None}),)


def workspace_to_wire(workspace_id: str) -> dict[str, Any]:
    """The workspace; members that .NET reads as truth values are never null.

    :param workspace_id: 32 hex digits.
    """
    return {
        "WorkspaceId": workspace_id,
        "FriendlyName": "azureml-classic",
        "Description": "",
        "Region": "self-hosted",
        "OwnerEmail": "",
        "WorkspaceStatus": "Enabled",
        "Type": "Standard",
        "UseDefaultHDInsightSettings": False,
    }

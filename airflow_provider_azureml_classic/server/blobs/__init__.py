"""The own blob store, in the wire format of Azure Blob Storage."""

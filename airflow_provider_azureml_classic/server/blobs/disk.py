"""Errors of disk and system, which are no fault of a request: what callers are told, with 503, instead of a failure.

All of them pass by themselves once there is room, or the disk is back; nothing is to be restarted.
"""

from __future__ import annotations

import errno

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection

_FULL = "The disk of the server is full. Make room there, then try again."
_READ_ONLY = "The server cannot write to its disk, which is read-only or not the server's. Mend that, then try again."
_SILENT = "The disk of the server cannot be read or written. See to it, then try again."
_FILES = "The server has as many files and connections open as it may. Try again in a moment."
_MEMORY = "The system gives the server no more memory or processes. Try again in a moment."
_TOLD = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _READ_ONLY),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN), _SILENT),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _FILES),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), _MEMORY),
}


def as_unavailable(error: BaseException) -> AzureMLClassicError | None:
    """What is told of an error, if it is one of these.

    :param error: whatever was raised.
    :return: a :class:`~airflow_provider_azureml_classic.exceptions.ServiceUnavailable`; ``None`` for any other error.
    """
    if isinstance(error, MemoryError):
        return unavailable(_MEMORY)
    told = _TOLD.get(error.errno or 0) if isinstance(error, OSError) else None
    return unavailable(told) if told else None


def unavailable(message: str) -> AzureMLClassicError:
    """An error that passes by itself.

    :param message: what is the matter, and what to do.
    """
    return rejection("NoMoreResources", message)

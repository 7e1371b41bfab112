"""Encryption of secrets at rest: AES-256-GCM, as a list of 10,000 endpoints opens 20,000 keys.

What the versions before wrote are Fernet tokens; they are read as before.
"""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: First byte of what is encrypted here; a Fernet token begins with a letter.
_MARK = b"\x01"
#: Random, and long enough for billions of values under one key.
_NONCE = 12
_PURPOSE = b"azureml-classic: secrets in the database"


class WrongKey(ValueError):
    """Encrypted with another key, or changed since."""


class Cipher:
    """Encrypts and decrypts.

    :param key: 32 bytes in URL-safe Base64, as Fernet takes it.
    """

    def __init__(self, key: str) -> None:
        self._fernet = Fernet(key)
        # A key of its own for each use of the secret.
        derived = HKDF(SHA256(), 32, None, _PURPOSE).derive(base64.urlsafe_b64decode(key))
        self._aes = AESGCM(derived)

    def encrypt(self, data: bytes) -> bytes:
        """What :meth:`decrypt` opens.

        :param data: the secret.
        """
        nonce = os.urandom(_NONCE)
        return _MARK + nonce + self._aes.encrypt(nonce, data, None)

    def decrypt(self, token: bytes) -> bytes:
        """The secret.

        :param token: as it was stored.
        :raises WrongKey: it was encrypted with another key.
        """
        begin = len(_MARK) + _NONCE
        try:
            if token[:1] != _MARK:
                return self._fernet.decrypt(token)
            return self._aes.decrypt(token[1:begin], token[begin:], None)
        except (InvalidTag, InvalidToken, ValueError):
            raise WrongKey("a secret of the database was encrypted with another key") from None

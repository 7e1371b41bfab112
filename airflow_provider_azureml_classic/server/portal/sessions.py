"""Who is signed in: an encrypted, signed and expiring cookie, and a brake on guessing.

A session is bound to the tokens of the workspace: a new one ends them all. What was signed out is remembered in the
database until it would have expired anyhow, and in this process, which need not ask for what it knows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from threading import Lock

from cryptography.fernet import Fernet, InvalidToken

from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.state.ended_sessions import EndedSessions

#: How long a session lasts, whatever is done in it.
LIFE = timedelta(hours=12)
COOKIE = "azureml_classic_session"
#: Who has presented the workspace token, and who the read-only one.
OWNER, READER = "owner", "reader"
_HOLDER = "key "
#: Wrong tokens that an address may send before it has to wait, and its longest wait, in seconds.
FREE_TRIES, LONGEST_WAIT = 5, 60
_ADDRESSES = 10_000
#: Leading bits of an IPv6 address that count: one host may take any address behind them.
_IPV6_BITS = 64


def holder(digest: str) -> str:
    """Who has presented a key.

    :param digest: what the key is found by.
    """
    return f"{_HOLDER}{digest}"


@dataclass(frozen=True)
class Session:
    """A visit of one browser.

    :param id: random; forms carry a digest of it.
    :param who: what was presented, :data:`OWNER`, :data:`READER`, or :func:`holder` of a key; empty: nothing.
    :param said: what the next page is to say: ``good`` or ``bad``, and a sentence.
    """

    id: str
    who: str = ""
    said: tuple[str, str] | None = None

    @property
    def key(self) -> str:
        """Digest of the key that was presented; empty if it was no key."""
        return self.who.removeprefix(_HOLDER) if self.who.startswith(_HOLDER) else ""

    @property
    def signed_in(self) -> bool:
        """Whether something was presented."""
        return bool(self.who)


class Sessions:
    """Writes and reads the cookie.

    :param settings: its tokens.
    :param clock: gives the present time.
    :param ended: those that were signed out, of all servers.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime], ended: EndedSessions | None = None) -> None:
        self._stored = ended
        bound = "portal session", settings.token, settings.read_token
        digest = hmac.digest(settings.cipher_key.encode(), json.dumps(bound).encode(), hashlib.sha256)
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))
        self._secret = digest
        self._clock = clock
        self._ended: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def new(self, who: str = "") -> Session:
        """A session that has never been.

        :param who: what was presented.
        """
        return Session(secrets.token_urlsafe(24), who)

    def sealed(self, session: Session, since: int | None = None) -> str:
        """The cookie's value.

        :param session: to be kept by the browser.
        :param since: when it began, in seconds since the epoch; now by default.
        """
        data = json.dumps([session.id, session.who, session.said]).encode()
        return self._fernet.encrypt_at_time(data, since or int(self._clock().timestamp())).decode()

    def opened(self, cookie: str | None) -> tuple[Session, int] | None:
        """The session of a cookie and when it began; ``None`` if it is forged, expired or signed out.

        :param cookie: its value.
        """
        now = int(self._clock().timestamp())
        try:
            token = (cookie or "").encode()
            data = self._fernet.decrypt_at_time(token, int(LIFE.total_seconds()), now)
            since = int(self._fernet.extract_timestamp(token))
        except (InvalidToken, UnicodeError):
            return None
        name, who, said = json.loads(data)
        if name in self._ended:
            return None
        return Session(name, who, (said[0], said[1]) if said else None), since

    def csrf(self, session: Session) -> str:
        """What every form of a session carries.

        :param session: of the browser that the form is shown to.
        """
        return hmac.new(self._secret, b"form " + session.id.encode(), hashlib.sha256).hexdigest()

    def is_ours(self, session: Session, sent: object) -> bool:
        """Whether a form was sent from one of our pages.

        :param session: of the browser that sent it.
        :param sent: what the form carried.
        """
        return isinstance(sent, str) and hmac.compare_digest(sent.encode(), self.csrf(session).encode())

    def end(self, session: Session) -> None:
        """Sign a session out for good.

        :param session: the one.
        :raises DatabaseDown: it is signed out here, but nowhere else.
        """
        self._forget(session)
        if self._stored:
            self._stored.add(session.id, self._clock() + LIFE, self._clock())

    def has_ended(self, session: Session) -> bool:
        """Whether a session was signed out, here or on another server, or before a restart.

        :param session: the one.
        :raises DatabaseDown: that cannot be told now.
        """
        if self._stored and self._stored.has(session.id):
            self._forget(session)
            return True
        return session.id in self._ended

    def _forget(self, session: Session) -> None:
        now = self._clock().timestamp()
        with self._lock:
            self._ended[session.id] = now + LIFE.total_seconds()
            while self._ended and next(iter(self._ended.values())) < now:
                self._ended.popitem(last=False)


def _counted_as(address: str) -> str:
    """What an address is counted as: IPv6 as its network, IPv4 written as IPv6 as IPv4."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or ip_network((int(ip), _IPV6_BITS), strict=False))


class Brake:
    """Makes those wait who send wrong tokens: twice as long each time. An IPv6 network of 64 bits is one address.

    :param clock: gives the present time.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = Lock()

    def wait(self, address: str) -> int:
        """Seconds until an address may try again; 0 if it may now.

        :param address: of the client.
        """
        count, last = self._tries.get(_counted_as(address), (0, 0.0))
        if count < FREE_TRIES:
            return 0
        pause = min(1 << (count - FREE_TRIES), LONGEST_WAIT)
        return max(0, math.ceil(last + pause - self._clock().timestamp()))

    def failed(self, address: str) -> None:
        """Remember a wrong token.

        :param address: of the client.
        """
        counted = _counted_as(address)
        with self._lock:
            count, _ = self._tries.pop(counted, (0, 0.0))
            self._tries[counted] = (min(count + 1, 20), self._clock().timestamp())
            if len(self._tries) > _ADDRESSES:
                self._tries.popitem(last=False)

    def passed(self, address: str) -> None:
        """Forget the wrong tokens of an address.

        :param address: of the client.
        """
        with self._lock:
            self._tries.pop(_counted_as(address), None)

"""The store over a real socket: plain requests, Azure's SDK, and hostile clients."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import time
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta
from email.utils import format_datetime

import anyio
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError
from azure.storage.blob import (
    AccountSasPermissions,
    BlobClient,
    BlobServiceClient,
    ContainerClient,
    ResourceTypes,
    generate_account_sas,
)
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Message

from airflow_provider_azureml_classic.protocol.sas import StorageAccount, hmac_sha256
from airflow_provider_azureml_classic.server.blobs.app import blob_app
from airflow_provider_azureml_classic.server.blobs.store import TEMPORARY_FOLDER, BlobStore
from tests.support.azurite import Azurite
from tests.support.blob_service import KEY, MAX_SIZE, TIMEOUT, Served, assert_error, code_of, now

BLOCK_BLOB = {"x-ms-blob-type": "BlockBlob"}


class TestRead:
    """Get Blob and its properties."""

    def test_get(self, served: Served, container: str) -> None:
        """The bytes come with everything that clients look at."""
        served.put(container, "in/feb.csv", b"x,y\n1,2\n")
        answer = served.ask("GET", f"{container}/in/feb.csv", served.sas(container, "in/feb.csv", "r"))
        assert (answer.status_code, answer.content) == (200, b"x,y\n1,2\n")
        assert answer.headers["content-length"] == "8"
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["x-ms-blob-type"] == "BlockBlob"
        assert answer.headers["x-ms-meta-sha256"] == hashlib.sha256(b"x,y\n1,2\n").hexdigest()
        assert answer.headers["x-ms-version"] == "2020-12-06"
        assert "," not in answer.headers["date"].partition(", ")[2]
        assert {"etag", "last-modified", "x-ms-request-id"} <= set(map(str.lower, answer.headers))

    def test_head(self, served: Served, container: str) -> None:
        """The same headers without the bytes; versions and ids of the client are repeated if they are harmless."""
        served.put(container, "a.ilearner", b"model")
        asked = {"x-ms-version": "2019-02-02", "x-ms-client-request-id": "my-id-1"}
        answer = served.ask("HEAD", f"{container}/a.ilearner", served.sas(container), headers=asked)
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "5")
        assert answer.headers["x-ms-version"] == "2019-02-02"
        assert answer.headers["x-ms-client-request-id"] == "my-id-1"
        odd = {"x-ms-version": "<new>", "x-ms-client-request-id": "<script>"}
        answer = served.ask("HEAD", f"{container}/a.ilearner", served.sas(container), headers=odd)
        assert answer.headers["x-ms-version"] == "2020-12-06"
        assert "x-ms-client-request-id" not in answer.headers

    @pytest.mark.parametrize(
        ("headers", "status", "content"),
        [
            ({"Range": "bytes=2-4"}, 206, b"234"),
            ({"x-ms-range": "bytes=7-"}, 206, b"789"),
            ({"x-ms-range": "bytes=7-", "Range": "bytes=0-0"}, 206, b"789"),
            ({"Range": "bytes=8-100"}, 206, b"89"),
            ({"Range": "bytes=4-2"}, 200, b"0123456789"),
            ({"Range": "bytes=0-1,3-4"}, 200, b"0123456789"),
            ({"Range": "lines=1-2"}, 200, b"0123456789"),
            ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200, b"0123456789"),
        ],
    )
    def test_ranges(self, served: Served, container: str, headers: dict[str, str], status: int, content: bytes) -> None:
        """One range from a start is honoured, anything else gives the whole blob."""
        served.put(container, "digits", b"0123456789")
        answer = served.ask("GET", f"{container}/digits", served.sas(container), headers=headers)
        assert (answer.status_code, answer.content) == (status, content)
        if status == 206:
            first = b"0123456789".index(content)
            assert answer.headers["content-range"] == f"bytes {first}-{first + len(content) - 1}/10"

    @pytest.mark.parametrize(("data", "asked"), [(b"0123456789", "bytes=10-"), (b"", "bytes=0-99")])
    def test_range_behind_the_end(self, served: Served, container: str, data: bytes, asked: str) -> None:
        """It is 416, which SDKs count on for empty blobs."""
        served.put(container, "digits", data)
        answer = served.ask("GET", f"{container}/digits", served.sas(container), headers={"x-ms-range": asked})
        assert_error(answer, 416, "InvalidRange")
        assert answer.headers["content-range"] == f"bytes */{len(data)}"

    def test_conditions(self, served: Served, container: str) -> None:
        """A blob that is known already is not sent again, and another version than expected never is."""
        served.put(container, "a.csv", b"x")
        etag = served.store.properties(container, "a.csv").etag
        path, token = f"{container}/a.csv", served.sas(container)
        same = served.ask("GET", path, token, headers={"If-None-Match": f'"other", {etag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert served.ask("GET", path, token, headers={"If-Match": etag.strip('"')}).status_code == 200
        assert_error(served.ask("GET", path, token, headers={"If-Match": '"other"'}), 412, "ConditionNotMet")
        assert_error(served.ask("DELETE", path, token, headers={"If-Match": '"other"'}), 412, "ConditionNotMet")

    def test_missing_blob(self, served: Served, container: str) -> None:
        """It is 404, and a HEAD says so in its header."""
        assert_error(served.ask("GET", f"{container}/no.csv", served.sas(container)), 404, "BlobNotFound")
        head = served.ask("HEAD", f"{container}/no.csv", served.sas(container))
        assert (head.status_code, head.headers["x-ms-error-code"], head.content) == (404, "BlobNotFound", b"")

    def test_file_cut_short_under_the_server(
        self, served: Served, container: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that somebody shortens in place ends the connection: the client never takes it for whole."""
        served.put(container, "a.bin", b"x" * 100)
        monkeypatch.setattr("airflow_provider_azureml_classic.server.blobs.streams.asked_range", lambda *_: (0, 200))
        monkeypatch.setattr("airflow_provider_azureml_classic.server.blobs.app.asked_range", lambda *_: (0, 200))
        with pytest.raises(requests.RequestException):
            served.ask("GET", f"{container}/a.bin", served.sas(container))


def of_account(account: StorageAccount, letters: str = "rwdlac", kinds: str = "sco", **more: object) -> str:
    """Azure's own token for the account."""
    types = ResourceTypes(service="s" in kinds, container="c" in kinds, object="o" in kinds)
    options = {"expiry": now() + timedelta(hours=1), **more}
    permission = AccountSasPermissions.from_string(letters)
    return str(generate_account_sas(account.name, account.key, resource_types=types, permission=permission, **options))


#: What a token of the account lacks -> Azure's code.
LACKING = [
    ({"letters": "r"}, "PUT", "{c}/a.csv", "AuthorizationPermissionMismatch"),
    ({"letters": "wdlac"}, "GET", "{c}/a.csv", "AuthorizationPermissionMismatch"),
    ({"letters": "rwlac"}, "DELETE", "{c}/a.csv", "AuthorizationPermissionMismatch"),
    ({"letters": "rwdac"}, "GET", "{c}?restype=container&comp=list", "AuthorizationPermissionMismatch"),
    ({"letters": "rdl"}, "PUT", "{c}-new?restype=container", "AuthorizationPermissionMismatch"),
    ({"letters": "wdlac"}, "GET", "{c}?restype=container", "AuthorizationPermissionMismatch"),
    ({"letters": "rwlac"}, "DELETE", "{c}?restype=container", "AuthorizationPermissionMismatch"),
    ({"kinds": "sc"}, "GET", "{c}/a.csv", "AuthorizationResourceTypeMismatch"),
    ({"kinds": "so"}, "GET", "{c}?restype=container&comp=list", "AuthorizationResourceTypeMismatch"),
    ({"kinds": "so"}, "PUT", "{c}-new?restype=container", "AuthorizationResourceTypeMismatch"),
    ({"kinds": "co"}, "GET", "?comp=list", "AuthorizationResourceTypeMismatch"),
    ({"protocol": "https"}, "GET", "{c}/a.csv", "AuthorizationProtocolMismatch"),
]


class TestAccountToken:
    """Tokens of the whole account, made by Azure's SDK."""

    def test_the_sdk_does_everything_with_one_token(self, served: Served, container: str) -> None:
        """Containers are made, listed and removed, blobs written in blocks, read, listed and removed."""
        blocks = {"max_single_put_size": 1000, "max_block_size": 1000}
        with BlobServiceClient(served.base, credential=of_account(served.store.account), **blocks) as service:
            client = service.create_container(container)
            client.upload_blob("in/a.csv", b"x" * 5000)
            assert client.get_blob_client("in/a.csv").download_blob().readall() == b"x" * 5000
            assert [blob.name for blob in client.list_blobs()] == ["in/a.csv"]
            assert container in [found.name for found in service.list_containers()]
            assert [found.name for found in service.list_containers(name_starts_with=container)] == [container]
            assert client.get_container_properties().name == container
            client.delete_blob("in/a.csv")
            client.delete_container()
            assert not client.exists()

    def test_containers_come_in_pages(self, served: Served, container: str, service: BlobServiceClient) -> None:
        """A long list goes on at its marker; the store's own folders are not in it."""
        names = [f"{container}-{number}" for number in range(5)]
        for name in names:
            served.store.create_container(name)
        pages = service.list_containers(name_starts_with=container, results_per_page=2).by_page()
        assert [[found.name for found in page] for page in pages] == [names[:2], names[2:4], names[4:]]
        assert not [found for found in service.list_containers() if found.name.startswith(".")]

    @pytest.mark.parametrize(("token", "method", "path", "code"), LACKING)
    def test_what_a_token_lacks(self, served: Served, container: str, token, method: str, path: str, code: str) -> None:
        """Azure's code says what is not allowed, and nothing is done."""
        served.put(container, "a.csv", b"x")
        signed = of_account(served.store.account, **token)
        assert_error(served.ask(method, path.format(c=container), signed, headers=BLOCK_BLOB), 403, code)
        assert served.store.exists(container, "a.csv")
        assert served.store.container_properties(f"{container}-new") is None

    @pytest.mark.slow
    def test_azurite_answers_the_same(self, container: str) -> None:
        """Microsoft's emulator refuses the same tokens with the same codes."""
        emulator = Azurite()
        try:
            emulator.put(f"{container}/a.csv", "x")
            for token, method, path, code in LACKING:
                signed = of_account(emulator.account, **token)
                joint = "&" if "?" in path else "?"
                url = f"{emulator.account.endpoint}/{path.format(c=container)}{joint}{signed}"
                answer = requests.request(method, url, headers=BLOCK_BLOB, timeout=TIMEOUT)
                assert (answer.status_code, answer.headers["x-ms-error-code"]) == (403, code), (token, method, path)
        finally:
            emulator.stop()

    def test_addresses(self, served: Served, container: str) -> None:
        """``sip`` lets in whom it names, by the address that the request comes from."""
        served.put(container, "a.csv", b"x")
        for allowed, status in (("127.0.0.1", 200), ("127.0.0.1-127.0.0.9", 200), ("10.0.0.1", 403)):
            answer = served.ask("GET", f"{container}/a.csv", of_account(served.store.account, ip=allowed))
            assert answer.status_code == status
        assert_error(answer, 403, "AuthorizationSourceIPMismatch")

    def test_expired_and_early_tokens(self, served: Served, container: str) -> None:
        """Both are refused as those of a blob are."""
        served.put(container, "a.csv", b"x")
        for times in ({"expiry": now() - timedelta(hours=1)}, {"start": now() + timedelta(hours=1)}):
            answer = served.ask("GET", f"{container}/a.csv", of_account(served.store.account, **times))
            assert_error(answer, 403, "AuthenticationFailed")

    def test_create_is_not_overwrite(self, served: Served, container: str) -> None:
        """A token with ``c`` alone makes new blobs and replaces none."""
        token = of_account(served.store.account, "c", "o")
        assert served.ask("PUT", f"{container}/a.csv", token, data=b"1", headers=BLOCK_BLOB).status_code == 201
        second = served.ask("PUT", f"{container}/a.csv", token, data=b"2", headers=BLOCK_BLOB)
        assert_error(second, 403, "AuthorizationPermissionMismatch")

    def test_the_account_itself_is_for_its_own_tokens(self, served: Served, container: str) -> None:
        """A token for one container lists no others."""
        assert_error(served.ask("GET", "?comp=list", served.sas(container)), 403, "AuthenticationFailed")


class TestAuthorization:
    """SAS tokens and the account's key."""

    def test_no_credential(self, served: Served, container: str) -> None:
        """Without one nothing is said about what exists."""
        served.put(container, "a.csv", b"x")
        for path in (f"{container}/a.csv", f"{container}/no.csv", f"{container}?restype=container&comp=list"):
            assert_error(served.ask("GET", path, ""), 403, "AuthenticationFailed")

    def test_expired_token(self, served: Served, container: str) -> None:
        """The reason is in the detail; its times are not."""
        served.put(container, "a.csv", b"x")
        answer = served.ask("GET", f"{container}/a.csv", served.sas(container, "a.csv", hours=-1))
        assert_error(answer, 403, "AuthenticationFailed")
        assert "expired" in str(ET.fromstring(answer.content).findtext("AuthenticationErrorDetail"))  # noqa: S314

    @pytest.mark.parametrize(
        ("old", "new"), [("sp=r", "sp=rw"), ("sr=b", "sr=c"), ("sig=", "sig=A"), ("sp=r", "sp=r&sp=r")]
    )
    def test_tampered_token(self, served: Served, container: str, old: str, new: str) -> None:
        """A changed token opens nothing."""
        served.put(container, "a.csv", b"x")
        token = served.sas(container, "a.csv", "r").replace(old, new)
        assert_error(served.ask("GET", f"{container}/a.csv", token), 403, "AuthenticationFailed")

    def test_token_for_something_else(self, served: Served, container: str) -> None:
        """Neither another blob nor another container is opened."""
        served.put(container, "a.csv", b"x")
        for token in (served.sas(container, "b.csv"), served.sas("other-container")):
            assert_error(served.ask("GET", f"{container}/a.csv", token), 403, "AuthenticationFailed")

    def test_permission_lacking(self, served: Served, container: str) -> None:
        """Each operation needs its own letter, and what belongs to the account no token grants."""
        served.put(container, "a.csv", b"x")
        blob, whole = f"{container}/a.csv", f"{container}?restype=container"
        for method, path, letters in (
            ("GET", blob, "cwdl"),
            ("PUT", blob, "rdl"),
            ("PUT", f"{blob}?comp=block&blockid=QQ==", "rdl"),
            ("PUT", f"{blob}?comp=blocklist", "rdl"),
            ("DELETE", blob, "rcwl"),
            ("GET", f"{whole}&comp=list", "rcwd"),
            ("DELETE", whole, "rcwdl"),
            ("PUT", whole, "rcwdl"),
        ):
            answer = served.ask(method, path, served.sas(container, None, letters), headers=BLOCK_BLOB)
            assert_error(answer, 403, "AuthorizationPermissionMismatch")
        assert served.store.exists(container, "a.csv")

    def test_create_is_not_overwrite(self, served: Served, container: str) -> None:
        """A token with ``c`` alone makes new blobs and replaces none."""
        token = served.sas(container, "a.csv", "c")
        first = served.ask("PUT", f"{container}/a.csv", token, data=b"1", headers=BLOCK_BLOB)
        assert first.status_code == 201
        second = served.ask("PUT", f"{container}/a.csv", token, data=b"2", headers=BLOCK_BLOB)
        assert_error(second, 403, "AuthorizationPermissionMismatch")
        assert served.store.path(container, "a.csv").read_bytes() == b"1"

    def signed(
        self, served: Served, path: str, moment: datetime, key: str = KEY, name: str = "mlclassic"
    ) -> dict[str, str]:
        """Headers of a GET signed by hand, for the path as the client knows it."""
        date = format_datetime(moment, usegmt=True)
        text = f"GET{chr(10) * 12}x-ms-date:{date}\nx-ms-version:2020-12-06\n/mlclassic{path}"
        signature = hmac_sha256(StorageAccount("mlclassic", key, served.base), text)
        authorization = f"SharedKey {name}:{signature}"
        return {"x-ms-date": date, "x-ms-version": "2020-12-06", "Authorization": authorization}

    def test_shared_key_by_hand(self, served: Served, container: str) -> None:
        """The documented text, signed here, opens a blob."""
        served.put(container, "a b.csv", b"x")
        headers = self.signed(served, f"/mlclassic/{container}/a%20b.csv", now())
        assert served.ask("GET", f"{container}/a%20b.csv", "", headers=headers).status_code == 200

    def test_shared_key_refused(self, served: Served, container: str) -> None:
        """An old request, another key, another account, another blob, another scheme: none is let in."""
        served.put(container, "a.csv", b"x")
        path, other_key = f"/mlclassic/{container}/a.csv", base64.b64encode(b"other").decode()
        good = self.signed(served, path, now())
        for headers in (
            self.signed(served, path, now() - timedelta(minutes=16)),
            self.signed(served, path, now() + timedelta(minutes=16)),
            self.signed(served, path, now(), key=other_key),
            self.signed(served, path, now(), name="other"),
            self.signed(served, f"{path}x", now()),
            {**good, "x-ms-date": "yesterday"},
            {name: value for name, value in good.items() if name != "x-ms-date"},
            {**good, "x-ms-version": "2019-02-02"},
            {**good, "Authorization": good["Authorization"].replace("SharedKey", "Bearer")},
            {**good, "Authorization": "SharedKey"},
        ):
            answer = served.ask("GET", f"{container}/a.csv", "", headers=headers)
            assert_error(answer, 403, "AuthenticationFailed")

    def test_shared_key_behind_a_proxy_that_shortens_the_path(self, served: Served, container: str) -> None:
        """What the client signed is the public path, of which the server sees only the end."""
        account = StorageAccount("mlclassic", KEY, f"https://ml.example.org/studio{served.base[-10:]}")
        store = BlobStore(served.store.root, account)
        served.put(container, "a.csv", b"x")
        with BlobClient.from_connection_string(account.connection_string, container, "a.csv") as client:
            path = client.url.removeprefix("https://ml.example.org")
        headers = {name.lower(): value for name, value in self.signed(served, path, now()).items()}
        path = path.removeprefix("/studio")
        assert call_directly(store, "GET", path, headers) == 200
        assert call_directly(store, "GET", path, {**headers, "authorization": "SharedKey mlclassic:AAAA"}) == 403

    def test_old_clients_sign_a_length_of_zero(self, served: Served, container: str) -> None:
        """Before 2015-02-21 an empty body's length was signed as ``0``."""
        date = format_datetime(now(), usegmt=True)
        extension = f"x-ms-blob-type:BlockBlob\nx-ms-date:{date}\nx-ms-version:2014-02-14\n"
        text = f"PUT\n\n\n0{chr(10) * 9}{extension}/mlclassic/mlclassic/{container}/empty.csv"
        headers = {
            **BLOCK_BLOB,
            "x-ms-date": date,
            "x-ms-version": "2014-02-14",
            "Authorization": f"SharedKey mlclassic:{hmac_sha256(served.store.account, text)}",
        }
        assert served.ask("PUT", f"{container}/empty.csv", "", headers=headers).status_code == 201


class TestWrite:
    """Put Blob, Put Block, Put Block List, Delete Blob."""

    def test_put(self, served: Served, container: str) -> None:
        """A blob is stored, its container made; the answer has the tag that a GET has."""
        data = bytes(range(256)) * 10_000
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        headers = {**BLOCK_BLOB, "Content-MD5": md5}
        answer = served.ask(
            "PUT", f"{container}/m/x.bin", served.sas(container, "m/x.bin", "w"), data=data, headers=headers
        )
        assert answer.status_code == 201
        assert answer.headers["etag"] == served.store.properties(container, "m/x.bin").etag
        assert served.store.path(container, "m/x.bin").read_bytes() == data

    def test_put_of_unknown_length(self, served: Served, container: str) -> None:
        """A chunked body is taken as well."""
        token = served.sas(container)
        answer = served.ask("PUT", f"{container}/a.csv", token, data=iter([b"1,", b"2"]), headers=BLOCK_BLOB)
        assert answer.status_code == 201
        assert served.store.path(container, "a.csv").read_bytes() == b"1,2"

    @pytest.mark.parametrize("chunked", [True, False])
    def test_too_large(self, served: Served, container: str, chunked: bool) -> None:
        """The limit holds for announced and for unannounced lengths, and nothing is stored."""
        data = b"x" * (MAX_SIZE + 1)
        body = iter([data[:MAX_SIZE], data[MAX_SIZE:]]) if chunked else data
        answer = served.ask("PUT", f"{container}/a.bin", served.sas(container), data=body, headers=BLOCK_BLOB)
        assert_error(answer, 413, "RequestBodyTooLarge")
        assert not served.store.exists(container, "a.bin")
        assert not list((served.store.root / TEMPORARY_FOLDER).iterdir())

    def test_wrong_checksum(self, served: Served, container: str) -> None:
        """A body that does not match its Content-MD5 is not stored."""
        headers = {**BLOCK_BLOB, "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
        answer = served.ask("PUT", f"{container}/a.csv", served.sas(container), data=b"1", headers=headers)
        assert_error(answer, 400, "Md5Mismatch")
        assert not served.store.exists(container, "a.csv")

    @pytest.mark.parametrize("headers", [{}, {"x-ms-blob-type": "PageBlob"}])
    def test_other_kinds_of_put(self, served: Served, container: str, headers: dict[str, str]) -> None:
        """Only block blobs are stored."""
        answer = served.ask("PUT", f"{container}/a.csv", served.sas(container), data=b"1", headers=headers)
        assert_error(answer, 400, "InvalidHeaderValue")

    def test_conditions(self, served: Served, container: str) -> None:
        """``If-None-Match: *`` creates only, ``If-Match`` replaces only the version it names."""
        path, token = f"{container}/a.csv", served.sas(container)

        def put(**condition: str) -> requests.Response:
            headers = {name.replace("_", "-"): value for name, value in condition.items()}
            return served.ask("PUT", path, token, data=b"1", headers={**BLOCK_BLOB, **headers})

        assert_error(put(if_match='"any"'), 412, "ConditionNotMet")
        first = put(if_none_match="*")
        assert first.status_code == 201
        assert_error(put(if_none_match="*"), 409, "BlobAlreadyExists")
        assert_error(put(if_match='"other"'), 412, "ConditionNotMet")
        assert_error(put(if_none_match=first.headers["etag"]), 412, "ConditionNotMet")
        assert put(if_match=first.headers["etag"]).status_code == 201

    def test_blob_that_appears_during_the_upload_is_kept(
        self, served: Served, container: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last check and the move are one step."""
        served.put(container, "a.csv", b"early")
        monkeypatch.setattr(BlobStore, "exists", lambda *_: False)
        headers = {**BLOCK_BLOB, "If-None-Match": "*"}
        answer = served.ask("PUT", f"{container}/a.csv", served.sas(container), data=b"late", headers=headers)
        assert_error(answer, 409, "BlobAlreadyExists")
        block = f"{container}/a.csv?comp=block&blockid=QQ=="
        assert served.ask("PUT", block, served.sas(container), data=b"late").status_code == 201
        body = b"<BlockList><Latest>QQ==</Latest></BlockList>"
        listed = served.ask(
            "PUT", f"{container}/a.csv?comp=blocklist", served.sas(container), data=body, headers={"If-None-Match": "*"}
        )
        assert_error(listed, 409, "BlobAlreadyExists")
        assert served.store.path(container, "a.csv").read_bytes() == b"early"

    def test_cut_connection_leaves_nothing(self, served: Served, container: str) -> None:
        """Half an upload is never seen: neither a new blob nor a changed one, nor a temporary file."""
        served.put(container, "old.csv", b"old")
        temporary = served.store.root / TEMPORARY_FOLDER
        for blob in ("new.csv", "old.csv"):
            with socket.create_connection(("127.0.0.1", served.port), timeout=TIMEOUT) as client:
                head = f"PUT /mlclassic/{container}/{blob}{served.sas(container)} HTTP/1.1\r\nHost: x\r\n"
                client.sendall(f"{head}x-ms-blob-type: BlockBlob\r\nContent-Length: 4000000\r\n\r\n".encode())
                client.sendall(b"x" * 3_000_000)
                wait_until(lambda: any(temporary.iterdir()))
                assert not served.store.exists(container, "new.csv")
            wait_until(lambda: not any(temporary.iterdir()))
        assert [blob.name for blob in served.store.list(container)] == ["old.csv"]
        assert served.store.path(container, "old.csv").read_bytes() == b"old"

    def test_body_shorter_than_announced(self, served: Served, container: str) -> None:
        """Even if the web server does not notice, a short body is not stored."""
        path = f"/mlclassic/{container}/a.csv"
        headers = {**BLOCK_BLOB, "content-length": "5"}
        status = call_directly(served.store, "PUT", path, headers, body=b"1234", query=served.sas(container)[1:])
        assert status == 400
        assert not served.store.exists(container, "a.csv")

    def test_blocks(self, served: Served, container: str) -> None:
        """Blocks become a blob in the order of the list, not of their arrival."""
        token, path = served.sas(container, "b.bin", "w"), f"{container}/b.bin"
        for block_id, data in (("Qg%3D%3D", b"world"), ("QQ%3D%3D", b"hello ")):
            assert served.ask("PUT", f"{path}?comp=block&blockid={block_id}", token, data=data).status_code == 201
        assert not served.store.exists(container, "b.bin")
        body = b'<?xml version="1.0"?><BlockList>\n<Latest>QQ==</Latest><Uncommitted>Qg==</Uncommitted></BlockList>'
        assert served.ask("PUT", f"{path}?comp=blocklist", token, data=body).status_code == 201
        assert served.store.path(container, "b.bin").read_bytes() == b"hello world"

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"<BlockList><Latest>QQ==</Latest></BlockList>", "InvalidBlockList"),
            (b"<BlockList><Latest>../x</Latest></BlockList>", "InvalidBlockList"),
            (b"<BlockList><Committed>QQ==</Committed></BlockList>", "InvalidBlockList"),
            (b"<BlockList><Newest>QQ==</Newest></BlockList>", "InvalidXmlDocument"),
            (b"<BlockList><Latest><Latest/></Latest></BlockList>", "InvalidXmlDocument"),
            (b"<Latest>QQ==</Latest>", "InvalidXmlDocument"),
            (b"<BlockList>", "InvalidXmlDocument"),
            (b"", "InvalidXmlDocument"),
            (
                b'<!DOCTYPE x [<!ENTITY a "AAAA"><!ENTITY b "&a;&a;">]><BlockList><Latest>&b;</Latest></BlockList>',
                "InvalidXmlDocument",
            ),
            (
                '<!DOCTYPE x SYSTEM "file:///etc/passwd"><BlockList/>'.encode("utf-16"),
                "InvalidXmlDocument",
            ),
        ],
    )
    def test_wrong_block_list(self, served: Served, container: str, body: bytes, code: str) -> None:
        """A list that is none, names what is not there, or brings a document type makes no blob."""
        answer = served.ask("PUT", f"{container}/b.bin?comp=blocklist", served.sas(container), data=body)
        assert_error(answer, 400, code)
        assert not served.store.exists(container, "b.bin")

    def test_block_list_of_excessive_length(self, served: Served, container: str) -> None:
        """It is refused before it is parsed."""
        body = b"<BlockList>" + b" " * 50_000 * 160
        answer = served.ask("PUT", f"{container}/b.bin?comp=blocklist", served.sas(container), data=body)
        assert_error(answer, 413, "RequestBodyTooLarge")

    def test_blocks_of_excessive_length(self, served: Served, container: str) -> None:
        """Many blocks cannot make what one blob may not be."""
        token, path = served.sas(container), f"{container}/b.bin"
        data = b"x" * (MAX_SIZE // 2 + 1)
        assert served.ask("PUT", f"{path}?comp=block&blockid=QQ==", token, data=data).status_code == 201
        body = b"<BlockList><Latest>QQ==</Latest><Latest>QQ==</Latest></BlockList>"
        assert_error(served.ask("PUT", f"{path}?comp=blocklist", token, data=body), 413, "RequestBodyTooLarge")

    def test_wrong_block_id(self, served: Served, container: str) -> None:
        """An id that is not Base64 is refused."""
        answer = served.ask("PUT", f"{container}/b.bin?comp=block&blockid=..%2Fx", served.sas(container), data=b"x")
        assert_error(answer, 400, "InvalidQueryParameterValue")

    def test_delete(self, served: Served, container: str) -> None:
        """A deleted blob is gone, and cannot be deleted twice."""
        served.put(container, "a.csv", b"x")
        token = served.sas(container, "a.csv", "d")
        assert served.ask("DELETE", f"{container}/a.csv", token).status_code == 202
        assert_error(served.ask("DELETE", f"{container}/a.csv", token), 404, "BlobNotFound")


def test_empty_elements_close_themselves(served: Served, container: str) -> None:
    """The .NET library of the cloud's time lists for ever where the last marker is written in two tags."""
    served.put(container, "a.csv", b"x")
    listing = served.ask("GET", f"{container}?restype=container&comp=list", served.sas(container)).text
    assert "<NextMarker />" in listing
    assert re.search(r"<(\w+)></\1>", listing) is None


class TestHostileNames:
    """Paths meant to leave the store."""

    @pytest.mark.parametrize(
        "path",
        [
            *("..%2f..%2fsecret", "%2e%2e/secret", "..%2Fsecret", "a/%2e%2e/%2e%2e/secret"),
            *("%00", "a%00.csv", "a/./b", "../secret", "../../secret", "a%0db"),
        ],
    )
    def test_nothing_outside_is_read_or_written(self, served: Served, container: str, path: str) -> None:
        """Even with a token for the whole container, such names are refused and touch no file."""
        secret = served.store.root / "secret"
        secret.write_bytes(b"secret")
        served.put(container, "a.csv", b"x")
        before = sorted(map(str, served.store.root.parent.rglob("*")))
        for method in ("GET", "PUT", "DELETE"):
            answer = served.ask(method, f"{container}/{path}", served.sas(container), data=b"x", headers=BLOCK_BLOB)
            assert_error(answer, 400, "InvalidResourceName")
        assert sorted(map(str, served.store.root.parent.rglob("*"))) == before
        assert secret.read_bytes() == b"secret"

    @pytest.mark.parametrize("name", [".tmp", ".blocks", "..", "%2e%2e", "$root", "Data", ""])
    def test_only_containers_are_containers(self, served: Served, name: str) -> None:
        """The store's own folders cannot be reached, even by somebody who holds the key."""
        decoded = name.replace("%2e", ".")
        token = served.sas(decoded)
        assert_error(served.ask("GET", f"{name}/x.csv", token), 400, "InvalidResourceName")

    @pytest.mark.parametrize("name", ["%ff.csv", "a/%e9.csv", "%ed%a0%80"])
    def test_names_that_are_not_utf8_are_refused(self, served: Served, container: str, name: str) -> None:
        """Two of them would be one blob."""
        answer = served.ask("PUT", f"{container}/{name}", served.sas(container), data=b"x", headers=BLOCK_BLOB)
        assert_error(answer, 400, "InvalidResourceName")

    def test_encoded_slash_means_a_slash(self, served: Served, container: str) -> None:
        """A client that encodes the whole path reaches the same blob."""
        served.put(container, "in/feb 1+é.csv", b"x")
        token = served.sas(container, "in/feb 1+é.csv", "r")
        assert served.ask("GET", f"{container}/in%2Ffeb%201%2B%C3%A9.csv", token).content == b"x"


class TestContainers:
    """Containers and listings, through Azure's SDK and by hand."""

    def test_life_of_a_container(self, service: BlobServiceClient, container: str) -> None:
        """It is made once, has properties, and is deleted once."""
        client = service.create_container(container)
        assert client.exists()
        assert client.get_container_properties().etag
        with pytest.raises(ResourceExistsError) as caught:
            service.create_container(container)
        assert code_of(caught.value) == "ContainerAlreadyExists"
        client.delete_container()
        assert not client.exists()
        with pytest.raises(HttpResponseError) as gone:
            client.delete_container()
        assert code_of(gone.value) == "ContainerNotFound"

    def test_pages(self, served: Served, service: BlobServiceClient, container: str) -> None:
        """The SDK reads all pages, in order, with lengths."""
        for number in range(7):
            served.put(container, f"p/{number}&<é>.csv", b"x" * number)
        pages = service.get_container_client(container).list_blobs("p/", results_per_page=3).by_page()
        listed = [[(blob.name, blob.size) for blob in page] for page in pages]
        assert list(map(len, listed)) == [3, 3, 1]
        assert [blob for page in listed for blob in page] == [(f"p/{number}&<é>.csv", number) for number in range(7)]

    def test_hierarchy(self, served: Served, service: BlobServiceClient, container: str) -> None:
        """With a delimiter a folder is one entry."""
        for blob in ("a/1.csv", "a/2.csv", "b/c/1.csv", "top.csv"):
            served.put(container, blob, b"x")
        client = service.get_container_client(container)
        assert sorted(entry.name for entry in client.walk_blobs()) == ["a/", "b/", "top.csv"]
        assert [entry.name for entry in client.walk_blobs("b/")] == ["b/c/"]

    def test_listing_needs_a_container(self, served: Served, container: str) -> None:
        """A container that is not there has no listing."""
        answer = served.ask("GET", f"{container}?restype=container&comp=list", served.sas(container, None, "l"))
        assert_error(answer, 404, "ContainerNotFound")

    @pytest.mark.parametrize("number", ["0", "-1", "x", "1" * 5000])
    def test_wrong_page_size(self, served: Served, container: str, number: str) -> None:
        """It must be a positive number of a sane length."""
        served.store.create_container(container)
        path = f"{container}?restype=container&comp=list&maxresults={number}"
        answer = served.ask("GET", path, served.sas(container, None, "l"))
        assert_error(answer, 400, "OutOfRangeQueryParameterValue")


class TestAzureSdk:
    """``azure-storage-blob`` 12, unchanged."""

    def test_blocks_and_ranges(self, service: BlobServiceClient, container: str) -> None:
        """A blob larger than a block goes up in blocks and comes down in ranges."""
        data = bytes(range(256)) * 5000
        client = service.get_blob_client(container, "models/a b+é~.ilearner")
        client.upload_blob(data, max_concurrency=2)
        assert client.download_blob(max_concurrency=2).readall() == data
        assert client.get_blob_properties().metadata == {"sha256": hashlib.sha256(data).hexdigest()}

    def test_small_and_empty(self, service: BlobServiceClient, container: str) -> None:
        """One PUT, checked by MD5; and an empty blob, which answers a range with 416 first."""
        for data in (b"x,y\n1,2\n", b""):
            client = service.get_blob_client(container, f"{len(data)}.csv")
            client.upload_blob(data, validate_content=True)
            assert client.download_blob().readall() == data

    def test_overwrite(self, service: BlobServiceClient, container: str) -> None:
        """The SDK's default is to create only."""
        client = service.get_blob_client(container, "a.csv")
        client.upload_blob(b"first")
        with pytest.raises(ResourceExistsError):
            client.upload_blob(b"second")
        client.upload_blob(b"third", overwrite=True)
        assert client.download_blob().readall() == b"third"
        client.delete_blob()
        assert not client.exists()

    def test_by_url_with_token(self, served: Served, container: str) -> None:
        """The plain concatenation of base, path and token, and a container's URL with a token, are enough."""
        served.put(container, "in/feb.csv", b"x")
        with BlobClient.from_blob_url(
            f"{served.base}/{container}/in/feb.csv{served.sas(container, 'in/feb.csv', 'r')}"
        ) as blob:
            assert blob.download_blob().readall() == b"x"
        with ContainerClient.from_container_url(
            f"{served.base}/{container}{served.sas(container, None, 'rl')}"
        ) as whole:
            assert [blob.name for blob in whole.list_blobs()] == ["in/feb.csv"]

    def test_wrong_key(self, served: Served, container: str) -> None:
        """Another key opens nothing."""
        text = served.store.account.connection_string.replace(KEY, base64.b64encode(b"another key").decode())
        with (
            BlobServiceClient.from_connection_string(text) as client,
            pytest.raises(ClientAuthenticationError) as caught,
        ):
            client.get_blob_client(container, "a.csv").download_blob()
        assert code_of(caught.value) == "AuthenticationFailed"

    def test_what_is_not_offered_is_said(self, service: BlobServiceClient, container: str) -> None:
        """Leases, facts of the account and what is copied from elsewhere are 501, which the SDK does not repeat."""
        client = service.get_blob_client(container, "a.csv")
        client.upload_blob(b"x")
        for call in (
            client.acquire_lease,
            lambda: client.start_copy_from_url("https://other.blob.core.windows.net/c/a.csv"),
            lambda: client.stage_block_from_url("MQ==", client.url),
            service.get_account_information,
        ):
            with pytest.raises(HttpResponseError) as caught:
                call()
            assert caught.value.status_code == 501


class TestServer:
    """What goes wrong around a request."""

    def test_failing_disk(
        self, served: Served, container: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The client gets a 503, or a 500 of what is unknown, the log a reason, and neither gets a token."""

        error = OSError(28, "No space left on device")

        def full(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("airflow_provider_azureml_classic.server.blobs.store.publish", full)
        answer = served.ask("PUT", f"{container}/a.csv", served.sas(container), data=b"1", headers=BLOCK_BLOB)
        assert_error(answer, 503, "ServerBusy")
        assert answer.headers["retry-after"] == "1"
        assert "No space left on device" in caplog.text
        error = OSError(71, "Protocol error")
        answer = served.ask("PUT", f"{container}/a.csv", served.sas(container), data=b"1", headers=BLOCK_BLOB)
        assert_error(answer, 500, "InternalError")
        assert "sig=" not in caplog.text

    def test_websocket_is_closed(self, served: Served) -> None:
        """Only HTTP is spoken here."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "path": "/x", "headers": []}
        anyio.run(blob_app(served.store, now), scope, receive, send)
        assert sent == [{"type": "websocket.close", "code": 1000}]


def wait_until(condition: object, seconds: float = 10) -> None:
    """Return as soon as the condition holds; fail if it never does."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.01)


def call_directly(
    store: BlobStore, method: str, path: str, headers: dict[str, str], *, body: bytes = b"", query: str = ""
) -> int:
    """Status of one call of the application with no web server between."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if "status" in message:
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"spec_version": "2.4"},
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    app = Starlette(routes=[Mount("/mlclassic", app=blob_app(store, now))])
    anyio.run(app.__call__, scope, receive, send)
    return statuses[0]

"""Metadata, lists of blocks and copies within the account, by Azure's SDK."""

from __future__ import annotations

import base64
import hashlib

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobClient, BlobServiceClient

from airflow_provider_azureml_classic.server.blobs.store import NOTES_FOLDER
from tests.support.blob_service import Served, assert_error, code_of


def digest(data: bytes) -> dict[str, str]:
    """The metadata that the store makes by itself."""
    return {"sha256": hashlib.sha256(data).hexdigest()}


class TestMetadata:
    """User metadata stay with the bytes that they came with."""

    def test_life(self, service: BlobServiceClient, container: str) -> None:
        """They come with an upload, are replaced as a whole, and go with the next upload or the blob."""
        client = service.get_blob_client(container, "in/feb.csv")
        client.upload_blob(b"x", metadata={"Source": "till 4", "sha256": "a lie"})
        first = client.get_blob_properties()
        assert first.metadata == {"source": "till 4", **digest(b"x")}
        client.set_blob_metadata({"month": "2016-02"})
        second = client.get_blob_properties()
        assert second.metadata == {"month": "2016-02", **digest(b"x")}
        assert second.etag != first.etag
        assert client.download_blob().readall() == b"x"
        client.upload_blob(b"x", overwrite=True)
        assert client.get_blob_properties().metadata == digest(b"x")
        client.set_blob_metadata({"month": "2016-02"})
        client.delete_blob()
        client.upload_blob(b"x")
        assert client.get_blob_properties().metadata == digest(b"x")

    def test_of_blocks_and_in_listings(self, service: BlobServiceClient, container: str) -> None:
        """What is uploaded in blocks has them as well, and listings tell them if they are asked to."""
        client = service.get_blob_client(container, "a/big.csv")
        client.upload_blob(b"x" * 600_000, metadata={"k": "a<b"})
        service.get_blob_client(container, "b.csv").upload_blob(b"x")
        whole = service.get_container_client(container)
        assert [blob.metadata or {} for blob in whole.list_blobs(include=["metadata"])] == [{"k": "a<b"}, {}]
        assert [blob.name for blob in whole.walk_blobs(include=["metadata"])] == ["a/", "b.csv"]

    def test_of_a_file_that_somebody_replaced(self, served: Served, service: BlobServiceClient, container: str) -> None:
        """Bytes that came by another way have none of what was said of the former ones."""
        client = service.get_blob_client(container, "a.csv")
        client.upload_blob(b"x", metadata={"k": "v"})
        served.store.path(container, "a.csv").write_bytes(b"y")
        assert client.get_blob_properties().metadata == digest(b"y")

    @pytest.mark.parametrize("content", [b"", b"\0\0", b"null", b"5", b"[" * 100_000], ids=lambda content: content[:4])
    def test_of_damaged_notes(self, served: Served, service: BlobServiceClient, container: str, content: bytes) -> None:
        """As a machine leaves them that lost its power: the blob is read without them, and can be written again."""
        client = service.get_blob_client(container, "a.csv")
        client.upload_blob(b"x" * 600_000, metadata={"k": "v"})
        notes = [path for path in (served.store.root / NOTES_FOLDER / container).rglob("*") if path.is_file()]
        assert notes
        for path in notes:
            path.write_bytes(content)
        assert client.get_blob_properties().metadata == digest(b"x" * 600_000)
        assert client.download_blob().readall() == b"x" * 600_000
        assert client.get_block_list("all")
        client.upload_blob(b"y", metadata={"k": "w"}, overwrite=True)
        assert client.get_blob_properties().metadata == {"k": "w", **digest(b"y")}

    def test_what_is_refused(self, served: Served, service: BlobServiceClient, container: str) -> None:
        """Names that are none, too much of it, blobs that are not there or not the one, and tokens for reading."""
        client = service.get_blob_client(container, "a.csv")
        client.upload_blob(b"x")
        for metadata, code in (({"a-b": "c"}, "InvalidMetadata"), ({"a": "b" * 9000}, "MetadataTooLarge")):
            with pytest.raises(HttpResponseError) as caught:
                client.set_blob_metadata(metadata)
            assert code_of(caught.value) == code
        with pytest.raises(ResourceNotFoundError):
            service.get_blob_client(container, "b.csv").set_blob_metadata({"a": "b"})
        with pytest.raises(ResourceModifiedError):
            client.set_blob_metadata({"a": "b"}, etag='"other"', match_condition=MatchConditions.IfNotModified)
        token = served.sas(container, "a.csv", "rc")
        answer = served.ask("PUT", f"{container}/a.csv?comp=metadata", token, headers={"x-ms-meta-a": "b"})
        assert_error(answer, 403, "AuthorizationPermissionMismatch")
        answer = served.ask("GET", f"{container}/a.csv?comp=metadata", token)
        assert (answer.status_code, answer.content) == (200, b"")
        assert {n: v for n, v in answer.headers.items() if n.startswith("x-ms-meta")} == {
            "x-ms-meta-sha256": digest(b"x")["sha256"]
        }


class TestBlockLists:
    """What a client learns of blocks, and makes of them."""

    def test_life(self, served: Served, service: BlobServiceClient, container: str) -> None:
        """Blocks are uncommitted, then committed; a later list keeps some and adds others, as log writers do."""
        client = service.get_blob_client(container, "log.csv")
        with pytest.raises(ResourceNotFoundError):
            client.get_block_list("all")
        for name, data in (("b1", b"one,"), ("b2", b"two,")):
            client.stage_block(name, data)
        assert sizes(client) == ([], [("b1", 4), ("b2", 4)])
        client.commit_block_list([BlobBlock("b1"), BlobBlock("b2")])
        assert sizes(client) == ([("b1", 4), ("b2", 4)], [])
        client.stage_block("b3", b"three")
        old = [BlobBlock(block.id) for block in client.get_block_list("committed")[0]]
        client.commit_block_list([*old, BlobBlock("b3")])
        assert client.download_blob().readall() == b"one,two,three"
        client.stage_block("b1", b"ONE,")
        assert sizes(client, "uncommitted") == ([], [("b1", 4)])
        answer = commit(served, container, "log.csv", [("Uncommitted", "b1"), ("Latest", "b3"), ("Committed", "b1")])
        assert answer.status_code == 201
        assert client.download_blob().readall() == b"ONE,threeone,"
        assert sizes(client) == ([("b1", 4), ("b3", 5), ("b1", 4)], [])

    @pytest.mark.parametrize("place", ["Committed", "Latest", "Uncommitted"])
    def test_block_that_is_not_there(
        self, served: Served, service: BlobServiceClient, container: str, place: str
    ) -> None:
        """A blob that was uploaded whole has no blocks, and a list that names one changes nothing."""
        client = service.get_blob_client(container, "a.csv")
        client.upload_blob(b"whole")
        assert sizes(client) == ([], [])
        assert_error(commit(served, container, "a.csv", [(place, "b1")]), 400, "InvalidBlockList")
        client.stage_block("b2", b"x")
        if place == "Committed":
            assert_error(commit(served, container, "a.csv", [(place, "b2")]), 400, "InvalidBlockList")
        assert client.download_blob().readall() == b"whole"

    def test_wrong_type_of_list(self, served: Served, container: str) -> None:
        """A kind of list that does not exist is named."""
        served.put(container, "a.csv", b"x")
        answer = served.ask("GET", f"{container}/a.csv?comp=blocklist&blocklisttype=new", served.sas(container))
        assert_error(answer, 400, "InvalidQueryParameterValue")


class TestCopies:
    """Copies within the account are done when they are answered."""

    def test_copy(self, service: BlobServiceClient, container: str) -> None:
        """Bytes and metadata are copied; a client that polls until "success" ends; new metadata replace the old."""
        source, target = (service.get_blob_client(container, name) for name in ("in/a b+é.csv", "out/a.csv"))
        source.upload_blob(b"x" * 300_000, metadata={"k": "v"})
        answer = target.start_copy_from_url(source.url)
        assert answer["copy_status"] == "success"
        properties = target.get_blob_properties()
        assert (properties.copy.id, properties.copy.status) == (answer["copy_id"], "success")
        assert (properties.copy.source, properties.copy.progress) == (source.url, "300000/300000")
        assert properties.metadata == {"k": "v", **digest(b"x" * 300_000)}
        assert target.download_blob().readall() == b"x" * 300_000
        target.start_copy_from_url(source.url, metadata={"new": "1"}, requires_sync=True)
        target.set_blob_metadata({"newer": "2"})
        again = target.get_blob_properties()
        assert (again.metadata["newer"], again.copy.status) == ("2", "success")
        target.upload_blob_from_url(source.url, overwrite=True)
        assert target.download_blob().readall() == b"x" * 300_000

    def test_copy_to_itself(self, service: BlobServiceClient, container: str) -> None:
        """A blob may be copied to its own place, which is how some clients change its metadata."""
        client = service.get_blob_client(container, "a.csv")
        client.upload_blob(b"x", metadata={"k": "v"})
        client.start_copy_from_url(client.url, metadata={"k": "w"})
        assert (client.download_blob().readall(), client.get_blob_properties().metadata["k"]) == (b"x", "w")

    def test_conditions(self, service: BlobServiceClient, container: str) -> None:
        """A source that is gone or another one, and a target that may not be replaced, change nothing."""
        source, target = (service.get_blob_client(container, name) for name in ("a.csv", "b.csv"))
        with pytest.raises(ResourceNotFoundError):
            target.start_copy_from_url(source.url)
        source.upload_blob(b"new")
        target.upload_blob(b"old")
        other = {"source_etag": '"other"', "source_match_condition": MatchConditions.IfNotModified}
        with pytest.raises(HttpResponseError) as caught:
            target.start_copy_from_url(source.url, **other)
        assert code_of(caught.value) == "SourceConditionNotMet"
        with pytest.raises(ResourceExistsError):
            target.upload_blob_from_url(source.url, overwrite=False)
        assert target.download_blob().readall() == b"old"

    @pytest.mark.parametrize("of_source", ["", "for the target", "w", "r"])
    def test_who_has_a_token_needs_one_for_the_source(self, served: Served, container: str, of_source: str) -> None:
        """A token for one's own blob brings no bytes of another one, whatever it permits; one for both does."""
        served.put(container, "theirs.csv", b"secret")
        mine = served.sas(container, "mine.csv")
        tokens = {"": "", "for the target": mine}
        token = tokens[of_source] if of_source in tokens else served.sas(container, "theirs.csv", of_source)
        headers = {"x-ms-copy-source": f"{served.base}/{container}/theirs.csv{token}"}
        answer = served.ask("PUT", f"{container}/mine.csv", mine, headers=headers)
        if of_source == "r":
            assert (answer.status_code, served.ask("GET", f"{container}/mine.csv", mine).content) == (202, b"secret")
            shown = served.ask("HEAD", f"{container}/mine.csv", mine).headers["x-ms-copy-source"]
            assert shown == f"{served.base}/{container}/theirs.csv"
        else:
            assert_error(answer, 403, "CannotVerifyCopySource")
            assert not served.store.exists(container, "mine.csv")

    @pytest.mark.parametrize(
        ("source", "status", "code"),
        [
            ("https://elsewhere.example.org/mlclassic/c/a.csv", 501, "NotImplemented"),
            ("http://169.254.169.254/", 501, "NotImplemented"),
            ("{base}x/c/a.csv", 501, "NotImplemented"),
            ("{base}/only-a-container", 400, "InvalidHeaderValue"),
            ("{base}/c/a.csv?snapshot=2016", 400, "InvalidHeaderValue"),
            ("http://[", 400, "InvalidHeaderValue"),
            ("{base}/{container}/%2e%2e/secret", 400, "InvalidResourceName"),
            ("{base}/.notes/a.csv", 400, "InvalidResourceName"),
        ],
    )
    def test_odd_sources(self, served: Served, container: str, source: str, status: int, code: str) -> None:
        """Sources elsewhere are not asked, and odd ones open nothing, even to somebody with a token for them."""
        source = source.format(base=served.base, container=container)
        if code == "InvalidResourceName":
            where, _, blob = source.removeprefix(f"{served.base}/").replace("%2e", ".").partition("/")
            source += served.sas(where, blob)
        headers = {"x-ms-copy-source": source}
        answer = served.ask("PUT", f"{container}/b.csv", served.sas(container), headers=headers)
        assert_error(answer, status, code)


def sizes(client: BlobClient, which: str = "all") -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Ids and lengths of the committed and the uncommitted blocks."""
    committed, uncommitted = client.get_block_list(which)
    return [(block.id, block.size) for block in committed], [(block.id, block.size) for block in uncommitted]


def commit(served: Served, container: str, blob: str, blocks: list[tuple[str, str]]) -> requests.Response:
    """Put Block List by hand: the SDK names every block as "Latest"."""
    listed = "".join(f"<{place}>{base64.b64encode(name.encode()).decode()}</{place}>" for place, name in blocks)
    body = f"<BlockList>{listed}</BlockList>"
    return served.ask("PUT", f"{container}/{blob}?comp=blocklist", served.sas(container), data=body)

"""Blobs in blocks, as Azure Storage takes them."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_azureml_classic.protocol import blocks
from airflow_provider_azureml_classic.protocol.blocks import block_id, block_list, block_list_url, block_url, in_blocks
from airflow_provider_azureml_classic.protocol.references import BlobReference

PLAIN = BlobReference("data/a.csv", "https://store.test/")
SIGNED = BlobReference("data/a.csv", "https://store.test/", "?sig=x%3D")


def test_ids_of_one_length() -> None:
    """As the service demands of all blocks of one blob."""
    identifiers = [block_id("up", number) for number in (0, 7, blocks.MAX_BLOCKS)]
    assert [base64.b64decode(one) for one in identifiers] == [b"up000000", b"up000007", b"up050000"]


def test_addresses() -> None:
    """The token stays; an id with signs of Base64 comes through."""
    for reference, token in ((PLAIN, {}), (SIGNED, {"sig": ["x="]})):
        query = urlsplit(block_url(reference, "a+/b==")).query
        assert query.endswith("&blockid=a%2B%2Fb%3D%3D")
        assert parse_qs(query) == {**token, "comp": ["block"], "blockid": ["a+/b=="]}
        address = urlsplit(block_list_url(reference))
        assert (address.netloc, address.path) == ("store.test", "/data/a.csv")
        assert parse_qs(address.query) == {**token, "comp": ["blocklist"]}


def test_the_list() -> None:
    """Blocks in their order."""
    assert block_list(["YQ==", "Yg=="]) == (
        b'<?xml version="1.0" encoding="utf-8"?><BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>'
    )


@pytest.mark.parametrize(
    ("pieces", "cut"),
    [
        ([], []),
        ([b""], []),
        ([b"abc"], [b"abc"]),
        ([b"abcd"], [b"abcd"]),
        ([b"ab", b"cde"], [b"abcd", b"e"]),
        ([b"abcdefghi", b"", b"jkl"], [b"abcd", b"efgh", b"ijkl"]),
    ],
)
def test_content_in_blocks(pieces: list[bytes], cut: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it in its order, in blocks of one size but the last."""
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 4)
    assert list(in_blocks(pieces)) == cut

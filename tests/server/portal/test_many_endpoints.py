"""Ten thousand endpoints: the pages stay small, whichever of them is looked at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.portal import fill
from tests.support.portal import Visitor, text_of
from tests.support.service import Clock, Service

MANY = 10_000
LARGEST = 200_000


@pytest.mark.slow
def test_ten_thousand_endpoints(service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page of the list is under 200 KB, in any order, and search finds one in all of them."""
    service = Service(service_dir, clock, monkeypatch)
    fill(service.database, service.scoring, MANY, clock())
    visitor = Visitor(service)
    visitor.sign_in()
    root = f"/portal/services/{service.scoring}"
    queries = ("", "page=400", "sort=freshness", "sort=freshness&down=1", "sort=placed", "q=n09999", "state=stale")
    for query in queries:
        html = visitor.page(f"{root}?{query}")
        assert len(html.encode()) < LARGEST, query
        assert 1 <= len(re.findall(r'endpoints/(\w+)">', html)) <= 25, query
    assert "n09999" in visitor.page(f"{root}?q=09999")
    words = text_of(visitor.page(root))
    assert "10,001 all endpoints" in words
    assert "Page 1 of 401" in words
    assert len(visitor.page("/portal/services").encode()) < LARGEST
    assert len(visitor.page(f"{root}/endpoints/n00042").encode()) < LARGEST
    service.close()

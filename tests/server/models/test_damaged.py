"""Model files that are missing or damaged: they are written again, or the server says which and why."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.models import store as store_module
from tests.support.portal import BASE
from tests.support.service import TOKEN, Service

TEN = BlobReference("models/ten.ilearner")


def cut(path: Path) -> None:
    """The first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(path: Path) -> None:
    """One byte in the middle is another one."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def replaced(path: Path) -> None:
    """A folder with something in it lies where the file was."""
    path.unlink()
    path.mkdir()
    (path / "somebody's").touch()


def looped(path: Path) -> None:
    """A link to itself lies where the file was."""
    path.unlink()
    path.symlink_to(path)


DAMAGES = (Path.unlink, cut, changed, lambda path: path.write_bytes(b""), replaced, looped)
damages = pytest.mark.parametrize("damage", DAMAGES, ids=["deleted", "cut", "changed", "emptied", "replaced", "looped"])


def forget(service: Service) -> None:
    """No model is loaded, as after a restart."""
    service.models._loaded.clear()
    service.models._tried.clear()


def readiness(service: Service, token: str = TOKEN) -> tuple[int, dict[str, object]]:
    """What ``/readyz`` says."""
    headers = {"authorization": f"Bearer {token}"}
    answer = TestClient(service.http, base_url=BASE).get("/readyz", headers=headers)
    return answer.status_code, answer.json()


@pytest.fixture
def ten(service: Service, scorer: Endpoint) -> Path:
    """The stored file of the model that endpoint ``mine`` has."""
    assert service.patch("mine", TEN).status == 200
    (resource,) = service.workspace.cached(scorer.api_location.rpartition("/")[2]).resources
    return service.models.path(resource.digest)


@damages
def test_it_comes_again_from_where_it_came(
    service: Service, scorer: Endpoint, ten: Path, damage: Callable[[Path], object]
) -> None:
    """The next call after a restart is answered, and the file is what it was."""
    content = ten.read_bytes()
    damage(ten)
    forget(service)
    assert service.slope(scorer) == 10
    assert ten.read_bytes() == content


@damages
def test_a_patch_mends_it(service: Service, scorer: Endpoint, ten: Path, damage: Callable[[Path], object]) -> None:
    """The same model put in place again writes its file."""
    content = ten.read_bytes()
    damage(ten)
    assert service.patch("mine", TEN).status == 200
    assert ten.read_bytes() == content
    service.blobs.delete("models", "ten.ilearner")
    forget(service)
    assert service.slope(scorer) == 10


@damages
def test_the_reason_is_said_and_it_comes_back(
    service: Service, scorer: Endpoint, ten: Path, damage: Callable[[Path], object]
) -> None:
    """With the origin gone, calls are told that the service is at fault and why; readiness names the model, answers of
    other endpoints go on, and all is well once the file is."""
    content, origin = ten.read_bytes(), service.read_blob("models/ten.ilearner")
    service.put_blob("models/ten.ilearner", service.read_blob("models/twenty.ilearner"))
    damage(ten)
    forget(service)
    with pytest.raises(ServiceUnavailable, match=r"(missing|damaged).*holds another model now") as raised:
        service.slope(scorer)
    assert raised.value.detail_code == "ResourceLoadFailed"
    status, told = readiness(service)
    what = "damaged" if ten.exists() else "missing"
    assert (status, told["status"], told["broken"]) == (200, "degraded", {ten.stem: what})
    assert service.slope(service.client.get_endpoint(service.scoring, "default")) == 2
    service.put_blob("models/ten.ilearner", origin)
    forget(service)
    service.models.mend(service.store.digests_in_place())
    assert ten.read_bytes() == content
    assert readiness(service)[1]["status"] == "ready"
    assert service.slope(scorer) == 10


def test_a_deleted_file_is_told_before_anybody_calls(service: Service, scorer: Endpoint, ten: Path) -> None:
    """A loaded model goes on answering; that its file is missing is seen at once, and so is that it is back."""
    content = ten.read_bytes()
    ten.unlink()
    assert service.slope(scorer) == 10
    assert readiness(service)[1]["broken"] == {ten.stem: "missing"}
    told = {"status": "degraded", "database": "ok", "models": "some broken"}
    assert readiness(service, scorer.primary_key) == (200, told)
    ten.write_bytes(content)
    assert readiness(service)[1]["status"] == "ready"


def test_one_call_at_a_time_asks_the_origin(
    service: Service, scorer: Endpoint, ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many calls to an endpoint without a model do not each fetch it from elsewhere."""
    asked = []
    ten.unlink()
    forget(service)
    monkeypatch.setattr(service.models, "origin", lambda digest, path: asked.append(digest) or path.write_bytes(b"x"))
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            service.slope(scorer)
    assert len(asked) == 1
    monkeypatch.setattr(store_module, "MEND_AGAIN", 0.0)
    with pytest.raises(ServiceUnavailable):
        service.slope(scorer)
    assert len(asked) == 2


def test_a_model_that_cannot_be_read_any_more_is_no_fault_of_the_caller(
    service: Service, scorer: Endpoint, ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, but of a format that this server does not know: an error of the service, not of the rows."""
    forget(service)
    monkeypatch.setattr("airflow_provider_azureml_classic.protocol.model_file.FORMATS", (7,))
    answer = service.ask(
        "POST",
        service.api_path(scorer, "/execute"),
        {"Inputs": {"input1": [{"x": 1}]}, "GlobalParameters": {}},
        key=scorer.primary_key,
    )
    assert answer.status == 500
    assert json.loads(answer.body)["error"]["details"][0]["code"] == "ResourceLoadFailed"


def test_a_folder_in_place_of_a_file_waits_in_the_trash(service: Service, scorer: Endpoint, ten: Path) -> None:
    """What is in it is kept for a day; the file is written where it belongs, by whoever looks after the files."""
    replaced(ten)
    forget(service)
    service.models.mend({ten.stem})
    assert ten.is_file()
    (folder,) = (path for path in (ten.parent / store_module.TRASH).iterdir() if path.is_dir())
    assert [path.name for path in folder.iterdir()] == ["somebody's"]
    service.models.empty_trash(time.time() + store_module.TRASH_SECONDS + 60)
    assert not folder.exists()
    assert service.slope(scorer) == 10


def test_a_file_that_the_disk_does_not_give_is_written_again(
    service: Service, scorer: Endpoint, ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that cannot be read is damage of that file; too many open files are not."""
    opened, codes = store_module.open_file, [errno.EIO]

    def fail(path: Path) -> object:
        if path == ten and codes:
            raise OSError(codes.pop(), "the disk")
        return opened(path)

    forget(service)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "open_file", fail)
        assert service.slope(scorer) == 10
        codes.append(errno.EMFILE)
        with pytest.raises(OSError, match="the disk"):
            service.models.file(ten.stem)

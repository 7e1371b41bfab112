"""The customer's page: signs in with a key, does the whole loop with it, and shows nothing of anybody else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.customers import Quota
from airflow_provider_azureml_classic.protocol.keys import KeyKind
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.portal.customer import ROUTES
from airflow_provider_azureml_classic.server.portal.site import ROUTES as OWNERS
from tests.support.customers import Customer, added, apart, finished
from tests.support.portal import Visitor, text_of
from tests.support.service import READ_TOKEN, Service, line


@pytest.fixture(scope="module")
def house(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Customer, Customer]]:
    """Two customers, of whom the second has files, a job and a model."""
    with apart(trained, tmp_path_factory.mktemp("page")) as service:
        mine, other = added(service, "custa"), added(service, "custb")
        for kind in KeyKind:
            mine.keys[kind.value] = service.client.make_key(mine.scoring, "custa", kind.value, kind).secret
        job = finished(other, output1=f"{other.folder}/models/custb/20200101T000000Z.ilearner")
        other.keys["job"] = job.id
        yield service, mine, other


def signed_in(customer: Customer, key: str = "scoring, primary") -> Visitor:
    """A browser of a customer."""
    visitor = Visitor(customer.service)
    answer = visitor.sign_in(customer.keys[key], next="/portal/services")
    assert (answer.status_code, answer.headers["location"]) == (303, "/portal/customer")
    visitor.page("/portal/customer")
    return visitor


def upload(visitor: Visitor, name: str, text: str) -> Any:
    """Send a file."""
    return visitor.post("/portal/customer/files", files={"data": (name, text.encode(), "text/csv")})


@pytest.mark.slow
@pytest.mark.parametrize("key", ["training, secondary", "Retrain"])
def test_the_whole_loop(house: tuple[Service, Customer, Customer], key: str) -> None:
    """Upload, see the columns, train, compare, put live, score, roll back, remove the file."""
    service, mine, _ = house
    visitor = signed_in(mine, key)
    page = text_of(visitor.page("/portal/customer"))
    assert ("custa" in page, "custb" in page) == (True, False)
    answer = upload(visitor, "july 1.csv", line(7))
    assert answer.headers["location"] == "/portal/customer/files/july_1.csv"
    page = text_of(visitor.page(answer.headers["location"]))
    assert "How its columns are understood" in page
    assert re.search(r"x number 0 21 0 2", page), page
    answer = visitor.post("/portal/customer/files/july_1.csv/train", until="2016-03-01")
    job = answer.headers["location"].rpartition("/")[2]
    service.ended(mine.trainer, job)
    page = text_of(visitor.page(f"/portal/customer/jobs/{job}"))
    assert "This model Live now" in page
    assert "Put live on custa" in page
    output = visitor.get(f"/portal/customer/jobs/{job}/outputs/output1")
    assert output.content.startswith(b"PK")
    assert "answers from then on" in text_of(visitor.page(f"/portal/customer/ask/use?number={job}"))
    visitor.did("/portal/customer/do/use", number=job)
    assert service.slope(mine.scorer) == 7
    page = visitor.post("/portal/customer/score", **{"column-0": "1"})
    assert "7" in text_of(page.text).partition("Scored Labels")[2][:12]
    before = service.client.list_models(mine.scoring, "custa").models[1].number
    visitor.did("/portal/customer/do/rollback", number=str(before))
    assert service.slope(mine.scorer) == 2
    entry = service.client.list_audit(limit=1).entries[0]
    name = "key Retrain" if key == "Retrain" else "secondary key"
    assert (entry.what, entry.who.startswith(f"{name} of custa (")) == ("portal do rollback", True)
    visitor.did("/portal/customer/files/july_1.csv/delete")
    assert visitor.get("/portal/customer/files/july_1.csv").status_code == 400


def places(job: str) -> Iterator[tuple[str, str, str]]:
    """Path, method and right of each page of a customer."""
    names = {"what": "use", "file": "data.csv", "job": job, "name": "output1"}
    for path, method, _, operation in ROUTES:
        place = path.replace("{file:path}", "{file}").format(**names)
        yield f"/portal{place}", method, operation.name


@pytest.mark.slow
def test_a_key_that_scores_opens_scoring(house: tuple[Service, Customer, Customer]) -> None:
    """Everything but the first page, scoring and what is not there is refused, and nothing else is shown."""
    _, mine, _ = house
    visitor = signed_in(mine, "ScoreOnly")
    page = visitor.page("/portal/customer")
    for hidden in ("New data", "History", "Usage", "Keys with a name", "Regenerate"):
        assert hidden not in text_of(page)
    assert mine.folder not in visitor.page("/portal/customer").partition("Trainings")[0].partition("Access")[0]
    for place, method, right in places("0" * 32):
        answer = visitor.get(place) if method == "GET" else visitor.post(place, number="0")
        expected = {200, 400} if right == "score" and "/ask/" not in place and "/do/" not in place else {403, 404}
        assert answer.status_code in expected, place


@pytest.mark.slow
def test_another_is_as_one_who_does_not_exist(house: tuple[Service, Customer, Customer]) -> None:
    """What is another's, by job, file and model, gets the bytes that what does not exist gets, and nothing happens."""
    service, mine, other = house
    theirs, nothing = other.keys["job"], "0" * 32
    # Numbers are an endpoint's own: one that the other has and this one has not.
    own = service.client.list_models(mine.scoring, "custa").models[0].number
    while (number := service.client.list_models(other.scoring, "custb").models[0].number) <= own:
        model = BlobReference(f"{other.folder}/models/custb/20200101T000000Z.ilearner")
        assert other.patch(model).status == 200
    before = [other.scorer, service.client.list_jobs(other.trainer), service.read_blob(f"{other.folder}/data.csv")]
    for key in ("training, primary", "scoring, secondary", "Retrain"):
        visitor = signed_in(mine, key)
        page = visitor.page("/portal/customer")
        for secret in ("custb", other.folder[10:], *other.keys.values(), *other.guids):
            assert secret not in page
        for method, place, fields in (
            ("GET", "/portal/customer/jobs/{}", {}),
            ("POST", "/portal/customer/jobs/{}/cancel", {}),
            ("GET", "/portal/customer/jobs/{}/outputs/output1", {}),
            ("POST", "/portal/customer/do/use", {"number": "{}"}),
            ("POST", "/portal/customer/do/rollback", {"number": "{}"}),
            ("GET", "/portal/customer/ask/rollback?number={}", {}),
        ):
            answers = []
            for value in (str(number), "999999") if "rollback" in place else (theirs, nothing):
                sent = {name: text.format(value) for name, text in fields.items()}
                at = place.format(value)
                answer = visitor.get(at) if method == "GET" else visitor.post(at, **sent)
                text = re.sub(r'value="\w{64}"|[?]v=\w+', "", answer.text)
                text = re.sub(rf"(?<=&#39;){value}(?=&#39;)|(?<=number=){value}|(?<=number ){value}", "?", text)
                if len(value) > 9:
                    text = text.replace(value, "?")
                answers.append((answer.status_code, text))
            assert answers[0] == answers[1], place
            assert answers[0][0] in (400, 404), place
        for name in (
            f"../{other.folder[10:]}/data.csv",
            f"%2e%2e/{other.folder[10:]}/data.csv",
            "..%5Cx",
            "%252e%252e/x",
        ):
            for tail, method in (("", "GET"), ("/train", "POST"), ("/delete", "POST")):
                place = f"/portal/customer/files/{name.replace('../', '..%2F')}{tail}"
                answer = visitor.get(place) if method == "GET" else visitor.post(place)
                assert 400 <= answer.status_code < 500, (place, answer.status_code)
    assert [
        other.scorer,
        service.client.list_jobs(other.trainer),
        service.read_blob(f"{other.folder}/data.csv"),
    ] == before


@pytest.mark.slow
def test_pages_of_the_owner_are_not_there(house: tuple[Service, Customer, Customer]) -> None:
    """A customer's page, for the owner and the reader, and theirs, for a customer: as a page that never was."""
    service, mine, other = house
    visitor = signed_in(mine)
    names = {
        "service": other.scoring,
        "endpoint": "custb",
        "job": other.keys["job"],
        "what": "delete",
        "name": "output1",
    }
    for path, method, _ in OWNERS:
        place = f"/portal{path.format(**names)}"
        answer = visitor.get(place) if method == "GET" else visitor.post(place)
        assert (answer.status_code, "There is nothing at" in answer.text) == (404, True), place
    for token in (None, READ_TOKEN):
        owner = Visitor(service)
        owner.sign_in(*([token] if token else []))
        for place, method, _ in places(other.keys["job"]):
            answer = owner.get(place) if method == "GET" else owner.post(place)
            assert answer.status_code == 404, place
    guest = Visitor(service)
    for place, method, _ in places(other.keys["job"]):
        answer = guest.get(place) if method == "GET" else guest.post(place)
        assert (answer.status_code, "/sign-in" in answer.headers["location"]) == (303, True)


@pytest.mark.slow
def test_keys_and_what_ends_with_them(house: tuple[Service, Customer, Customer]) -> None:
    """A key is made and shown once, listed, and revoked: who is signed in with it is out at once."""
    _, mine, _ = house
    visitor = signed_in(mine)
    page = visitor.post("/portal/customer/named-keys", key="phone", kind="Retrain", expires="2016-04-01")
    found = re.search(r'class="key"><code>([^<]+)</code>', page.text)
    assert found, text_of(page.text)
    assert found[1] not in visitor.page("/portal/customer")
    mine.keys["phone"] = found[1].replace("&#43;", "+")
    phone = signed_in(mine, "phone")
    assert "phone training and scoring" in text_of(phone.page("/portal/customer"))
    assert phone.post("/portal/customer/named-keys", key="more", kind="Retrain").status_code == 403
    visitor.page("/portal/customer")
    for fields in ({"kind": "Owner"}, {"kind": "Retrain", "expires": "2001-01-01"}, {"kind": "Retrain", "key": "a b"}):
        assert visitor.post("/portal/customer/named-keys", **{"key": "x", **fields}).status_code == 400
    visitor.did("/portal/customer/named-keys/revoke", key="phone")
    assert "/sign-in" in phone.get("/portal/customer").headers["location"]
    assert phone.post("/portal/customer/files", csrf=phone.csrf).status_code == 303


@pytest.mark.slow
def test_quotas_are_shown_and_hold(house: tuple[Service, Customer, Customer]) -> None:
    """What is used of what there is stands on the page, and what is beyond it is refused with the reason."""
    service, mine, _ = house
    visitor = signed_in(mine)
    service.client.set_quota(mine.scoring, "custa", Quota(0, 1))
    page = text_of(visitor.page("/portal/customer"))
    assert "Kept" in page
    assert "of 1 bytes" in page
    assert "BytesKept" in text_of(upload(visitor, "a.csv", line(3)).text)
    visitor.page("/portal/customer/files/data.csv")
    assert "JobsPerDay" in text_of(visitor.post("/portal/customer/files/data.csv/train").text)
    service.client.set_quota(mine.scoring, "custa", Quota())
    assert json.loads(mine.ask("GET", "/customer/files").body)["Files"]


@pytest.mark.slow
def test_keys_of_those_who_are_not_kept_apart_do_not_sign_in(service: Service) -> None:
    """Where customers share the store there is no page of theirs; the refusal is that of a wrong key."""
    made = service.client.add_endpoint(service.scoring, "mine")
    visitor = Visitor(service)
    answers = [visitor.sign_in(key) for key in (made.primary_key, "wrong")]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert len({re.sub(r'value="\w{64}"', "", answer.text) for answer in answers}) == 1


@pytest.mark.slow
def test_the_owner_looks_after_keys_and_quotas(house: tuple[Service, Customer, Customer]) -> None:
    """On the endpoint's page a key is made, shown once and revoked, and a quota is set; wrong ones are refused."""
    service, _, other = house
    owner, place = Visitor(service), f"/portal/services/{other.scoring}/endpoints/custb"
    owner.sign_in()
    owner.page(place)
    page = owner.post(f"{place}/named-keys", key="web", kind="ScoreOnly")
    found = re.search(r'class="key"><code>([^<]+)</code>', page.text)
    assert found
    assert found[1] not in owner.page(place)
    assert [key.name for key in service.client.list_keys(other.scoring, "custb")] == ["web"]
    owner.did(f"{place}/named-keys/revoke", key="web")
    assert service.client.list_keys(other.scoring, "custb") == []
    assert "The quota is set" in text_of(owner.did(f"{place}/quota", jobs_a_day="5", bytes_kept=""))
    assert service.client.get_quota(other.scoring, "custb")[0] == Quota(5, None)
    for path, fields in (("named-keys", {"key": "a b", "kind": "Retrain"}), ("quota", {"jobs_a_day": "-1"})):
        assert owner.post(f"{place}/{path}", **fields).status_code == 400
    owner.did(f"{place}/quota", jobs_a_day="", bytes_kept="")

"""Jobs whose inputs and outputs are TSV and ARFF, and references opened by a token of the whole account."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.evaluation import Evaluation
from tests.support.service import Service, line


def text_of(slope: float, extension: str) -> str:
    """Training data of a slope, in the format of the extension."""
    rows = line(slope)
    if extension == ".arff":
        return rows.replace("x,y\n", "@relation line\n@attribute x real\n@attribute y real\n@data\n")
    return rows.replace(",", "\t") if extension == ".tsv" else rows


@pytest.mark.slow
@pytest.mark.parametrize("extension", [".csv", ".tsv", ".arff"])
def test_a_job_trains_on_each_format_and_writes_its_evaluation_in_each(
    service: Service, trainer: Endpoint, scorer: Endpoint, extension: str
) -> None:
    """The extension of a path says how it is read, and how it is written."""
    source = service.put_blob(f"data/five{extension}", text_of(5, extension))
    model, evaluation = BlobReference("models/five.ilearner"), BlobReference(f"metrics/five{extension}")
    job = service.ended(trainer, service.submit(trainer, source, output1=model, output2=evaluation))
    assert (job.status, job.details) == (JobStatus.FINISHED, None)
    text = service.read_blob(f"metrics/five{extension}")
    start = {".csv": b"Mean Absolute Error,", ".tsv": b"Mean Absolute Error\t", ".arff": b"@relation evaluation\n"}
    assert text.startswith(start[extension])
    found = Evaluation.read(text)
    assert found.metrics["Rows"] == 21
    assert service.patch("mine", model).status == 200
    assert service.slope(scorer) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (("rows.tsv", "x\tz\n1\ta,b\n"), "scored.TSV", "Scored Labels\r\n2.0"),
        (("rows.ARFF", "@attribute x real\n@data\n1\n"), "scored.csv", "Scored Labels\r\n2.0"),
        (("rows.csv", "x\n1\n"), "scored.arff", "@relation scored\n\n@attribute 'Scored Labels' numeric\n\n@data\n2.0"),
    ],
)
def test_a_file_is_scored_from_one_format_into_another(
    service: Service, scorer: Endpoint, source: tuple[str, str], target: str, expected: str
) -> None:
    """Input and output need not have the same format."""
    data = service.put_blob(f"data/{source[0]}", source[1])
    job = service.ended(scorer, service.submit(scorer, data, output1=BlobReference(f"data/{target}")))
    assert job.details is None
    assert service.read_blob(f"data/{target}").decode().startswith(expected)


@pytest.mark.parametrize("path", ["scored/rows.ilearner", "scored/rows.txt", "scored/rows"])
def test_an_output_that_no_format_is_for(service: Service, scorer: Endpoint, path: str) -> None:
    """Scored rows are data: another extension, or none, is refused at once, with those that are supported."""
    source = service.put_blob("data/rows.csv", "x\n1\n")
    body = {"Input": source.to_wire(), "Outputs": {"output1": {"RelativeLocation": path}}}
    answer = service.ask("POST", service.api_path(scorer, "/jobs"), body, key=scorer.primary_key)
    (detail,) = json.loads(answer.body)["error"]["details"]
    assert (answer.status, detail["code"]) == (400, "InvalidBlobExtension")
    assert f"output1 is {path!r}; its name must end in .csv or .tsv or .arff." in detail["message"]


def test_what_is_wrong_with_a_file_ends_the_job(service: Service, trainer: Endpoint) -> None:
    """A CSV under a name that says ARFF is not guessed at: the job fails, and says what it expected."""
    job = service.ended(trainer, service.submit(trainer, service.put_blob("data/wrong.arff", line(5))))
    assert job.status is JobStatus.FAILED
    assert "The ARFF cannot be read: Line 1 is 'x,y'; expected @relation, @attribute or @data." in str(job.details)


# -- tokens of the account ---------------------------------------------------------------------------------------------


def by_account(
    service: Service, path: str, permissions: str = "rwc", kinds: str = "o", hours: float = 1
) -> BlobReference:
    """A reference whose token is Azure's own for the whole account."""
    account, now = service.settings.account, service.clock.now
    token = generate_account_sas(
        account.name,
        account.key,
        resource_types=ResourceTypes(service="s" in kinds, container="c" in kinds, object="o" in kinds),
        permission=AccountSasPermissions.from_string(permissions),
        start=now - timedelta(days=1),
        expiry=now + timedelta(hours=hours),
    )
    return BlobReference(path, account.endpoint, token).normalised()


@pytest.mark.slow
def test_a_token_of_the_account_opens_input_output_and_model(
    service: Service, trainer: Endpoint, scorer: Endpoint
) -> None:
    """Old clients sign one token for everything: data is read, the model written, and put in place by it."""
    service.put_blob("data/five.csv", line(5))
    model = by_account(service, "models/five.ilearner")
    job = service.ended(trainer, service.submit(trainer, by_account(service, "data/five.csv", "r"), output1=model))
    assert job.details is None
    assert service.patch("mine", model, key=scorer.primary_key).status == 200
    assert service.slope(scorer) == 5


@pytest.mark.parametrize(
    ("token", "code", "said"),
    [
        ({"permissions": "w"}, "InvalidBlob", "lacks the permission"),
        ({"kinds": "sc"}, "InvalidBlob", "not for blobs"),
        ({"hours": -1}, "ExpiryTimeInThePast", "expired"),
    ],
)
def test_a_token_of_the_account_that_does_not_open_the_data(
    service: Service, trainer: Endpoint, token: dict[str, str], code: str, said: str
) -> None:
    """Another permission, another kind of resource, and a late one are refused when the job is submitted."""
    service.put_blob("data/five.csv", line(5))
    body = {"Input": by_account(service, "data/five.csv", **token).to_wire()}
    answer = service.ask("POST", service.api_path(trainer, "/jobs"), body, key=trainer.primary_key)
    (detail,) = json.loads(answer.body)["error"]["details"]
    assert (answer.status, detail["code"]) == (400, code)
    assert said in detail["message"]


@pytest.mark.slow
def test_a_path_with_a_wrong_token_opens_nothing(service: Service, trainer: Endpoint) -> None:
    """A token beside a bare path is looked at, too: any text in its place would open other endpoints' outputs."""
    job = service.ended(trainer, service.submit(trainer, service.put_blob("data/five.csv", line(5))))
    place = job.results["output2"]
    bare = replace(place, base_location="")
    body = {"Input": {**bare.to_wire(), "SasBlobToken": "?sv=2020-12-06&sig=any"}}
    answer = service.ask("POST", service.api_path(trainer, "/jobs"), body, key=trainer.primary_key)
    assert (answer.status, b"SAS token does not open this" in answer.body) == (400, True)
    body = {"Input": bare.to_wire()}
    assert service.ask("POST", service.api_path(trainer, "/jobs"), body, key=trainer.primary_key).status == 200

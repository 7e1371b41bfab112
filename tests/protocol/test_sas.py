"""SAS tokens and connection strings, against Azure's own SDK as the independent implementation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, parse_qsl, urlencode

import pytest
from azure.storage.blob import (
    AccountSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import (
    BACKDATED,
    DEVELOPMENT_ACCOUNT,
    StorageAccount,
    expiry_of,
    permissions_of,
    sign,
    verify,
)

KEY = base64.b64encode(b"not a real key, but long enough!").decode()
ACCOUNT = StorageAccount("mlclassic", KEY, "http://127.0.0.1:8080/mlclassic")
NOW = datetime(2016, 3, 1, 9, 55, tzinfo=UTC)
START, EXPIRY = NOW - timedelta(minutes=5), NOW + timedelta(days=1)
BLOB = "models/store 017/20160301T000000Z é+.ilearner"


def token(blob: str | None = BLOB, permissions: str = "r") -> str:
    """A genuine token."""
    return sign(ACCOUNT, "data", blob, permissions=permissions, start=START, expiry=EXPIRY)


def refusal(
    text: str, *, blob: str | None = BLOB, container: str = "data", permission: str = "r", now: datetime = NOW
) -> AzureMLClassicError:
    """The error that ``verify`` raises."""
    with pytest.raises(RequestRejected) as caught:
        verify(ACCOUNT, text, container, blob, permission=permission, now=now)
    return caught.value


def forged_anew(layout: list[str], values: dict[str, str], resource: str) -> str:
    """A token signed here, by hand, over the named fields."""
    text = "\n".join(resource if name == "resource" else values.get(name, "") for name in layout)
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return urlencode({**values, "sig": base64.b64encode(digest).decode()})


class TestSign:
    """What :func:`sign` makes."""

    def test_blob_token_has_the_signature_that_the_azure_sdk_verifies_with(self) -> None:
        """Azure's SDK signs the same inputs to a token that we accept, field for field."""
        theirs = generate_blob_sas(
            "mlclassic", "data", BLOB, account_key=KEY, permission="r", start=START, expiry=EXPIRY
        )
        verify(ACCOUNT, theirs, "data", BLOB, permission="r", now=NOW)
        ours, fields = parse_qs(token()), parse_qs(theirs)
        assert {name: ours[name] for name in ("st", "se", "sp", "sr")} == {
            name: fields[name] for name in ("st", "se", "sp", "sr")
        }

    def test_signature_equals_the_azure_sdks_at_the_same_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With its version set to ours, the SDK's signature is byte for byte the one of ``sign``."""
        monkeypatch.setattr("azure.storage.blob._shared_access_signature.X_MS_VERSION", "2020-12-06")
        theirs = generate_blob_sas(
            "mlclassic", "data", BLOB, account_key=KEY, permission="r", start=START, expiry=EXPIRY
        )
        assert dict(parse_qsl(token())[1:]) | {"sv": "2020-12-06"} == dict(parse_qsl(theirs))

    def test_container_token_equals_the_azure_sdks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The token for a whole container is the SDK's too."""
        monkeypatch.setattr("azure.storage.blob._shared_access_signature.X_MS_VERSION", "2020-12-06")
        theirs = generate_container_sas("mlclassic", "data", account_key=KEY, permission="rl", expiry=EXPIRY)
        ours = sign(ACCOUNT, "data", None, permissions="rl", expiry=EXPIRY)
        assert dict(parse_qsl(ours[1:])) == dict(parse_qsl(theirs))

    def test_token_is_spelled_as_the_service_spelled_it(self) -> None:
        """It begins with a question mark and its values are percent-encoded."""
        text = token()
        assert text.startswith("?sv=2020-12-06&sr=b&sig=")
        assert "%3D&st=2016-03-01T09%3A50%3A00Z&se=2016-03-02T09%3A55%3A00Z&sp=r" in text

    @pytest.mark.usefixtures("in_tokyo")
    def test_times_are_written_in_utc(self) -> None:
        """Whatever zone the caller, and the machine, go by; without permissions it is a token to read."""
        text = sign(ACCOUNT, "data", BLOB, expiry=EXPIRY.astimezone(timezone(timedelta(hours=-8))))
        assert (expiry_of(text), permissions_of(text)) == (EXPIRY, "r")

    def test_signatures_are_encoded(self) -> None:
        """All that Base64 has and a query has not: of so many signatures, some have each of it."""
        texts = [token(f"{number}.csv").partition("&sig=")[2].partition("&")[0] for number in range(20)]
        assert all(re.fullmatch(r"(\w|%2B|%2F)+%3D", text, re.ASCII) for text in texts)
        assert {"%2B", "%2F"} <= set(re.findall("%..", "".join(texts)))

    def test_time_without_zone_is_a_mistake_of_the_caller(self) -> None:
        """A naive time would silently mean the server's own zone."""
        with pytest.raises(ValueError, match="time zone"):
            sign(ACCOUNT, "data", BLOB, expiry=datetime(2016, 3, 2))

    def test_account_without_key_cannot_sign(self) -> None:
        """An account known by a token only says so."""
        with pytest.raises(RequestRejected, match="no usable AccountKey"):
            sign(StorageAccount("acct", "", "https://acct.blob.core.windows.net"), "data", BLOB, expiry=EXPIRY)


class TestVerify:
    """What :func:`verify` lets through, and what not."""

    @pytest.mark.parametrize(("blob", "permission"), [(BLOB, "r"), (None, "l")])
    def test_own_token_opens_what_it_was_made_for(self, blob: str | None, permission: str) -> None:
        """Round trip, for a blob and for a container."""
        verify(ACCOUNT, token(blob, permission), "data", blob, permission=permission, now=NOW)

    def test_container_token_does_nothing_but_list(self) -> None:
        """Reading the properties of a container, making and removing it are for the account's key and tokens."""
        for letter in "rwcd":
            assert refusal(token(None, "rwcdl"), blob=None, permission=letter).details[0].target == "sp"

    def test_container_token_opens_every_blob_in_it(self) -> None:
        """``sr=c`` covers blobs; a question mark is not needed, other parameters of a request do not matter."""
        request = f"comp=block&{token(None)[1:]}&timeout=30"
        verify(ACCOUNT, request, "data", "any/blob.csv", permission="r", now=NOW)

    def test_blob_token_does_not_open_its_container(self) -> None:
        """Listing with a token for one blob is refused."""
        assert refusal(token(), blob=None).details[0].target == "sr"

    @pytest.mark.parametrize(
        ("old", "new", "target"),
        [
            ("sp=r", "sp=rw", "sig"),
            ("se=2016-03-02", "se=2017-03-02", "sig"),
            ("st=2016", "st=2015", "sig"),
            ("sr=b", "sr=c", "sig"),
            ("sv=2020-12-06", "sv=2018-11-09", "sig"),
            ("sr=b", "sr=bs", "sr"),
            ("sv=2020-12-06", "sv=2014-02-14", "sig"),
            ("sv=2020-12-06", "sv=2011-08-18", "sv"),
            ("sv=2020-12-06", "sv=new", "sv"),
            ("sp=r", "sp=r&sp=w", "token"),
            ("sp=r", "sp=r&sip=10.0.0.1", "sig"),
            ("sp=r", "sp=r&si=policy", "si"),
            ("sp=r", "sp=r&spr=https", "sig"),
            ("&sp=r", "", "token"),
            ("sig=", "sig=%ff", "sig"),
            ("sig=", "sig=\ud800", "sig"),
            ("sp=r", "sp=r&sp=", "token"),
            ("sp=r", "sp=r&ss=b", "token"),
            ("sp=r", "sp=r&srt=sco", "token"),
        ],
    )
    def test_changed_token_opens_nothing(self, old: str, new: str, target: str) -> None:
        """Whatever is changed in a token, the refusal names that parameter, or the signature."""
        changed = token().replace(old, new)
        assert changed != token()
        error = refusal(changed)
        assert (error.detail_code, error.details[0].target) == ("InvalidBlob", target)

    @pytest.mark.parametrize(
        ("container", "blob"), [("data", "other.csv"), ("other", BLOB), ("data/models", BLOB[7:]), ("data", "\ud800")]
    )
    def test_token_opens_nothing_else(self, container: str, blob: str) -> None:
        """Another blob or container, even one that spells the same path, is refused."""
        assert refusal(token(), container=container, blob=blob).details[0].target == "sig"

    def test_permission_of_several_any_one_is_enough(self) -> None:
        """``wc`` asks for "write" or "create"."""
        verify(ACCOUNT, token(permissions="c"), "data", BLOB, permission="wc", now=NOW)
        assert refusal(token(permissions="r"), permission="wc").details[0].target == "sp"

    def test_times(self) -> None:
        """A token opens from its first moment until just before its last one."""
        verify(ACCOUNT, token(), "data", BLOB, permission="r", now=START)
        assert refusal(token(), now=EXPIRY).detail_code == "ExpiryTimeInThePast"
        assert refusal(token(), now=START - timedelta(seconds=1)).details[0].target == "st"

    @pytest.mark.parametrize("wrong", ["st", "se"])
    def test_unreadable_time_never_means_forever(self, wrong: str) -> None:
        """A correctly signed token is refused whose first or last moment is no time."""
        layout = ["sp", "st", "se", "resource", "si", "sip", "spr", "sv", "sr", *[""] * 7]
        values = {"sp": "r", "se": "2016-03-02", "sv": "2020-12-06", "sr": "b", wrong: "tomorrow"}
        error = refusal(forged_anew(layout, values, f"/blob/mlclassic/data/{BLOB}"))
        assert (error.detail_code, error.details[0].target) == ("InvalidBlob", wrong)

    def test_plus_signs_that_a_client_left_unencoded(self) -> None:
        """They were read as blanks, of which Base64 has none."""
        names = [f"{number}.csv" for number in range(20) if "%2B" in token(f"{number}.csv")]
        assert names
        for name in names:
            verify(ACCOUNT, token(name).replace("%2B", "+"), "data", name, permission="r", now=NOW)

    def test_the_oldest_version_is_named(self) -> None:
        """Of a blob's token; older layouts are not known."""
        assert "older than 2012-02-12" in refusal(token().replace("2020-12-06", "2011-08-18")).message

    @pytest.mark.parametrize(
        ("version", "layout"),
        [
            ("2015-04-05", ["sp", "st", "se", "resource", "si", "sip", "spr", "sv", *[""] * 5]),
            ("2018-03-28", ["sp", "st", "se", "resource", "si", "sip", "spr", "sv", *[""] * 5]),
            ("2018-11-09", ["sp", "st", "se", "resource", "si", "sip", "spr", "sv", "sr", "snapshot", *[""] * 5]),
            ("2020-02-10", ["sp", "st", "se", "resource", "si", "sip", "spr", "sv", "sr", "snapshot", *[""] * 5]),
        ],
    )
    def test_tokens_of_older_versions_are_read(self, version: str, layout: list[str]) -> None:
        """Layouts of 13 and 15 fields, as clients of those years sign them, open the blob."""
        values = {"sp": "r", "se": "2016-03-02T09:55:00.0000000Z", "sv": version, "sr": "b"}
        text = forged_anew(layout, values, f"/blob/mlclassic/data/{BLOB}")
        verify(ACCOUNT, text, "data", BLOB, permission="r", now=NOW)

    @pytest.mark.parametrize(
        ("version", "layout", "service"),
        [
            ("2012-02-12", ["sp", "st", "se", "resource", "si", "sv"], ""),
            ("2013-08-15", ["sp", "st", "se", "resource", "si", "sv", *[""] * 5], ""),
            ("2014-02-14", ["sp", "st", "se", "resource", "si", "sv", *[""] * 5], ""),
            ("2015-02-21", ["sp", "st", "se", "resource", "si", "sv", *[""] * 5], "/blob"),
        ],
    )
    def test_tokens_of_the_clouds_first_clients_are_read(self, version: str, layout: list[str], service: str) -> None:
        """No addresses and protocols yet, and at first no service in the name of the resource."""
        values = {"sp": "r", "se": "2016-03-02T09:55:00Z", "sv": version, "sr": "b"}
        text = forged_anew(layout, values, f"{service}/mlclassic/data/{BLOB}")
        verify(ACCOUNT, text, "data", BLOB, permission="r", now=NOW)
        assert refusal(text, blob="other.csv").details[0].target == "sig"

    @pytest.mark.parametrize(
        ("blob", "made"),
        [
            ("folder/b c.csv", "sr=b&rsct=text/csv&sig=35OIENQo8fKjNrs56pK8J/uvwicLaRRyIdHxdrV6U2g%3D"),
            (None, "sr=c&rsct=text/csv&sig=izR3kuA6/j9HNj7%2B/mY2fAs0iZYyLiWeOWJjQfQtepA%3D"),
        ],
    )
    def test_tokens_that_azure_storage_0_20_made_are_read(self, blob: str | None, made: str) -> None:
        """As ``SharedAccessSignature.generate_signed_query_string`` of that library wrote them for an account."""
        account = StorageAccount("account", base64.b64encode(b"k" * 64).decode(), "https://account.example")
        text = f"st=2015-01-01T00%3A00%3A00Z&se=2030-01-01T00%3A00%3A00Z&sp=r&sv=2014-02-14&{made}"
        verify(account, text, "container", blob or "any.csv", permission="r", now=NOW)

    def test_response_headers_in_a_token_are_signed(self) -> None:
        """A token of the SDK that overrides response headers is accepted, and is refused when they change."""
        theirs = generate_blob_sas(
            "mlclassic", "data", BLOB, account_key=KEY, permission="r", expiry=EXPIRY, content_type="text/csv"
        )
        verify(ACCOUNT, theirs, "data", BLOB, permission="r", now=NOW)
        assert refusal(theirs.replace("csv", "html")).details[0].target == "sig"

    def test_https_only_token_is_accepted_by_a_server_reached_over_https(self) -> None:
        """``spr=https`` is judged by the address that the account is known by."""
        secure = StorageAccount("mlclassic", KEY, "https://ml.example.org/mlclassic")
        theirs = generate_blob_sas(
            "mlclassic", "data", BLOB, account_key=KEY, permission="r", expiry=EXPIRY, protocol="https"
        )
        verify(secure, theirs, "data", BLOB, permission="r", now=NOW)
        assert refusal(theirs).details[0].target == "spr"

    @pytest.mark.parametrize(
        ("allowed", "client", "opens"),
        [
            ("10.0.0.7", "10.0.0.7", True),
            ("10.0.0.7", "10.0.0.8", False),
            ("10.0.0.7-10.0.1.2", "10.0.0.255", True),
            ("10.0.0.7-10.0.1.2", "10.0.0.6", False),
            ("10.0.0.7-10.0.1.2", "10.0.1.3", False),
            ("10.0.0.7", "::1", False),
            ("10.0.0.7", None, False),
            ("10.0.0.x", "10.0.0.7", False),
        ],
    )
    def test_addresses(self, allowed: str, client: str | None, opens: bool) -> None:
        """``sip`` is one address or a range with both ends; a client of unknown address is in none."""
        theirs = generate_blob_sas(
            "mlclassic", "data", BLOB, account_key=KEY, permission="r", expiry=EXPIRY, ip=allowed
        )
        if opens:
            verify(ACCOUNT, theirs, "data", BLOB, permission="r", now=NOW, client=client)
            return
        with pytest.raises(RequestRejected) as caught:
            verify(ACCOUNT, theirs, "data", BLOB, permission="r", now=NOW, client=client)
        assert caught.value.details[0].target == "sip"

    def test_messages_hold_no_secret(self) -> None:
        """Neither the signature nor the key is in an error."""
        signature = dict(parse_qsl(token()[1:]))["sig"]
        said = f"{refusal(token(), blob='other')!r}{refusal(token(), now=EXPIRY)}{ACCOUNT!r}"
        assert signature not in said
        assert KEY not in said

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (token(), EXPIRY),
            ("?se=2016-03-02T09:55:00Z&sv=2013-08-15", EXPIRY),
            ("&se=2016-03-02T09:55:00Z&sv=2013-08-15", EXPIRY),
            ("sv=2013-08-15&se=2016-03-02T09:55Z", EXPIRY),
            ("se=2016-03-02", datetime(2016, 3, 2, tzinfo=UTC)),
            ("se=2016-13-02", None),
            ("se=soon", None),
            ("", None),
        ],
    )
    def test_expiry_of(self, text: str, expected: datetime | None) -> None:
        """The expiry is read from any of Azure's spellings, without a signature being checked."""
        assert expiry_of(text) == expected

    def test_permissions_of(self) -> None:
        """The letters granted are read as they stand."""
        assert permissions_of(token(permissions="rw")) == "rw"
        assert permissions_of("sv=1&sig=x") == ""


OF_THE_OLD_SDK = (
    "st=2016-03-01T09%3A50%3A00Z&se=2016-03-02T09%3A55%3A00Z&sp=rw&sv=2019-02-02&ss=b&srt=o"
    "&sig=9rfSUO0l/PByi1WE2oYoDiaFcdpxexlHzEYiz8GfcHM%3D"
)
ALL = ResourceTypes(service=True, container=True, object=True)


def of_account(permissions: str = "rwdlac", kinds: ResourceTypes = ALL, **more: object) -> str:
    """Azure's own token for the account."""
    letters = AccountSasPermissions.from_string(permissions)
    options = {"expiry": EXPIRY, "start": START, **more}
    return str(generate_account_sas("mlclassic", KEY, resource_types=kinds, permission=letters, **options))


class TestAccountToken:
    """Tokens for a whole account, as Azure's SDK signs them."""

    @pytest.mark.parametrize(
        ("container", "blob", "permission"),
        [("data", BLOB, "r"), ("data", None, "d"), ("other", None, "c"), ("", None, "l")],
    )
    def test_it_opens_blobs_containers_and_the_account(self, container: str, blob: str | None, permission: str) -> None:
        """One token does it all."""
        verify(ACCOUNT, of_account(), container, blob, permission=permission, now=NOW)

    @pytest.mark.parametrize("version", ["2015-04-05", "2018-11-09", "2020-10-02", "2020-12-06", "2026-10-06"])
    def test_versions(self, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both layouts of the signed text are known; the newer one has a line for a scope of encryption."""
        fields = ["account", "sp", "ss", "srt", "st", "se", "sip", "spr", "sv", *["ses"] * (version >= "2020-12-06")]
        values = {"sp": "r", "ss": "b", "srt": "o", "se": "2016-03-02T09:55:00Z", "sv": version}
        by_hand = forged_anew([*fields, "end"], {**values, "account": "mlclassic"}, "")
        verify(ACCOUNT, by_hand, "data", BLOB, permission="r", now=NOW)
        if version >= "2020-12-06":  # the SDK of today knows the newer layout only
            name = "azure.storage.blob._shared.shared_access_signature.SharedAccessSignature.__init__.__defaults__"
            monkeypatch.setattr(name, (version,))
            theirs = of_account("r", ResourceTypes(object=True), start=None)
            assert parse_qs(theirs)["sig"] == parse_qs(by_hand)["sig"]

    def test_a_version_without_such_tokens(self) -> None:
        """Azure knew tokens of a whole account from 2015-04-05 on; an older version says so, whatever its signature."""
        text = "sv=2015-02-21&ss=b&srt=o&sp=r&se=2016-03-02T09%3A55%3A00Z&sig=x"
        assert "2015-04-05" in refusal(text).message

    def test_a_token_of_the_old_sdk(self) -> None:
        """Made by azure-storage-blob 2.1.0 on Python 3.7, for this account."""
        verify(ACCOUNT, OF_THE_OLD_SDK, "data", BLOB, permission="r", now=NOW)

    @pytest.mark.parametrize(
        ("text", "blob", "permission", "target"),
        [
            (of_account("r"), BLOB, "w", "sp"),
            (of_account("wdlac"), BLOB, "r", "sp"),
            (of_account("r"), None, "l", "sp"),
            (of_account(kinds=ResourceTypes(service=True, container=True)), BLOB, "r", "srt"),
            (of_account(kinds=ResourceTypes(service=True, object=True)), None, "l", "srt"),
            (of_account(protocol="https"), BLOB, "r", "spr"),
            (of_account(ip="10.0.0.1"), BLOB, "r", "sip"),
            (of_account(start=NOW + timedelta(seconds=1)), BLOB, "r", "st"),
            (of_account(expiry=NOW), BLOB, "r", "se"),
            (of_account(encryption_scope="mine"), BLOB, "r", "ses"),
            (of_account("r").replace("sp=r", "sp=rw"), BLOB, "r", "sig"),
            (of_account().replace("srt=sco", "srt=o"), BLOB, "r", "sig"),
            (of_account().replace("ss=b", "ss=bq"), BLOB, "r", "sig"),
            (of_account().replace("&ss=b", ""), BLOB, "r", "token"),
            (of_account().replace("&srt=sco", ""), BLOB, "r", "token"),
            (token() + "&ss=b&srt=sco", BLOB, "r", "sig"),
        ],
    )
    def test_what_it_does_not_open(self, text: str, blob: str | None, permission: str, target: str) -> None:
        """The refusal names the parameter at fault, and a signature is looked at before anything else."""
        assert refusal(text, blob=blob, permission=permission).details[0].target == target

    @pytest.mark.parametrize(
        ("container", "blob", "kinds", "named"),
        [
            ("", None, ResourceTypes(container=True, object=True), "the service itself (srt has no 's')"),
            ("data", None, ResourceTypes(service=True, object=True), "not for containers (srt has no 'c')"),
            ("data", BLOB, ResourceTypes(service=True, container=True), "not for blobs (srt has no 'o')"),
        ],
    )
    def test_each_kind_of_resource_has_its_letter(
        self, container: str, blob: str | None, kinds: ResourceTypes, named: str
    ) -> None:
        """A token for two of them does not open the third, and the refusal says which letter it lacks."""
        assert named in refusal(of_account(kinds=kinds), container=container, blob=blob, permission="l").message

    def test_another_service_and_another_account(self) -> None:
        """A token for queues opens no blobs; one of another account, signed with the same key, opens nothing."""
        fields = ["account", "sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses", "end"]
        values = {"sp": "r", "ss": "qft", "srt": "sco", "se": "2016-03-02", "sv": "2020-12-06"}
        assert refusal(forged_anew(fields, {**values, "account": "mlclassic"}, "")).details[0].target == "ss"
        other = forged_anew(fields, {**values, "ss": "b", "account": "other"}, "")
        assert refusal(other).details[0].target == "sig"


class TestConnectionString:
    """Reading and writing of connection strings."""

    @pytest.mark.parametrize(
        ("text", "endpoint"),
        [
            (
                f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn",
                "https://acct.blob.core.chinacloudapi.cn",
            ),
            (f" accountname = acct ; ACCOUNTKEY={KEY};; ", "https://acct.blob.core.windows.net"),
            (
                f"AccountName=acct;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/acct/;",
                "http://127.0.0.1:10000/acct",
            ),
            (f"DefaultEndpointsProtocol=http;AccountName=acct;AccountKey={KEY}", "http://acct.blob.core.windows.net"),
            (f"AccountName=acct;AccountKey={KEY};SharedAccessSignature=sv=1", "https://acct.blob.core.windows.net"),
        ],
    )
    def test_read(self, text: str, endpoint: str) -> None:
        """Cases, blanks, a trailing semicolon and both ways to name the endpoint are understood."""
        assert StorageAccount.from_connection_string(text) == StorageAccount("acct", KEY, endpoint)

    def test_the_emulator(self) -> None:
        """The name of Azure's emulator means its well-known account, whatever else is said."""
        account = StorageAccount.from_connection_string("UseDevelopmentStorage=True;AccountName=acct")
        assert (account.name, account.endpoint) == ("devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1")

    def test_round_trip(self) -> None:
        """What is written is read back, with a key and with a token."""
        shared = StorageAccount("acct", "", "https://acct.blob.core.windows.net", "?sv=1&sig=x%3D")
        for account in (ACCOUNT, shared):
            assert StorageAccount.from_connection_string(account.connection_string) == account
        assert shared.connection_string == (
            "DefaultEndpointsProtocol=https;AccountName=acct;SharedAccessSignature=sv=1&sig=x%3D;"
            "BlobEndpoint=https://acct.blob.core.windows.net"
        )

    @pytest.mark.parametrize(
        ("endpoint", "name"),
        [
            ("https://acct.blob.core.windows.net/", "acct"),
            ("http://localhost:1/dev", "dev"),
            ("http://localhost:1/storage/dev", "dev"),
        ],
    )
    def test_name_is_taken_from_the_endpoint_of_a_shared_access_signature(self, endpoint: str, name: str) -> None:
        """A connection string with a token needs no AccountName."""
        account = StorageAccount.from_connection_string(f"BlobEndpoint={endpoint};SharedAccessSignature=?sv=1&sig=x")
        assert (account.name, account.sas_token) == (name, "?sv=1&sig=x")

    @pytest.mark.parametrize(
        ("text", "missing"),
        [
            ("", "neither AccountKey nor"),
            ("AccountName=acct", "neither AccountKey nor"),
            (f"AccountKey={KEY}", "no AccountName"),
            (f"AccountKey={KEY};BlobEndpoint=http://h/a", "no AccountName"),
            ("SharedAccessSignature=sv=1", "no AccountName"),
            ("AccountName=acct;AccountKey=top*secret", "not Base64"),
            ("AccountName=acct;AccountKey=top*secre", "not Base64"),
            (f"AccountName=acct;topsecret;AccountKey={KEY}", "not Name=Value"),
            (f"AccountName=acct;AccountKey={KEY};BlobEndpoint=ftp://topsecret", "wrong BlobEndpoint"),
            (f"AccountName=acct;AccountKey={KEY};BlobEndpoint=http://topsecret@h", "wrong BlobEndpoint"),
            (f"AccountName=acct;AccountKey={KEY};BlobEndpoint=http://[topsecret", "BlobEndpoint"),
            (f"AccountName=acct;AccountKey={KEY};DefaultEndpointsProtocol=ftp", "DefaultEndpointsProtocol"),
        ],
    )
    def test_fault_is_named_and_nothing_is_shown(self, text: str, missing: str) -> None:
        """The message says which part is wrong, without the text of any part."""
        with pytest.raises(RequestRejected, match=missing) as caught:
            StorageAccount.from_connection_string(text)
        error = caught.value
        assert (error.detail_code, error.details[0].target) == ("InvalidBlobConnectionString", "ConnectionString")
        assert KEY not in str(caught.value)
        assert "secret" not in str(caught.value)


# -- places of an account ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", f"{DEVELOPMENT_ACCOUNT.endpoint}/", "http://127.0.0.1:10000/"])
def test_a_place_of_the_account_is_opened(base: str) -> None:
    """A path, and a URL in either spelling of where the account stands, become a URL with a token for that blob."""
    account = DEVELOPMENT_ACCOUNT
    path = "devstoreaccount1/c/x y.csv" if base == "http://127.0.0.1:10000/" else "c/x y.csv"
    opened = account.opened(BlobReference(path, base), "r", timedelta(hours=1), NOW)
    assert opened is not None
    assert (opened.base_location, opened.relative_location) == (f"{account.endpoint}/", "c/x y.csv")
    verify(account, opened.sas_token, "c", "x y.csv", permission="r", now=NOW - BACKDATED)
    assert expiry_of(opened.sas_token) == NOW + timedelta(hours=1)
    for blob, permission, now in [
        ("x y.csv", "w", NOW),
        ("other.csv", "r", NOW),
        ("x y.csv", "r", NOW - BACKDATED - timedelta(seconds=1)),
    ]:
        with pytest.raises(RequestRejected):
            verify(account, opened.sas_token, "c", blob, permission=permission, now=now)


def test_a_blob_whose_name_has_a_question_mark() -> None:
    """Beside a connection string a path is no URL: what stands behind the mark is of the name."""
    opened = DEVELOPMENT_ACCOUNT.opened(
        BlobReference("c/what?.csv", connection_string="UseDevelopmentStorage=true"), "r", timedelta(hours=1), NOW
    )
    assert opened is not None
    assert opened.url.startswith(f"{DEVELOPMENT_ACCOUNT.endpoint}/c/what%3F.csv?sv=")
    verify(DEVELOPMENT_ACCOUNT, opened.sas_token, "c", "what?.csv", permission="r", now=NOW)


def test_a_place_elsewhere_is_not_opened() -> None:
    """A URL of another account is left to whoever can open it; a path without a container is refused."""
    account = DEVELOPMENT_ACCOUNT
    assert account.opened(BlobReference("c/x.csv", "https://other.example/"), "r", timedelta(hours=1), NOW) is None
    with pytest.raises(RequestRejected, match=r"'x\.csv' must be container/path"):
        account.opened(BlobReference("x.csv"), "r", timedelta(hours=1), NOW)


def test_an_account_without_a_key_gives_its_own_token() -> None:
    """Where only a token opens the account, that token opens each of its places."""
    account = StorageAccount.from_connection_string("AccountName=a;SharedAccessSignature=sv=1&sig=x")
    opened = account.opened(BlobReference("c/x.csv"), "cw", timedelta(hours=1), NOW)
    assert opened == BlobReference("c/x.csv", "https://a.blob.core.windows.net/", "?sv=1&sig=x")

"""The broker over HTTP: who may ask, what a request may weigh, what refusals say."""

from __future__ import annotations

import gzip
import hashlib
import stat
from typing import Any

import httpx
import pytest

from aquiline import __version__
from aquiline.broker.sqlstore import SqlStore
from aquiline.protocol.changesets import ChangeSet, change_set_digest
from aquiline.protocol.messages import Enrol, Enrolled, Poll, Report, decode_message, encode_message
from tests.broker.api.conftest import Served

JSON = {"Content-Type": "application/json"}
PROFILE: dict[str, Any] = {"software": {"components": {}}}


@pytest.fixture(scope="module", autouse=True)
def fleet(served: Served) -> None:
    """One domain."""
    assert 201 == served.ask("POST", "/v1/domains", json={"name": "prod"}).status_code


def enrolled(served: Served, name: str, machine_id: str | None = None, *, branch: str = "prod") -> Enrolled:
    """Add a host and enrol it."""
    added = served.ask("POST", "/v1/hosts", json={"name": name, "branch": branch})
    assert 201 == added.status_code, added.text
    token = served.ask("POST", "/v1/join-tokens", json={"pattern": name}).json()["token"]
    wish = Enrol(
        join_token=token, name=name, machine_id=machine_id or hashlib.md5(name.encode()).hexdigest(),
        journal="j", tool="test",
    )  # fmt: skip
    answer = served.ask("POST", "/v1/enrol", token="", content=encode_message(wish))
    assert 200 == answer.status_code, answer.text
    return decode_message(answer.content, Enrolled)


def poll(name: str, **more: Any) -> bytes:
    """Return a poll of a host."""
    machine_id = hashlib.md5(name.encode()).hexdigest()
    return encode_message(Poll(tool="test", journal="j", machine_id=machine_id, **more))


def asked(served: Served, path: str, credential: str, content: bytes, method: str = "POST") -> httpx.Response:
    """Send a message as a host does."""
    return served.ask(method, path, token=credential, content=content, headers=JSON)


def test_nothing_is_anonymous(served: Served) -> None:
    """Without a token, or with one that is nobody's, there is only health, enrolment and the proof of reach."""
    document = served.ask("GET", "/schema/openapi.json", token="").json()
    open_paths = {"/health", "/v1/enrol", "/v1/reach"}

    for path, methods in document["paths"].items():
        for method in methods:
            for token in ("", "aqp_wrong", "aqh_wrong"):
                answer = served.ask(method.upper(), path.replace("{", "").replace("}", ""), token=token)
                if path not in open_paths:
                    assert 401 == answer.status_code, (method, path)
    assert 10 < len(document["paths"])


def test_the_first_token_is_private(served: Served) -> None:
    """What the broker keeps can be read by nobody else."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in served.data.iterdir() if path.is_file()}

    assert 0o700 == stat.S_IMODE(served.data.stat().st_mode)
    assert {0o600} == {mode for name, mode in modes.items() if name != "certificate.pem"}
    assert served.admin.encode() not in (served.data / "broker.db").read_bytes()


def test_a_person_may_do_what_their_roles_say(served: Served) -> None:
    """A reader reads; an author deploys and makes no domains; a revoked person may nothing."""
    reader = served.ask("POST", "/v1/people", json={"name": "rita", "roles": ["reader"]}).json()["token"]
    author = served.ask("POST", "/v1/people", json={"name": "anna", "roles": ["author"]}).json()["token"]

    assert 200 == served.ask("GET", "/v1/changes", token=reader).status_code
    assert 403 == served.ask("POST", "/v1/sandboxes", token=reader, json={"name": "x", "start": "prod"}).status_code
    assert (
        201 == served.ask("POST", "/v1/sandboxes", token=author, json={"name": "anna-x", "start": "prod"}).status_code
    )
    assert 403 == served.ask("POST", "/v1/domains", token=author, json={"name": "qa"}).status_code
    assert 403 == served.ask("GET", "/v1/audit", token=author).status_code
    assert 204 == served.ask("DELETE", "/v1/people/rita").status_code
    assert 401 == served.ask("GET", "/v1/changes", token=reader).status_code


def test_a_host_is_only_itself(served: Served) -> None:
    """A host gets no profile of another, answers no order of another, and reads nothing that is for people."""
    web = enrolled(served, "web1")

    assert 200 == asked(served, "/v1/host/poll", web.credential, poll("web1")).status_code
    assert 404 == served.ask("GET", f"/v1/host/profiles/{'0' * 64}", token=web.credential).status_code
    assert 403 == served.ask("GET", "/v1/hosts", token=web.credential).status_code
    foreign = Report(id="r", tool="test", journal="j", kind="test", order="prod-1.web2")
    assert 409 == asked(served, "/v1/host/reports", web.credential, encode_message(foreign)).status_code


def test_a_credential_is_bound_to_a_machine(served: Served) -> None:
    """The same credential from another machine is refused, and written down."""
    web = enrolled(served, "web3")
    copy = encode_message(Poll(tool="test", journal="j", machine_id="f" * 32))

    refused = asked(served, "/v1/host/poll", web.credential, copy)

    assert 409 == refused.status_code
    assert "copy" in refused.json()["error"]
    assert "machine-id refused" in [one["what"] for one in served.ask("GET", "/v1/audit?about=web3").json()]


def test_a_join_token_is_used_up(served: Served) -> None:
    """It is good for as many hosts as it says, for the names it says, and for nobody who is enrolled already."""
    for name in ("db1", "db2"):
        served.ask("POST", "/v1/hosts", json={"name": name, "branch": "prod"})
    token = served.ask("POST", "/v1/join-tokens", json={"count": 1, "pattern": "db*"}).json()["token"]

    def enrol(name: str) -> int:
        wish = Enrol(join_token=token, name=name, machine_id="a" * 32, journal="j", tool="test")
        return served.ask("POST", "/v1/enrol", token="", content=encode_message(wish)).status_code

    assert [409, 200, 409, 409] == [enrol("web1"), enrol("db1"), enrol("db1"), enrol("db2")]


def test_hosts_of_a_domain_share_a_key(served: Served) -> None:
    """Every host of a domain is given the same key for digests of secrets, hosts of another domain another one."""
    assert 201 == served.ask("POST", "/v1/domains", json={"name": "other"}).status_code

    first, second = enrolled(served, "key1"), enrolled(served, "key2")
    third = enrolled(served, "key3", branch="other")

    assert 32 == len(first.domain_key)
    assert first.domain_key == second.domain_key
    assert first.domain_key != third.domain_key


def test_a_slash_in_a_name(served: Served) -> None:
    """A sandbox whose name has a slash, and a change of it, are found by a path that has a ~ for it."""
    assert 201 == served.ask("POST", "/v1/sandboxes", json={"name": "ada/try", "start": "prod"}).status_code
    enrolled(served, "slash1")

    moved = served.ask("POST", "/v1/hosts/slash1/manage", json={"branch": "ada/try", "test": True}).json()

    assert "ada/try" == served.ask("GET", "/v1/branches/ada~try").json()["branch"]["name"]
    assert moved["id"].startswith("ada/try-")
    for path in ("", "/hosts", "/report", "/report.txt"):
        assert 200 == served.ask("GET", f"/v1/changes/{moved['id'].replace('/', '~')}{path}").status_code
    assert 204 == served.ask("DELETE", "/v1/sandboxes/ada~try").status_code


def test_a_revoked_host_is_nobody(served: Served) -> None:
    """Its credential is worth nothing any more."""
    web = enrolled(served, "web4")

    assert 204 == served.ask("POST", "/v1/hosts/web4/revoke").status_code
    assert 401 == asked(served, "/v1/host/poll", web.credential, poll("web4")).status_code


def test_what_arrives_is_bounded(served: Served) -> None:
    """A body that is too large, unpacks too large, is too deep or of a strange version is refused, and harms nobody."""
    web = enrolled(served, "web5")
    packed = {**JSON, "Content-Encoding": "gzip"}
    bomb = gzip.compress(b" " * (200 << 20))

    large = asked(served, "/v1/host/reports", web.credential, b" " * (17 << 20))
    unpacked = served.ask("POST", "/v1/host/reports", token=web.credential, content=bomb, headers=packed)
    deep = asked(served, "/v1/host/poll", web.credential, b"[" * 100_000 + b"]" * 100_000)
    strange = asked(
        served, "/v1/host/reports", web.credential, b'{"id":"x","tool":"","journal":"","kind":"run","protocol":99}'
    )
    nonsense = asked(served, "/v1/host/poll", web.credential, b"{")

    assert [413, 400, 400, 426, 400] == [one.status_code for one in (large, unpacked, deep, strange, nonsense)]
    assert "protocol 99" in strange.json()["error"]
    assert 200 == served.ask("GET", "/health", token="").status_code


def test_a_packed_message_is_taken(served: Served) -> None:
    """Agents may compress what they send."""
    web = enrolled(served, "web6")
    packed = {**JSON, "Content-Encoding": "gzip"}

    answer = served.ask(
        "POST", "/v1/host/poll", token=web.credential, content=gzip.compress(poll("web6")), headers=packed
    )

    assert 200 == answer.status_code


def test_a_change_set_is_what_its_digest_says(served: Served) -> None:
    """Nobody can put something else behind the digest that others refer to."""
    web = enrolled(served, "web7")
    body = ChangeSet(notes=("one",))
    other = encode_message(ChangeSet(notes=("two",)))
    path = f"/v1/host/change-sets/{change_set_digest(body)}"
    report = Report(id="7", tool="test", journal="j", kind="refusal", change_set=change_set_digest(body))

    assert 409 == asked(served, path, web.credential, encode_message(body), "PUT").status_code
    asked(served, "/v1/host/reports", web.credential, encode_message(report))
    assert 400 == asked(served, path, web.credential, other, "PUT").status_code
    assert 204 == asked(served, path, web.credential, encode_message(body), "PUT").status_code


def test_names_that_are_not_utf8_travel(served: Served) -> None:
    """A report may name files that are not UTF-8; the body is asked for once."""
    web = enrolled(served, "web8")
    strange = "/etc/\udcff"
    body = ChangeSet(notes=(strange,))
    report = Report(id="1", tool="test", journal="j", kind="refusal", error=strange, change_set=change_set_digest(body))

    first = asked(served, "/v1/host/reports", web.credential, encode_message(report)).json()
    sent = asked(served, f"/v1/host/change-sets/{change_set_digest(body)}", web.credential, encode_message(body), "PUT")
    again = asked(served, "/v1/host/reports", web.credential, encode_message(report)).json()

    assert ([change_set_digest(body)], 204, []) == (first["wants"], sent.status_code, again.get("wants", []))
    reports = served.ask("GET", "/v1/hosts/web8/reports")
    assert 200 == reports.status_code
    assert [strange] == [one["report"]["error"] for one in reports.json()]


def test_a_poll_waits_for_news(served: Served) -> None:
    """A poll with nothing to be told is held open, and answered at once when there is something."""
    web = enrolled(served, "web9")

    quiet = asked(served, "/v1/host/poll", web.credential, poll("web9", generation=99, wait=0.5))

    assert 200 == quiet.status_code
    assert 0.4 < quiet.elapsed.total_seconds() < 20
    # It may come again at once: whoever is not waiting hears of nothing.
    assert quiet.json()["pace"] <= 1.0


def test_the_fleet_is_counted(served: Served) -> None:
    """Metrics are in the format of Prometheus."""
    text = served.ask("GET", "/metrics").text

    assert 'aquiline_hosts{branch="prod",state="idle"}' in text


def test_refusals_say_what_to_do(served: Served) -> None:
    """An error is JSON with words, a hint and the exit status of the command line."""
    answer = served.ask("POST", "/v1/deployments", json={"sandbox": "nobody", "domain": "prod"})

    assert 404 == answer.status_code
    assert {"error", "hint", "exit_status", "changes"} == set(answer.json())


def test_a_host_does_not_count_the_fleet(served: Served) -> None:
    """How many hosts there are, and in which state, is for people."""
    web = enrolled(served, "web10")

    assert 403 == served.ask("GET", "/metrics", token=web.credential).status_code


def test_who_is_unknown_writes_nothing_down(served: Served) -> None:
    """Whoever enrols without a name that a host can have leaves no trace: anybody could fill the disk by it."""
    wish = Enrol(join_token="aqj_x", name="x" * 1_000_000, machine_id="", journal="j", tool="test")

    answer = served.ask("POST", "/v1/enrol", token="", content=encode_message(wish))

    assert 409 == answer.status_code
    assert not [one for one in served.ask("GET", "/v1/audit").json() if len(one["about"]) > 253]


def test_a_revoked_host_has_no_say(served: Served) -> None:
    """Schemas of a host that nobody trusts any more hold up no deployment."""
    web = enrolled(served, "web11")
    asked(served, "/v1/host/poll", web.credential, poll("web11", schemas="0" * 64))
    served.ask("POST", "/v1/hosts/web11/revoke")

    with SqlStore(f"sqlite:///{served.data}/broker.db").transaction() as tx:
        host = tx.host("web11")

    assert host is not None
    assert "" == host.schemas


def test_a_version_that_is_not_spoken(served: Served) -> None:
    """Polls, reports and enrolments of one are answered 426, with what to upgrade; a poll shows in the host's state."""
    credential = enrolled(served, "strange").credential
    strange = b'{"protocol":9,"tool":"9.0","live":"another shape"}'
    answers = [
        asked(served, "/v1/host/poll", credential, strange),
        asked(served, "/v1/host/reports", credential, strange),
        served.ask("POST", "/v1/enrol", token="", content=strange),
    ]

    assert [426] * 3 == [one.status_code for one in answers]
    assert {"upgrade the broker"} == {one.json()["hint"] for one in answers}
    assert f"a poll of protocol 9: this broker, aquiline {__version__}, speaks 1" == answers[0].json()["error"]
    host = served.ask("GET", "/v1/hosts/strange").json()
    assert ("refused", answers[0].json()["error"]) == (host["state"], host["because"])
    assert 200 == asked(served, "/v1/host/poll", credential, poll("strange")).status_code
    assert "idle" == served.ask("GET", "/v1/hosts/strange").json()["state"]

"""Whatever is sent to the API, made from its own description or against it: the broker never fails by itself."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from aquiline.protocol.messages import Enrol, Enrolled, decode_message, encode_message
from tests.broker.api.conftest import Served

#: Requests to each operation, of each kind.
REQUESTS = 12


@pytest.fixture(scope="module")
def credential(served: Served) -> str:
    """A domain, a sandbox and a host, whose credential this is."""
    assert 201 == served.ask("POST", "/v1/domains", json={"name": "prod"}).status_code
    assert 201 == served.ask("POST", "/v1/sandboxes", json={"name": "box", "start": "prod"}).status_code
    assert 201 == served.ask("POST", "/v1/hosts", json={"name": "web1", "branch": "prod"}).status_code
    token = served.ask("POST", "/v1/join-tokens", json={"pattern": "web1"}).json()["token"]
    wish = Enrol(join_token=token, name="web1", machine_id="a" * 32, journal="j", tool="test")
    return decode_message(
        served.ask("POST", "/v1/enrol", token="", content=encode_message(wish)).content, Enrolled
    ).credential


#: What is there already, so that requests get further than to a name that nobody has.
NAMES = st.sampled_from(["prod", "box", "web1", "prod-1", "prod-2", "nobody", "\ud800", "a\0b", "", "../x", "ä"])


def sent(served: Served, client: httpx.Client, credential: str, case: Any, name: str) -> httpx.Response | None:
    """Send a request as it was made; None where HTTP itself cannot carry it."""
    for key in case.path_parameters or {}:
        if len(name) % 2 == 0:
            case.path_parameters[key] = name
    if isinstance(case.body, dict) and "wait" in case.body:
        case.body["wait"] = 0
    secret = credential if case.path.startswith("/v1/host/") else served.admin
    try:
        wish = case.as_transport_kwargs(base_url=served.url)
        return client.request(
            wish["method"], wish["url"], params=wish.get("params"), json=wish.get("json"),
            content=wish["data"] if isinstance(wish.get("data"), str | bytes) else None,
            headers={"Authorization": f"Bearer {secret}"},
        )  # fmt: skip
    except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError, ValueError, TypeError):
        return None


def answers(served: Served, credential: str, operation: Any, mode: object) -> list[httpx.Response]:
    """Return what the broker says to many requests to one operation."""
    found: list[httpx.Response] = []

    @settings(
        max_examples=REQUESTS, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), name=NAMES)
    def ask(case: Any, name: str) -> None:
        answer = sent(served, client, credential, case, name)
        if answer is not None:
            found.append(answer)

    with httpx.Client(verify=served.tls, timeout=60.0) as client, contextlib.suppress(Unsatisfiable):
        # Of an operation that takes any text nothing can be drawn that does not fit.
        ask()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_makes_it_fail(served: Served, credential: str, mode: str) -> None:
    """Every operation, with bodies and parameters as it describes them, and as it does not: no status is 500."""
    # Imported here: it takes seconds, and only this test needs it.
    from schemathesis import GenerationMode, openapi  # noqa: PLC0415
    from schemathesis.core.result import Ok  # noqa: PLC0415

    document = served.ask("GET", "/schema/openapi.json", token="").json()
    operations = [one.ok() for one in openapi.from_dict(document).get_all_operations() if isinstance(one, Ok)]
    failed: dict[str, list[str]] = {}
    asked = 0

    for operation in operations:
        if operation.label == "DELETE /v1/people/{name}":
            continue  # whoever asks must not be revoked by what is drawn; test_api.py has it
        found = answers(served, credential, operation, GenerationMode(mode))
        asked += len(found)
        wrong = [one for one in found if one.status_code >= 500]
        if wrong:
            failed[operation.label] = [f"{one.request.url} {one.request.content!r} {one.text}"[:600] for one in wrong]

    assert {} == failed
    assert asked > REQUESTS * len(operations) / 3
    assert 200 == served.ask("GET", "/health", token="").status_code


#: Values that one layer or another does not take: numbers beyond a column, a clock or JSON, texts that no name can be.
NASTY: list[Any] = [
    10**30, -(10**30), 1e308, -1, 0, "\ud800", "a\0b", "", "x" * 70_000, "--upload-pack=x", "../../x", "refs/heads/x",
    ["a"], [], {}, None, True, "\u202e", "%n%H", "*", "[", "a\nb: c",
]  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "/v1/domains": {"name": "d1", "start": "prod"},
    "/v1/domains/prod/adopt": {"reason": "r"},
    "/v1/domains/prod/rules": {"needs_approval": False, "author_may_approve": True},
    "/v1/domains/prod/freeze": {"reason": "r"},
    "/v1/domains/prod/thaw": {},
    "/v1/sandboxes": {"name": "s1", "start": "prod"},
    "/v1/hosts": {"name": "h1", "branch": "prod", "reason": "r"},
    "/v1/hosts/web1/manage": {
        "branch": "prod", "test": True, "seconds": 5.0, "approved": "", "reason": "r", "justification": "j",
    },
    "/v1/hosts/web1/hold": {"reason": "r"},
    "/v1/hosts/web1/release": {"reason": "r"},
    "/v1/join-tokens": {"count": 1, "seconds": 5.0, "pattern": "*"},
    "/v1/people": {"name": "somebody", "roles": ["reader"]},
    "/v1/deployments": {
        "sandbox": "box", "domain": "prod", "test": True, "every_host": True, "seconds": 5.0, "approved": "",
        "confirm_within": 0.0, "reason": "r", "justification": "j",
    },
    "/v1/undeployments": {
        "changes": [], "domain": "prod", "last": 1, "to": 1.0, "hosts": ["web1"], "redeploy": False, "test": True,
        "seconds": 5.0, "reason": "r", "justification": "j",
    },
    "/v1/changes/prod-2/approve": {"digest": "d", "seconds": 5.0},
}  # fmt: skip


@pytest.mark.slow
def test_no_value_makes_it_fail(served: Served, credential: str) -> None:
    """One value of a good request at a time is replaced by one that something below cannot take: it is refused."""
    failed: list[str] = []
    asked = 0

    with httpx.Client(base_url=served.url, verify=served.tls, timeout=60.0) as client:
        for path, body in BODIES.items():
            for key in body:
                for value in NASTY:
                    text = json.dumps({**body, key: value})
                    headers = {"Authorization": f"Bearer {served.admin}", "Content-Type": "application/json"}
                    answer = client.post(path, content=text, headers=headers)
                    asked += 1
                    if answer.status_code >= 500:
                        failed.append(f"{path} {key}={str(value)[:20]!r}: {answer.text[:200]}")
        for path in (
            "/v1/branches",
            "/v1/hosts",
            "/v1/changes",
            "/v1/audit",
            "/v1/people",
            "/metrics",
            "/v1/hosts/web1",
        ):
            answer = client.get(path, headers={"Authorization": f"Bearer {served.admin}"})
            if answer.status_code not in (200, 405):
                failed.append(f"{path} afterwards: {answer.text[:200]}")

    assert not failed, "\n".join(failed)
    assert asked > 500

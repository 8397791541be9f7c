"""A broker that is asked to end while hosts wait for news."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from aquiline.protocol.messages import Enrol, Enrolled, Poll, PollAnswer, decode_message, encode_message
from tests.broker.api.conftest import Served, free_port, started

JSON = {"Content-Type": "application/json"}


def test_polls_that_are_open_are_answered(tmp_path: Path) -> None:
    """Each poll that is held open is answered, the broker ends at once, and says nothing that looks like an error."""
    data, port = tmp_path / "data", free_port()
    served = Served(data, port, started(data, port))
    assert 201 == served.ask("POST", "/v1/domains", json={"name": "prod"}).status_code
    assert 201 == served.ask("POST", "/v1/hosts", json={"name": "web0", "branch": "prod"}).status_code
    token = served.ask("POST", "/v1/join-tokens", json={"pattern": "web0"}).json()["token"]
    wish = encode_message(Enrol(join_token=token, name="web0", machine_id="a" * 32, journal="j", tool="test"))
    credential = decode_message(served.ask("POST", "/v1/enrol", token="", content=wish).content, Enrolled).credential
    poll = encode_message(Poll(tool="test", journal="j", machine_id="a" * 32, wait=50.0))
    answers: list[PollAnswer] = []

    def ask() -> None:
        answer = served.ask("POST", "/v1/host/poll", token=credential, content=poll, headers=JSON)
        answers.append(decode_message(answer.content, PollAnswer))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for one in threads:
        one.start()
    time.sleep(1.0)
    assert [] == answers

    begun = time.monotonic()
    served.stop()
    took = time.monotonic() - begun

    for one in threads:
        one.join(timeout=10)
    assert [None] * 3 == [answer.target for answer in answers]
    assert took < 4.0
    log = (tmp_path / "broker.log").read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log

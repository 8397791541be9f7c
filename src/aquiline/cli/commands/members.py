"""``aquiline domain``, ``sandbox``, ``host`` and ``person``: who belongs to the fleet."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from aquiline.changes.text import visible
from aquiline.cli.changing import when
from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.fleet import Actions, add_broker_options, client, run_action, segment
from aquiline.cli.parsing import duration, positive, refuse_unfit
from aquiline.cli.tables import table
from aquiline.errors import UsageError


def _branch_arguments(kind: str, parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    add = actions.add("add", f"make a {kind}", _add_domain if kind == "domain" else _add_sandbox)
    add.add_argument("name", metavar="NAME", help="its name, which is the branch's")
    add.add_argument(
        "--start", default="" if kind == "domain" else "prod", metavar="BRANCH", help="the branch it starts as"
    )
    actions.add("list", f"list every {kind}", _list_domains if kind == "domain" else _list_sandboxes)
    show = actions.add("show", "show it, its hosts and its last changes", _show_branch)
    show.add_argument("name", metavar="NAME")
    if kind == "domain":
        reset = actions.add("reset", "put a branch that was moved outside back to where its hosts are", _reset)
        reset.add_argument("name", metavar="NAME")
        adopt = actions.add("adopt", "deploy what a branch was moved to outside", _adopt)
        adopt.add_argument("name", metavar="NAME")
        adopt.add_argument("--reason", default="", metavar="TEXT")
        rules = actions.add("rules", "show or say whether it takes only what was tested and approved", _rules)
        rules.add_argument("name", metavar="NAME")
        for option, text in (
            ("--needs-approval", "whether only an approved test is deployed"),
            ("--author-may-approve", "whether whoever made a test may approve it"),
        ):
            rules.add_argument(option, choices=("yes", "no"), help=text)
    else:
        remove = actions.add("remove", "remove it; what was deployed of it stays", _remove_sandbox)
        remove.add_argument("name", metavar="NAME")
    add_broker_options(parser)


def _add_domain(invocation: Invocation) -> int:
    return _answer_branch(invocation, "/v1/domains")


def _add_sandbox(invocation: Invocation) -> int:
    return _answer_branch(invocation, "/v1/sandboxes")


def _answer_branch(invocation: Invocation, path: str) -> int:
    arguments = invocation.arguments
    found = client(invocation).ask("POST", path, {"name": arguments.name, "start": arguments.start})
    return _answer(invocation, found, f"{found['kind']} {found['name']} at {found['commit'][:12]}")


def _reset(invocation: Invocation) -> int:
    name = invocation.arguments.name
    client(invocation).ask("POST", f"/v1/domains/{segment(name)}/reset")
    return _answer(invocation, {"domain": name, "reset": True}, f"{name} is where its hosts are")


def _adopt(invocation: Invocation) -> int:
    arguments = invocation.arguments
    found = client(invocation).ask("POST", f"/v1/domains/{segment(arguments.name)}/adopt", {"reason": arguments.reason})
    return _answer(invocation, found, f"change {found['id']}: `aquiline report {found['id']}` says what it means")


def _rules(invocation: Invocation) -> int:
    arguments = invocation.arguments
    said = {"needs_approval": arguments.needs_approval, "author_may_approve": arguments.author_may_approve}
    body = {name: answer == "yes" for name, answer in said.items() if answer is not None}
    at = segment(arguments.name)
    broker = client(invocation)
    if body:
        found = broker.ask("POST", f"/v1/domains/{at}/rules", body)
    else:
        found = _domain(broker.ask("GET", f"/v1/branches/{at}"))
    words = [
        "takes only what was approved" if found["needs_approval"] else "needs no approval",
        "its author may approve" if found["author_may_approve"] else "by somebody else than its author",
    ]
    return _answer(invocation, found, f"{arguments.name}: {', '.join(words)}")


def _domain(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    branch: Mapping[str, Any] = shown["branch"]
    if branch["kind"] != "domain":
        raise UsageError(f"{branch['name']} is a {branch['kind']}: only a domain has rules")
    return branch


def _list_domains(invocation: Invocation) -> int:
    return _list(invocation, "domain")


def _list_sandboxes(invocation: Invocation) -> int:
    return _list(invocation, "sandbox")


def _list(invocation: Invocation, kind: str) -> int:
    found = [one for one in client(invocation).ask("GET", "/v1/branches") if one["kind"] == kind]
    rows = [(one["name"], one["commit"][:12], one["owner"], one["start"], one["frozen"]) for one in found]
    columns = (kind, "commit", "owner", "from", "frozen")
    return _answer(invocation, found, table(columns, rows) or f"no {kind} yet: `aquiline {kind} add NAME`")


def _show_branch(invocation: Invocation) -> int:
    found = client(invocation).ask("GET", f"/v1/branches/{segment(invocation.arguments.name)}")
    branch = found["branch"]
    lines = [f"{branch['kind']} {branch['name']}, by {branch['owner']}, at {branch['commit']}"]
    lines += [f"frozen: {branch['frozen']}"] if branch["frozen"] else []
    lines += [f"{len(found['hosts'])} hosts: {', '.join(found['hosts'][:20])}"]
    return _answer(invocation, found, "\n".join([*map(visible, lines), change_table(found["changes"])]))


def _remove_sandbox(invocation: Invocation) -> int:
    client(invocation).ask("DELETE", f"/v1/sandboxes/{segment(invocation.arguments.name)}")
    return _answer(invocation, {"removed": invocation.arguments.name}, f"sandbox {invocation.arguments.name} removed")


# ---- hosts ----------------------------------------------------------------------------------------------------------


def _host_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    add = actions.add("add", "make a host a member of a domain", _add_host)
    add.add_argument("name", metavar="HOST")
    add.add_argument("--domain", required=True, metavar="DOMAIN", help="the domain or sandbox whose profile it gets")
    listed = actions.add("list", "list hosts", _list_hosts)
    listed.add_argument("--domain", default="", metavar="DOMAIN", help="only those of this domain or sandbox")
    show = actions.add("show", "show a host: what it is, what it is to be, its changes", _show_host)
    show.add_argument("name", metavar="HOST")
    manage = actions.add("manage", "move a host to another domain or sandbox: a deployment with an undo", _manage)
    manage.add_argument("name", metavar="HOST")
    manage.add_argument("--domain", required=True, metavar="DOMAIN", help="the domain or sandbox it goes to")
    manage.add_argument("--test", action="store_true", help="only ask the host what that would do")
    manage.add_argument("--approved", default="", metavar="DIGEST", help="exactly what was tested and approved")
    for name, summary, run in (
        ("hold", "keep a host as it is", _hold),
        ("release", "let a held host go on", _release),
        ("revoke", "make a host's credential worthless", _revoke),
    ):
        action = actions.add(name, summary, run)
        action.add_argument("name", metavar="HOST")
        if run is not _revoke:
            action.add_argument("--reason", default="", metavar="TEXT")
    add.add_argument("--reason", default="", metavar="TEXT")
    manage.add_argument("--reason", default="", metavar="TEXT")
    join = actions.add("join-token", "make a token with which hosts enrol", _join_token)
    join.add_argument("--count", type=positive, default=1, metavar="N", help="how many hosts may use it (default 1)")
    join.add_argument("--expires", type=duration, default=3600.0, metavar="TIME", help="for how long (default 1h)")
    join.add_argument("--pattern", default="*", metavar="GLOB", help="which names it is good for (default *)")
    add_broker_options(parser)


def _add_host(invocation: Invocation) -> int:
    arguments = invocation.arguments
    body = {"name": arguments.name, "branch": arguments.domain, "reason": arguments.reason}
    found = client(invocation).ask("POST", "/v1/hosts", body)
    return _answer(invocation, found, f"{arguments.name} is a member of {arguments.domain}: change {found['id']}")


def _list_hosts(invocation: Invocation) -> int:
    found = client(invocation).ask("GET", "/v1/hosts", branch=invocation.arguments.domain)
    rows = [
        (
            one["name"], one["branch"], _arrived(one), f"held: {one['held']}" if one["held"] else one["state"] or "new",
            when(one["seen"]) if one["seen"] else "never",
        )
        for one in found
    ]  # fmt: skip
    columns = ("host", "domain", "generation", "state", "last seen")
    return _answer(invocation, found, table(columns, rows) or "no hosts yet: `aquiline host add HOST --domain DOMAIN`")


def _arrived(host: Mapping[str, Any]) -> str:
    return f"{host['generation']}/{host['target']['generation'] if host['target'] else 0}"


def _show_host(invocation: Invocation) -> int:
    found = client(invocation).ask("GET", f"/v1/hosts/{segment(invocation.arguments.name)}")
    live = found["live"]
    lines = [
        f"{found['name']} in {found['branch']}, {found['state'] or 'new'}",
        f"live profile {str(live.get('profile', ''))[:12] or 'none'}",
        f"live changes {', '.join(live.get('change_ids', ())) or 'none'}",
        f"generation {_arrived(found)}",
    ]
    lines += [f"held: {found['held']}"] if found["held"] else []
    rows = [(one["change"], one["state"], one["because"]) for one in found["changes"]]
    return _answer(invocation, found, "\n".join([*map(visible, lines), table(("change", "state", "why"), rows)]))


def _manage(invocation: Invocation) -> int:
    arguments = invocation.arguments
    if arguments.test:
        refuse_unfit(
            {"--approved": arguments.approved}, because="a test changes nothing", hint="leave it out, or --test"
        )
    body = {
        "branch": arguments.domain,
        "test": arguments.test,
        "approved": arguments.approved,
        "reason": arguments.reason,
    }
    found = client(invocation).ask("POST", f"/v1/hosts/{segment(arguments.name)}/manage", body)
    return _answer(invocation, found, f"change {found['id']}: `aquiline report {found['id']}` says what it means")


def _hold(invocation: Invocation) -> int:
    return _say(invocation, "hold", "held")


def _release(invocation: Invocation) -> int:
    return _say(invocation, "release", "released")


def _revoke(invocation: Invocation) -> int:
    name = invocation.arguments.name
    client(invocation).ask("POST", f"/v1/hosts/{segment(name)}/revoke")
    return _answer(invocation, {"host": name, "revoked": True}, f"{name} revoked")


def _say(invocation: Invocation, verb: str, done: str) -> int:
    name = invocation.arguments.name
    client(invocation).ask("POST", f"/v1/hosts/{segment(name)}/{verb}", {"reason": invocation.arguments.reason})
    return _answer(invocation, {"host": name, done: True}, f"{name} {done}")


def _join_token(invocation: Invocation) -> int:
    arguments = invocation.arguments
    body = {"count": arguments.count, "seconds": arguments.expires, "pattern": arguments.pattern}
    found = client(invocation).ask("POST", "/v1/join-tokens", body)
    return _answer(invocation, found, found["token"])


# ---- people ---------------------------------------------------------------------------------------------------------


def _person_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    add = actions.add("add", "let somebody ask for things; prints the token once", _add_person)
    add.add_argument("name", metavar="NAME")
    add.add_argument(
        "--role", action="append", required=True, choices=("reader", "author", "approver", "admin"),
        help="what they may do; may be repeated",
    )  # fmt: skip
    renew = actions.add("renew", "give somebody another token; the one before is worth nothing any more", _renew_person)
    renew.add_argument("name", metavar="NAME")
    revoke = actions.add("revoke", "let somebody ask for nothing any more", _revoke_person)
    revoke.add_argument("name", metavar="NAME")
    add_broker_options(parser)


def _add_person(invocation: Invocation) -> int:
    body = {"name": invocation.arguments.name, "roles": invocation.arguments.role}
    found = client(invocation).ask("POST", "/v1/people", body)
    return _answer(invocation, found, found["token"])


def _renew_person(invocation: Invocation) -> int:
    found = client(invocation).ask("POST", f"/v1/people/{segment(invocation.arguments.name)}/token")
    return _answer(invocation, found, found["token"])


def _revoke_person(invocation: Invocation) -> int:
    name = invocation.arguments.name
    client(invocation).ask("DELETE", f"/v1/people/{segment(name)}")
    return _answer(invocation, {"person": name, "revoked": True}, f"{name} revoked")


def change_table(changes: Sequence[Mapping[str, Any]]) -> str:
    """Return changes as lines, in the order given."""
    rows = [
        (one["id"], when(one["created"]), one["kind"], one["state"], one["author"],
         one["sandbox"] or ", ".join(one["undoes"]), one["reason"])
        for one in changes
    ]  # fmt: skip
    return table(("change", "when", "kind", "state", "by", "what", "reason"), rows)


def _answer(invocation: Invocation, value: object, text: str) -> int:
    if invocation.terminal.is_json:
        invocation.terminal.answer_json(value)
    else:
        invocation.terminal.answer(text)
    return 0


COMMANDS = (
    Command(
        name="domain",
        summary="Add, list and show the branches that hosts run",
        explanation="A domain is a branch of the broker's repository. Only deployments move it.",
        examples=(Example("aquiline domain add prod", "make the first domain"),),
        add_arguments=lambda parser: _branch_arguments("domain", parser),
        run=run_action,
    ),
    Command(
        name="sandbox",
        summary="Add, list, show and remove the branches that people work on",
        explanation="""
            A sandbox starts as a domain is. Push commits to its branch with ordinary git, then deploy it:
            `aquiline deploy SANDBOX --domain DOMAIN --test`.
        """,
        examples=(Example("aquiline sandbox add alice-ntp --start prod", "begin to work on something"),),
        add_arguments=lambda parser: _branch_arguments("sandbox", parser),
        run=run_action,
    ),
    Command(
        name="host",
        summary="Add, list, show, move, hold and release hosts, and let them enrol",
        explanation="""
            Adding or moving a host is a deployment: it has a change ID, a test and an undo. A held host takes tests and
            refuses targets; releasing it brings it to what its domain is by then.
        """,
        examples=(
            Example("aquiline host add web001 --domain prod", "make a host a member"),
            Example("aquiline host join-token --count 20 --pattern 'web*'", "let twenty hosts enrol"),
            Example("aquiline host manage web001 --domain test --test", "what would moving it do?"),
        ),
        add_arguments=_host_arguments,
        run=run_action,
    ),
    Command(
        name="person",
        summary="Let people ask the broker for things",
        explanation="Everybody has a token of their own; the broker keeps its hash and writes down who did what.",
        examples=(
            Example("aquiline person add alice --role author", "print a token for alice"),
            Example("aquiline person renew alice", "she has lost it: print another one"),
        ),
        add_arguments=_person_arguments,
        run=run_action,
    ),
)

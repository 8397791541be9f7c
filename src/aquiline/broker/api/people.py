"""What people ask, and what their command line asks for them."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Controller, MediaType, delete, get, post
from litestar.datastructures import State

from aquiline.broker import adopting, closing, laying, members, reading, reporting, taking_back, verifying
from aquiline.broker.api.identity import admin, approver, author, people_only
from aquiline.broker.api.requests import BrokerRequest
from aquiline.broker.broker import Asker, change_of
from aquiline.broker.records import Approval, AuditEntry, Branch, Change, ChangeHost
from aquiline.broker.rendering import render_report
from aquiline.errors import UsageError


class NewBranch(msgspec.Struct, frozen=True):
    """A branch to be."""

    name: str
    start: str = ""


class NewHost(msgspec.Struct, frozen=True):
    """A host to be a member."""

    name: str
    branch: str
    reason: str = ""


class Why(msgspec.Struct, frozen=True):
    """A reason, or none."""

    reason: str = ""


class Rules(msgspec.Struct, frozen=True):
    """What a domain asks of deployments; None leaves it as it is."""

    needs_approval: bool | None = None
    author_may_approve: bool | None = None


class MoveWish(msgspec.Struct, frozen=True):
    """Where a host is to go."""

    branch: str
    test: bool = False
    seconds: float = laying.TEST_DEADLINE
    approved: str = ""
    reason: str = ""
    justification: str = ""


class NewJoinToken(msgspec.Struct, frozen=True):
    """Which hosts may enrol, and until when."""

    count: int = 1
    seconds: float = 3600.0
    pattern: str = "*"


class NewPerson(msgspec.Struct, frozen=True):
    """Somebody to be let in."""

    name: str
    roles: tuple[str, ...]


class Token(msgspec.Struct, frozen=True):
    """A secret, told once and kept nowhere."""

    token: str


class DeployWish(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox to be deployed or tested."""

    sandbox: str
    domain: str
    test: bool = False
    #: A test asks every host, not only those whose profile changes.
    every_host: bool = False
    #: Seconds after which a test closes.
    seconds: float = laying.TEST_DEADLINE
    approved: str = ""
    include_untested: bool = False
    confirm_within: float = 0.0
    allow_irreversible: bool = False
    reason: str = ""
    justification: str = ""


class UndeployWish(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to be taken back: by ID, or the last of a domain, or all after a date."""

    changes: tuple[str, ...] = ()
    domain: str = ""
    last: int = 0
    #: Seconds since the epoch.
    to: float | None = None
    hosts: tuple[str, ...] = ()
    #: Take later changes back too, and lay them again.
    redeploy: bool = False
    test: bool = False
    seconds: float = laying.TEST_DEADLINE
    reason: str = ""
    justification: str = ""


class VerifyWish(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts to be asked what drifted."""

    #: Or a sandbox that hosts are in.
    domain: str
    #: Node sets, as ``web[001-412]``; none is every host.
    hosts: tuple[str, ...] = ()
    #: Seconds after which it closes.
    seconds: float = laying.TEST_DEADLINE
    reason: str = ""
    justification: str = ""


class Approve(msgspec.Struct, frozen=True):
    """A person read it and agrees."""

    digest: str
    seconds: float = 86400.0


#: What is of no meaning to a test, and to anything else.
_ONLY_LIVE = ("approved", "include_untested", "confirm_within", "allow_irreversible")
_ONLY_TESTS = ("every_host",)


def slashed(name: str) -> str:
    """Return the name of a branch, or the ID of a change of it, as a path has it: with ~ for its slash.

    A slash would be another part of the path, however it is escaped, and no branch has a ~ in its name.
    """
    return name.replace("~", "/")


class People(Controller):
    """The fleet, for people."""

    path = "/v1"
    guards = [people_only]  # noqa: RUF012  # Litestar's way
    tags = ["people"]  # noqa: RUF012  # the same

    # ---- branches ----

    @get("/branches", sync_to_thread=True)
    def branches(self, state: State) -> list[Branch]:
        """List domains and sandboxes."""
        with state.broker.store.reading() as tx:
            return list(tx.branches())

    @get("/branches/{name:str}", sync_to_thread=True)
    def branch(self, state: State, name: str) -> reading.BranchView:
        """Show one, with its hosts and its last changes."""
        return reading.branch(state.broker, slashed(name))

    @post("/domains", guards=[admin], sync_to_thread=True)
    def add_domain(self, request: BrokerRequest, state: State, data: NewBranch) -> Branch:
        """Make a domain."""
        return members.add_domain(state.broker, data.name, Asker(request.user.name), start=data.start)

    @post("/domains/{name:str}/reset", guards=[admin], status_code=204, sync_to_thread=True)
    def reset(self, request: BrokerRequest, state: State, name: str) -> None:
        """Put the branch of a domain that was moved outside back to where its hosts are."""
        members.reset_domain(state.broker, slashed(name), Asker(request.user.name))

    @post("/domains/{name:str}/adopt", guards=[admin], sync_to_thread=True)
    def adopt(self, request: BrokerRequest, state: State, name: str, data: Why) -> Change:
        """Deploy what the branch of a domain was moved to outside."""
        return adopting.adopt(state.broker, slashed(name), Asker(request.user.name, data.reason))

    @post("/domains/{name:str}/rules", guards=[admin], status_code=200, sync_to_thread=True)
    def rules(self, request: BrokerRequest, state: State, name: str, data: Rules) -> Branch:
        """Say whether a domain takes only what was approved, and whether its author may approve it."""
        return members.set_rules(
            state.broker, slashed(name), Asker(request.user.name),
            needs_approval=data.needs_approval, author_may_approve=data.author_may_approve,
        )  # fmt: skip

    @post("/sandboxes", guards=[author], sync_to_thread=True)
    def add_sandbox(self, request: BrokerRequest, state: State, data: NewBranch) -> Branch:
        """Make a sandbox of the author's from a domain."""
        return members.add_sandbox(state.broker, data.name, Asker(request.user.name), start=data.start)

    @delete("/sandboxes/{name:str}", guards=[author], sync_to_thread=True)
    def remove_sandbox(self, request: BrokerRequest, state: State, name: str) -> None:
        """Remove a sandbox."""
        members.remove_sandbox(state.broker, slashed(name), Asker(request.user.name))

    @post("/domains/{name:str}/freeze", guards=[author], status_code=204, sync_to_thread=True)
    def freeze(self, request: BrokerRequest, state: State, name: str, data: Why) -> None:
        """Let nothing be deployed on a domain."""
        members.freeze_domain(state.broker, slashed(name), Asker(request.user.name), data.reason or "no reason given")

    @post("/domains/{name:str}/thaw", guards=[author], status_code=204, sync_to_thread=True)
    def thaw(self, request: BrokerRequest, state: State, name: str) -> None:
        """Let a domain go on."""
        members.freeze_domain(state.broker, slashed(name), Asker(request.user.name), "")

    # ---- hosts ----

    @get("/hosts", sync_to_thread=True)
    def hosts(self, state: State, branch: str = "") -> list[reading.HostView]:
        """List hosts."""
        return reading.hosts(state.broker, branch)

    @get("/hosts/{name:str}", sync_to_thread=True)
    def host(self, state: State, name: str) -> reading.HostView:
        """Show a host: what it is, what it is to be, and its changes."""
        return reading.host(state.broker, name)

    @post("/hosts", guards=[author], sync_to_thread=True)
    def add_host(self, request: BrokerRequest, state: State, data: NewHost) -> Change:
        """Make a host a member."""
        asker = Asker(request.user.name, data.reason)
        return members.add_host(state.broker, data.name, asker, branch=data.branch)

    @post("/hosts/{name:str}/manage", guards=[author], sync_to_thread=True)
    def manage(self, request: BrokerRequest, state: State, name: str, data: MoveWish) -> Change:
        """Move a host to a branch, or ask what that would do."""
        asker = Asker(request.user.name, data.reason, data.justification)
        return members.manage(
            state.broker, name, asker,
            branch=data.branch, is_test=data.test, seconds=data.seconds, approved=data.approved,
        )  # fmt: skip

    @post("/hosts/{name:str}/hold", guards=[author], status_code=204, sync_to_thread=True)
    def hold(self, request: BrokerRequest, state: State, name: str, data: Why) -> None:
        """Keep a host as it is."""
        members.hold(state.broker, name, Asker(request.user.name, data.reason))

    @post("/hosts/{name:str}/release", guards=[author], status_code=204, sync_to_thread=True)
    def release(self, request: BrokerRequest, state: State, name: str, data: Why) -> None:
        """Let a held host go on."""
        members.release(state.broker, name, Asker(request.user.name, data.reason))

    @post("/hosts/{name:str}/revoke", guards=[admin], status_code=204, sync_to_thread=True)
    def revoke(self, request: BrokerRequest, state: State, name: str) -> None:
        """Make a host's credential worthless."""
        members.revoke_host(state.broker, name, Asker(request.user.name))

    @post("/join-tokens", guards=[admin], sync_to_thread=True)
    def add_join_token(self, request: BrokerRequest, state: State, data: NewJoinToken) -> Token:
        """Let hosts enrol."""
        asker = Asker(request.user.name)
        return Token(
            members.add_join_token(state.broker, asker, count=data.count, seconds=data.seconds, pattern=data.pattern)
        )

    # ---- people ----

    @get("/me", sync_to_thread=False)
    def me(self, request: BrokerRequest) -> dict[str, Any]:
        """Say who asks."""
        return {"name": request.user.name, "roles": sorted(request.user.roles)}

    @post("/people", guards=[admin], sync_to_thread=True)
    def add_person(self, request: BrokerRequest, state: State, data: NewPerson) -> Token:
        """Let somebody in."""
        return Token(members.add_person(state.broker, data.name, data.roles, Asker(request.user.name)))

    @post("/people/{name:str}/token", guards=[admin], sync_to_thread=True)
    def renew_token(self, request: BrokerRequest, state: State, name: str) -> Token:
        """Give somebody another token; the one before is worth nothing any more."""
        return Token(members.renew_token(state.broker, name, Asker(request.user.name)))

    @delete("/people/{name:str}", guards=[admin], sync_to_thread=True)
    def revoke_person(self, request: BrokerRequest, state: State, name: str) -> None:
        """Let somebody in no more."""
        members.revoke_person(state.broker, name, Asker(request.user.name))

    @get("/audit", guards=[admin], sync_to_thread=True)
    def audit(self, state: State, about: str = "", limit: int = 100) -> list[AuditEntry]:
        """List who did what, newest first."""
        with state.broker.store.reading() as tx:
            return list(tx.audit_entries(about=about, limit=min(max(limit, 1), 10_000)))

    # ---- changes ----

    @post("/deployments", guards=[author], sync_to_thread=True)
    def deploy(self, request: BrokerRequest, state: State, data: DeployWish) -> Change:
        """Deploy a sandbox on a domain, or ask every host what that would do."""
        asker = Asker(request.user.name, data.reason, data.justification)
        unfit = _ONLY_LIVE if data.test else _ONLY_TESTS
        given = [name for name in unfit if getattr(data, name)]
        if given:
            raise UsageError(
                f"{', '.join(given)}: not for {'a test' if data.test else 'a deployment'}", hint="leave it out"
            )
        if data.test:
            return laying.ask(
                state.broker, data.sandbox, data.domain, asker, every_host=data.every_host, seconds=data.seconds
            )
        return laying.deploy(
            state.broker, data.sandbox, data.domain, asker,
            approved=data.approved, include_untested=data.include_untested,
            confirm_within=data.confirm_within, allow_irreversible=data.allow_irreversible,
        )  # fmt: skip

    @post("/undeployments", guards=[author], sync_to_thread=True)
    def undeploy(self, request: BrokerRequest, state: State, data: UndeployWish) -> Change:
        """Take changes back, or ask every host what that would do."""
        broker, asker = state.broker, Asker(request.user.name, data.reason, data.justification)
        with broker.store.transaction() as tx:
            if data.changes:
                names = list(data.changes)
            elif data.redeploy:
                raise UsageError("the last changes have no later ones to lay again: name the change to take back")
            elif data.domain and (data.last or data.to is not None):
                names = taking_back.last_changes(tx, data.domain, last=data.last, since=data.to)
            else:
                raise UsageError("name changes, or a domain and how many or since when")
            changes = [change_of(tx, name) for name in names]
        if len(changes) == 1 and changes[0].kind == "move" and not data.test:
            if data.redeploy:
                raise UsageError("a move stands in nobody's way: it is taken back without --redeploy")
            return members.undo_move(broker, changes[0], asker)
        return taking_back.undeploy(
            broker, names, asker,
            hosts=data.hosts, is_test=data.test, seconds=data.seconds, redeploy=data.redeploy,
        )  # fmt: skip

    @post("/verifications", guards=[author], sync_to_thread=True)
    def verify(self, request: BrokerRequest, state: State, data: VerifyWish) -> Change:
        """Ask hosts what is not as their last run left it."""
        asker = Asker(request.user.name, data.reason, data.justification)
        return verifying.verify(state.broker, data.domain, asker, hosts=data.hosts, seconds=data.seconds)

    @get("/changes", sync_to_thread=True)
    def changes(self, state: State, domain: str = "", limit: int = 50) -> list[Change]:
        """List changes, newest first."""
        with state.broker.store.reading() as tx:
            return list(tx.changes(domain or None, limit=min(max(limit, 1), 10_000)))

    @get("/changes/{change:str}", sync_to_thread=True)
    def change(self, state: State, change: str) -> Change:
        """Show a change."""
        return closing.looked_at(state.broker, slashed(change))

    @get("/changes/{change:str}/progress", sync_to_thread=True)
    def progress(self, state: State, change: str) -> reading.Progress:
        """Say how far a change is: its state, and how many hosts are in which."""
        return reading.progress(state.broker, slashed(change))

    @get("/changes/{change:str}/hosts", sync_to_thread=True)
    def change_hosts(self, state: State, change: str) -> list[ChangeHost]:
        """List what a change means to each host."""
        closing.looked_at(state.broker, slashed(change))
        with state.broker.store.reading() as tx:
            return list(tx.change_hosts(slashed(change)))

    @get("/changes/{change:str}/report", sync_to_thread=True)
    def report(self, state: State, change: str) -> reporting.FleetReport:
        """Report what a change would do, does or did to the fleet."""
        return reporting.report(state.broker, slashed(change))

    @get("/changes/{change:str}/report.txt", sync_to_thread=True, media_type=MediaType.TEXT)
    def report_text(self, state: State, change: str, show: str = "") -> str:
        """Report the same for people; `show` names the group whose steps are shown with their diffs."""
        return render_report(reporting.report(state.broker, slashed(change)), show=show)

    @get("/hosts/{name:str}/reports", sync_to_thread=True)
    def host_reports(self, state: State, name: str, limit: int = 20) -> list[reading.ReportView]:
        """List what a host reported, newest first."""
        return reading.reports(state.broker, name, limit=min(max(limit, 1), 1000))

    @post("/changes/{change:str}/close", guards=[author], sync_to_thread=True)
    def close(self, request: BrokerRequest, state: State, change: str) -> Change:
        """Close a test or verification before its deadline."""
        return closing.close_early(state.broker, slashed(change), Asker(request.user.name))

    @post("/changes/{change:str}/approve", guards=[approver], sync_to_thread=True)
    def approve(self, request: BrokerRequest, state: State, change: str, data: Approve) -> Approval:
        """Agree to a closed test, by its digest."""
        asker = Asker(request.user.name)
        return laying.approve(state.broker, slashed(change), data.digest, asker, seconds=data.seconds)

"""The accounts and groups of a host as they are, and as a profile makes them: no files, no steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from aquiline.changes.kinds import Probe
from aquiline.errors import NotPossibleHere
from aquiline.host.records import Database
from aquiline.planning.component import View


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account; what is None is taken from the entry that is there."""

    name: str
    uid: str
    gid: str = ""
    comment: str | None = None
    home: str | None = None
    shell: str = ""
    #: A hash.
    password: str | None = None
    #: Of a profile's account: the first is the main one.
    groups: tuple[str, ...] = ()
    create_home: bool = False
    #: The fields of shadow(5) after the hash.
    aging: tuple[str, ...] = ()
    #: The profile has it.
    is_set: bool = False
    #: Its path in the profile.
    where: str = ""

    @property
    def line(self) -> str:
        """The entry in passwd(5)."""
        return ":".join((self.name, "x", self.uid, self.gid, self.comment or "", self.home or "", self.shell))

    @property
    def shadow_line(self) -> str:
        """The entry in shadow(5)."""
        return ":".join((self.name, self.password or "!", *self.aging))


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A group."""

    name: str
    gid: str
    members: frozenset[str] = frozenset()
    password: str = "x"  # noqa: S105 - it says that there is none here
    #: Password and administrators of gshadow(5).
    guarded: tuple[str, str] = ("!", "")

    @property
    def line(self) -> str:
        """The entry in group(5)."""
        return ":".join((self.name, self.password, self.gid, ",".join(sorted(self.members))))

    @property
    def shadow_line(self) -> str:
        """The entry in gshadow(5)."""
        return ":".join((self.name, *self.guarded, ",".join(sorted(self.members))))


class Wanted(msgspec.Struct):
    """All accounts and groups, by name, in the order of the files."""

    users: dict[str, Account]
    groups: dict[str, Group]


class Limits(msgspec.Struct, frozen=True):
    """The largest numbers of accounts and groups that are left alone."""

    uid: int
    gid: int


def read_accounts(host: View) -> Wanted:
    """Return what the files of `host` have; entries without a number are passed over."""
    users: dict[str, Account] = {}
    shadow = _fields(host, "shadow")
    for name, (password, uid, gid, comment, home, shell, *_) in _padded(_fields(host, "passwd"), 6):
        hidden, *aging = shadow.get(name) or [""]
        # One that is not in shadow yet keeps its hash.
        known = hidden or (password if password != "x" else None)  # noqa: S105 - it says that it is elsewhere
        if uid.isdigit():
            users[name] = Account(
                name=name, uid=uid, gid=gid, comment=comment, home=home, shell=shell, password=known, aging=tuple(aging)
            )
    gshadow = dict(_padded(_fields(host, "gshadow"), 3))
    groups: dict[str, Group] = {}
    for name, (password, gid, members, *_) in _padded(_fields(host, "group"), 3):
        if gid.isdigit():
            hidden, administrators = gshadow.get(name, ["!", ""])[:2]
            groups[name] = Group(
                name=name,
                gid=gid,
                members=frozenset(filter(None, members.split(","))),
                password=password,
                guarded=(hidden, administrators),
            )
    return Wanted(users, groups)


def _fields(host: View, database: str) -> dict[str, list[str]]:
    """Return the fields after the name, of every entry."""
    parsed = Database.parsed(host.read(f"/etc/{database}") or b"")
    return {name: (parsed.line(name) or "").split(":")[1:] for name in parsed.names()}


def _padded(entries: Mapping[str, list[str]], count: int) -> Iterable[tuple[str, list[str]]]:
    for name, fields in entries.items():
        yield name, fields + [""] * (count - len(fields))


# ---- what a profile does to them ----------------------------------------------------------------------------------


def remove_unknown_groups(accounts: Wanted, known: Collection[str], limits: Limits) -> None:
    """Remove every group that is not `known` and whose number is above the limit."""
    for name, group in list(accounts.groups.items()):
        if name not in known and int(group.gid) > limits.gid:
            del accounts.groups[name]


def apply_groups(accounts: Wanted, wanted: Mapping[str, tuple[int, tuple[str, ...], bool]]) -> None:
    """Give each group of a profile its number and required members; only those where it says so."""
    for name, (gid, required, is_exact) in sorted(wanted.items()):
        old = accounts.groups.get(name, Group(name=name, gid=""))
        members = frozenset(required) | (frozenset() if is_exact else old.members)
        accounts.groups[name] = msgspec.structs.replace(old, gid=str(gid), members=members)


def remove_unknown_accounts(
    accounts: Wanted, known: Collection[str], limits: Limits, required: Mapping[str, tuple[str, ...]]
) -> None:
    """Remove every account that is not `known` and has a number above the limit, and members that are no accounts."""
    for name, account in list(accounts.users.items()):
        if name not in known and int(account.uid) > limits.uid:
            del accounts.users[name]
    for name, group in accounts.groups.items():
        stays = group.members & {*accounts.users, *required.get(name, ())}
        accounts.groups[name] = msgspec.structs.replace(group, members=stays)


def add_account(
    accounts: Wanted,
    wanted: Account,
    host: View,
    defs: Mapping[str, str],
    last_change: str,
    required: Mapping[str, tuple[str, ...]],
) -> str:
    """Set an account and what it is a member of; return which of its groups there is none of, empty where all are.

    As in Quattor, it is then a member of the groups before that one all the same.
    """
    old = accounts.users.get(wanted.name)
    if old is not None:
        _leave_groups(accounts, wanted.name, required)
    numbers = []
    for name in wanted.groups:
        if name in accounts.groups:
            group = accounts.groups[name]
            numbers.append(group.gid)
            accounts.groups[name] = msgspec.structs.replace(group, members=group.members | {wanted.name})
            continue
        number = name if name.isdigit() else _number_elsewhere(name, host)
        if not number:
            return f"no group {name} on this host"
        numbers.append(number)
    if not numbers and not wanted.gid:
        return "it has no groups"
    ages = (last_change, defs["PASS_MIN_DAYS"], defs["PASS_MAX_DAYS"], defs["PASS_WARN_AGE"], "", "", "")
    accounts.users[wanted.name] = msgspec.structs.replace(
        wanted,
        gid=wanted.gid or numbers[0],
        comment=wanted.comment if wanted.comment is not None or old is None else old.comment,
        home=wanted.home if wanted.home is not None or old is None else old.home,
        shell=wanted.shell or (old.shell if old else ""),
        password=wanted.password or (old.password if old else None),
        aging=(old.aging if old else ()) or ages,
        is_set=True,
    )
    return ""


def _leave_groups(accounts: Wanted, name: str, required: Mapping[str, tuple[str, ...]]) -> None:
    for group, found in accounts.groups.items():
        if name in found.members and name not in required.get(group, ()):
            accounts.groups[group] = msgspec.structs.replace(found, members=found.members - {name})


def _number_elsewhere(name: str, host: View) -> str:
    """Return the number of a group that name services know, empty where none does."""
    if not host.has_group(name):
        return ""
    try:
        found = host.probe(Probe(argv=("getent", "group", name), accepts=(0, 2), reads=("/etc/group",)))
    except NotPossibleHere:
        return ""
    fields = found.stdout.decode("utf-8", "replace").strip().split(":")
    return fields[2] if len(fields) > 2 and fields[2].isdigit() else ""

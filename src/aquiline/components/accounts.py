"""Users, groups, their members and password hashes, home directories and ``/etc/login.defs``.

Schema and behaviour are Quattor's ncm-accounts; docs/reference/components/accounts.md says where ours differs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator, Mapping
from typing import Annotated, Literal

import msgspec

from aquiline.changes.kinds import (
    Change,
    EditFile,
    Inline,
    ReactCommand,
    Reaction,
    SetRecord,
    WriteFile,
)
from aquiline.components.homes import home
from aquiline.components.wantedaccounts import (
    Account,
    Group,
    Limits,
    Wanted,
    add_account,
    apply_groups,
    read_accounts,
    remove_unknown_accounts,
    remove_unknown_groups,
)
from aquiline.errors import ProfileError
from aquiline.host.objects import sha256
from aquiline.planning.component import Changes, Component, Note, Task, View
from aquiline.profile import SECRET

_HERE = "/software/components/accounts"
_LOGIN_DEFS = "/etc/login.defs"
_NSCD = "/usr/sbin/nscd"
#: Whom root belongs with where it is in no group yet.
_ROOT_GROUPS = ("root", "adm", "bin", "daemon", "sys", "disk")
#: The day that Quattor gives as that of a new account's last change of password: 2011-03-01. There is no clock here.
_LAST_CHANGE = "15034"
#: What counts where /etc/login.defs does not say.
_DEFAULTS = {
    "GID_MIN": "100",
    "GID_MAX": "65535",
    "UID_MIN": "100",
    "UID_MAX": "65535",
    "PASS_MIN_DAYS": "0",
    "PASS_MAX_DAYS": "99999",
    "PASS_WARN_AGE": "7",
}
_MODES = {"passwd": 0o644, "group": 0o644, "shadow": 0o400}

Field = Annotated[str, msgspec.Meta(pattern=r"^[^:\n]*$")]
Number = Annotated[int, msgspec.Meta(ge=1)]


class User(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One account, or a pool of them."""

    uid: Annotated[int, msgspec.Meta(ge=0)]
    #: The first is its main group; the number of a group may stand for its name there.
    groups: tuple[str, ...]
    comment: Field | None = None
    home_dir: Field | None = None
    #: Make the home directory, from /etc/skel, where nothing stands there.
    create_home: bool = False
    #: Nothing makes keys, as in Quattor.
    create_keys: bool = False
    #: A hash, as shadow(5) has it; None leaves the one there is, and locks a new account.
    password: Annotated[Field, SECRET] | None = None
    #: Empty leaves the one there is.
    shell: Field = "/bin/bash"
    #: Number of the first account of a pool.
    pool_start: Annotated[int, msgspec.Meta(ge=0)] | None = None
    #: Digits of the number of an account of a pool.
    pool_digits: Number | None = None
    #: How many accounts there are in the pool; None is one account, and no pool.
    pool_size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    #: Nothing reads it.
    info: dict[str, str] = {}
    #: Nothing reads it.
    ldap: bool = False


class GroupInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One group."""

    gid: Number
    #: Nothing reads it: group(5) has no place for it.
    comment: str = ""
    #: They are members whether or not there are such accounts.
    required_members: tuple[Field, ...] = ()
    #: Members that neither this nor an account of the profile names are removed.
    replace_members: bool = False


class LoginDefs(msgspec.Struct, frozen=True, kw_only=True):
    """What is set in /etc/login.defs; None is left alone."""

    uid_min: Number | None = None
    uid_max: Number | None = None
    gid_min: Number | None = None
    gid_max: Number | None = None
    pass_max_days: Number | None = None
    pass_min_days: Number | None = None
    pass_min_len: Number | None = None
    pass_warn_age: Number | None = None
    create_home: Literal["yes", "no"] | None = None
    mail_dir: str | None = None
    umask: str | None = None
    userdel_cmd: str | None = None
    usergroups_enab: bool | None = None


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/software/components/accounts`` holds."""

    users: dict[str, User] = {}
    groups: dict[str, GroupInfo] = {}
    #: Root's hash; None leaves the one there is.
    rootpwd: Annotated[Field, SECRET] | None = None
    #: Root's shell; None leaves the one there is.
    rootshell: Field | None = None
    #: Hashes are in /etc/shadow always.
    shadowpwd: bool = True
    login_defs: LoginDefs = LoginDefs()
    #: Remove accounts and groups that nobody names.
    remove_unknown: bool = False
    #: Which numbers `remove_unknown` leaves alone: those below UID_MIN and GID_MIN, up to UID_MAX and GID_MAX, or none.
    preserved_accounts: Literal["none", "system", "dyn_user_group"] = "dyn_user_group"
    #: Names that `remove_unknown` leaves alone; the values mean nothing.
    kept_users: dict[str, str] = {}
    kept_groups: dict[str, str] = {}
    #: Nothing reads it.
    ldap: bool = False


class Accounts(Component[Configuration]):
    """Quattor's accounts."""

    name = "accounts"
    version = "1"
    configuration = Configuration

    def configure(self, configuration: Configuration, host: View) -> Changes:
        """Yield login.defs, the groups, the accounts that go, those that are set, and the homes."""
        defs = yield from _login_defs(configuration.login_defs, host)
        for database, mode in _MODES.items():
            if not host.exists(f"/etc/{database}"):
                empty = WriteFile(path=f"/etc/{database}", content=Inline(b""), mode=mode, seed=True)
                yield Task(description=f"make an empty /etc/{database}", changes=(empty,))
        before, after = read_accounts(host), read_accounts(host)
        wanted = _wanted(configuration, after)
        groups = configuration.groups.items()
        required = {name: one.required_members for name, one in groups}
        limits = _limits(configuration.preserved_accounts, defs)
        if configuration.remove_unknown:
            remove_unknown_groups(after, {*configuration.groups, *configuration.kept_groups}, limits)
        apply_groups(after, {name: (one.gid, one.required_members, one.replace_members) for name, one in groups})
        if configuration.remove_unknown:
            remove_unknown_accounts(after, {*wanted, *configuration.kept_users, "root"}, limits, required)
        set_accounts = []
        for name in sorted(wanted):
            missing = add_account(after, wanted[name], host, defs, _LAST_CHANGE, required)
            if missing:
                yield Note(f"account {name}: left out: {missing}", lowers_coverage=name != "root")
            else:
                set_accounts.append(name)
        yield from _check_numbers(after, configuration.groups, set_accounts)
        yield from _groups(before.groups, after.groups, host)
        yield from _users(before, after, host)
        for name in set_accounts:
            if wanted[name].create_home and after.users[name].home:
                yield from home(after.users[name], host)


# ---- what is wanted -----------------------------------------------------------------------------------------------


def _wanted(configuration: Configuration, accounts: Wanted) -> dict[str, Account]:
    """Return every account of the profile, pools spread out, and root."""
    found: dict[str, Account] = {}
    for name, user in sorted(configuration.users.items()):
        for one in _pool(name, user):
            if one.name in found:
                raise ProfileError(f"account {one.name} is there twice: a pool makes it", path=f"{_HERE}/users/{name}")
            found[one.name] = one
    root = accounts.users.get("root")
    memberships = sorted(name for name, group in accounts.groups.items() if "root" in group.members)
    groups = tuple(dict.fromkeys(("root", *memberships))) if memberships else _ROOT_GROUPS
    found["root"] = Account(
        name="root",
        uid="0",
        gid="0",
        comment="root",
        home="/root",
        shell=configuration.rootshell or (root.shell if root else "") or "/bin/bash",
        password=configuration.rootpwd,
        groups=tuple(group for group in groups if group in accounts.groups or group in configuration.groups),
    )
    return found


def _pool(name: str, user: User) -> Iterator[Account]:
    one = Account(
        name=name,
        uid=str(user.uid),
        comment=user.comment,
        home=user.home_dir,
        shell=user.shell,
        password=user.password,
        groups=user.groups,
        create_home=user.create_home,
        where=f"{_HERE}/users/{name}",
    )
    if user.pool_size is None:
        yield one
        return
    if user.pool_start is None or user.pool_digits is None:
        raise ProfileError("a pool needs poolStart and poolDigits", path=f"{_HERE}/users/{name}")
    for number in range(user.pool_size):
        suffix = f"{user.pool_start + number:0{user.pool_digits}d}"
        yield msgspec.structs.replace(
            one,
            name=f"{name}{suffix}",
            uid=str(user.uid + number),
            home=f"{user.home_dir}{suffix}" if user.home_dir else user.home_dir,
        )


def _limits(preserved: str, defs: Mapping[str, str]) -> Limits:
    """Return the largest numbers that `remove_unknown` leaves alone."""
    match preserved:
        case "none":
            return Limits(-1, -1)
        case "system":
            return Limits(int(defs["UID_MIN"]) - 1, int(defs["GID_MIN"]) - 1)
        case _:
            return Limits(int(defs["UID_MAX"]), int(defs["GID_MAX"]))


def _check_numbers(accounts: Wanted, groups: Collection[str], users: Collection[str]) -> Iterator[Note]:
    """Refuse numbers of the profile that somebody else has; say which others are shared."""
    for what, ours, numbers in (
        ("accounts", users, {name: one.uid for name, one in accounts.users.items()}),
        ("groups", groups, {name: one.gid for name, one in accounts.groups.items()}),
    ):
        by_number: dict[str, list[str]] = {}
        for name, number in numbers.items():
            by_number.setdefault(number, []).append(name)
        for number, names in by_number.items():
            if len(names) < 2:
                continue
            text = f"{what} {', '.join(sorted(names))} have one number, {number}"
            if any(name in ours and name != "root" for name in names):
                raise ProfileError(text, path=_HERE, hint="give each a number of its own")
            yield Note(text)


# ---- what is yielded ----------------------------------------------------------------------------------------------


def _groups(before: Mapping[str, Group], after: Mapping[str, Group], host: View) -> Iterator[Task]:
    reactions = _forgetting("group", host)
    has_gshadow = host.exists("/etc/gshadow")
    for name in (*(name for name in before if name not in after), *sorted(after)):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None and (old.gid, old.members) == (new.gid, new.members):
            continue
        changes: list[Change] = [SetRecord(database="group", name=name, line=new.line if new else None)]
        if has_gshadow:
            line = new.shadow_line if new else None
            changes.append(SetRecord(database="gshadow", name=name, line=line, secret=True))
        yield Task(
            description=f"{'set' if new else 'remove'} group {name}",
            changes=tuple(changes),
            reactions=reactions,
            cause=f"{_HERE}/groups/{name}",
        )


def _users(before: Wanted, after: Wanted, host: View) -> Iterator[Task | Note]:
    reactions = _forgetting("passwd", host)
    for name, old in before.users.items():
        if name in after.users:
            continue
        changes = tuple(_record(database, name, None) for database in ("passwd", "shadow"))
        yield Task(description=f"remove account {name}", changes=changes, reactions=reactions)
        if old.home and host.exists(old.home):
            yield Note(f"account {name} is removed, its home {old.home} stays as it is")
    for name in [
        *(name for name in before.users if name in after.users),
        *sorted(after.users.keys() - before.users.keys()),
    ]:
        new = after.users[name]
        if new.is_set:
            changes = (_record("passwd", name, new.line), _record("shadow", name, new.shadow_line))
            yield Task(description=f"set account {name}", changes=changes, reactions=reactions, cause=new.where)


def _record(database: Literal["passwd", "shadow"], name: str, line: str | None) -> SetRecord:
    return SetRecord(database=database, name=name, line=line, secret=database == "shadow")


def _forgetting(database: str, host: View) -> tuple[Reaction, ...]:
    """Return the reaction that makes the name service cache forget what it knew, where there is one."""
    if not host.exists(_NSCD):
        return ()
    what = f"let nscd, where it runs, forget what it knows of {database}"
    return (ReactCommand(argv=(_NSCD, "-i", database), description=what, may_fail=True),)


# ---- login.defs ---------------------------------------------------------------------------------------------------


def _login_defs(wanted: LoginDefs, host: View) -> Generator[Change, bool, dict[str, str]]:
    """Yield the edit of /etc/login.defs; return the values that count afterwards."""
    found = host.read(_LOGIN_DEFS)
    lines = (found or b"").decode("utf-8", "surrogateescape").splitlines(keepends=True)
    settings = {field: value for field in wanted.__struct_fields__ if (value := getattr(wanted, field)) is not None}
    for field, value in settings.items():
        text = {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        lines = _with_setting(lines, field.upper(), text)
    content = "".join(lines).encode("utf-8", "surrogateescape")
    if found is None and settings:
        yield WriteFile(path=_LOGIN_DEFS, content=Inline(content), mode=0o644)
    elif found is not None and content != found:
        yield EditFile(path=_LOGIN_DEFS, content=Inline(content), edited_sha256=sha256(found))
    words = [line.split() for line in lines if not line.lstrip().startswith("#")]
    return {**_DEFAULTS, **{one[0]: one[1] for one in words if len(one) > 1}}


def _with_setting(lines: list[str], name: str, value: str) -> list[str]:
    """Return `lines` with every other value of `name` replaced, or the setting at the end where there is none."""
    setting = re.compile(rf"\s*{name}\s+")
    right = re.compile(rf"\s*{name}\s+{re.escape(value)}\s*$")
    replaced = [f"{name}\t{value}\n" if setting.match(line) and not right.match(line) else line for line in lines]
    if any(setting.match(line) for line in replaced):
        return replaced
    if replaced and not replaced[-1].endswith("\n"):
        replaced[-1] += "\n"
    return [*replaced, f"{name}\t{value}\n"]

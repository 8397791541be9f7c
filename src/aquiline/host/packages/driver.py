# mypy: ignore-errors
"""Asks dnf; run by the host's own Python, the one that dnf runs with, and never imported by us.

Reads one JSON question on standard input and answers with JSON, compressed, as the last line of standard output. Written
for every Python that dnf 4 has met (3.6 and later). dnf's own interface says what it means in objects; its messages are
for people, and wrap.
"""

import base64
import json
import sys
import zlib


def evr(package):
    epoch = "" if package.epoch in (0, "0", None) else "%s:" % package.epoch
    return "%s%s-%s" % (epoch, package.version, package.release)


def known(package, base):
    return {
        "name": package.name,
        "arch": package.arch,
        "evr": evr(package),
        "auto": package.reason in ("dependency", "weak-dependency"),
        "many": package.name in base.conf.installonlypkgs
        or any(str(one).split(" ")[0] in base.conf.installonlypkgs for one in package.provides),
    }


def opened(with_repositories):
    import dnf
    import dnf.rpm

    base = dnf.Base()
    base.conf.read()
    # as dnf's own command line does it; without a release number its library cannot read a repository
    release = dnf.rpm.detect_releasever(base.conf.installroot)
    base.conf.substitutions["releasever"] = release or ""
    base.conf.substitutions.update_from_etc(base.conf.installroot, varsdir=base.conf.varsdir)
    base.conf.clean_requirements_on_remove = False
    base.conf.assumeyes = True
    if with_repositories:
        base.read_all_repos()
    base.fill_sack(load_system_repo=True, load_available_repos=with_repositories)
    return base


def native(base):
    return base.conf.basearch


def offered(base, name, arch, version):
    query = base.sack.query().available().filter(name=name)
    found = [one for one in query if not version or evr(one) == version or evr(one).split(":")[-1] == version]
    wanted = [one for one in found if (one.arch == arch if arch else one.arch in ("noarch", native(base)))]
    if not wanted and not arch:
        # below a root of another architecture than ours, whatever it can run
        wanted = found
    return max(wanted) if wanted else None


def in_files(packages, name, arch, version):
    found = [one for one in packages if one.name == name and arch in ("", one.arch) and evr(one) == version]
    return found[-1] if found else None


def installed_ones(base, name, arch):
    query = base.sack.query().installed().filter(name=name)
    return [one for one in query if not arch or one.arch == arch]


def change(base, package, now):
    if not now:
        base.package_install(package)
    elif any(one.evr_eq(package) for one in now):
        base.package_reinstall(package)
    elif any(one.evr_gt(package) for one in now):
        base.package_downgrade(package, strict=True)
    else:
        base.package_upgrade(package)


def request(base, question):
    """Mark what is asked for; return what is wanted of it, and what cannot be had."""
    missing = []
    asked = []
    files = []
    if question.get("files"):
        files = base.add_remote_rpms(question["files"], strict=False)
    wanted = []
    for name, arch, version in question["install"]:
        names = members(base, name[1:], version) if name.startswith("@") else None
        if name.startswith("@") and names is None:
            missing.append("group " + name[1:])
        elif name.startswith("@"):
            # of a group only what there is: its lists are longer than any repository
            wanted += [
                (one, "", "") for one in names if not installed_ones(base, one, "") and offered(base, one, "", "")
            ]
        else:
            wanted.append((name, arch, version))
    for name, arch, version in wanted:
        now = installed_ones(base, name, arch)
        package = in_files(files, name, arch, version) or offered(base, name, arch, version)
        if package is None:
            missing.append(" ".join(word for word in (name, arch, version) if word))
        else:
            change(base, package, now)
            asked.append(package)
    for name, arch, version in question["remove"]:
        for one in installed_ones(base, name, arch):
            if not version or evr(one) == version:
                base.package_remove(one)
    return asked, missing


def resolved(base, question):
    asked, missing = request(base, question)
    if missing:
        return {"error": "no package provides " + ", ".join(missing)}
    base.resolve(allow_erasing=True)
    named = [(one.name, one.arch, evr(one)) for one in asked]
    found = [(one.name, one.arch, evr(one)) for one in base.transaction.install_set]
    skipped = ["%s %s" % (one[0], one[2]) for one in named if one not in found]
    if skipped:
        # an upgrade that conflicts with something is left out by dnf without a word
        return {"error": "it would leave out " + ", ".join(skipped)}
    from libdnf.transaction import TransactionItemReasonToString

    reasons = {}
    # of several packages that are asked for the solver calls some a dependency
    for item in base.transaction:
        reason = TransactionItemReasonToString(item.reason)
        key = (item.pkg.name, item.pkg.arch, evr(item.pkg))
        reasons[key] = "user" if key in named else reason
    comes = [
        dict(known(one, base), reason=reasons.get((one.name, one.arch, evr(one)), ""))
        for one in base.transaction.install_set
    ]
    return {"comes": comes, "goes": [known(one, base) for one in base.transaction.remove_set]}


def checked(base, packages):
    """Check signatures as dnf does on the command line; raise where one is wrong."""
    import dnf

    for one in packages:
        result, message = base.package_signature_check(one)
        if result == 1:
            base.package_import_key(one, lambda *_: True)
        elif result != 0:
            raise dnf.exceptions.Error(message)


def answer_installed(question):
    base = opened(False)
    return {"native": native(base), "packages": [known(one, base) for one in base.sack.query().installed()]}


def answer_surplus(question):
    base = opened(False)
    query = base.sack.query().installed()
    always = set(base.conf.protected_packages) | {"dnf", "rpm", "sh", "setup", "filesystem", "basesystem", "glibc"}
    todo = [one for one in query if one.name in always or one.name.startswith(("kernel", "redhat-release"))]
    for name, arch, version in question["named"]:
        todo += installed_ones(base, name, arch)
    needed = set()
    while todo:
        one = todo.pop()
        if one in needed:
            continue
        needed.add(one)
        for relation in list(one.requires) + list(one.requires_pre) + list(one.recommends):
            if not str(relation).startswith("rpmlib("):
                todo += list(query.filter(provides=relation)) or list(query.filter(file=str(relation)))
    return {"native": native(base), "packages": [known(one, base) for one in query if one not in needed]}


def members(base, group, kinds):
    """Return the names of the packages of a group, of these kinds: mandatory, default, optional."""
    base.read_comps(arch_filter=True)
    found = base.comps.group_by_pattern(group)
    if found is None:
        return None
    lists = {
        "mandatory": found.mandatory_packages,
        "default": found.default_packages,
        "optional": found.optional_packages,
    }
    return [one.name for kind in kinds.split(",") for one in lists.get(kind, ())]


def answer_simulate(question):
    return resolved(opened(True), question)


def answer_offered(question):
    base = opened(True)
    return {"offered": [one for one in question["wanted"] if offered(base, *one) is not None]}


def answer_contents(question):
    # repositories are read only for what no file is kept of: that is what takes its time
    base = opened(len(question["files"]) < len(question["wanted"]))
    kept = base.add_remote_rpms(question["files"], strict=False)
    found = [in_files(kept, *one) or offered(base, *one) for one in question["wanted"]]
    return {"files": [None if one is None else list(one.files) for one in found]}


def answer_fetch(question):
    base = opened(True)
    packages = [offered(base, *one) for one in question["wanted"]]
    missing = [
        " ".join(word for word in one if word) for one, package in zip(question["wanted"], packages) if package is None
    ]
    if missing:
        return {"error": "no repository has " + ", ".join(missing)}
    base.conf.destdir = question["folder"]
    base.download_packages(packages)
    checked(base, packages)
    return {}


def answer_transact(question):
    import dnf.callback

    class Display(dnf.callback.TransactionProgress):
        def __init__(self):
            super(Display, self).__init__()
            self.errors = []

        def error(self, message):
            self.errors.append(str(message))

    base = opened(True)
    outcome = resolved(base, question)
    if outcome.get("error"):
        return outcome
    found = sorted([one["name"], one["arch"], one["evr"]] for one in outcome["comes"])
    gone = sorted([one["name"], one["arch"], one["evr"]] for one in outcome["goes"])
    allowed = [tuple(one) for one in question["allowed"]]
    more = [" ".join(one) for one in found + gone if tuple(one) not in allowed]
    if more:
        return {"error": "dnf would now also touch " + ", ".join(more)}
    remote = [one for one in base.transaction.install_set if not one._from_cmdline]
    base.download_packages(remote)
    checked(base, remote)
    display = Display()
    base.do_transaction([display])
    return {"scripts": display.errors}


def main():
    question = json.load(sys.stdin)
    try:
        answer = globals()["answer_" + question["ask"]](question)
    except Exception as error:  # whatever dnf raises is its answer
        answer = {"error": "%s: %s" % (type(error).__name__, error)}
    sys.stdout.flush()
    print("\n" + base64.b64encode(zlib.compress(json.dumps(answer).encode())).decode())


if __name__ == "__main__":
    main()

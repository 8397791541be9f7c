"""What a plan shows: order, reactions, stages, unknowns, assumptions, failures (D1-D7)."""

from __future__ import annotations

import _thread
import os
import socket
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest

from aquiline.agent import applying
from aquiline.changes.kinds import (
    CommandUndo,
    Inline,
    MakeDirectory,
    Probe,
    ReactCommand,
    ReactUnit,
    RunCommand,
    Touches,
    Validate,
    WriteFile,
)
from aquiline.changes.steps import Plan
from aquiline.host.objects import At, RegularFile
from aquiline.planning.component import Changes, Note, Task, View, Yielded
from aquiline.profile import Profile

from .site import Nothing, Site, component

UNDO = CommandUndo(itself=True)


def write(path: str, text: str = "x\n") -> WriteFile:
    """Return a change that writes a small file."""
    return WriteFile(path=path, content=Inline(text.encode()))


def command(*argv: str, touches: Touches | None = None, **more: object) -> RunCommand:
    """Return a command that runs every time."""
    return RunCommand(argv=argv, touches=touches, always=True, undo=UNDO, **more)  # type: ignore[arg-type]


def components_of(plan: Plan) -> list[str]:
    """Return the components of the steps, in order."""
    return [step.component for step in plan.steps]


def kinds_of(plan: Plan) -> list[str]:
    """Return the kinds of the steps, in order."""
    return [type(step.change).__name__ for step in plan.steps]


class TestOrder:
    def test_later_changes_see_earlier_ones(self, site: Site) -> None:
        """A component sees what all before it will have done, in other components too."""
        site.wants(write("/etc/one", "from one"), name="one")
        site.computes(lambda view: [write("/etc/two", f"copy {view.read('/etc/one')!r}")], name="two", pre=("one",))

        site.apply()

        assert "copy b'from one'" == site.path("/etc/two").read_text()

    def test_missing_parents_are_steps_of_their_own(self, site: Site) -> None:
        """A missing directory is made in a step that undo takes back."""
        site.wants(write("/a/b/c"))

        assert ["/a", "/a/b", "/a/b/c"] == [step.after[0].path for step in site.plan().steps]

    def test_unmentioned_steps_are_numbered_in_execution_order(self, site: Site) -> None:
        """Steps are numbered from 1 in the order they run."""
        site.wants(write("/one"), write("/two"))

        assert [1, 2] == [step.number for step in site.plan().steps]


class TestReactions:
    restart = ReactUnit(unit="web.service", action="restart")

    def test_nothing_changed_nothing_owed(self, site: Site) -> None:
        """A reaction is in the plan only if something it reacts to is."""
        site.path("/file").write_text("x\n")
        site.wants(Task(description="d", changes=(write("/file"),), reactions=(self.restart,)))

        assert () == site.plan().steps

    def test_once_each_at_the_end(self, site: Site) -> None:
        """Two components that call for the same restart get one, after all objects are in place."""
        for name in ("a", "b"):
            site.wants(Task(description="d", changes=(write(f"/{name}"),), reactions=(self.restart,)), name=name)

        plan = site.plan()

        assert ["WriteFile", "WriteFile", "ReactUnit"] == kinds_of(plan)
        assert (1, 2) == plan.steps[2].cause.steps

    def test_before_the_first_opaque_step_of_a_dependant(self, site: Site) -> None:
        """A command of a component that depends on the one that raised it never runs before the reaction (D3)."""
        site.wants(Task(description="d", changes=(write("/a"),), reactions=(self.restart,)), name="a")
        site.wants(command("true"), name="b", pre=("a",))

        assert ["a", "a", "b"] == components_of(site.plan())

    def test_not_before_an_unrelated_command(self, site: Site) -> None:
        """A command of a component that does not depend on it does not bring a reaction forward."""
        site.wants(Task(description="d", changes=(write("/a"),), reactions=(self.restart,)), name="first-of-two")
        site.wants(command("true"), name="and-then")

        assert ["WriteFile", "RunCommand", "ReactUnit"] == kinds_of(site.plan())


class TestUnknown:
    def test_a_command_is_unknown_until_run(self, site: Site) -> None:
        """A plan with an arbitrary command never looks clean: it is counted and lowers coverage."""
        site.wants(command("true"))

        plan = site.plan()

        assert ["unknown"] == [step.certain for step in plan.steps]
        assert (1, 0) == (plan.coverage.steps, plan.coverage.predicted)
        assert plan.coverage.reduced_by

    def test_reading_what_it_touches_defers(self, site: Site) -> None:
        """Whoever reads what a pending command touches is deferred, and so is what depends on it."""
        site.wants(command("true", touches=Touches(paths=("/generated",))), name="a")
        site.computes(lambda view: [write("/copy", str(view.read("/generated")))], name="b", pre=("a",))
        site.wants(write("/c"), name="c", pre=("b",))
        site.wants(write("/d"), name="d")

        plan = site.plan()

        states = {name: report.state for name, report in plan.components.items()}
        assert {"a": "planned", "b": "deferred", "c": "deferred", "d": "planned"} == states

    def test_deferred_components_are_planned_for_real(self, site: Site) -> None:
        """A live run plans what was deferred after the command ran, and journals it as a stage of its own."""
        (site.root / "bin").mkdir()
        make = command("/bin/make-it", touches=Touches(paths=("/generated",)))
        site.wants(make, name="a")
        site.computes(lambda view: [write("/copy", (view.read("/generated") or b"").decode())], name="b", pre=("a",))
        install_shell(site.root)
        (site.root / "bin/make-it").write_text("#!/bin/sh\necho made > /generated\n")
        (site.root / "bin/make-it").chmod(0o755)

        run = site.apply()

        assert 0 == run.exit_status
        assert "made\n" == site.path("/copy").read_text()
        with site.session.reading() as journal:
            assert [1, 2] == [stage.stage for stage in journal.stages(run.run)]
            assert [1, 2] == [step.stage for step in journal.steps(run.run)]

    def test_undeclared_commands_make_later_steps_assumptions(self, site: Site) -> None:
        """After a command that declares nothing, steps of other components are assumptions, in words."""
        site.wants(command("true"), name="a")
        site.wants(write("/b"), name="b", pre=("a",))

        plan = site.plan()

        assert ["unknown", "assumption"] == [step.certain for step in plan.steps]
        assert "true" in plan.steps[1].because[0]

    def test_a_command_needs_a_guard(self, site: Site) -> None:
        """A command with neither guard nor done_when is refused, by name, unless it says that it always runs."""
        site.wants(RunCommand(argv=("true",), undo=UNDO))

        report = site.plan().components["one"]

        assert "failed" == report.state
        assert "neither guard nor done_when" in report.detail


class TestAccounting:
    def test_every_component_is_accounted_for(self, site: Site) -> None:
        """Each component of a profile has a state; nothing is left out in silence."""
        site.wants(write("/a"), name="planned")
        site.wants(name="unchanged")
        site.wants(name="absent")
        del site.components["absent"]
        sections = site.profile().tree["software"]["components"]
        sections["idle"] = {"active": False}
        sections["by-name-only"] = {"dispatch": False}
        profile = Profile({"software": {"components": sections}}, "host.example.org")

        plan = applying.dry_run(site.session, profile)
        states = {name: report.state for name, report in plan.components.items()}

        assert {
            "absent": "missing", "by-name-only": "inactive", "idle": "inactive", "planned": "planned",
            "unchanged": "unchanged",
        } == states  # fmt: skip

    def test_a_component_that_raises_half_way_commits_nothing(self, site: Site) -> None:
        """Nothing half-built is done; dependants are blocked by name; the others go on; the run is partial."""

        def broken(_view: View) -> Iterable[Yielded]:
            yield write("/half")
            raise ZeroDivisionError("oops")

        site.computes(broken, name="broken")
        site.wants(write("/dependant"), name="dependant", pre=("broken",))
        site.wants(write("/other"), name="other")

        run = site.apply()

        assert 15 == run.exit_status
        assert run.plan is not None
        assert "ZeroDivisionError: oops" in run.plan.components["broken"].detail
        assert "test_planning.py" in run.plan.components["broken"].detail
        assert "broken" in run.plan.components["dependant"].detail
        assert (False, False, True) == tuple(site.path(p).exists() for p in ("/half", "/dependant", "/other"))
        assert 0 == site.undo().exit_status
        assert not site.path("/other").exists()

    def test_what_wholly_fails_makes_nothing_live(self, site: Site) -> None:
        """Where every component fails nothing is done, no run is begun, and no other profile becomes live."""

        def broken(_view: View) -> Iterable[Yielded]:
            yield write("/half")
            raise ZeroDivisionError

        site.computes(broken, name="broken")

        run = site.apply()

        assert (15, "", "") == (run.exit_status, run.run, site.live())

    def test_notes_are_lines(self, site: Site) -> None:
        """A component's note is in the plan, and lowers coverage where it says so."""
        site.wants(Note("left out: no such user", lowers_coverage=True))

        plan = site.plan()

        assert ("one: left out: no such user",) == plan.notes
        assert ("one: left out: no such user",) == plan.coverage.reduced_by


class TestCause:
    def test_drift_is_corrective(self, site: Site) -> None:
        """What puts back the value that the journal last left is corrective; anything new is intentional (R32)."""
        site.wants(write("/file"))
        site.apply()
        site.path("/file").write_text("somebody\n")

        assert ["corrective"] == [step.cause.type for step in site.plan().steps]

        site.wants(write("/file", "new\n"))

        assert ["intentional"] == [step.cause.type for step in site.plan().steps]


class TestGuard:
    @pytest.mark.parametrize("cheat", ["write", "process", "socket", "remove", "fifo", "node", "thread", "raw", "pool"])
    def test_component_code_cannot_cheat(self, site: Site, tmp_path: Path, cheat: str) -> None:
        """Writing, starting and connecting from component code fails, naming component and line; nothing happens."""
        target = tmp_path / "cheated"
        victim = tmp_path / "victim"
        victim.touch()

        def cheating(_view: View) -> Iterable[Yielded]:
            if cheat == "write":
                target.write_text("x")
            elif cheat == "process":
                subprocess.run(["touch", str(target)], check=False)
            elif cheat == "socket":
                socket.create_connection(("127.0.0.1", 9))
            elif cheat == "fifo":
                os.mkfifo(target)
            elif cheat == "node":
                os.mknod(target)
            elif cheat == "thread":
                Thread(target=target.touch).start()
            elif cheat == "raw":
                _thread.start_new_thread(target.touch, ())
            elif cheat == "pool":
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(target.touch)
            else:
                victim.unlink()
            yield write("/file")

        site.computes(cheating, name="cheat")

        for report in (site.plan().components["cheat"], site.apply().plan.components["cheat"]):  # type: ignore[union-attr]
            assert "failed" == report.state
            assert "component cheat tried" in report.detail
            assert "test_planning.py:" in report.detail
        assert (False, True) == (target.exists(), victim.exists())

    def test_what_a_component_does_at_its_end(self, site: Site, tmp_path: Path) -> None:
        """A component that is ended early because a change of it is refused is watched to the end of its `finally`."""
        target = tmp_path / "cheated"

        class Cheating(component("cheat", ())):  # type: ignore[misc]
            def configure(self, _configuration: Nothing, _host: View) -> Changes:
                try:
                    yield write("relative")
                finally:
                    target.write_text("x")

        site.wants(name="cheat")
        site.components["cheat"] = Cheating

        report = site.plan().components["cheat"]

        assert ("failed", False) == (report.state, target.exists())
        assert "component cheat tried open" in report.detail

    def test_what_is_no_generator(self, site: Site) -> None:
        """A component whose author forgot to yield fails in words that say so."""

        class Made(component("made", ())):  # type: ignore[misc]
            def configure(self, _configuration: Nothing, _host: View) -> Changes:
                return None  # type: ignore[return-value]

        site.wants(name="made")
        site.components["made"] = Made

        assert "'NoneType' object is not an iterator" in site.plan().components["made"].detail


class TestProbe:
    def test_a_probe_sees_the_host(self, site: Site) -> None:
        """A probe runs in a dry-run too; its answer can decide."""
        install_shell(site.root)
        probe = Probe(argv=("/bin/sh", "-c", "exit 7"), reads=("/nothing",))
        site.computes(lambda view: [write("/answer", str(view.probe(probe).status))], name="asks")

        site.apply()

        assert "7" == site.path("/answer").read_text()

    def test_a_probe_of_what_is_pending_defers(self, site: Site) -> None:
        """A probe that looks at what a pending step changes would answer wrongly: the component is deferred."""
        site.wants(write("/pending"), name="a")
        probe = Probe(argv=("/bin/true",), reads=("/pending",))
        site.computes(lambda view: [write("/answer", str(view.probe(probe)))], name="b", pre=("a",))

        assert "deferred" == site.plan().components["b"].state


class TestValidation:
    def check(self, *argv: str) -> Task:
        """Return a task that writes a file if `argv` finds it good."""
        content = Inline(b"good\n")
        return Task(
            description="checked",
            changes=(Validate(path="/file", content=content, argv=argv), WriteFile(path="/file", content=content)),
        )

    def test_good_content_is_written(self, site: Site) -> None:
        """A validation sees the would-be content on a private copy, and the copy is gone afterwards."""
        install_shell(site.root)
        site.wants(self.check("/bin/sh", "-c", "read word < $0; test $word = good", "{}"))
        before = site.tree()

        assert "planned" == site.plan().components["one"].state
        assert before == site.tree()
        assert 0 == site.apply().exit_status

    def test_bad_content_would_fail(self, site: Site) -> None:
        """A dry-run finds what a live run would refuse."""
        install_shell(site.root)
        site.wants(self.check("/bin/sh", "-c", "echo bad >&2; exit 3", "{}"))

        assert "not valid: exit status 3" in site.plan().components["one"].detail

    def test_an_absent_checker_is_said(self, site: Site) -> None:
        """Without its checker a file is written, not validated here, and coverage is lower."""
        site.wants(self.check("/bin/check", "{}"))

        plan = site.plan()

        assert 2 == len(plan.steps)
        assert "not validated here" in plan.coverage.reduced_by[0]

    def test_a_right_file_is_not_checked(self, site: Site) -> None:
        """Where nothing is to be written nothing is checked."""
        site.path("/file").write_text("good\n")
        site.wants(self.check("/bin/check", "{}"))

        assert () == site.plan().steps


class TestDigests:
    def test_same_plan_same_digest(self, site: Site) -> None:
        """Planning twice gives the same plan, byte for byte."""
        site.wants(write("/a"), MakeDirectory(path="/b"), ReactCommand(argv=("x",)))

        assert site.plan() == site.plan()

    def test_the_journal_holds_what_was_planned(self, site: Site) -> None:
        """Plan == journal: what ran is what was shown."""
        site.wants(write("/a/b"), Task(description="t", changes=(write("/c"),), reactions=(ReactCommand(argv=("x",)),)))
        plan = site.plan()

        run = site.apply()

        with site.session.reading() as journal:
            (ran,) = journal.plans(run.run)
            observed = {at.path: at.object for step in journal.steps(run.run) for at in step.observed}
        assert plan.steps == ran.steps
        assert plan.digests == ran.digests
        for at in (at for step in plan.steps for at in step.after):
            assert matches(at, observed)


def matches(planned: At, observed: Mapping[str, object]) -> bool:
    """Return whether a file was left as planned."""
    found = observed[planned.path]
    if isinstance(planned.object, RegularFile) and isinstance(found, RegularFile):
        return planned.object.sha256 == found.sha256
    return type(planned.object) is type(found)


def install_shell(root: Path) -> None:
    """Put a shell and its libraries into a root, so that commands can run below it."""
    lines = subprocess.run(["ldd", "/bin/dash"], capture_output=True, text=True, check=True).stdout
    files = [word for word in lines.replace("=>", " ").split() if word.startswith("/")]
    for name in (*files, "/bin/dash"):
        place = root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(Path(name).read_bytes())
        place.chmod(0o755)
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin/sh").symlink_to("dash")


class TestOwnCommands:
    def test_a_component_may_wait_for_its_own_command(self, site: Site) -> None:
        """What comes before the command is done first; the component goes on when it ran; the command runs once."""
        install_shell(site.root)
        make = command("/bin/sh", "-c", "echo x >> /generated", touches=Touches(paths=("/generated",)))

        def waiting(view: View) -> Iterable[Yielded]:
            yield write("/before")
            yield make
            yield write("/after", (view.read("/generated") or b"").decode())

        site.computes(waiting, name="one")

        plan = site.plan()
        run = site.apply()

        assert "deferred" == plan.components["one"].state
        assert ["WriteFile", "RunCommand"] == kinds_of(plan)
        assert 0 == run.exit_status
        assert "x\n" == site.path("/after").read_text()

    def test_what_is_planned_only_when_named_is_named_in_later_stages_too(self, site: Site) -> None:
        """A component with dispatch false that was named and deferred is planned in the next stage."""
        install_shell(site.root)
        make = command("/bin/sh", "-c", "echo x > /generated", touches=Touches(paths=("/generated",)))
        site.wants(make, name="a")
        site.computes(lambda view: [write("/after", str(view.read("/generated")))], name="b", pre=("a",))
        sections = site.profile().tree["software"]["components"]
        sections["b"]["dispatch"] = False
        profile = Profile({"software": {"components": sections}}, "host.example.org")

        run = applying.apply(site.session, profile, only=("a", "b"), allow_irreversible=True)

        assert 0 == run.exit_status
        assert site.path("/after").exists()


def test_a_profile_that_names_no_component_says_so(site: Site) -> None:
    """Nothing asked for is not the same as nothing to do: a plan of it has a note, and loses no coverage."""
    plan = site.plan()

    assert ("the profile names no component: it asks for nothing",) == plan.notes
    assert ((), ()) == (plan.steps, plan.coverage.reduced_by)

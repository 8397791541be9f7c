"""The example site."""

import gzip
import shutil
from pathlib import Path

import pytest

from aquiline.agent.applying import dry_run
from aquiline.agent.session import Session
from aquiline.profile import load

EXAMPLES = Path(__file__).parent.parent / "examples"
PROFILES = sorted([*EXAMPLES.glob("site/profiles/*"), *EXAMPLES.glob("site/next/*")])


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: "-".join(path.parts[-2:]))
def test_every_profile_plans(profile: Path, tmp_path: Path) -> None:
    """Each profile of the site has a plan in which no component fails and no key goes unread."""
    shutil.copytree(EXAMPLES / "roots" / "web01", tmp_path / "root")

    with Session(str(tmp_path / "root"), templates=str(EXAMPLES / "site" / "templates")) as session:
        plan = dry_run(session, load(str(profile)))

    assert set() == {report.state for report in plan.components.values()} & {"failed", "deferred"}
    assert () == plan.notes


def test_the_compressed_profile_is_the_same() -> None:
    """A profile and its compressed copy are one profile."""
    profile = EXAMPLES / "site/profiles/login01.json"

    assert profile.read_bytes() == gzip.decompress(profile.with_suffix(".json.gz").read_bytes())


def test_a_mistyped_key_is_named_though_its_component_fails(tmp_path: Path) -> None:
    """What nobody read is said even where the component fails, since that is often why."""
    (tmp_path / "root").mkdir()
    profile = tmp_path / "host.yaml"
    profile.write_text("software: {components: {filecopy: {services: {/etc/motd: {confg: x}}}}}")

    with Session(str(tmp_path / "root")) as session:
        plan = dry_run(session, load(str(profile)))

    assert "failed" == plan.components["filecopy"].state
    assert ("/software/components/filecopy/services/{/etc/motd}/confg: unknown key, nothing reads it",) == plan.notes

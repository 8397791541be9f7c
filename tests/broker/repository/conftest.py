"""A repository with one domain, and people who push to it with ordinary git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from aquiline.broker.repository import Repository

GRACE = "Grace Hopper <grace@example.org>"


class Person:
    """Somebody's clone, and the git they have."""

    def __init__(self, folder: Path, repository: Repository) -> None:
        self.folder = folder
        self.repository = repository
        subprocess.run(["git", "clone", "-q", str(repository.path), str(folder)], check=True, env=environment())

    def git(self, *arguments: str, fails: bool = False) -> str:
        found = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert fails == (found.returncode != 0), found.stderr
        return found.stderr if fails else found.stdout.strip()

    def works(self, sandbox: str, files: dict[str, str | None], *, message: str = "work") -> str:
        """Write files into a sandbox (None: remove), commit, push; return the commit."""
        self.git("fetch", "-q")
        self.git("checkout", "-q", "-B", sandbox, f"origin/{sandbox}")
        for name, text in files.items():
            place = self.folder / name
            if text is None:
                place.unlink()
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)
        self.git("push", "-q", "origin", sandbox)
        return self.git("rev-parse", "HEAD")


def environment() -> dict[str, str]:
    names = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
    committer = {key.replace("AUTHOR", "COMMITTER"): value for key, value in names.items()}
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **names, **committer}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with the domain prod, which holds three files, and the sandbox ada/work started from it."""
    seed = tmp_path / "seed"
    (seed / "layers").mkdir(parents=True)
    (seed / "layers" / "base.yaml").write_text("one\ntwo\nthree\n")
    (seed / "layers" / "web.yaml").write_text("web\n")
    (seed / "README").write_text("site\n")
    repository = Repository.create(tmp_path / "site.git")
    repository.add_branch("prod", repository.commit(seed, message="begin", author=GRACE))
    repository.protect(["prod"])
    repository.add_branch("ada/work", "prod")
    return repository


@pytest.fixture
def ada(repository: Repository, tmp_path: Path) -> Person:
    return Person(tmp_path / "ada", repository)

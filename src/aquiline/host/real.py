"""The real host: any root directory of this machine.

Its rooms: `walk` finds directories, `looking` reads objects, `changing` changes them, `attributes` is owner, mode,
times and extended attributes, `commands` runs programs; `accounts`, `systemd` and `packages` are what their names say.

It does not promise that nobody else changes the root at the same time: only that whoever does so cannot make it act
outside the directories they own (DESIGN D14). One thread at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aquiline.host import commands
from aquiline.host.accounts import RootAccounts
from aquiline.host.kept import Keeping
from aquiline.host.labels import PolicyLabels
from aquiline.host.packages import RootPackages
from aquiline.host.protocol import Command, Completed
from aquiline.host.records import LOCK, system_lock
from aquiline.host.systemd import RootUnits


class RealHost(Keeping):
    """The host below the directory `root`.

    Use it as a context manager, or `close` it: it keeps descriptors of recent directories, which hold their file
    systems busy (`forget_directories` lets go of them). Effects on network file systems and automount points raise
    `HostError` unless `allow_network_filesystems`. Inodes are kept in the folder `kept`, files of packages in
    `packages`. `say` is told, a line each, whom is waited for. Raise `HostError` where `root` is no directory.
    """

    def __init__(
        self,
        root: str = "/",
        *,
        kept: Path | None = None,
        packages: Path | None = None,
        allow_network_filesystems: bool = False,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        super().__init__(root, kept=kept, allow_network_filesystems=allow_network_filesystems)
        self._root = os.path.abspath(root)
        self._offline = not os.path.samestat(os.stat(root), os.stat("/"))
        if not self._offline:
            self._labels = PolicyLabels()
        self._accounts = RootAccounts(self, self._accounts_locked)
        self._units = RootUnits(self)
        self._packages = RootPackages(self, str(packages) if packages is not None else "", say)

    @property
    def root(self) -> str:
        return self._root

    @property
    def offline(self) -> bool:
        return self._offline

    @property
    def accounts(self) -> RootAccounts:
        return self._accounts

    @property
    def units(self) -> RootUnits:
        return self._units

    @property
    def packages(self) -> RootPackages:
        return self._packages

    @contextmanager
    def _accounts_locked(self) -> Iterator[None]:
        directory, name = self._place(LOCK, "lock the account databases")
        is_new = self.status(LOCK) is None
        with system_lock(directory, name):
            yield
            if is_new and self._offline:
                # Nobody runs there who might wait for it: an image is left without it.
                os.unlink(name, dir_fd=directory)

    def run(self, command: Command) -> Completed:
        # it may unmount what our descriptors hold busy
        self.forget_directories()
        return commands.run(command, self._walk, offline=self._offline)

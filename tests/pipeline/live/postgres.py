"""A PostgreSQL server of one's own, in a temporary folder, where Debian's package is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
_NOBODY = "postgres"
"""The user of Debian's package: PostgreSQL does not run as root."""


def why_not() -> str | None:
    """Return why there is no server to be started, or None."""
    if not _FOUND:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    if os.geteuid() == 0 and (_NOBODY not in {user.pw_name for user in pwd.getpwall()} or not shutil.which("runuser")):
        return f"PostgreSQL does not run as root, and there is no user {_NOBODY} or no runuser"
    return None


class Server:
    """A server that listens on a socket in its folder alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._bin = folder, _FOUND[-1].parent
        self._databases = 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", _NOBODY, "--", *command]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, timeout=120)

    def init(self) -> None:
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "tester", "--no-sync")

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses=''"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options, "-w", "start"
        )

    def stop(self, mode: str) -> None:
        """Stop it; ``immediate`` is as if the power had gone."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        self._databases += 1
        name = f"campaign_{self._databases}"
        self._run("createdb", "-h", str(self.folder), "-U", "tester", name)
        return f"postgresql+psycopg://tester@/{name}?host={self.folder}"


@contextmanager
def running_server() -> Iterator[Server]:
    """Give a server, and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # the path of its socket must be short
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _NOBODY)
        server = Server(folder)
        server.init()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)

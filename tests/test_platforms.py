"""Windows and macOS: no module needs what only Linux has, and a checkout without symbolic links says what to do.

Neither system is here. What their Python lacks is taken away, and every module of ours is imported anew.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("aggregation", "labelers", "reward_model", "pipeline")

NOT_ON_MAC = {
    "os": (
        *("sched_getaffinity", "sched_setaffinity", "memfd_create", "posix_fadvise", "splice", "eventfd", "pidfd_open"),
        *("O_DIRECT", "O_TMPFILE", "getrandom", "copy_file_range", "setresuid", "getresuid"),
    ),
    "signal": ("SIGPWR", "SIGSTKFLT", "SIGRTMIN", "SIGRTMAX", "SIGPOLL", "sigtimedwait", "sigwaitinfo"),
    "select": ("epoll",),
}
NOT_ON_WINDOWS = {
    "os": (
        *NOT_ON_MAC["os"],
        *("fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "getpgid", "setsid", "killpg", "getloadavg"),
        *("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_SYNC", "O_NONBLOCK", "mkfifo", "chown", "fchown", "fchmod"),
        *("uname", "sysconf", "statvfs", "wait", "wait3", "wait4", "WNOHANG", "register_at_fork", "nice", "pread"),
        *("pwrite", "sendfile", "sync", "fdatasync", "openpty", "ttyname", "setuid", "chroot", "EX_OK", "posix_spawn"),
    ),
    "signal": (
        *NOT_ON_MAC["signal"],
        *("SIGKILL", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGSTOP", "SIGCONT", "SIGPIPE", "SIGQUIT"),
        *("alarm", "setitimer", "getitimer", "pause", "pthread_kill", "pthread_sigmask", "siginterrupt"),
    ),
    "select": ("epoll", "poll"),
    "time": ("tzset",),
}
MODULES_NOT_ON_WINDOWS = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "readline")

IMPORT_EVERYTHING = """
import importlib, os, pkgutil, select, signal, sys, time, types

def import_all():
    import truthful_rlhf
    names = [m.name for m in pkgutil.walk_packages(truthful_rlhf.__path__, "truthful_rlhf.")]
    assert len(names) > 150, names
    for name in names:
        if name in skipped:
            continue
        importlib.import_module(name)

def forget():
    for name in [n for n in sys.modules if n.partition(".")[0] == "truthful_rlhf"]:
        del sys.modules[name]

skipped = SKIPPED
whole = {"os": os, "select": select, "signal": signal, "time": time}
FIRST
for platform, missing, modules in PLATFORMS:
    forget()
    sys.platform = platform
    for owner, names in missing.items():  # a view of its own: libraries that are loaded keep theirs
        view = types.ModuleType(owner)
        vars(view).update({k: v for k, v in vars(whole[owner]).items() if k not in names})
        sys.modules[owner] = view
    for name in modules:
        sys.modules[name] = None  # importing it raises ImportError
    THEN
    print(platform, "imports it")
"""


def import_as_elsewhere(then: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``first`` in a process of its own, and ``then`` as on macOS, then as on Windows."""
    platforms = [("darwin", NOT_ON_MAC, ()), ("win32", NOT_ON_WINDOWS, MODULES_NOT_ON_WINDOWS)]
    without_ppo = () if _has_ppo() else ("truthful_rlhf.pipeline.training.ppo",)
    code = IMPORT_EVERYTHING.replace("SKIPPED", repr(without_ppo)).replace("PLATFORMS", repr(platforms))
    line = [sys.executable, "-c", code.replace("FIRST", first).replace("THEN", then)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def _has_ppo() -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec("trl.experimental.ppo") is not None
    except ModuleNotFoundError:
        return False


def test_every_module_is_imported_without_what_only_linux_has() -> None:
    # first as it is here: what others need is loaded then, and is not our affair
    result = import_as_elsewhere(then="import_all()", first="import_all()")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["darwin imports it", "win32 imports it"]


@pytest.mark.parametrize("line", ["import fcntl", "import os; os.getuid", "from signal import SIGKILL"])
def test_the_check_notices_what_only_linux_has(line: str) -> None:
    """The control: such a line in a module of ours would be found, and on Windows only."""
    result = import_as_elsewhere(then=line)
    assert result.returncode != 0
    assert line.rpartition(" ")[2].rpartition(".")[2] in result.stderr
    assert result.stdout.splitlines() == ["darwin imports it"]


def linux_only(source: str) -> set[str]:
    """Return the names of `NOT_ON_WINDOWS` that a module uses anywhere, imports included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in NOT_ON_WINDOWS.get(node.value.id, ()):
                found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module in NOT_ON_WINDOWS:
            found |= {f"{node.module}.{a.name}" for a in node.names if a.name in NOT_ON_WINDOWS[node.module]}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name in MODULES_NOT_ON_WINDOWS}
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(("/proc/", "/sys/"))
        ):
            found.add(node.value)
    return found


def test_nothing_that_only_linux_has_is_used_later_either() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): linux_only(path.read_text(encoding="utf-8")) for path in files}
    assert {path: names for path, names in found.items() if names} == {}
    assert linux_only("import os, fcntl\nfrom signal import SIGKILL\nos.fork()\nopen('/proc/stat')") == {
        *("fcntl", "signal.SIGKILL", "os.fork", "/proc/stat")
    }, "the control"


@pytest.fixture
def without_links(tmp_path: Path) -> Path:
    """A checkout that git made where there are no symbolic links, as it does on Windows: small text files."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    source, checkout = tmp_path / "source", tmp_path / "checkout"
    for name in ("truthful_rlhf", *PACKAGES):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for line in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "t"]):
        subprocess.run([*git, *line], cwd=source, check=True)
    options = ["clone", "--quiet", "--config", "core.symlinks=false"]
    subprocess.run([*git, *options, str(source), str(checkout)], check=True)
    assert (checkout / "truthful_rlhf/aggregation").read_text(encoding="utf-8") == "../aggregation"
    return checkout


def imported(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_checkout_without_links_says_what_to_do(without_links: Path, tmp_path: Path) -> None:
    for code in ("import truthful_rlhf", "from truthful_rlhf.pipeline.cli import main"):
        result = imported(without_links, code)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1].startswith(
            f"ImportError: {without_links / 'truthful_rlhf'} lacks its folders"
        )
        assert "pip install the wheel" in result.stderr
        assert "core.symlinks" in result.stderr
    assert imported(tmp_path / "source", "import truthful_rlhf.aggregation").returncode == 0, "the control: with links"

"""servers: real mail and DNS servers from Debian's packages, each on its own loopback address.

Belongs here: what all of them share (finding a program, a folder that daemons may enter, waiting for a port).
Not here: one server's configuration (its own module), fixtures (conftest).
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import certs

PORT = 2525
SENDER, OTHER_SENDER = "127.0.0.98", "127.0.0.97"
"""Two addresses of ours: blacklists name the first."""
BLOCK = "Your IP is on our blacklist"


def mtas() -> Path:
    """Where `.ci/get_mtas` unpacks Exim, OpenSMTPD and Sendmail."""
    return Path(os.environ.get("SMTPKIT_MTAS", "/var/tmp/smtpkit-mtas"))


def missing(why: str) -> None:
    """Skip with the reason; on CI, where everything must be there, fail."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)


def program(name: str, package: str) -> str:
    """The path of a daemon or tool; its absence ends the test as `missing`."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        missing(f"{name} is not installed (Debian: apt-get install {package})")
    return str(found)


def unpacked(path: str) -> Path:
    """A binary below `mtas()`, or `missing`."""
    found = mtas() / path
    if not (mtas() / "complete").exists() or not found.exists():
        missing(f"{found} is not there (run .ci/get_mtas as root)")
    return found


def root() -> None:
    """Real mail servers drop to their own users, so they must be started by root."""
    if os.geteuid() != 0:
        missing("real mail servers are started as root")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that other users may enter (pytest's tmp_path is closed to them)."""
    path = Path(tempfile.mkdtemp(prefix="smtpkit-", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def until(what: Callable[[], bool], seconds: float, why: str) -> None:
    """Poll `what` until it is true; AssertionError with `why` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"{why} (waited {seconds:g} s)"
        time.sleep(0.02)


def answers(ip: str, port: int = PORT) -> bool:
    """Does a server take connections there?"""
    try:
        with socket.create_connection((ip, port), timeout=5):
            return True
    except ConnectionRefusedError:
        return False


def copy_of(path: Path, text: str) -> None:
    """Write `text`, dated long ago: Postfix waits 2 s for a file that was just written."""
    path.write_text(text)
    os.utime(path, (0, 0))


def certificate(at: Path, name: str) -> Path:
    """A certificate and its key for `name`, in one PEM file and in two; `ca.pem` beside them trusts it."""
    both = certs.make(at, name) / "good.pem"
    leaf, mark, key = both.read_text().partition("-----BEGIN PRIVATE")
    (at / "cert.pem").write_text(leaf)
    (at / "key.pem").write_text(mark + key)
    (at / "key.pem").chmod(0o600)
    return both


def daemon(command: list[str], log: Path, **options: object) -> "subprocess.Popen[bytes]":
    """Start a server in the foreground, in its own process group; its words go to `log`."""
    with log.open("ab") as words:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    """TERM to the group, KILL after 5 s; returns when it is gone."""
    for signal, seconds in ((15, 5.0), (9, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal)
        try:
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"{process.args!r} does not end")


def when(stamp: str) -> datetime:
    """A log's `Nov 25 23:14:01`, of this year, in the machine's zone, as UTC."""
    now = datetime.now().astimezone()
    read = datetime.strptime(f"{now.year} {stamp}", "%Y %b %d %H:%M:%S").astimezone()
    return (read - timedelta(days=365) if read > now + timedelta(days=1) else read).astimezone(UTC)

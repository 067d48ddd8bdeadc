"""Mail programs that others wrote, as clients of the lab: what they can do, the lab must understand."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from smtpkit.lab import Lab
from tests.tallies import tallies

pytestmark = pytest.mark.server


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("healthy") as lab:
        yield lab


def run(program: str, *words: str) -> str:
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None and os.environ.get("CI") != "true":
        pytest.skip(f"{program} is not installed")
    assert path, f"{program} is not installed"
    done = subprocess.run([path, *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_swaks_with_tls_and_pipelining(lab: Lab) -> None:
    host, port = lab.network.where("192.0.2.11", 25)
    address = ["--server", host, "--port", str(port), "--from", "me@ours.example", "--to", "r@daum.example"]
    said = run("swaks", *address, "--helo", "mail.ours.example", "-tls", "--pipeline", "--body", ".dot\n..two")
    assert "=== TLS started with cipher TLSv1.3" in said
    (mail,) = lab.mailbox
    assert (mail.helo, mail.sender, mail.recipients, mail.tls) == (
        "mail.ours.example", "me@ours.example", ("r@daum.example",), True,
    )  # fmt: skip
    assert b"\r\n.dot\r\n..two\r\n" in mail.octets


def test_swaks_sees_the_one_stale_server() -> None:
    with Lab("stale_421") as lab:
        host, port = lab.network.where("192.0.2.14", 25)
        words = ["--server", host, "--port", str(port), "--quit-after", "RCPT", "--to", "r@daum.example"]
        path = shutil.which("swaks")
        if path is None and os.environ.get("CI") != "true":
            pytest.skip("swaks is not installed")
        assert path, "swaks is not installed"
        done = subprocess.run([path, *words], capture_output=True, text=True, timeout=30, check=False)
        assert "<** 421 4.4.5 CCRT 198.51.100.7: Connection refused. Server is busy(RT)" in done.stdout
        assert done.returncode == 21  # swaks: error at the banner


def test_two_hundred_messages_of_smtp_source(lab: Lab) -> None:
    host, port = lab.network.where("192.0.2.12", 25)
    words = ["-s", "5", "-m", "200", "-l", "20000", "-f", "me@ours.example", "-t", "r@daum.example"]
    run("smtp-source", *words, f"{host}:{port}")
    assert len(lab.mailbox) == 200
    assert {len(mail.octets) >= 20000 for mail in lab.mailbox} == {True}
    assert tallies(lab)["192.0.2.12"].refusals == 0


def test_posttls_finger_reads_the_certificate(lab: Lab) -> None:
    host, port = lab.network.where("192.0.2.11", 25)
    said = run("posttls-finger", "-c", "-l", "may", "-L", "summary,certmatch", f"[{host}]:{port}")
    assert "TLSv1.3" in said
    assert "ECDSA" in said

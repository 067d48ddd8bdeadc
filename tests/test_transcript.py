"""Transcripts: there and back again, as swaks' text, as JSON lines, and as a server that says it once more."""

import shutil
import stat
import subprocess
from math import ceil
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from smtpkit.errors import InvalidInput
from smtpkit.jobs import Heard
from smtpkit.limits import Visit
from smtpkit.mx import MxHost, MxRoute
from smtpkit.reply import Reply
from smtpkit.transcript import Transcript, read_transcripts, swaks_script
from tests.faultserver import NAME, FaultServer, Tls, offers
from tests.truth import HELO, MAIL, PATIENT, network

SWAKS = shutil.which("swaks")


def told(transcript: Transcript) -> list[tuple[str, str, bytes]]:
    return [(line.stage, line.command, line.reply.raw) for line in transcript]


def talk(server: FaultServer, folder: Path) -> Transcript:
    with sk.Dialogue(
        server.address, network=network(folder, "t"), live=True, guard=sk.Guard(allow_to=["@fault.example"]),
        timeouts=PATIENT, server_name=NAME,
    ) as by_hand:  # fmt: skip
        by_hand.ehlo()
        if "STARTTLS" in by_hand.offers:
            by_hand.starttls(), by_hand.ehlo()
        by_hand.mail("me@ours.example")
        by_hand.rcpt("r@fault.example"), by_hand.rcpt("no@fault.example")
        by_hand.data(MAIL)
    return by_hand.transcript


ODD = {
    "ehlo": offers("STARTTLS", "SIZE 1000"),
    "ehlo+tls": offers("SIZE 1000"),
    "starttls": (b"220 go\r\n", Tls()),
    "rcpt <no@fault.example>": "550-5.1.1 no\r\n550 5.1.1 사용자 없음 \x1b[2J\r\n".encode(),
    "dot": b"250 \xc3\xa9\xff queued as 1\r\n",
}


def test_json_lines_keep_every_octet_and_time(tmp_path: Path) -> None:
    with FaultServer(ODD) as server:
        made = talk(server, tmp_path)
    back = Transcript.from_jsonl(made.jsonl())
    assert back.rows == made.rows
    assert all(line.sent_at and line.latency_s >= 0 for line in back)
    with pytest.raises(InvalidInput, match="line 2"):
        Transcript.from_jsonl(made.jsonl().split("\n")[0] + "\n{}\n")


def test_a_replayed_transcript_is_the_same_dialogue(tmp_path: Path) -> None:
    """A stored dialogue as a scripted server, and the same client against it."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    with FaultServer(ODD) as server:
        made = talk(server, tmp_path / "a")
    script: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for stage, octets in made.replay():
        point = {"body": "dot"}.get(stage, stage)
        seen[point] = seen.get(point, 0) + 1
        script[f"{point} {seen[point]}"] = (octets, Tls()) if point == "starttls" else octets
    with FaultServer(script) as server:
        again = talk(server, tmp_path / "b")
    assert told(again) == told(made)
    assert again.tls_from == made.tls_from == 3


def test_our_own_text_is_read_back(tmp_path: Path) -> None:
    with FaultServer(ODD | {"dot": b"250 ok\r\n", "rcpt <no@fault.example>": b"550 no\r\n"}) as server:
        made = talk(server, tmp_path)
    (back,) = read_transcripts(str(made))
    assert told(back) == told(made)
    assert back.tls_from == made.tls_from


# ---- swaks' own output


def swaks(server: FaultServer, *more: str) -> str:
    if not SWAKS:
        pytest.skip("swaks is not installed (Debian: apt-get install swaks)")
    ip, port = server.address
    command = [SWAKS, "--server", ip, "--port", str(port), "--helo", HELO, "-f", "me@ours.example"]
    command += ["-t", "r@fault.example", "--timeout", "10", *more]
    run = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return (run.stdout + run.stderr).decode()


WAYS = {
    "plain": ([], {}, "banner ehlo mail rcpt data body quit"),
    "TLS": (["-tls"], {"ehlo": offers("STARTTLS")}, "banner ehlo starttls ehlo mail rcpt data body quit"),
    "pipelined": (["--pipeline"], {"ehlo": offers("PIPELINING")}, "banner ehlo mail rcpt data body quit"),
    "body hidden": (["-n"], {}, "banner ehlo mail rcpt data body quit"),
    "timed": (["-stl"], {}, "banner ehlo mail rcpt data body quit"),
    "HELO": (["--protocol", "SMTP"], {}, "banner ehlo mail rcpt data body quit"),
    "stopped": (["-q", "MAIL"], {}, "banner ehlo mail quit"),
    "a deceitful body": (
        ["--body", "MAIL FROM:<x>\n.\nDATA\n -> QUIT\n<-  550 no\n=== Trying 192.0.2.1:25..."],
        {},
        "banner ehlo mail rcpt data body quit",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_real_swaks_is_read_as_the_server_said_it(way: str) -> None:
    more, script, stages = WAYS[way]
    with FaultServer(script) as server:
        (made,) = read_transcripts(swaks(server, *more))
        said = server.settled()[0].said
    assert " ".join(line.stage for line in made) == stages
    assert [line.reply.raw for line in made] == [octets for point, octets in said if point != "connect"]
    assert made.note == f"Trying {server.address[0]}:{server.address[1]}..."
    assert made.tls_from == (3 if way == "TLS" else None)
    assert Transcript.from_jsonl(made.jsonl()).rows == made.rows


def test_real_swaks_with_auth_gives_no_password_away() -> None:
    script = {
        "ehlo": offers("AUTH LOGIN"),
        "auth": b"334 VXNlcm5hbWU6\r\n",
        "other 1": b"334 UGFzc3dvcmQ6\r\n",
        "other 2": b"235 ok\r\n",
    }
    with FaultServer(script) as server:
        printed = swaks(server, "-a", "LOGIN", "-au", "jo", "-ap", "hunter2-marker")
    assert "aHVudGVyMi1tYXJrZXI=" in printed, "swaks itself shows it"
    (made,) = read_transcripts(printed)
    assert [line.command for line in made if line.stage == "auth"] == ["AUTH LOGIN ***", "***", "***"]
    assert "aHVudGVy" not in made.jsonl() + str(made)


def test_several_runs_and_one_that_found_nobody() -> None:
    with FaultServer({"rcpt": b"550 5.7.1 blocked\r\n"}) as server:
        text = swaks(server) + swaks(server, "--port", "1") + swaks(server, "-q", "EHLO")
    made = read_transcripts(text)
    assert [" ".join(line.stage for line in one) for one in made] == [
        "banner ehlo mail rcpt quit", "", "banner ehlo quit"
    ]  # fmt: skip
    assert "Connection refused" in made[1].note
    assert [line.reply.code for line in made[0] if not line.expected] == [550]
    with pytest.raises(InvalidInput, match="marks"):
        read_transcripts("nothing of swaks\n")


# ---- a plan as a script for swaks

ROUTE = MxRoute(
    "d.example", "mx", (MxHost("mx1.d.example", 10, ("127.0.0.1",), None, "d.example"),
                        MxHost("mx2.d.example", 20, ("127.0.0.2", "127.0.0.3"), None, "d.example")),
)  # fmt: skip


def test_the_script_keeps_the_pace() -> None:
    script = swaks_script(ROUTE, "me@ours.example", "r@d.example", sender_ips=["192.0.2.7", "192.0.2.8"], rounds=12)
    now, slept, visits = 0.0, 0.0, list[Visit]()
    asked = []
    for word, *rest in (line.split() for line in script.splitlines() if line.startswith(("sleep ", "ask "))):
        if word == "sleep":
            slept = float(rest[0])
        else:
            assert slept == ceil(sk.Pace().wait(visits, rest[0], now)), f"{rest} at {now}: no longer than it must"
            now, slept = now + slept, 0.0
            visits.append(Visit(now, rest[0], now))
            asked.append(tuple(rest))
    assert len(asked) == 72
    assert asked[:3] == [("127.0.0.1", "192.0.2.7"), ("127.0.0.2", "192.0.2.7"), ("127.0.0.3", "192.0.2.7")]
    assert asked[3] == ("127.0.0.1", "192.0.2.8")
    assert now > 3600, "60 an hour"


def test_the_script_runs_and_its_output_is_read(tmp_path: Path) -> None:
    """dash runs it, real swaks asks three servers from two of our addresses; nothing is delivered."""
    if not SWAKS:
        pytest.skip("swaks is not installed (Debian: apt-get install swaks)")
    script = {"rcpt": b"554 5.7.1 blocked\r\n"}
    with FaultServer({}) as one, FaultServer(script, "127.0.0.2") as two:
        ports = {one.address[0]: one.address[1], two.address[0]: two.address[1]}
        route = MxRoute("d.example", "mx", tuple(MxHost(f"mx{ip[-1]}", 10, (ip,)) for ip in ports))
        text = swaks_script(
            route, "me@ours.example", "r@fault.example", sender_ips=["127.0.0.8", "127.0.0.9"], rounds=2,
            helo=HELO, pace=sk.Pace.none(),
        )  # fmt: skip
        lead = "\n".join(f'[ "$1" = {ip} ] && port={port}' for ip, port in ports.items())
        text = text.replace("--port 25", '--port "$port"').replace("  swaks", f"{lead}\n  swaks")
        path = tmp_path / "probe.sh"
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        run = subprocess.run(["sh", path], capture_output=True, check=False, stdin=subprocess.DEVNULL)
        said = [bytes(session.clear) for session in [*one.settled(), *two.settled()]]
    made = read_transcripts(run.stdout.decode())
    assert len(made) == 8
    assert {one.note.split(", ")[0][:6] for one in made} == {"At 202"}
    codes = [next(line.reply.code for line in one if line.stage == "rcpt") for one in made]
    assert codes == [250, 554] * 4
    assert all(b"RCPT TO:<r@fault.example>" in octets for octets in said)
    assert not any(b"DATA" in octets for octets in said)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sender": "me@ours.example'; rm -rf x; '"},
        {"recipient": "r@d.example\necho x"},
        {"helo": "$(id)"},
        {"tls": "always"},
    ],
)
def test_nothing_in_a_script_is_anything_but_words(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        swaks_script(ROUTE, **({"sender": "me@ours.example"} | wrong))


def test_a_quoted_local_part_stays_one_word() -> None:
    script = swaks_script(ROUTE, '"$(id) `x`"@ours.example')
    assert """--from '"$(id) `x`"@ours.example'""" in script


def test_a_line_knows_what_its_code_means() -> None:
    blocked = Heard("rcpt", "RCPT TO:<r@d.example>", Reply(554, b"554 5.7.1 Your IP is on our blacklist\r\n"))
    assert blocked.meaning.startswith("refused for good")
    assert "ip blocked" in blocked.meaning
    assert Heard("data", "DATA", Reply(354, b"354 go\r\n")).meaning.startswith("the server reads the message")
    assert Heard("other", "FOO", Reply(299, b"299 ?\r\n")).meaning == "no code of the standards"
    assert Heard("ehlo", "EHLO x", Reply(None, b"what?\r\n", ("garbage",))).meaning == "no valid reply"

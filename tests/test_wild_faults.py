"""Lines as they stand in logs that people have published, each in a shape of its own with example addresses."""

# ruff: noqa: E501 - lines of logs are long

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk


def read(folder: Path, *lines: str, **more: Any) -> pd.DataFrame:
    (folder / "mail.log").write_text("".join(f"{line}\n" for line in lines))
    return sk.read_log(folder / "mail.log", **({"year": 2026, "tz": "UTC"} | more))


def told(table: pd.DataFrame, names: str) -> list[list[Any]]:
    found = table.sort_values("line", kind="stable")[names.split()]
    return found.astype(object).where(found.notna(), None).to_numpy().tolist()


def beside(table: pd.DataFrame) -> dict[str, int]:
    """Lines that are no try, and problems."""
    counts = {kind: kept["lines"] for kind, kept in table.attrs["skipped"].items()}
    return counts | {"problems": sum(one["count"] for one in table.attrs["problems"])}


E = "2026-03-02 09:14:05 1xAbCd-0001Ef-2G "
MX = "R=d T=remote_smtp H=mx1.example.net [192.0.2.25]"
AFTER = "SMTP error from remote mail server after"
TAKEN = f'=> kim@example.net {MX} X=TLS1.3:A:256 CV=yes C="250 OK"'
OK = ["kim@example.net", "192.0.2.25", "accepted", None]
EXIM = {
    "a server that leaves out TLS's close after QUIT": (
        [
            "H=mx1.example.net [192.0.2.25] TLS error on connection (recv): The TLS connection was non-properly terminated.",
            "H=mx1.example.net [192.0.2.25] TLS error on connection (recv_tls_read): The TLS connection was non-properly terminated.",
            TAKEN,
        ],
        [OK],
    ),
    "a handshake that fails": (
        ["H=mx1.example.net [192.0.2.25] TLS error on connection (SSL_connect): error:0A000152", TAKEN],
        [[None, "192.0.2.25", "failed", "tls_handshake"], OK],
    ),
    "an alias at home": ([TAKEN.replace(" R=", " <info@ours.example> R=")], [OK]),
    "an alias of an alias": ([TAKEN.replace(" R=", " (a@ours.example, b@ours.example) <c@ours.example> R=")], [OK]),
    "two blanks, and a quoted address": ([TAKEN.replace("=> ", "->  ").replace(" R=", ' <" a"@ours.example> R=')], [OK]),
    "a mailbox by its local part": (["=> kim <kim@ours.example> R=v T=dovecot_delivery C=\"250 2.0.0 Saved\""], []),
    "LMTP to a store elsewhere": (
        [
            '=> kim@example.net <kim@example.net> R=v T=remote_lmtp H=box.example.net [192.0.2.77]:2125 C="LMTP done:250 ok"',
            '=> kim <kim@example.net> R=v T=Dovecot_LMTP H=box [192.0.2.77] C="250 Saved"',
        ],
        [],
    ),
    "refused, by Exim 4.80": (
        [f"** kim@example.net R=d T=remote_smtp: {AFTER} RCPT TO:<kim@example.net>: host mx1.example.net [192.0.2.25]: 550-5.1.1 no\\n550 5.1.1 such"],
        [["kim@example.net", "192.0.2.25", "rejected", None]],
    ),
    "deferred, by Exim 4.80": (
        [f"== kim@example.net R=d T=remote_smtp defer (-44): {AFTER} RCPT TO:<kim@example.net>: host mx1.example.net [192.0.2.25]: 450 4.3.2 later"],
        [["kim@example.net", "192.0.2.25", "deferred", None]],
    ),
    "one refused before another took it, by Exim 4.80": (
        [f"{AFTER} MAIL FROM:<s@ours.example>: host mx2.example.net [192.0.2.26]: 421 busy", TAKEN],
        [[None, "192.0.2.26", "deferred", None], OK],
    ),
    "no connection, by Exim 4.80": (
        [
            "mx2.example.net [192.0.2.26] Connection refused",
            "mx1.example.net [192.0.2.25]:25 Operation timed out",
            "== kim@example.net R=d T=remote_smtp defer (60): Operation timed out",
        ],
        [[None, "192.0.2.26", "failed", "refused"], ["kim@example.net", "192.0.2.25", "failed", "timeout"]],
    ),
    "cut off, by Exim 4.80": (
        [
            "SMTP timeout while connected to mx2.example.net [192.0.2.26] after RCPT TO:<kim@example.net>: Connection timed out",
            "Remote host mx3.example.net [192.0.2.27] closed connection in response to EHLO h",
            TAKEN,
        ],
        [[None, "192.0.2.26", "failed", "timeout"], [None, "192.0.2.27", "failed", "lost"], OK],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "rows"), EXIM.values(), ids=EXIM)
def test_exim(lines: list[str], rows: list[Any], tmp_path: Path) -> None:
    table = read(tmp_path, *(E + line for line in lines), mta="exim")
    assert told(table, "recipient mx_ip outcome error") == rows
    assert set(table.domain) <= {"example.net"}
    assert beside(table)["problems"] == 0


def test_exim_by_the_words_of_an_old_version_has_stage_and_reply(tmp_path: Path) -> None:
    table = read(tmp_path, E + EXIM["refused, by Exim 4.80"][0][0], mta="exim")
    assert told(table, "mx_host stage enhanced reply") == [
        ["mx1.example.net", "rcpt", "5.1.1", "550-5.1.1 no\n550 5.1.1 such"]
    ]


def test_a_server_s_words_about_another_host_are_no_server(tmp_path: Path) -> None:
    words = f"{AFTER} end of data: 550 Remote host mx9.example.net [192.0.2.99] closed connection"
    table = read(tmp_path, f"{E}** kim@example.net {MX}: {words}", mta="exim")
    assert told(table, "mx_ip code") == [["192.0.2.25", 550]]


@pytest.mark.parametrize("front", ["/var/log/exim4/mainlog.1:", "2026-03-02T09:14:06.123456789Z ", "exim-1  | "])
def test_exim_behind_grep_and_containers(front: str, tmp_path: Path) -> None:
    table = read(tmp_path, front + E + TAKEN, mta="exim")
    assert told(table, "recipient mx_ip outcome error") == [OK]
    assert (str(table.started_at[0])[:19], beside(table)) == ("2026-03-02 09:14:05", {"problems": 0})

"""Who tells the truth about odd servers? Run: python -m tests.bench.bench_truth [PATTERN]

Plays the deliveries of tests/test_truth.py against smtplib, aiosmtplib, swaks and smtpkit, each on its own
connection to the same scripted server, which knows what it took: a whole message, and a 250 in answer to the
dot. A false success is "accepted" where nothing was taken; a false failure is any other word where the mail was
taken, which ends as a second copy. Where neither is told, the outcome and code of the table count.
"""

import asyncio
import contextlib
import logging
import re
import shutil
import smtplib
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiosmtplib

from tests.faultserver import FaultServer
from tests.test_truth import TABLES
from tests.truth import HELO, MAIL, SENDER, TO, Case, ask, words

Told = tuple[str, str]
"""(outcome, code or "-")"""
SKIPPED = {"probes", "recipients", "extensions", "hostile_texts", "certificates"}
"""Tables about what only one of the four can say, or is asked to do."""


def by_code(code: int | None) -> Told:
    outcome = {4: "deferred", 5: "rejected"}.get((code or 0) // 100, "failed")
    return outcome, str(code) if outcome != "failed" else "-"


def seconds(case: Case) -> float:
    return 1.0 if case.hasty else 10.0


def by_smtplib(case: Case, address: tuple[str, int]) -> Told:
    try:
        with smtplib.SMTP(*address, local_hostname=HELO, timeout=seconds(case)) as client:
            client.ehlo_or_helo_if_needed()
            if client.has_extn("starttls") and case.tls == "may":
                with contextlib.suppress(smtplib.SMTPResponseException):
                    client.starttls(context=ssl._create_unverified_context())
            client.sendmail(SENDER, TO, case.message)
    except smtplib.SMTPRecipientsRefused as no:
        return by_code(no.recipients[TO][0])
    except smtplib.SMTPResponseException as no:
        return by_code(no.smtp_code)
    except (OSError, smtplib.SMTPException, ValueError):
        return "failed", "-"
    return "accepted", "250"


def by_aiosmtplib(case: Case, address: tuple[str, int]) -> Told:
    async def send() -> None:
        tls = None if case.tls == "may" else False
        await aiosmtplib.send(
            case.message, sender=SENDER, recipients=[TO], hostname=address[0], port=address[1],
            local_hostname=HELO, timeout=seconds(case), start_tls=tls, validate_certs=False,
        )  # fmt: skip

    try:
        asyncio.run(send())
    except aiosmtplib.SMTPRecipientsRefused as no:
        return by_code(no.recipients[0].code)
    except aiosmtplib.SMTPResponseException as no:
        return by_code(no.code)
    except (OSError, aiosmtplib.SMTPException, ValueError):
        return "failed", "-"
    return "accepted", "250"


def by_swaks(case: Case, address: tuple[str, int]) -> Told:
    words = [
        "swaks",
        "--server",
        address[0],
        "--port",
        str(address[1]),
        "--helo",
        HELO,
        "-f",
        SENDER,
        "-t",
        TO,
    ]
    words += ["--timeout", str(int(seconds(case))), "--data", "-"]
    words += ["-tlso"] if case.tls == "may" else []
    try:
        run = subprocess.run(words, input=case.message, capture_output=True, timeout=25, check=False)
    except subprocess.TimeoutExpired:
        return "failed", "-"
    if run.returncode == 0:
        return "accepted", "250"
    codes = re.findall(rb"^<[~*]\* +(\d{3})\b", run.stdout, re.MULTILINE)
    return by_code(int(codes[-1]) if codes else None)


def by_smtpkit(case: Case, address: tuple[str, int]) -> Told:
    with tempfile.TemporaryDirectory() as folder:
        told = words(ask(case, address, Path(folder)).to_dict("records")[0]).split()
    return told[0], told[2]


CLIENTS = {"smtplib": by_smtplib, "aiosmtplib": by_aiosmtplib, "swaks": by_swaks, "smtpkit": by_smtpkit}


TAKEN = re.compile(rb"(250-[^\r\n]*\r?\n)*250( [^\r\n]*)?\r?\n")


def took(server: FaultServer) -> bool:
    """Did a session hold a whole message and a good answer to its dot?"""
    said = [said for session in server.sessions for point, said in session.said if point == "dot"]
    return any(TAKEN.fullmatch(one) for one in said)


def score(case: Case, client: str) -> str:
    """right, wrong code, wrong outcome, false success or false failure."""
    outcome, _, code = case.row.split()[:3]
    with FaultServer(case.script, **case.server) as server:
        told = CLIENTS[client](case, server.address)
    if took(server) != (told[0] == "accepted"):
        return "false success" if told[0] == "accepted" else "false failure"
    if told[0] in (outcome, "accepted"):
        return "right" if code in (told[1], "-") or told[0] == "accepted" else "wrong code"
    return "wrong outcome"


def main(pattern: str = "") -> None:
    logging.disable()
    tables = {name: cases for name, cases in TABLES.items() if name not in SKIPPED}
    asked = [c for cases in tables.values() for c in cases if c.message == MAIL and re.search(pattern, c.name)]
    clients = [name for name in CLIENTS if name != "swaks" or shutil.which("swaks")]
    with ThreadPoolExecutor(8) as pool:
        results = {name: list(pool.map(lambda case, n=name: score(case, n), asked)) for name in clients}
    print(f"{len(asked)} deliveries to odd servers")
    kinds = ("right", "wrong code", "wrong outcome", "false failure", "false success")
    print(f"{'':12}" + "".join(f"{kind:>15}" for kind in kinds))
    for name, marks in results.items():
        counted = Counter(marks)
        print(f"{name:12}" + "".join(f"{counted[kind]:15}" for kind in kinds))
    for kind in ("false success", "false failure"):
        for case, mark in zip(asked, results["smtpkit"], strict=True):
            if mark == kind:
                print(f"smtpkit, {kind}: {case.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""EAST's (stage, wrong code) cases, re-expressed: a server that answers any command with any code.

After Poddebniak et al., "Why TLS is better without STARTTLS" (USENIX Security 2021), whose server has
a file a case. The question there: does a client go on in clear? Here also: is the row right?
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faultserver import CLOSE, SILENT, Acts, Wait, offers
from tests.truth import Case, Play, check

WORDS = {
    220: "mx.fault.example ready", 221: "Closing", 354: "Start mail input", 421: "Service not available",
    454: "TLS not available", 500: "Syntax error", 501: "Syntax error in parameters", 502: "Not implemented",
    504: "Parameter not implemented", 530: "Authentication required", 550: "Not available", 554: "Failed",
}  # fmt: skip
TAKEN = "accepted body 250 2.0.0 -"


def says(code: int) -> Acts:
    line = f"{code} {WORDS[code]}\r\n".encode()
    return (line, CLOSE) if code == 421 else line


def told(stage: str, code: int) -> str:
    """A code that may not stand there is a protocol error, 4xx and 5xx are what they say."""
    if code < 400:
        return f"failed {stage} {code} - protocol"
    return f"{'deferred' if code < 500 else 'rejected'} {stage} {code} - -"


def end(code: int) -> str:
    """After a refusal QUIT; after a protocol error or a 421 not one octet."""
    return "Q" if code > 421 else ""


def table() -> Iterator[Case]:
    for code in (221, 354, 421, 500, 501, 530, 554):
        yield Case(f"greeting/{code}", {"banner": says(code)}, told("banner", code), end(code))
    yield Case("greeting/220", {"banner": says(220)}, TAKEN, "EMRDB.Q")
    for code in (220, 221, 354, 421, 530, 550):
        yield Case(f"ehlo/{code}", {"ehlo": says(code)}, told("ehlo", code), "E" + end(code))
    for code in (500, 501, 502, 504):
        yield Case(f"ehlo/{code}", {"ehlo": says(code)}, TAKEN, "EHMRDB.Q")
    everything = offers("DSN", "EXPN", "HELP", "ETRN", "DELIVERBY 3600", "AUTH PLAIN LOGIN", "XYZZY", "VRFY")
    yield Case("ehlo/250-all", {"ehlo": everything}, TAKEN, "EMRDB.Q")
    yield Case("ehlo/250-empty", {"ehlo": b"250 \r\n"}, TAKEN, "EMRDB.Q", anomalies="no_text")
    for code in (220, 221, 354, 421, 500, 501, 530):
        script = {"ehlo": says(500), "helo": says(code)}
        yield Case(f"helo/ehlo500_helo{code}", script, told("ehlo", code), "EH" + end(code))
    for code in (220, 221, 354, 421, 500, 501, 530):
        script = {"banner": says(500), "quit": says(code)}
        yield Case(f"quit/greeting500_quit{code}", script, told("banner", 500), "Q")
        script = {"ehlo": says(500), "rset": says(code)}
        yield Case(f"rset/ehlo500_rset{code}", script, TAKEN, "EHMRDB.Q")
    yield from starttls()


def starttls() -> Iterator[Case]:
    """The client insists on TLS: not one command but EHLO, STARTTLS and QUIT in clear."""
    on = {"ehlo": offers("STARTTLS")}
    must: dict[str, Any] = {"tls": "require"}
    yield Case("starttls/220", on, TAKEN, "ES|EMRDB.Q", **must)
    for code in (221, 354, 421, 454, 500, 501, 530):
        script = on | {"starttls": says(code)}
        yield Case(f"starttls/{code}", script, told("starttls", code), "ES" + end(code), **must)
    lost = "failed starttls - - not_offered"
    yield Case("Negotiation/D_1: no EHLO", {"ehlo": says(502)}, lost, "EHQ", **must)
    yield Case("Negotiation/O_1: not offered", {}, lost, "EQ", **must)
    for n, code in ((2, 502), (3, 454), (4, 354)):
        script = on | {"starttls": says(code)}
        yield Case(f"Negotiation/O_{n}: {code}", script, told("starttls", code), "ES" + end(code), **must)
    both = (b"220 Ready to start TLS\r\n250-mx.fault.example\r\n250 AUTH LOGIN\r\n", Wait(0.1), SILENT)
    row = "failed starttls - - protocol"
    yield Case("Buffering/B_1", on | {"starttls": both}, row, "ES", anomalies="early_bytes", **must)
    strange = offers("AUTH 0SNET ANONYMOUS APOP CRAM-MD5 X-0THROOT XYMCOOKIE PLAIN LOGIN", "STARTTLS")
    yield Case("others/X_1", {"ehlo": strange, "starttls": says(502)}, TAKEN, "ESMRDB.Q")


CASES = {case.name: case for case in table()}


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Play]:
    playing = Play(CASES.values(), tmp_path_factory.mktemp("east"), request)
    yield playing
    playing.close()


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_code(case: str, play: Play) -> None:
    check(play[case])


def test_all_files_of_east_are_here() -> None:
    assert len(CASES) == 56

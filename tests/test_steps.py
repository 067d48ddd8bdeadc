"""The dialogue without a socket: what the server says and what we say, as two texts, and the verdict.

In the server's text `(lost)`, `(timeout)`, `(reset)` end the connection; in ours `(tls)` is the handshake and
`(mark)` the moment when "the dot is about to leave" is on disk.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from smtpkit.address import Envelope
from smtpkit.reply import Reply, ReplyReader
from smtpkit.steps import (
    Ask,
    Connect,
    Effect,
    Got,
    Lost,
    MarkDot,
    Secure,
    Talk,
    Verdict,
    judge,
    leaves_politely,
    session,
)

ONE = Envelope.of("me@ours.example", ["r@daum.example"])
TWO = Envelope.of("me@ours.example", ["r@daum.example", "b@daum.example"])
BODY = b"Subject: x\r\n\r\nhello\r\n"


@dataclass(frozen=True)
class Dialogue:
    """One session: both texts and one line a verdict (outcome, stage, code, error, maybe)."""

    server: str
    client: str
    verdict: str
    talk: dict[str, Any] = field(default_factory=dict)


def heard(text: str) -> list[Reply | str]:
    """The server's text as replies and endings, in order."""
    said: list[Reply | str] = []
    reader = ReplyReader()
    for line in text.strip().splitlines():
        if line.strip().startswith("("):
            said.append(line.strip(" ()"))
            continue
        reader.feed(line.strip().encode() + b"\r\n")
        if (reply := reader.next()) is not None:
            said.append(reply)
    return said


class Player:
    """Answers a step's effects from the server's text, and writes down what we say."""

    def __init__(self, server: str) -> None:
        self.server, self.client = heard(server), ""

    def answer(self, effect: Effect) -> Got:
        if isinstance(effect, Ask):
            self.client += effect.data.decode().replace("\r\n", "\n")
            return self._replies(len(effect.stages))
        if isinstance(effect, Secure | MarkDot):
            self.client += "(tls)\n" if isinstance(effect, Secure) else "(mark)\n"
        expected = self.server[:1] == ["refused"] if isinstance(effect, Connect) else isinstance(effect, Secure)
        return self._ending() if expected else None

    def _ending(self, *replies: Reply) -> Lost | None:
        if self.server and isinstance(self.server[0], str):
            return Lost(self.server.pop(0), replies=replies)
        return None

    def _replies(self, count: int) -> Got:
        got: list[Reply] = []
        while len(got) < count:
            if (lost := self._ending(*got)) is not None:
                return lost
            reply = self.server.pop(0)
            assert isinstance(reply, Reply)
            got.append(reply)
        return got or None


def play(dialogue: Dialogue) -> tuple[str, str]:
    """What we said, and the verdicts."""
    settings = {"helo": "c.example", "until": "body", "envelope": ONE, "body": BODY, "tls": "may"}
    step, player, got = session(Talk(**(settings | dialogue.talk))), Player(dialogue.server), None
    try:
        while True:
            got = player.answer(step.send(got))
    except StopIteration as stop:
        told = [
            (v.outcome, v.stage, str((v.reply and v.reply.code) or "-"), v.error or "-", "maybe" * v.maybe)
            for v in stop.value
        ]
    assert player.server == [], "the step left these unread"
    return player.client, "\n".join(" ".join(words).strip() for words in told)


def tidy(text: str) -> str:
    return "".join(f"{line.strip()}\n" for line in text.strip().splitlines())


OPEN = "220 mx ESMTP\n250 mx\n"
MAIL_TO_DATA = "MAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nDATA\n"
HELLO = "Subject: x\n\nhello\n"
DIALOGUES = {
    "a delivery": Dialogue(
        OPEN + "250 ok\n250 ok\n354 go\n250 queued\n221 bye",
        f"EHLO c.example\n{MAIL_TO_DATA}{HELLO}(mark)\n.\nQUIT",
        "accepted body 250 -",
    ),
    "the seed's HanMail: no From": Dialogue(
        OPEN + "250 2.1.0 me... Sender ok\n250 ok\n354 go\n554 5.6.0 Message requires 'From' header\n221 bye",
        f"EHLO c.example\n{MAIL_TO_DATA}{HELLO}(mark)\n.\nQUIT",
        "rejected body 554 -",
    ),
    "nobody listens": Dialogue("(refused)", "", "failed connect - refused"),
    "a blacklist in the greeting": Dialogue("554 5.7.1 listed\n221 bye", "QUIT", "rejected banner 554 -"),
    "a greeting that closes": Dialogue("421 busy", "", "deferred banner 421 -"),
    "lost at the greeting": Dialogue("(lost)", "", "failed banner - lost"),
    "HELO only": Dialogue(
        "220 old\n502 what\n250 old\n250 ok\n250 ok\n354 go\n250 ok\n221 bye",
        f"EHLO c.example\nHELO c.example\n{MAIL_TO_DATA}{HELLO}(mark)\n.\nQUIT",
        "accepted body 250 -",
    ),
    "EHLO refused for a reason": Dialogue(
        "220 mx\n550 5.7.1 you\n221 bye", "EHLO c.example\nQUIT", "rejected ehlo 550 -"
    ),
    "TLS, and EHLO again": Dialogue(
        "220 mx\n250-mx\n250 STARTTLS\n220 go\n250 mx\n250 ok\n250 ok\n354 go\n250 ok\n221 bye",
        f"EHLO c.example\nSTARTTLS\n(tls)\nEHLO c.example\n{MAIL_TO_DATA}{HELLO}(mark)\n.\nQUIT",
        "accepted body 250 -",
    ),
    "STARTTLS refused, may": Dialogue(
        "220 mx\n250-mx\n250 STARTTLS\n454 not now\n250 ok\n550 no\n221 bye",
        "EHLO c.example\nSTARTTLS\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nQUIT",
        "rejected rcpt 550 -",
    ),
    "STARTTLS refused, require": Dialogue(
        "220 mx\n250-mx\n250 STARTTLS\n454 not now\n221 bye",
        "EHLO c.example\nSTARTTLS\nQUIT",
        "deferred starttls 454 -",
        {"tls": "require"},
    ),
    "STARTTLS answered 421, may": Dialogue(
        "220 mx\n250-mx\n250 STARTTLS\n421 bye", "EHLO c.example\nSTARTTLS", "deferred starttls 421 -"
    ),
    "STARTTLS answered by two codes, may": Dialogue(
        "220 mx\n250-mx\n250 STARTTLS\n220-go\n454 no",
        "EHLO c.example\nSTARTTLS",
        "failed starttls 454 protocol",
    ),
    "EHLO answered by two codes asks no HELO": Dialogue(
        "220 mx\n250-mx\n502 what", "EHLO c.example", "failed ehlo 502 protocol"
    ),
    "STARTTLS refused, where it was asked for": Dialogue(
        "220 mx\n250-mx\n250 STARTTLS\n454 not now\n221 bye",
        "EHLO c.example\nSTARTTLS\nQUIT",
        "deferred starttls 454 -",
        {"until": "starttls", "envelope": None},
    ),
    "STARTTLS not offered, verify": Dialogue(
        OPEN + "221 bye", "EHLO c.example\nQUIT", "failed starttls - not_offered", {"tls": "verify"}
    ),
    "a handshake that fails is the end": Dialogue(
        "220 mx\n250-mx\n250 STARTTLS\n220 go\n(tls_handshake)",
        "EHLO c.example\nSTARTTLS\n(tls)",
        "failed starttls - tls_handshake",
    ),
    "implicit TLS comes before the greeting": Dialogue(
        OPEN + "221 bye",
        "(tls)\nEHLO c.example\nQUIT",
        "passed ehlo 250 -",
        {"tls": "implicit", "until": "ehlo", "envelope": None},
    ),
    "a probe to EHLO": Dialogue(
        OPEN + "221 bye", "EHLO c.example\nQUIT", "passed ehlo 250 -", {"until": "ehlo", "envelope": None}
    ),
    "a probe to RCPT": Dialogue(
        OPEN + "250 ok\n251 forwarded\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nQUIT",
        "passed rcpt 251 -",
        {"until": "rcpt"},
    ),
    "a probe to RCPT that is refused": Dialogue(
        OPEN + "250 ok\n550 5.7.1 you\n250 ok\n221 bye",
        """EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>
        RCPT TO:<b@daum.example>\nQUIT""",
        "rejected rcpt 550 -\npassed rcpt 250 -",
        {"until": "rcpt", "envelope": TWO},
    ),
    "a probe of two recipients: each its own answer": Dialogue(
        OPEN + "250 ok\n250 ok\n251 forwarded\n221 bye",
        """EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>
        RCPT TO:<b@daum.example>\nQUIT""",
        "passed rcpt 250 -\npassed rcpt 251 -",
        {"until": "rcpt", "envelope": TWO},
    ),
    "a probe to MAIL": Dialogue(
        OPEN + "250 ok\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nQUIT",
        "passed mail 250 -",
        {"until": "mail"},
    ),
    "a probe does not pipeline, nor goes beyond RCPT": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n250 ok\n250 ok\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nQUIT",
        "passed rcpt 250 -",
        {"until": "rcpt", "pipeline": True},
    ),
    "PIPELINING is not used unasked": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n250 ok\n550 who\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nQUIT",
        "rejected rcpt 550 -",
    ),
    "421 at the first RCPT ends it for all": Dialogue(
        OPEN + "250 ok\n421 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>",
        "deferred rcpt 421 -\ndeferred rcpt 421 -",
        {"envelope": TWO},
    ),
    "lost at the second RCPT": Dialogue(
        OPEN + "250 ok\n550 who\n(lost)",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nRCPT TO:<b@daum.example>",
        "rejected rcpt 550 -\nfailed rcpt - lost",
        {"envelope": TWO},
    ),
    "one of two recipients": Dialogue(
        OPEN + "250 ok\n550 5.1.1 who\n250 ok\n354 go\n250 ok\n221 bye",
        f"""EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nRCPT TO:<b@daum.example>
        DATA\n{HELLO}(mark)\n.\nQUIT""",
        "rejected rcpt 550 -\naccepted body 250 -",
        {"envelope": TWO},
    ),
    "all recipients refused": Dialogue(
        OPEN + "250 ok\n550 who\n450 later\n221 bye",
        """EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>
        RCPT TO:<b@daum.example>\nQUIT""",
        "rejected rcpt 550 -\ndeferred rcpt 450 -",
        {"envelope": TWO},
    ),
    "552 that means too many recipients": Dialogue(
        OPEN + "250 ok\n552 5.5.3 Too many recipients\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nQUIT",
        "deferred rcpt 552 -",
    ),
    "552 that means a full mailbox": Dialogue(
        OPEN + "250 ok\n552 5.2.2 Mailbox full\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nQUIT",
        "rejected rcpt 552 -",
    ),
    "lost after the dot": Dialogue(
        OPEN + "250 ok\n250 ok\n354 go\n(lost)",
        f"EHLO c.example\n{MAIL_TO_DATA}{HELLO}(mark)\n.",
        "unknown body - lost maybe",
    ),
    "garbage after the dot": Dialogue(
        OPEN + "250 ok\n250 ok\n354 go\nqueued, I think",
        f"EHLO c.example\n{MAIL_TO_DATA}{HELLO}(mark)\n.",
        "unknown body - protocol maybe",
    ),
    "250 is no answer to DATA": Dialogue(
        OPEN + "250 ok\n250 ok\n250 ok", f"EHLO c.example\n{MAIL_TO_DATA}", "failed data 250 protocol"
    ),
    "QUIT decides nothing": Dialogue(
        OPEN + "250 ok\n250 ok\n354 go\n250 ok\n(reset)",
        f"EHLO c.example\n{MAIL_TO_DATA}{HELLO}(mark)\n.\nQUIT",
        "accepted body 250 -",
    ),
    "pipelining": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n250 ok\n250 ok\n354 go\n250 ok\n221 bye",
        f"EHLO c.example\n{MAIL_TO_DATA}{HELLO}(mark)\n.\nQUIT",
        "accepted body 250 -",
        {"pipeline": True},
    ),
    "pipelining, DATA taken for nobody: a lone dot": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n250 ok\n550 who\n354 go\n554 nobody\n221 bye",
        f"EHLO c.example\n{MAIL_TO_DATA}.\nQUIT",
        "rejected rcpt 550 -",
        {"pipeline": True},
    ),
    "pipelining, MAIL refused": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n550 5.7.1 you\n503 what\n503 what\n221 bye",
        f"EHLO c.example\n{MAIL_TO_DATA}QUIT",
        "rejected mail 550 -",
        {"pipeline": True},
    ),
    "pipelining, MAIL refused and all else taken: a lone dot": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n550 5.7.1 you\n250 ok\n354 go\n554 nobody\n221 bye",
        f"EHLO c.example\n{MAIL_TO_DATA}.\nQUIT",
        "rejected mail 550 -",
        {"pipeline": True},
    ),
    "pipelining, MAIL refused and lost: no QUIT into the void": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n550 5.7.1 you\n(lost)",
        f"EHLO c.example\n{MAIL_TO_DATA}",
        "rejected mail 550 -",
        {"pipeline": True},
    ),
    "pipelining, 421 at a RCPT": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n250 ok\n550 who\n421 bye\n421 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nRCPT TO:<b@daum.example>\nDATA\n",
        "rejected rcpt 550 -\ndeferred rcpt 421 -",
        {"pipeline": True, "envelope": TWO},
    ),
    "pipelining, 421 at the second RCPT ends it for the first": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n250 ok\n250 ok\n421 bye\n421 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nRCPT TO:<b@daum.example>\nDATA\n",
        "deferred rcpt 421 -\ndeferred rcpt 421 -",
        {"pipeline": True, "envelope": TWO},
    ),
    "pipelining, 421 at DATA after every refusal: no QUIT to who has left": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n250 ok\n550 who\n421 bye",
        f"EHLO c.example\n{MAIL_TO_DATA}",
        "rejected rcpt 550 -",
        {"pipeline": True},
    ),
    "pipelining that is not offered": Dialogue(
        OPEN + "250 ok\n550 who\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nRCPT TO:<r@daum.example>\nQUIT",
        "rejected rcpt 550 -",
        {"pipeline": True},
    ),
    "pipelining, MAIL answered 421": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n421 bye\n(lost)",
        f"EHLO c.example\n{MAIL_TO_DATA}",
        "deferred mail 421 -",
        {"pipeline": True},
    ),
    "pipelining, lost in the batch": Dialogue(
        "220 mx\n250-mx\n250 PIPELINING\n250 ok\n(lost)",
        f"EHLO c.example\n{MAIL_TO_DATA}",
        "failed rcpt - lost",
        {"pipeline": True},
    ),
    "needed and offered": Dialogue(
        "220 mx\n250-mx\n250-SIZE 1000\n250-8BITMIME\n250 SMTPUTF8\n550 no\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example> SIZE=20 BODY=8BITMIME SMTPUTF8\nQUIT",
        "rejected mail 550 -",
        {"size": 20, "needs_8bit": True, "needs_smtputf8": True},
    ),
    "needed and not offered": Dialogue(
        OPEN + "221 bye", "EHLO c.example\nQUIT", "failed mail - not_offered", {"needs_smtputf8": True}
    ),
    "a size is told only where it is asked for": Dialogue(
        OPEN + "550 no\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nQUIT",
        "rejected mail 550 -",
        {"size": 20},
    ),
    "and only where there is one": Dialogue(
        "220 mx\n250-mx\n250 SIZE 19\n550 no\n221 bye",
        "EHLO c.example\nMAIL FROM:<me@ours.example>\nQUIT",
        "rejected mail 550 -",
    ),
    "larger than the server takes": Dialogue(
        "220 mx\n250-mx\n250 SIZE 19\n221 bye",
        "EHLO c.example\nQUIT",
        "failed mail - not_offered",
        {"size": 20},
    ),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue(name: str) -> None:
    dialogue = DIALOGUES[name]
    client, verdict = play(dialogue)
    assert (client, verdict) == (tidy(dialogue.client) if dialogue.client else "", dialogue.verdict)


def said(text: str) -> Reply:
    reply = heard(text)[0]
    assert isinstance(reply, Reply)
    return reply


NO, OK = said("552 5.3.4 too big"), said("250 ok")
MIXED, TORN = said("550-no\n250 ok"), said("250-ok\n550 no")
MANY, FULL = said("552 5.5.3 too many recipients"), said("550 5.5.3 too many recipients")
JUDGED: dict[str, tuple[str, Got, bool, Verdict | None]] = {
    "refused while the body leaves": (
        "body", Lost("reset", 9, (NO,)), False, Verdict("body", "rejected", NO, cut=True),
    ),
    "refused before the dot had left": (
        "body", Lost("reset", 3, (NO,)), True, Verdict("body", "rejected", NO, cut=True),
    ),
    "an early 250 took nothing": (
        "body", Lost("protocol", 9, (OK,)), False, Verdict("body", "failed", OK, "protocol"),
    ),
    "an early reply of two codes": (
        "body", Lost("lost", 9, (TORN,)), False, Verdict("body", "failed", TORN, "lost"),
    ),
    "a dot that never left": ("body", Lost("lost", 3), True, Verdict("body", "failed", error="lost")),
    "a dot that left": ("body", Lost("lost"), True, Verdict("body", "unknown", error="lost", maybe=True)),
    "a dot that the guard held": (
        "body", Lost("guard", 3), True, Verdict("body", "withheld", error="guard"),
    ),
    "no early reply but 421 decides before the body": (
        "rcpt", Lost("lost", 0, (NO,)), False, Verdict("rcpt", "failed", error="lost"),
    ),
    "two codes are no consent": ("mail", [MIXED], False, Verdict("mail", "failed", MIXED, "protocol")),
    "two codes are no refusal": ("rcpt", [TORN], False, Verdict("rcpt", "failed", TORN, "protocol")),
    "552 is many recipients at RCPT only": ("mail", [MANY], False, Verdict("mail", "rejected", MANY)),
    "and 550 never": ("rcpt", [FULL], False, Verdict("rcpt", "rejected", FULL)),
    "nothing was asked": ("body", None, False, None),
}  # fmt: skip


@pytest.mark.parametrize("why", JUDGED)
def test_a_judgement(why: str) -> None:
    stage, got, dot, verdict = JUDGED[why]
    assert judge(stage, got, dot) == verdict


@pytest.mark.parametrize("pipeline", [True, False])
def test_a_reply_that_came_before_the_commands_answers_none_of_them(pipeline: bool) -> None:
    step = session(Talk(helo="c.example", tls="off", until="body", envelope=ONE, body=BODY, pipeline=pipeline))
    for got in (None, None, [said("220 mx")], [said("250-mx\n250 PIPELINING")]):
        effect = step.send(got)
    assert isinstance(effect, Ask)
    assert effect.data.startswith(b"MAIL")
    with pytest.raises(StopIteration) as end:
        step.send(Lost("protocol", len(effect.data), (OK,)))
    (verdict,) = end.value.value
    assert (verdict.stage, verdict.outcome, verdict.error) == ("mail", "failed", "protocol")


def test_what_cut_a_message_off_is_no_time_for_quit() -> None:
    assert leaves_politely(Verdict("body", "rejected", NO))
    assert not leaves_politely(Verdict("body", "rejected", NO, cut=True)), "it would be a line of the message"

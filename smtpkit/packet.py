"""packet: the letter to a postmaster with its evidence, as Markdown, HTML page, mail draft and CSV.

Belongs here: `report`, pseudonyms, files. Not here: who is guilty (diagnosis), figures and quotes (facts),
the words (data/letter.*.md.j2, report.html.j2), addresses of postmasters (data/contacts.csv).
"""

import re
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from smtpkit import __version__, attempts, drawing, escape, parts, plot, rows
from smtpkit.address import as_ip, is_told, mailbox, mailbox_or_none, refuse_controls
from smtpkit.catalogue import render
from smtpkit.counts import sessions
from smtpkit.diagnosis import Diagnosis, diagnose
from smtpkit.errors import listed, of_kind, one_of, path_of, refuse
from smtpkit.facts import Facts, several
from smtpkit.message import Message, build_message
from smtpkit.network import Network
from smtpkit.styling import redact

KINDS = "mx_block delist_propagation sender_ip_block provider_block rate_limit mx_tls mx_dead".split()
"""Causes that a receiver's postmaster can mend; for the others there is a page and no letter."""
MOST, SHOWN = 20_000, 200
"""Attempts that still go into the draft (of more, only those quoted do); those that the page lists."""
_OFFICE = re.compile(r"(?i)\b(?:abuse|hostmaster|noc|postmaster|security|support)@[\w.-]*\w")  # RFC 2142: no person
FILES = {".md": "letter.md", ".html": "report.html", ".eml": "letter.eml", ".csv": "attempts.csv"}


@dataclass(repr=False)
class Packet:
    """What `report` made. Its text is the letter.

    `subject`: one sentence with counts, or the verdict. `to`: the postmaster's address; "" if there is only a
    form. `letter`: Markdown; None: no receiver could mend this. `table`: attempts.csv. `files`: what was written.
    """

    subject: str
    to: str
    letter: str | None
    table: pd.DataFrame
    author: str | None
    shown: tuple[Facts, Diagnosis, dict[str, Any]]
    files: tuple[Path, ...] = ()

    @cached_property
    def page(self) -> str:
        """HTML with charts, complete in itself: no script, no request. Drawing takes a second."""
        facts, diagnosis, words = self.shown
        more: dict[str, Any] = {"packet": self, "facts": facts, "version": __version__}
        more["now"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
        more["rows"] = self.table.head(SHOWN).astype("str").fillna("").to_dict("records")
        there = copy_context()
        there.run(drawing.TONGUE.set, words["lang"])
        more["charts"] = there.run(_charts, facts.all[list(attempts.COLUMNS)], diagnosis)
        return render("report.html", **words, **more)

    @cached_property
    def draft(self) -> Message | None:
        """The letter as a mail with attempts.csv, to send or to open in a mail program; None: no letter."""
        if not (self.letter and self.author):
            return None
        text, to = self.letter.split("\n\n", 2)[2], [self.to] if self.to else []
        quoted = self.table[self.table.line.ne("")].reset_index(drop=True)
        files = {"attempts.csv": _csv(self.table if len(self.table) <= MOST else quoted)}
        more: Any = {"attachments": files, "headers": {"X-Unsent": "1"}}  # mail programs open it as a draft
        return build_message(sender=self.author, to=to, subject=self.subject, text=text, **more)

    def write(self, path: Path) -> None:
        """Write all files into a folder, or the one whose ending the path has."""
        alone = path.suffix in FILES
        if not alone and path.is_file():
            raise refuse("path", str(path), "is a file", f"name a folder, or end it in {', '.join(FILES)}")
        made = {end: self._octets(end) for end in ([path.suffix] if alone else FILES)}
        if alone and not made[path.suffix]:
            why, instead = f"there is no letter for this: {self.subject}", "end it in .html or .csv"
            if self.letter:
                why, instead = "no attempt says who we are", "give sender="
            raise refuse("path", path.name, f"cannot be written: {why}", instead)
        self.files = tuple(path if alone else path / FILES[end] for end, octets in made.items() if octets)
        for file in self.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)  # who wrote to whom, and what was said, is nobody else's on this machine
            file.write_bytes(made[file.suffix])

    def _octets(self, ending: str) -> bytes:
        """What the file with that ending holds; b"": there is none."""
        if ending == ".eml":
            return self.draft.octets if self.draft else b""
        if ending == ".csv":
            return _csv(self.table)
        return (self.page if ending == ".html" else self.letter or "").encode()

    def __repr__(self) -> str:
        none = f"{self.subject}\nNo letter: no receiver can mend this, or the evidence is not enough.\n"
        bare = "\nno draft: no attempt says who we are; give sender=" * bool(self.letter and not self.author)
        return (self.letter or none) + bare + "".join(f"\nwritten: {file}" for file in self.files)


def report(
    evidence: Diagnosis | pd.DataFrame,
    path: str | Path | None = None,
    *,
    lang: Literal["en", "ko"] = "en",
    frame: pd.DataFrame | None = None,
    own: str | Sequence[str] = (),
    sender: str | None = None,
    ptr: str | None = None,
    network: Network | None = None,
    tz: str | None = None,
    which: int | None = None,
    key: str | bytes | None = None,
) -> Packet:
    """The letter to the postmaster: counts and intervals, refusals verbatim, and what the siblings said.

    Parameters
    ----------
    evidence : a Diagnosis (`frame`: the attempts it was made from), or an attempts frame to diagnose.
    path : a folder for letter.md, report.html, letter.eml and attempts.csv, or one file with such an ending.
    own : your test mailboxes, shown in full; every other recipient is a pseudonym (`redact`, with its `key`).
    sender : who sends the draft; by default postmaster at the domain of most attempts' senders.
    ptr : the name of our address; asked of DNS if a `network` is given instead.
    tz : second time zone beside UTC; by default Asia/Seoul for "ko", this machine's for "en".
    which : the place in `causes` of the one to write about; by default the first that a receiver can mend.

    Raises InvalidInput: no attempts at hand; times without a zone; another language, zone or ending; `path` asks
    for a letter alone, but no receiver can mend the cause, or the confidence is below 0.8.

    >>> at = pd.date_range("2026-11-24", periods=32, freq="5s", tz="UTC")
    >>> frame = pd.DataFrame({"started_at": at, "mx_ip": [f"192.0.2.{11 + n % 4}" for n in range(32)]})
    >>> frame["code"] = frame.mx_ip.map(lambda ip: 554 if ip == "192.0.2.14" else 250)
    >>> report(frame).subject
    '192.0.2.14: 8 of 8 attempts refused, none of 24 elsewhere'
    """
    one_of("lang", lang, ("en", "ko"), "is not there")
    place = None if path is None else path_of("path", path)
    if place and re.fullmatch(r"\.[a-z]{2,5}", place.suffix) and place.suffix not in FILES:
        raise refuse("path", str(path), "is no file we write", f"end it in {', '.join(FILES)}, or in nothing")
    name = "Asia/Seoul" if lang == "ko" and tz is None else tz
    zone = "tzlocal()" if name is None else attempts.zone(name)  # pandas knows this machine's by that name
    shown = listed("own", own)
    if sender is not None:
        mailbox(sender, "sender")
    if ptr is not None:
        refuse_controls("ptr", ptr)
    if network is not None and not hasattr(network, "resolve"):
        raise refuse("network", network, "is no network", "write network=sk.internet(...)")
    diagnosis, table = _pseudonyms(*_evidence(evidence, frame), shown, key)
    try:
        causes = diagnosis.causes if which is None else [diagnosis.causes[which]]
    except (IndexError, TypeError):
        raise refuse("which", which, f"is none of {len(diagnosis.causes)} causes", "0 is the first") from None
    tried = (Facts(table, diagnosis, one) for one in causes if one.kind in KINDS and one.confidence >= 0.8)
    asked = (one for one in tried if one.bad.ip.ne("no address").any())  # else there is no server to write about
    facts = next(asked, None) or Facts(table, diagnosis, None)
    words: dict[str, Any] = {"lang": lang, "along": not place or place.suffix in ("", ".eml")}  # with attempts.csv
    letter, subject = None, diagnosis.verdict
    if facts.cause is not None:
        words |= facts.words(zone) | {"ptr": ptr or _ptr(network, facts.mine.us)}
        letter = render(f"letter.{lang}.md", **words)
        subject = letter.partition("\n")[0].removeprefix("# ")
    seen = subject if drawing.inert(subject, weight="bold") == subject else diagnosis.verdict
    drawn = replace(diagnosis, verdict=seen, causes=(facts.cause,) if facts.cause else diagnosis.causes)
    to = words["contact"]["email"] if letter else ""
    made = Packet(subject, to, letter, facts.table(zone), sender or _author(facts), (facts, drawn, words))
    if place is not None:
        made.write(place)
    return made


def _evidence(evidence: Any, frame: pd.DataFrame | None) -> tuple[Diagnosis, pd.DataFrame]:
    """The diagnosis and its attempts, conformed, each with an id; a refused connection counts once."""
    if isinstance(evidence, pd.DataFrame):
        frame, evidence = evidence, diagnose(evidence)
    if not hasattr(evidence, "causes"):
        raise refuse("evidence", type(evidence).__name__, "is neither", "give a Diagnosis or a frame")
    known = getattr(evidence, "frame", None) if frame is None else frame
    of_kind("frame", known, pd.DataFrame | None, "give the attempts")
    if known is None or not len(known):
        raise refuse("diagnosis", evidence.verdict, "brings no attempts", "give them as frame=")
    if "started_at" in known:
        rows.zoned(known.started_at)
    known = sessions(known)
    table = attempts.conform(known.reset_index(drop=True))
    if table.reason.isna().all():  # the letter says what the verdict hears
        table["reason"] = attempts.classified(table).reason
    if table.attempt_id.isna().any() or not table.attempt_id.is_unique:
        table["attempt_id"] = _places(known)
        named = (one.evidence.assign(attempt_id=_places(one.evidence)) for one in evidence.causes)
        causes = (replace(one, evidence=told) for one, told in zip(evidence.causes, named, strict=True))
        evidence = replace(evidence, causes=tuple(causes))
    return evidence, table


def _places(some: pd.DataFrame) -> list[str]:
    return [f"row {label}" for label in some.index]


def _pseudonyms(found: Any, table: pd.DataFrame, own: list[str], key: Any) -> tuple[Diagnosis, Any]:
    """Recipients as tokens in the attempts, in what servers said of them, and in the diagnosis, senders or not."""
    to = set(table.recipient.dropna().str.strip("<> ").str.lower())
    offices = table.reply.dropna().drop_duplicates().str.findall(_OFFICE).explode().dropna()
    keep = [*own, *(one for one in {*table.sender.dropna(), *offices} if one.strip("<> ").lower() not in to)]

    def hide(*texts: str) -> tuple[str, ...]:
        return tuple(redact(pd.DataFrame({"text": texts}, dtype="str"), keep, key=key).text)

    causes = tuple(replace(cause, values=hide(*cause.values)) for cause in found.causes)
    hidden = redact(table[["recipient"]], own, key=key), redact(table[["reply"]], keep, key=key)
    table = table.assign(recipient=hidden[0].recipient, reply=hidden[1].reply)
    return replace(found, causes=causes, verdict=hide(found.verdict)[0]), table


def _author(facts: Facts) -> str | None:
    """Postmaster at the domain that most attempts come from, the accused ones first; None: none is known."""
    domains = (domain for some in (facts.mine, facts.all) for domain in some.sender_domain.value_counts().index)
    return next((box for domain in domains if (box := mailbox_or_none(f"postmaster@{domain}"))), None)


def _ptr(network: Network | None, ours: pd.Series) -> str:
    """Names of our addresses as DNS has them; "" if not asked."""
    names = [as_ip(ip).reverse_pointer for ip in ours.dropna().unique()[:3] if is_told(ip)]
    answers = [network.resolve(name, "PTR") for name in names] if network else []
    return several(name for found in answers for name in (found.rows or (f"none ({found.status})",)))


def _charts(frame: pd.DataFrame, diagnosis: Any) -> list[str]:
    drawers: list[Any] = [plot.forest, plot.grid, plot.lanes]
    return [draw(frame, diagnosis).img() for draw in drawers]


def _csv(table: pd.DataFrame) -> bytes:
    """One attempt one line, and nothing that a spreadsheet would run."""
    return parts.as_file("attempts.csv", parts.on_text(table, escape.one_line))

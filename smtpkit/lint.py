"""lint: what a receiver may hold against a message, read off its octets alone. Not here: DNS (checks)."""

import re
from collections import Counter
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from smtpkit.address import domain_of, mailbox_or_none, organisation
from smtpkit.catalogue import patterns, rows
from smtpkit.escape import decode, one_line
from smtpkit.fields import LINE, read
from smtpkit.parts import BARE, parsed, shown, split, text_of, texts

Found = tuple[str, object, str, str]
"""Check, whether it is bad, the value that was seen, and the status if it is bad."""
KB, MB = 1024, 1024 * 1024
ONCE = """from sender reply-to to cc bcc message-id in-reply-to references subject date mime-version
content-type content-transfer-encoding""".split()
HIDDEN = ("bcc", "resent-bcc")
"""Fields that would show everybody who was to be hidden."""
_FIELD = re.compile(rb"[!-9;-~]+:|$")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SAYS = patterns("lint")


def lint(octets: bytes, *, sender: str | None = None, size_limit: int | None = None) -> list[dict[str, str]]:
    """One row a check: check, status (pass, warn, fail, unknown), value, limit, advice, source.

    `sender` is the reverse-path, for SPF alignment; `size_limit` the SIZE of the EHLO reply, octets, 0 for
    none said. Any octets will do; no network is asked.

    >>> [row["check"] for row in lint(b"From: a@b.example\\r\\n\\r\\n") if row["status"] == "fail"]
    ['date', 'message_id']
    """
    told, made = {found[0]: found[1:] for found in Reading(octets, sender, size_limit).found()}, []
    for row in rows("lints.csv"):
        bad, value, worse = told[row["check"]]
        seen = {"check": "", "status": worse if bad else "pass", "value": one_line(value)[:300]}
        made.append(seen | row | ({} if bad else {"advice": ""}))
    return made


def tags(record: str) -> dict[str, str]:
    """The tag=value list of DKIM, DMARC and their kin; of a doubled tag the first; names in small letters."""
    parts = [part.partition("=") for part in record.split(";") if "=" in part]
    return {name.strip().lower(): value.strip() for name, _, value in reversed(parts)}


class Reading:
    """A message's octets read once: fields, texts, and the checks on them."""

    def __init__(self, octets: bytes, sender: str | None = None, size_limit: int | None = None) -> None:
        self.octets, self.sender, self.size_limit = octets, sender, size_limit
        whole = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)  # as `send` would write it
        self.mail = parsed(whole)
        self.header, self.body = split(whole)
        self.fields = list(read(self.header))
        self.texts = [(part, part.get_content_subtype(), *text_of(part)) for part in texts(self.mail)]
        self.html = "\n".join(text for _, kind, text, _ in self.texts if kind == "html")
        self.subject = " ".join(self.values("subject")).strip()
        self.signatures = list(map(tags, self.values("dkim-signature")))

    def values(self, name: str) -> list[str]:
        """What the fields of that name (lower case) say."""
        return [value for field, value in self.fields if field == name]

    def domain(self) -> str | None:
        """The domain of the one address in From, as an envelope would have it; None if there is no such."""
        # RFC 2047 6.2: a field is parsed, then decoded
        raw = re.findall(rb"(?im)^from[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", self.header)
        text = re.sub(r'"(?:[^"\\]|\\.)*"|=\?\S*?\?=', "", decode(b",".join(raw).replace(b"\r\n", b"")))
        for _ in range(9):  # comments may hold comments (RFC 5322 3.2.2)
            text = re.sub(r"\([^()]*\)", "", text)
        boxes = [box for box in text.split(",") if box.strip()]
        if len(boxes) != 1 or len(set(re.findall(r"@([\w-]+(?:\.[\w-]+)+)", boxes[0].lower()))) > 1:
            return None  # of "a@x <a@y>" some readers take the first
        named = re.search(r"<([^<>]*)>", boxes[0])
        return domain_of(mailbox_or_none((named[1] if named else boxes[0]).strip()))

    def found(self) -> Iterator[Found]:
        """What each check finds, in no order."""
        yield from (*self._names(), *self._octets(), *self._bodies(), *self._sizes(), *self._links())
        yield from (self._one_click(), self._advertisement())

    def _names(self) -> Iterator[Found]:
        senders, dates, ids = (self.values(name) for name in ("from", "date", "message-id"))
        yield "from", len(senders) != 1 or self.domain() is None, " | ".join(senders) or "no From", "fail"
        try:
            why = "" if [parsedate_to_datetime(date) for date in dates] else "no Date"
        except (ValueError, IndexError, OverflowError):
            why = "unreadable: "
        zone = "" if all(map(_SAYS.zone.search, dates)) else "no zone such as +0900: "
        bad = why or len(dates) != 1
        yield "date", bad or zone, (why or zone) + " | ".join(dates), "fail" if bad else "warn"
        fits = [re.fullmatch(r"<[^\s<>@]+@[^\s<>@]+>", text) and len(text) <= 500 for text in ids]
        yield "message_id", len(ids) != 1 or not all(fits), " | ".join(ids) or "no Message-ID", "fail"
        times = Counter(name for name, _ in self.fields)
        twice = [f"{name} {times[name]} times" for name in ONCE if times[name] > 1]
        hidden = [name for name, value in self.fields if name in HIDDEN and value]
        yield "hidden", hidden, ", ".join(hidden) or "no Bcc", "fail"
        odd = [line for line in re.split(rb"\r\n(?![ \t])", self.header.rstrip()) if not _FIELD.match(line)]
        yield "header_lines", odd, one_line(decode(odd[0]))[:80] if odd else "all are fields", "fail"
        yield "single_fields", twice, ", ".join(twice) or "none twice", "fail"

    def _octets(self) -> Iterator[Found]:
        lines = [len(line) for line in re.split(rb"\r\n|\r|\n", self.octets)]
        most = max(lines)
        yield "line_length", most > LINE, f"{most} octets in line {lines.index(most) + 1}", "fail"
        bare = len(BARE.findall(self.octets))
        yield "line_ends", bare, f"{bare} bare CR, bare LF or NUL", "fail"
        head, body = (len(half.translate(None, bytes(range(128)))) for half in (self.header, self.body))
        yield "transport", head or body, f"{head} octets above 127 in the header, {body} in the body", "warn"

    def _bodies(self) -> Iterator[Found]:
        charsets = "; ".join(odd for *_, odd in self.texts if odd)
        yield "charset", charsets, charsets or f"{len(self.texts)} text parts fit", "fail"
        places = [("header", " ".join(value for _, value in self.fields)), *(text[1:3] for text in self.texts)]
        odd = [f"U+{ord(hit[0]):04X} in {place}" for place, text in places if (hit := _CONTROL.search(text))]
        yield "control_characters", odd, ", ".join(odd) or "none", "warn"
        kinds = [kind for _, kind, text, _ in self.texts if text.strip()]
        yield "text_alternative", "html" in kinds and "plain" not in kinds, ", ".join(kinds) or "no text", "warn"
        parts = list(shown(self.mail))
        _ = [part.get_payload(decode=True) for part in parts]  # only then base64 is looked at
        torn = ", ".join(type(fault).__name__ for part in parts for fault in part.defects)
        yield "mime", torn, torn or "whole", "warn"

    def _sizes(self) -> Iterator[Found]:
        size, most = len(self.octets), min(self.size_limit or 25 * MB, 25 * MB)
        said = f"{size:,} octets" + (f", SIZE {self.size_limit:,}" if self.size_limit else "")
        yield "size", size > min(most, 20 * MB), said, "fail" if size > most else "warn"
        plain = len(self.html.encode("utf-8", "replace"))
        # get_payload fails of a charset by RFC 2231
        sent = sum(len(str(part._payload)) for part, kind, *_ in self.texts if kind == "html")
        data, most = _SAYS.data.findall(self.html), max(plain, sent)
        cause = f"; {sum(map(len, data)):,} of them in {len(data)} data: URIs" if data else ""
        value = f"{plain:,} octets of HTML, {sent:,} as sent{cause}"
        yield "gmail_clipping", most >= 90 * KB, value, "fail" if most > 102 * KB else "warn"

    def _links(self) -> Iterator[Found]:
        home, signers = self.domain(), [tag["d"] for tag in self.signatures if tag.get("d")]
        others = {"align_spf": self.sender.rpartition("@")[2:] if self.sender else (), "align_dkim": signers}
        for check, named in others.items():
            hit = home and organisation(home) in map(organisation, named)
            value = f"From {home or 'has no address'}, {' and '.join(named) or 'no other domain given'}"
            yield check, not hit, value, "warn" if home and named else "unknown"
        cids = {unquote(str(part.get("Content-ID", ""))).strip().strip("<>") for part in self.mail.walk()}
        tags = _SAYS.image.findall(self.html[: self.html.rfind(">") + 1])  # else by its square
        images = [("".join(_SAYS.src.findall(tag)[:1]), _SAYS.alt.search(tag)) for tag in tags]
        inside = [src for src, _ in images if src[:4].lower() == "cid:"]
        odd = [f"no such part: {src}" for src in inside if unquote(src[4:]) not in cids]  # RFC 2392 2: %40 is @
        odd += [f"cannot be reached: {src}" for src, _ in images if not _SAYS.far.match(src)]
        soft = [f"not https: {src}" for src, _ in images if src.lower().startswith("http://")]
        soft += [f"no alt text: {src}" for src, has in images if not has]
        value = "; ".join([*odd, *soft][:4]) or f"{len(images)} images"
        yield "images", odd or soft, value, "fail" if odd else "warn"

    def _advertisement(self) -> Found:
        if not _SAYS.ad.search(self.subject):
            return "advertisement", False, "not marked as an advertisement", ""
        refusable = "수신거부" in re.sub(r"\s", "", "".join(text for _, _, text, _ in self.texts))
        worse = "warn" if self.subject.startswith("(광고)") else "fail"
        value = self.subject + ("" if refusable else " (the body does not say 수신거부)")
        return "advertisement", worse == "fail" or not refusable, value, worse

    def _one_click(self) -> Found:
        links, post = (", ".join(self.values(f"list-unsubscribe{more}")) for more in ("", "-post"))
        bulk = self.values("list-id") or "bulk" in self.values("precedence") or _SAYS.ad.search(self.subject)
        if not links and not post:
            return "one_click", bulk, "no List-Unsubscribe", "warn"
        value = f"List-Unsubscribe: {links or 'none'}; Post: {post or 'none'}"
        if post != "List-Unsubscribe=One-Click" or not re.search(r"<https://[^>\s]+>", links):
            return "one_click", True, value, "fail" if post else "warn"
        named = [set(re.split(r"\s*:\s*", tag.get("h", "").lower())) for tag in self.signatures]
        signed = any({"list-unsubscribe", "list-unsubscribe-post"} <= names for names in named)
        value = value if signed else f"not signed: {value}"
        return "one_click", not signed, value, "fail" if named else "warn"

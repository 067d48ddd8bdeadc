"""reasons: what a reply means: its reason, what the failure should follow (scope), and the words that say so.

Not here: the words (data/*.csv), who is guilty (hypotheses).
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smtpkit.catalogue import patterns, rows
from smtpkit.errors import refuse
from smtpkit.escape import Shown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_SHAPES = patterns("reasons")
_MARKS = "^@#~"
"""A URL, an address, an IP, a host name: each letter becomes its mark, so that a rule's words are no one's name."""
_SAME = {row["pattern"]: row["name"] for row in rows("patterns.csv") if row["module"] == "same"}
MOST = 2_000
"""Characters of a reply that are read for its meaning: time grows with their square, as hostile servers know."""
OURS = ("guard", "paced", "stopped", "interrupted")
"""Errors that we made ourselves: such a row says nothing about a server."""
"""Errors that say nothing about the other side."""
_TOLD = ["reason", "scope", "rule"]
_KEYS = ("reply", "code", "enhanced", "stage", "mx_host", "outcome", "error")
_MINE: list[Mapping[str, str]] = []
_compile = cache(re.compile)  # re's own cache holds 512; a book has more


@dataclass(frozen=True, slots=True)
class Reason(Shown):
    """What one reply means; made by `classify`.

    reason and scope: see data/reasons.csv; matched: the words that decided, as they came; confidence: high,
    medium, low or none (unknown; advice may still say what to compare); source: with its date.

    >>> classify("452 4.2.2 mailbox full").reason
    'mailbox_full'
    """

    reason: str
    scope: str
    rule: str
    matched: str
    confidence: str
    advice: str
    source: str


_Rule = tuple[Mapping[str, str], str, str, re.Pattern[str], set[str], frozenset[str]]
"""Its row, pattern, the same for small letters, codes, stages and the ends of hosts that it counts for."""
_Said = tuple[str, str, str, str, frozenset[str]]
"""Text, the same with names masked, code, stage, the ends of hosts named."""


def classify(
    text: str, code: int | None = None, enhanced: str | None = None, stage: str | None = None,
    mx_host: str | None = None,
) -> Reason:  # fmt: skip
    """Say what a refusal means: by its provider's tags, its words, its enhanced code, last by where it was said.

    `text` is the reply (lines joined by LF, with or without codes) or a log line around it. `mx_host` makes a
    provider's own texts count; tags that cannot be mistaken count without it. What is not known is `unknown`. The
    first 2,000 characters count.

    >>> told = classify("550 5.7.1 Your network is on our block list (S3150).")
    >>> told.reason, told.scope, told.matched
    ('ip_blocked', 'source_ip', '(S3150)')
    """
    if not isinstance(text, str):
        raise refuse("text", text, "is no reply", "give its text, such as '550 5.1.1 User unknown'")
    known = [one[:MOST] if isinstance(one, str) else None for one in (enhanced, stage, mx_host)]  # NaN is none
    number = re.fullmatch(r"(\d{3})(?:\.0)?", str(code))
    return _tell(_said(text, number and number[1], *known))


def _said(text: str, code: Any, enhanced: str | None, stage: str | None, mx_host: str | None) -> _Said:
    text = text[:MOST]
    around = _SHAPES.wrapped.search(text) if "[" in text and not text[:3].isdigit() else None
    if around:
        text, mx_host = around["reply"], mx_host or around["host"]
        at = (around["at"] or "").lower().split(" ")[0]
        stage = stage or {"end": "body", "helo": "ehlo"}.get(at, at)
    heads = [_SHAPES.lead.match(line) for line in text.split("\n")]
    late = _SHAPES.late.search(text)
    digits = str(code or next((head[1] for head in heads if head[1]), ""))
    status = enhanced or next((head[2] for head in heads if head[2]), "") or (late[1] if late else "")
    body = " ".join(" ".join(head.string[head.end() :] for head in heads).split())
    if digits:  # a log writes a reply's lines as one
        body = re.sub(rf"(?<!\S){digits}(?:-| (?=[245]\.\d))(?:[245]\.\d{{1,3}}\.\d{{1,3}} ?)?", "", body)
    whole = " ".join(filter(None, (digits, status, body)))
    words = _SHAPES.mask.sub(lambda m: _MARKS[(m.lastindex or 1) - 1] * len(m[0]), whole)
    served = frozenset(end for host in {*_SHAPES.host.findall(whole), mx_host or ""} for end in _ends(host))
    return whole, words, digits, stage or "", served


@lru_cache(4096)
def _tell(said: _Said) -> Reason:
    text, words, code, stage, served = said
    small = text.lower(), words.lower()
    for row, pattern, leap, masked in _fitting(code, stage, served):
        if leap(small[masked]) and (found := _compile(pattern, re.IGNORECASE).search(said[masked])):
            kind = _kinds()[row["reason"]]
            about = ", ".join(filter(None, (row.get("source"), row.get("date"))))
            scope, matched = row.get("scope") or kind["scope"], text[found.start() : found.end()].strip()
            advice = (row.get("advice") or kind["advice"]) + _bits(row.get("bits"), found)
            return Reason(row["reason"], scope, row["rule"], matched, row["confidence"], advice, about)
    return Reason("unknown", "unknown", "", "", "none", _kinds()["unknown"]["advice"], "")


@lru_cache(256)
def _fitting(code: str, stage: str, served: frozenset[str]) -> list[tuple[Any, ...]]:
    """The rules that count, whatever the words are: row, pattern, its quick search, whether names are masked."""
    return [
        (row, pattern, _compile(quick).search, row.get("where", "text") != "text")
        for row, pattern, quick, codes, stages, hosts in (_book()[0] if code[:1] not in ("2", "3") else ())
        if (not hosts or hosts & served) and (not stages or stage in stages) and (not code or codes.fullmatch(code))
    ]


def _bits(names: str | None, found: re.Match[str]) -> str:
    """What a mask in binary digits says; its last digit stands for the first name."""
    if not names:
        return ""
    lists = [name for name, bit in zip(names.split("|"), reversed(found[1]), strict=False) if bit == "1"]
    return f" Lists named: {', '.join(lists)}." if lists else " It names no list: their own block."


@cache
def _kinds() -> dict[str, dict[str, str]]:
    return {row["reason"]: row for row in rows("reasons.csv")}


@lru_cache(100_000)
def _ends(host: str) -> tuple[str, ...]:
    """The ends of a host name that some rule asks for, the longest first."""
    labels = host.lower().rstrip(".")[-255:].split(".")
    return tuple(end for n in range(len(labels)) if (end := "." + ".".join(labels[n:])) in _book()[1])


@cache
def _book() -> tuple[list[_Rule], frozenset[str]]:
    """All rules, and the hosts they ask for; in reply_rules.csv an @ calls in a table, a `<piece>` a pattern."""
    words, codes = rows("reply_rules.csv"), rows("enhanced_codes.csv")
    pieces = {row["rule"]: row["pattern"] for row in words if row["rule"].startswith("<")}
    tables = {"@providers": rows("provider_codes.csv"), "@enhanced": [row for row in codes if row["reason"]]}
    put = re.compile("|".join(pieces))
    ours = [row for word in words if word["rule"] not in pieces for row in tables.get(word["rule"], [word])]
    full = [row | {"pattern": put.sub(lambda m: pieces[m[0]], row["pattern"])} for row in ours]
    book = [_rule(row) for row in [*_MINE, *full]]
    return book, frozenset(end for rule in book for end in rule[-1])


def _rule(row: Mapping[str, str]) -> _Rule:
    code = _compile((row.get("code") or "xxx").replace("x", r"\d"))
    hosts = frozenset(f".{host}" for host in re.findall(r"[^;.][^;]*", row.get("hosts", "").lower()))
    stages = set(filter(None, row.get("stage", "").split("|")))
    pattern = row["pattern"]  # without IGNORECASE, re leaps to the letters that a fit may begin with
    quick = re.sub(r"\\.|[^\\]+", lambda m: m[0] if m[0][0] == "\\" else m[0].lower(), pattern, flags=re.DOTALL)
    return row, pattern, "" if _SHAPES.unlike.search(pattern) else quick, code, stages, hosts


def with_rules(*paths: str | Path) -> int:
    """Try the rules of these CSV files before all others from now on; no path: forget them. Gives their number.

    Columns `pattern` (a Python regular expression, case ignored) and `reason`; if wanted `rule`, `scope`, `code`
    (550|4xx), `stage` (rcpt|body), `hosts` (.b.example;.c.example), `advice`, `source`, `example` (a reply that the
    rule must decide). Raises InvalidInput naming file and line, or rule; nothing changes then.

    >>> with_rules()
    0
    """
    before = list(_MINE)
    _use([row for path in paths for row in _checked(Path(path))])
    for row in _MINE:
        stage, host = row.get("stage", "").split("|")[0], row.get("hosts", "").split(";")[0].lstrip(".")
        told = classify(row.get("example", ""), stage=stage or None, mx_host=host or None)
        if "example" in row and told.rule != row["rule"]:
            _use(before)
            why = f"of rule {row['rule']} is decided by {told.rule or 'no rule'}"
            raise refuse("example", row["example"], why, "mend the pattern, or put the rule first")
    return len(_MINE)


def _use(mine: list[Mapping[str, str]]) -> None:
    _MINE[:] = mine
    for kept in (_book, _ends, _fitting, _tell):
        kept.cache_clear()


def _checked(path: Path) -> Iterator[Mapping[str, str]]:
    scopes = {kind["scope"] for kind in _kinds().values()}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line, given in enumerate(csv.DictReader(file), 2):
            row = {"rule": f"{path.stem}:{line}", "confidence": "high", "source": path.name}
            row |= {name: text for name, text in given.items() if name and text}
            instead = f"columns pattern and reason are needed; reasons: {', '.join(_kinds())}"
            try:
                if row.get("scope", _kinds()[row["reason"]]["scope"]) not in scopes:
                    raise re.error(f"scope {row['scope']!r} is none of {', '.join(scopes)}")
                _, pattern, quick, *_ = _rule(row)
                if _compile(quick) and _compile(pattern, re.IGNORECASE).search(""):
                    raise re.error("its pattern fits any reply")
            except (KeyError, re.error) as why:
                raise refuse("rule", row, f"in {path} line {line} cannot be used ({why!r})", instead) from why
            yield row


def classify_frame(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Reason, scope and rule of each row of an attempts frame: three str columns on the frame's index.

    Equal replies (addresses, IPs, ids, times aside) are read once. Accepted and passed rows, and what our own
    guard, pace or stop ended, have none; a row without a reply has its error's reason.

    >>> import pandas as pd
    >>> classify_frame(pd.DataFrame({"reply": ["550 5.1.1 user unknown"], "outcome": ["rejected"]})).reason[0]
    'recipient_unknown'
    """
    import pandas as pd

    keys = frame.reindex(columns=list(_KEYS)).reset_index(drop=True)
    if "dsn_log" in frame:  # what the sender's MTA decided by itself has its own code and no more
        bare = keys[["reply", "code", "enhanced", "error"]].isna().all(axis=1)
        keys["enhanced"] = keys["enhanced"].where(~bare, frame["dsn_log"].to_numpy())
    failed = ~keys["outcome"].isin(("accepted", "passed", "withheld")) & ~keys["error"].isin(OURS)
    keys = keys[failed & keys[["reply", "code", "enhanced", "error"]].notna().any(axis=1)]
    if keys.empty:
        return pd.DataFrame(index=frame.index, columns=_TOLD, dtype="str")
    keys = keys.astype({name: "Int16" if name == "code" else "str" for name in _KEYS})
    ends = {host: next(iter(_ends(host)), None) for host in keys["mx_host"].dropna().unique()}
    keys = keys.assign(mx_host=keys["mx_host"].map(ends))  # all hosts of one provider are read alike
    told, number = each_once(keys, _row, keys.assign(reply=_same(keys["reply"])))
    made = pd.DataFrame(told, columns=_TOLD, dtype="str").take(number)
    return made.set_axis(keys.index).reindex(range(len(frame))).set_axis(frame.index)


def each_once(
    table: "pd.DataFrame", ask: Callable[..., Any], same: "pd.DataFrame | None" = None
) -> tuple[list[Any], "np.ndarray"]:
    """`ask(*row)` of the first of equal rows (equal in `same`, if given), and each row's place among them."""
    import numpy as np
    import pandas as pd

    number = np.zeros(len(table), "int64")
    for _, column in (table if same is None else same).items():
        codes, names = pd.factorize(column)
        number = pd.factorize(number * (len(names) + 1) + codes)[0]
    firsts = np.unique(number, return_index=True)[1]
    columns = [column.iloc[firsts].to_numpy(object, na_value=None) for _, column in table.items()]
    return [ask(*row) for row in zip(*columns, strict=True)], number


def _same(texts: "pd.Series") -> "pd.Series":
    """Replies with what differs from one to the next masked: equal ones need reading once."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    places, kept = pd.factorize(texts)
    masked = pa.array(kept, pa.large_string())
    for pattern, mark in _SAME.items():  # pandas would fall back to Python's re, ten times slower
        masked = pc.replace_substring_regex(masked, pattern, mark)
    return masked.to_pandas().reindex(places).set_axis(texts.index)


def _row(*row: Any) -> tuple[str | None, ...]:
    reply, code, enhanced, stage, host, _, error = row
    said = _said(reply or "", code, enhanced, stage, host)
    told = _tell(said) if said[0] and said[2][:1] not in ("2", "3") else None
    if error and (told is None or told.reason == "unknown"):
        for kind in _kinds().values():
            if error in kind["errors"].split() and (error, stage) != ("not_offered", "mail"):
                return kind["reason"], kind["scope"], f"error:{error}"
    return (told.reason, told.scope, told.rule or None) if told else (None, None, None)


def too_often(text: str, code: int | None = None, mx_host: str | None = None) -> bool:
    """Whether a refusal says that we come too often: then its whole receiver should rest."""
    told = classify(text, code, mx_host=mx_host)
    if _SHAPES.often.search(text):  # too many hops, too large a message and a full box are no word about us
        about = told.scope in ("recipient", "message") or told.reason == "routing"
        return not about or told.reason == "greylisted"
    return (told.reason, told.scope, told.confidence) == ("rate_limited", "source_ip", "high")


def reply_host(text: str, mx_host: str | None = None) -> str | None:
    """The server behind the balancer, as its reply names it, refused or accepted; None if it does not.

    `mx_host`, if given, shuts out the shapes of other providers.

    >>> reply_host("250 2.0.0 Ok: queued on mxfront12.mail.yandex.net as 1700000000-abc")
    'mxfront12.mail.yandex.net'
    """
    host = f".{mx_host or ''}".lower().rstrip(".")
    for suffixes, pattern in _backs():
        if (not mx_host or host.endswith(suffixes)) and (found := pattern.search(text)):
            return found[1].lower()
    return None


@cache
def _backs() -> list[tuple[tuple[str, ...], re.Pattern[str]]]:
    made = [(row["mx_suffix"], row["pattern"]) for row in rows("reply_hosts.csv")]
    return [(tuple(ends.split(";")), re.compile(text, re.IGNORECASE | re.MULTILINE)) for ends, text in made]

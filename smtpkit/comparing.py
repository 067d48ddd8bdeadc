"""comparing: why does the probe pass and the mail not: what two frames' senders did differently.

Not here: counts by one column (counts), who is guilty (diagnosis).
"""

import pandas as pd

from smtpkit import counts
from smtpkit.errors import of_kind
from smtpkit.escape import one_line

LOOKED_AT = """sender_ip family vantage helo sender sender_domain recipient mx_ip port asked tls_asked tls
tls_verified dkim message_id body_id""".split()
"""What a receiver may judge a sender by, in the order of suspicion; columns that a frame lacks are not known."""


def compare(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """What differs between two frames' senders: address, family, HELO, reverse-path, depth, TLS, DKIM.

    One row a property that at least one frame knows, the most telling first: those whose values in `a` that `b`
    never had fail more often than the values that both had. Rows of a domain that the other
    frame lacks are left out, if the frames have some in common.

    a, b : attempts frames, such as a log and a probe. family is read from mx_ip; tls is "plain" in clear; dkim is
    your own column, if you bring one.

    Returns a frame, indexed by property: a, b (values, the most frequent first), differs (boolean, missing where
    one frame does not know it), own, own_failed (attempts of `a` with a value that `b` never had), shared,
    shared_failed (the rest of `a`). Raises InvalidInput where an ending cannot be told.

    >>> log = pd.DataFrame({"helo": ["a.example", "localhost"] * 9, "code": [250, 550] * 9})
    >>> compare(log, pd.DataFrame({"helo": ["a.example"] * 5, "code": [250] * 5})).loc["helo", "own_failed"]
    np.int64(9)
    """
    one, two = _evidence(a), _evidence(b)
    if shared := set(one.domain.dropna()) & set(two.domain.dropna()):
        one, two = (part[part.domain.isna() | part.domain.isin(shared)] for part in (one, two))
    rows = [_row(name, one, two) for name in LOOKED_AT if one[name].notna().any() or two[name].notna().any()]
    columns = ["property", "a", "b", "differs", "own", "own_failed", "shared", "shared_failed"]
    made = pd.DataFrame(rows, columns=columns).astype({"differs": "boolean"} | dict.fromkeys(columns[:3], "str"))
    more = made.own_failed / made.own.clip(lower=1) - made.shared_failed / made.shared.clip(lower=1)
    order = made.assign(more=more, same=~made.differs.fillna(False))
    order = order.sort_values(["same", "more"], ascending=[True, False], kind="stable")
    return made.loc[order.index].set_index("property")


def _evidence(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that are evidence, each property as text, and whether they failed."""
    rows = counts.sessions(of_kind("frame", frame, pd.DataFrame, "give two attempts frames: a log and a probe"))
    failed = counts.failures(rows)
    kept = rows[failed.notna()]
    made = kept.reindex(columns=["domain", *LOOKED_AT]).astype("str")
    made["family"] = made.mx_ip.str.contains(":").map({True: "IPv6", False: "IPv4"}, na_action="ignore")
    made["helo"], made["port"] = made.helo.str.lower(), made.port.str.removesuffix(".0")
    return made.assign(failed=failed[failed.notna()].astype(bool))


def _row(name: str, one: pd.DataFrame, two: pd.DataFrame) -> tuple[object, ...]:
    mine, theirs = one[name].dropna(), two[name].dropna()
    both = len(mine) > 0 and len(theirs) > 0
    own = one[name].notna() & ~one[name].isin(theirs.unique()) & both
    differs = bool(own.any() or (~theirs.isin(mine.unique())).any()) if both else pd.NA
    figures = own.sum(), (own & one.failed).sum(), (~own).sum(), (~own & one.failed).sum()
    return (name, _said(mine), _said(theirs), differs, *figures)


def _said(values: pd.Series) -> str:
    """The three most frequent values with their counts, and how many more there are."""
    seen = values.value_counts()
    texts = [f"{one_line(str(value))} ({n})" for value, n in seen.head(3).items()]
    return ", ".join(texts + [f"{len(seen) - 3} more"] * (len(seen) > 3)) or "not known"

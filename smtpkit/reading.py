"""reading: any table of attempts as the arrays that explanations are weighed on, receiver by receiver.

Belongs here: which rows are evidence, columns as numbers, receivers. Not here: voices, explanations (hypotheses).
"""

from collections.abc import Sequence
from functools import cached_property, reduce

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from smtpkit import counts
from smtpkit.errors import refuse
from smtpkit.hypotheses import Array, Found, Scale, among
from smtpkit.voices import hear

CONTROL, SLOW = 600.0, 4.0
"""Seconds within which a control must have answered; how many times the usual latency is slow."""
_LATER = ("ehlo", "starttls", "auth", "mail", "rcpt", "data", "body")
_COLUMNS = {"mx_ip": "mx_ip", "domain": "domain recipient_domain", "recipient": "recipient"}
_COLUMNS |= {"body": "body_id", "sender": "sender", "vantage": "vantage"}
_JOINED = {"pair": "sender_ip mx_ip", "envelope": "sender recipient", "triplet": "sender_ip envelope"}
_JOINED |= {"triplet_ip": "triplet mx_ip"}


def sender_domain(rows: pd.DataFrame) -> pd.Series:
    """Our envelope domain of each row."""
    given = rows.reindex(columns=["sender_domain", "sender"]).astype("str")
    senders = pd.Series(given.sender[given.sender_domain.isna()].dropna().unique(), dtype="str")
    own = dict(zip(senders, senders.str.extract(r"@([^@<>\s]+)>?\s*$")[0], strict=True))
    return given.sender_domain.fillna(given.sender.map(own).astype("str")).str.lower()


def senders(rows: pd.DataFrame) -> pd.Series:
    """Our address of each row: as told; where a server refused too early to tell it, what others saw of the same
    socket's address (missing where they saw several); that itself where nobody saw another."""
    none = pd.Series(None, rows.index, dtype="str")
    names = "sender_ip seen_ip local_ip mx_ip vantage".split()
    text = pd.DataFrame({name: rows.get(name, none).astype("str") for name in names})
    told = text.sender_ip.fillna(text.seen_ip)
    if (told.notna() | text.local_ip.isna()).all():  # as in most logs
        return told
    seen = told.groupby([text.vantage.fillna(""), text.local_ip, text.mx_ip.str.contains(":").eq(True)])
    many = seen.transform("nunique")
    return told.fillna(seen.transform("first").where(many == 1, text.local_ip.where(many == 0)))


class Reading:
    """A frame's evidence, one row a try, in order of time; columns as codes (-1: missing) with their names.

    undated: rows left out as they have no time; unasked: MX IPs whose sessions all ended by us or not yet.
    rows: the frame's rows; codes, names: by dimension; t: seconds; voice: of each row (-1: got through); slow: 0
    where a row that got through was slow; site: the receiver (domains that share an MX address are one).
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        if lacking := [name for name in ("started_at", "mx_ip") if name not in frame]:
            raise refuse("columns", list(frame), f"lack {' and '.join(lacking)}", counts.READ)
        rows = counts.sessions(frame)
        if not {"outcome", "code"} & set(rows) and "error" in rows:  # no error: it got through
            rows = rows.assign(outcome=np.where(rows.error.isna(), "accepted", "failed"))
        at = counts.moments(rows.started_at)
        ended = counts.endings(rows).notna()
        kept, self.undated = (ended & at.notna()).to_numpy(), int((ended & at.isna()).sum())
        self.unasked = sorted(set(rows.mx_ip[~ended].dropna().astype("str")) - set(rows.mx_ip[kept].astype("str")))
        seconds = at[kept].to_numpy("datetime64[us]").astype("int64") / 1e6
        order = np.argsort(seconds, kind="stable")
        self.rows, self.t = rows[kept].iloc[order], seconds[order]
        self.voice, self.voices = hear(self.rows)
        self.codes: dict[str, Array] = {}
        self.names: dict[str, Array] = {}
        for name, columns in _COLUMNS.items():
            self._code(name, self.column(*columns.split()))
        if (self.codes["domain"] < 0).all():
            self._code("domain", self.column("mx_host").str.replace(r"^[^.]*\.", "", regex=True))
        self._code("sender_domain", sender_domain(self.rows))
        self._code("sender_ip", senders(self.rows))
        self._whom()
        for name, two in _JOINED.items():
            self._join(name, *two.split())
        self.codes["size"] = self.number("size_bytes")
        self.site, self.depth = self._sites(), counts.depths(self.column("stage"))
        self.slow, self.codes["family"] = self._slow(), self.road % 2
        self._code("backend", self._backends())
        self.weighed: dict[tuple[bool, bool, bytes], tuple[list[Found], int]] = {}

    def column(self, *names: str) -> pd.Series:
        """The first of these columns as texts, its gaps filled from the next."""
        given = [self.rows[name].astype("str") for name in names if name in self.rows]
        none = [pd.Series(None, self.rows.index, dtype="str")] * (not given)
        return reduce(lambda found, more: found.where(found.notna(), more), given or none)

    def number(self, name: str) -> Array:
        """A column as numbers, NaN where there is none."""
        given = self.rows[name] if name in self.rows else pd.Series(np.nan, self.rows.index)
        return np.asarray(pd.to_numeric(given, errors="coerce").to_numpy("float64", na_value=np.nan))

    def _code(self, name: str, given: pd.Series) -> None:
        self.codes[name], names = pd.factorize(given)
        self.names[name] = names.to_numpy(object)

    def _whom(self) -> None:
        """Lines that name no recipient: the one of their message there that fails next, or the only one it has."""
        keys = [pd.factorize(self.column(name))[0] for name in ("queue_id", "message_id", "vantage")]
        to = pd.Series(self.codes["recipient"].astype("int64"))
        mail, lone = to.groupby([*keys, self.codes["domain"]]).ngroup(), (keys[0] < 0) & (keys[1] < 0)
        if (none := (to < 0) & (keys[0] >= 0)).any():
            low, high = (to.where(to >= 0).groupby(mail).transform(which) for which in ("min", "max"))
            failing = to.where((to >= 0) & (self.voice >= 0)).groupby(mail).bfill().fillna(low.where(low == high))
            self.codes["recipient"] = to.mask(none & failing.notna(), failing).to_numpy("int64")
        copy = np.where(self.column("source").eq("send").fillna(False), self.codes["mx_ip"], -1)  # that is no retry
        draw = mail.groupby([mail, copy, self.codes["recipient"], self.codes["sender_ip"]]).ngroup()  # else by row
        self.mail = np.where(lone, -1 - np.arange(len(lone)), draw)

    def _join(self, name: str, a: str, b: str) -> None:
        """A code for each pair of two codes; missing where the second is."""
        first, second = self.codes[a].astype("int64"), self.codes[b]
        both = np.where(second >= 0, (first + 1) * (second.max(initial=0) + 1) + second, -1)
        self.codes[name] = np.unique(both, return_inverse=True)[1] - (second < 0).any()

    def _sites(self) -> Array:
        """A number for each row's receiver: domains and MX addresses that hang together; without domains one."""
        domain, ip = self.codes["domain"], self.codes["mx_ip"] + 1  # place 0: without either
        if (domain < 0).all():
            return np.zeros(len(ip), int)
        place, both = len(self.names["mx_ip"]) + 1 + domain, (domain >= 0) & (ip > 0)
        many = len(self.names["mx_ip"]) + 1 + len(self.names["domain"])
        links = coo_array((np.ones(both.sum()), (ip[both], place[both])), shape=(many, many))
        label = connected_components(links, directed=False)[1]
        return np.asarray(np.unique(label[np.where(domain < 0, ip, place)], return_inverse=True)[1])

    def _backends(self) -> pd.Series:
        """What servers call themselves: at each receiver the one way that names nearly all who got through."""
        made, got = self.column(), self.voice < 0
        for given in map(self.column, ("ehlo_host", "banner_host", "reply_host")):
            named = np.bincount(self.site, got & given.notna()) > 0.8 * np.bincount(self.site, got)
            made = given.where(named[self.site], made) if named.any() else made
        return made

    def _slow(self) -> Array:
        """0 where an attempt that got through took over 4 times its receiver's median at that stage, and 0.25 s."""
        took = pd.Series(self.number("latency_s")).where(self.voice < 0)
        usual = took.groupby([pd.factorize(self.column("stage"))[0], self.site]).transform("median")
        return np.where(took > np.maximum(SLOW * usual, 0.25), 0, -1)

    def scale(self, rows: Array, slow: bool = False) -> Scale:
        """These rows (numbers) on one scale."""
        voice, sounds = (self.slow, ["slow"]) if slow else (self.voice, self.voices.sound.to_list())
        return Scale({name: code[rows] for name, code in self.codes.items()}, self.t[rows], voice[rows], sounds)

    def said(self, f: Found) -> Array:
        """Of each row what counts for this explanation: its voice, or whether it was slow."""
        return self.slow if f.kind == "mx_slow" else self.voice

    def explained(self, *found: Found) -> Array:
        """The rows that failed (or were slow) because of one of these."""
        made = np.zeros(len(self.t), bool)
        for f in (f.detail.get("suspect", f) for f in found):
            made |= f.mask & among(self.said(f), f.voices)
        return made

    def again(self, f: Found, told: Sequence[Found]) -> Array:
        """The rows of servers (or senders) of which the same is told already."""
        same = [v for g in told if (g.kind, g.dimension) == (f.kind, f.dimension) for v in g.values]
        return np.isin(self.codes.get(f.dimension, -1), same)

    def as_far(self, failed: Array) -> Array:
        """All failures, and what got as far as most of these."""
        return counts.as_far(self.depth, failed & (self.voice >= 0), self.voice < 0)

    def named(self, f: Found) -> tuple[str, ...]:
        """The names of an explanation's values; of pairs the MX IPs."""
        if f.dimension == "size":
            at, below = f.detail["limit"]
            return (str(round((at * below) ** 0.5 if below > 0 else at)),)
        if f.dimension == "pair":
            return self.called("mx_ip", self.codes["mx_ip"][f.mask])
        return self.called(f.dimension, f.values)

    def only_for(self, f: Found) -> dict[str, tuple[str, ...]]:
        """What narrows an explanation: our addresses (of its pairs), one address family."""
        if f.dimension == "pair":
            return {"sender_ip": self.called("sender_ip", self.codes["sender_ip"][f.mask])}
        family = {"family": (str(f.detail["family"]),)} if "family" in f.detail else {}
        return {**f.detail.get("ours", {}), **family}

    def called(self, name: str, codes: Sequence[int] | Array) -> tuple[str, ...]:
        """The different names behind these codes."""
        return tuple(str(self.names[name][code]) for code in pd.unique(np.asarray(codes)) if code >= 0)

    def turn(self, f: Found, row: int | None, step: int) -> pd.Timestamp | None:
        """The time between a cell's last row and the next of the same attempts outside it."""
        if row is None:
            return None
        rows = np.flatnonzero(f.detail.get("cell", f.mask))
        return self.middle(row, int(rows[np.clip(np.searchsorted(rows, row) + step, 0, len(rows) - 1)]))

    def middle(self, before: int, after: int) -> pd.Timestamp:
        """The time between two rows."""
        return pd.Timestamp((self.t[before] + self.t[after]) / 2, unit="s", tz="UTC").round("ms")

    @cached_property
    def replied(self) -> Array:
        """Rows in which a server said anything; who may have got the mail did."""
        far = self.column("stage").isin(_LATER) | self.column("outcome").eq("unknown")
        return np.asarray(~np.isnan(self.number("code")) | (self.voice < 0) | far)

    @cached_property
    def mute(self) -> Array:
        """Rows whose connection was never answered."""
        stage, error = self.column("stage"), self.column("error")
        unopened = stage.isna() & error.isin(("refused", "timeout", "unreachable"))
        return np.asarray((stage.isin(("dns", "connect")) | unopened) & (self.voice >= 0) & ~self.replied)

    @cached_property
    def road(self) -> Array:
        """From which vantage and in which address family (odd: IPv6) each row went out."""
        six = np.array([":" in name for name in self.names["mx_ip"]] + [False])
        vantage = pd.factorize(self.column("vantage", "local_ip", "sender_ip"))[0] + 1
        return np.asarray(vantage * 2 + six[self.codes["mx_ip"]])

    def controlled(self, failed: Array, accused: Array) -> Array:
        """For each failed row: did anybody but the accused answer on the same road within ten minutes?"""
        when = self.t - self.t[0] + self.road * (4 * CONTROL + self.t[-1] - self.t[0])
        known = np.concatenate([[-np.inf], np.sort(when[self.replied & ~accused]), [np.inf]])
        after = np.searchsorted(known, when[failed])
        return np.asarray(np.minimum(known[after] - when[failed], when[failed] - known[after - 1]) <= CONTROL)

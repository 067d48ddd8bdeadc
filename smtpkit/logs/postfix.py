"""postfix: the smtp client's lines of a Postfix log as attempts, by polars: literal splits, then joins.

Belongs here: what each kind of line says, and which lines are one try. Not here: headers, files, other MTAs.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache, partial, reduce
from itertools import chain
from operator import or_
from typing import Any, ClassVar

import polars as pl

from smtpkit.logs.headers import MSG, PID, STRANGE, UNREAD, Clock, cut, split
from smtpkit.logs.rows import KNOWN, SCHEMA, compact
from smtpkit.words import ending

_PATH = r'"(?:[^"\\]|\\.)*"[^>]*|[^\s<>]*'
_FINAL = (
    rf"^ to=<(?P<to>{_PATH})>, (?:orig_to=<(?P<orig_to>{_PATH})>, )?relay=(?P<relay>[^,]*), "
    r"(?:conn_use=(?P<conn_use>\d+), )?delay=[^,]*, (?:delays=(?P<delays>[^,]*), )?(?:tls=[^,]*, )?"
    r"(?:dsn=(?P<dsn>[^,]*), )?status=(?P<status>[\w-]+) \((?P<text>.*)$"
)
_PLAIN = '^ [a-z_]+=<[^"< ]*>$'
_SAID = re.compile(
    r"(?:SASL authentication failed; server|TLS is required, but host|host) (\S+?)\[([^\]\s]+)\](?::(\d{1,5}))? "
    r"(said|refused to talk to me|refused to start TLS): (.*?)"
    r"(?: \(in reply to ([^()]+?)(?: command)?\))?$"
)
_AT = re.compile(
    r"(?:connect to|connection with|conversation with|by host|of server|error to) "
    r"(\S+?)\[([^\]\s]+)\](?::(\d{1,5})\b)?"
)
_VIA = re.compile(r"delivery via \S+: ")
_SERVER = ["mx_host", "mx_ip", "port"]
_ENDING = "stage outcome maybe_delivered code enhanced reply error".split()
_TOLD = {"text": pl.String} | {name: SCHEMA[name] for name in [*_SERVER, *_ENDING]}
_HEADS = "n at host pid kind key line tag text".split()
_FIELDS = "to orig_to relay conn_use delays dsn status".split()
_QUEUED = {
    "final": (" to=<",),
    "from": (" from=<",),
    "id": (" message-id=<", " resent-message-id=<"),
    "removed": (" removed",),
    "intermediate": (
        " host ", " lost connection with ", " conversation with ", " TLS is required, but ",
        " SASL authentication failed; ", " Server certificate not ",
    ),
}  # fmt: skip
"""How a line begins behind its queue id, by its kind."""
_BARE = {
    "connect_fail": ("connect to ", "SSL_connect error to "),
    "tls": tuple(f"{trust} TLS connection " for trust in ("Anonymous", "Untrusted", "Trusted", "Verified")),
}
"""The same of lines without a queue id."""
_REST, _TEXT, _PID = pl.col("rest"), pl.col("text"), PID.fill_null("")
_VANTAGE = pl.col("host").replace({"": None, "-": None}).alias("vantage")
_H = pl.struct("host", "key").hash().alias("h")
_PEER = pl.struct("host", "pid", "mx_ip").hash().alias("peer")
_INFO = "n at host key kind sender size_bytes message_id".split()
_TLS_KEPT = "n at host pid mx_host mx_ip session tls tls_cipher tls_trust".split()
_HELD = _TEXT.str.starts_with("delivery temporarily suspended")
_HOUR = 3_600_000_000


@lru_cache(4096)
def explain(text: str) -> dict[str, Any]:
    """What the text of one try says: the server it names, and how the try ended.

    >>> explain("host mx.example[192.0.2.1] refused to talk to me: 554 no")["stage"]
    'banner'
    """
    if m := _SAID.match(text):
        at = {"to talk to me": "banner", "to start TLS": "starttls"}.get(m[4].removeprefix("refused "))
        at = "auth" if text.startswith("SASL") else at
        told = ending(f"in reply to {m[6]}" if m[6] else "", m[5], at)
    else:
        told = ending(text, _VIA.sub("", text))
        m = None if "code" in told else _AT.search(text.partition(" said: ")[0])  # not in the server's words
    server = {"mx_host": m[1], "mx_ip": m[2], "port": int(m[3]) if m[3] else None} if m else {}
    return server | told


class Reader:
    """Takes heads (n, at, host, pid, msg) block by block, gives rows; what is still open goes along."""

    marks: ClassVar = (b", status=", b"]: connect to ", b" (queue active)", b" said: ", b'"MESSAGE"')
    words: ClassVar = [f":{front}" for ones in _QUEUED.values() for front in ones] + [*chain(*_BARE.values())]

    def __init__(self) -> None:
        self._early = self._infos = self._tls = pl.DataFrame()
        self._held: list[list[pl.DataFrame]] = []

    def heads(self, lines: pl.DataFrame, clock: Clock) -> tuple[list[pl.DataFrame], dict[str, pl.DataFrame]]:
        """What `feed` takes: all that the lines say one by one; and lines with a problem by its name."""
        heads, problems = split(lines, clock)
        seen = heads.with_columns(pl.col("host").fill_null(""), cut(MSG, ":", "key", "rest")).unnest("_")
        queued = seen["key"].str.contains("^[0-9A-Za-z]{5,24}$").fill_null(False)
        kinds = _by_front(seen.filter(queued), "rest", _QUEUED)
        bare = _by_front(seen.filter(~queued), "msg", _BARE)
        lost = pl.concat([kinds.pop(""), bare.pop("")]).filter(MSG.str.contains("to=<.*, status="))
        lost = lost.join(pl.concat([problems[STRANGE], problems[UNREAD]]), on="n", how="anti")
        problems |= {"a recipient and a status in a line that cannot be read": lost}
        return [_tries(kinds | bare), _infos(kinds), _tls(bare["tls"])], problems

    def feed(
        self, said: list[pl.DataFrame], last: bool = False, hold: bool = False
    ) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
        """The rows that are complete by now, and lines with a problem by its name.

        `hold`: small files' lines may wait for others', since a feed costs 15 ms, however few they are.
        """
        self._held.append(said)
        if hold and len(self._held) < 64 and sum(len(part[0]) for part in self._held) < 20_000:
            self._held[-1] = list(map(compact, said))
            return pl.DataFrame(), {}
        said, self._held = [pl.concat(parts, how="diagonal") for parts in zip(*self._held, strict=True)], []
        infos = pl.concat([self._infos, said[1]], how="diagonal").with_columns(_H)
        tls = pl.concat([self._tls, said[2]], how="diagonal")
        tries, unread = _told(said[0], tls)
        waits = tries["kind"].is_in(["intermediate", "connect_fail"])
        early, tries = pl.concat([self._early, tries.filter(waits)], how="diagonal"), tries.filter(~waits)
        over, self._early = _next_final(early, tries, last)
        tries = tries.filter(tries["kind"] != "unread")
        rows = pl.concat([tries, over], how="diagonal").sort("n").with_columns(_H, _PEER)
        rows = _with_tls(_with_message(rows, infos), tls)
        kept = self._early, _unremoved(infos, self._early), _unused(tls, rows, self._early)
        self._early, self._infos, self._tls = map(compact, kept)
        rows = pl.concat([rows, infos.filter(pl.col("kind") == "expired")], how="diagonal")
        rows = rows.rename({"at": "started_at", "key": "queue_id"})
        rows = rows.select("n", _VANTAGE, *(name for name in SCHEMA if name in rows.columns))
        return rows, {"a line of a try that cannot be read": unread}

    def end(self) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
        """The rows that waited for more lines, and lines with a problem."""
        none = pl.DataFrame(schema={"n": pl.Int64, "line": pl.String})
        return self.feed(self.heads(none, Clock(datetime.now(UTC)))[0], last=True)

    def known(self) -> pl.DataFrame:
        """What is known of messages in the queue."""
        return self._infos.with_columns(_VANTAGE).rename({"key": "queue_id"}).select(KNOWN.columns)


def _by_front(lines: pl.DataFrame, of: str, fronts: dict[str, tuple[str, ...]]) -> dict[str, pl.DataFrame]:
    """Lines by their kind, which is how the column `of` begins; the others as ""."""
    made = {}
    for kind, ones in fronts.items():
        fits = reduce(or_, (lines[of].str.starts_with(one) for one in ones)).fill_null(False)
        made[kind], lines = lines.filter(fits).with_columns(kind=pl.lit(kind)), lines.filter(~fits)
    return made | {"": lines}


def _by_place(lines: pl.DataFrame) -> pl.DataFrame:
    """The fields of `to=` lines by their places from both ends, names and all; `whole`: no others stand between."""
    part = partial(pl.col("parts").list.get, null_on_oob=True)
    redirected, policy = part(1).str.starts_with(" orig_to="), part(-3).str.starts_with(" tls=")
    more, back = redirected.cast(pl.Int64), policy.cast(pl.Int64)
    used = part(2 + more).str.starts_with(" conn_use=")
    fields = {"to": part(0), "relay": part(1 + more), "delays": part(-3 - back), "dsn": part(-2)}
    fields |= {"orig_to": pl.when(redirected).then(part(1)), "conn_use": pl.when(used).then(part(2 + more))}
    whole = pl.col("parts").list.len() == 6 + more + back + used
    return lines.with_columns(whole=whole, status=part(-1), **fields).drop("parts")


def _finals(lines: pl.DataFrame) -> pl.DataFrame:
    """The fields of `to=` lines: plain ones by their places, others by the one expression."""
    lines = lines.with_columns(cut(_REST, "(", "parts", "text")).unnest("_")
    lines = _by_place(lines.with_columns(pl.col("parts").str.split(",")))
    fits = [pl.col(name).str.starts_with(f" {name}=") for name in ("to", "relay", "delays", "dsn", "status")]
    fits += [pl.col("to").str.contains(_PLAIN), pl.col("orig_to").str.contains(_PLAIN).fill_null(True)]
    fits += [pl.col("whole"), pl.col("status").str.ends_with(" "), _TEXT.is_not_null()]
    plain = lines.select(pl.all_horizontal(fits).fill_null(False)).to_series()
    read = lines.filter(plain).select(*_HEADS, *(pl.col(n).str.slice(len(n) + 2) for n in _FIELDS))
    read = read.with_columns(pl.col("to", "orig_to").str.slice(1).str.head(-1), pl.col("status").str.head(-1))
    slow = lines.filter(~plain).drop(*_FIELDS, "text")
    slow = slow.filter(~_REST.str.splitn(", status=", 2).struct[0].str.contains(", mailer="))  # Sendmail's
    slow = slow.with_columns(_REST.str.extract_groups(_FINAL).alias("_")).unnest("_").select(read.columns)
    return pl.concat([read, slow]).rename({"to": "recipient", "dsn": "dsn_log"})


def _tries(kinds: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Final, intermediate and connect lines: their fields, and the text that says how the try ended."""
    finals = _finals(kinds["final"].with_columns(_PID)).with_columns(
        cut(pl.col("delays"), "/", "_before_queue", "queue_s", "connect_s", "body_s"),
        pl.col("conn_use").cast(pl.Int32, strict=False),
        _TEXT.str.strip_suffix(")"), lossy=~_TEXT.str.ends_with(")"),
    ).unnest("_").drop("delays", "_before_queue")  # fmt: skip
    seconds = pl.col("queue_s", "connect_s", "body_s").cast(pl.Float64, strict=False)
    finals = _address(finals.with_columns(seconds), "relay")
    early = pl.concat([kinds["intermediate"].with_columns(msg=_REST.str.slice(1)), kinds["connect_fail"]])
    return pl.concat([finals, early.with_columns(_PID, text=MSG).select(_HEADS)], how="diagonal")


def _address(lines: pl.DataFrame, of: str) -> pl.DataFrame:
    """Lines with the parts of a column that holds HOST[IP]:PORT."""
    lines = lines.with_columns(cut(pl.col(of), "[", "mx_host", "_ip")).unnest("_")
    lines = lines.with_columns(cut(pl.col("_ip"), "]", "mx_ip", "port")).unnest("_").drop("_ip")
    return lines.with_columns(pl.col("port").str.slice(1).cast(pl.Int32, strict=False))


def _told(tries: pl.DataFrame, tls: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tries with what they say; unread ones, a final one ends what came before. LMTP and amavis are ours."""
    tries = _named_by_tls(_explained(tries), tls)
    ip, host, tag, kind = (pl.col(name) for name in ("mx_ip", "mx_host", "tag", "kind"))
    ours = (ip.str.starts_with("127.") | (ip == "::1")) & ((host == ip) | host.str.starts_with("localhost"))
    ours |= ip.str.contains("/", literal=True) | pl.col("port").is_in([24, 7025, 10024, 10025, 10026])
    ours |= tag.str.contains("/lmtp[", literal=True) | tag.str.ends_with("/lmtp:")
    named = ip.str.contains(r"^[0-9A-Fa-f.:]+(?:%[\w.-]+)?$")
    tries = tries.with_columns(ours=ours.fill_null(False), named=named.fill_null(False), end=kind == "final")
    ours, named, final = pl.col("ours"), pl.col("named"), pl.col("end")
    none = (pl.col("relay") == "none") & pl.col("error").is_not_null()
    unsaid = pl.when(final & pl.col("status").is_null() | ~(final | named | ours)).then(pl.lit("unread"))
    held = unsaid.when(final & _HELD).then(pl.lit("suspended"))
    local = held.when(ours | final & ~named & ~none).then(pl.lit("local"))
    tries = tries.with_columns(local.otherwise(kind).alias("kind"))
    unread = tries["kind"] == "unread"
    kept = tries.drop("line", "tag", "relay", "status", "ours", "named", *(f"{name}_told" for name in _SERVER))
    return kept.filter(tries["end"] | ~unread), tries.filter(unread)


def _explained(tries: pl.DataFrame) -> pl.DataFrame:
    """`explain` for each text; plain acceptances are read at once."""
    accepted = (pl.col("status") == "sent") & _TEXT.str.contains("^2[0-9]{2} ")
    plain = tries.select(accepted.fill_null(False)).to_series()
    sent, rest = tries.filter(plain), tries.filter(~plain)
    sent = sent.with_columns(
        stage=pl.lit("body"), outcome=pl.lit("accepted"), maybe_delivered=pl.lit(True), reply="text",
        code=_TEXT.str.slice(0, 3).cast(pl.Int16),
        enhanced=_TEXT.str.extract(r"^[0-9]{3} (2\.[0-9]{1,3}\.[0-9]{1,3})(?:[^.\w]|$)"),
    )  # fmt: skip
    told = pl.DataFrame([{"text": text, **explain(text)} for text in rest["text"].unique().drop_nulls()], _TOLD)
    rest = rest.join(told, on="text", how="left", suffix="_told")
    elsewhere = pl.when((pl.col("relay").fill_null("none") == "none") & ~_HELD.fill_null(False))
    rest = rest.with_columns(elsewhere.then(f"{name}_told").otherwise(name).alias(name) for name in _SERVER)
    probed = pl.when(pl.col("status") == "deliverable")
    told_of = {"outcome": "passed", "stage": "rcpt", "maybe_delivered": False}
    rest = rest.with_columns(probed.then(pl.lit(how)).otherwise(name).alias(name) for name, how in told_of.items())
    return pl.concat([sent, rest], how="diagonal_relaxed")


def _named_by_tls(tries: pl.DataFrame, tls: pl.DataFrame) -> pl.DataFrame:
    """A certificate is refused without naming the server: it is that of the process's last TLS line."""
    bare = _TEXT.str.starts_with("Server certificate not ") & (pl.col("pid") != "")
    bare &= (pl.col("kind") == "intermediate") & pl.col("mx_ip").is_null()
    mask = tries.select(bare.fill_null(False)).to_series()
    if not mask.any():
        return tries
    lines = tls.filter(pl.col("session").is_null()).select("n", "host", "pid", "mx_host", "mx_ip").sort("n")
    refused = tries.filter(mask).drop("mx_host", "mx_ip").sort("n")
    found = refused.join_asof(lines, on="n", by=["host", "pid"], check_sortedness=False)
    return pl.concat([tries.filter(~mask), found], how="diagonal")


def _infos(kinds: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Who sent a queue id, how big, its message-id; that it was removed."""
    said = kinds["from"].with_columns(cut(_REST.str.slice(7), ">, size=", "sender", "more")).unnest("_")
    said = said.with_columns(cut(pl.col("more"), ",", "size_bytes", "nrcpt")).unnest("_")
    plain = pl.when(pl.col("nrcpt").str.starts_with(" nrcpt="))  # not Sendmail's
    kind = pl.when(_REST.str.contains(", status=(?:force-)?expired")).then(pl.lit("expired")).otherwise("kind")
    size = pl.col("size_bytes").cast(pl.Int64, strict=False)
    said = said.with_columns(plain.then("sender").alias("sender"), plain.then(size).alias("size_bytes"), kind=kind)
    ids = kinds["id"].with_columns(message_id=_REST.str.splitn("message-id=<", 2).struct[1].str.strip_suffix(">"))
    return pl.concat([said, ids, kinds["removed"]], how="diagonal").select(_INFO)


def _tls(lines: pl.DataFrame) -> pl.DataFrame:
    """`Trusted TLS connection established to HOST[IP]:PORT: TLSv1.3 with cipher NAME (256/256 bits)`."""
    names = "tls_trust _tls _connection _established to server tls _with _cipher tls_cipher _bits".split()
    lines = lines.with_columns(_PID, cut(MSG, " ", *names)).unnest("_").filter(pl.col("to") == "to")
    lines = _address(lines, "server")
    return lines.with_columns(session=pl.lit(None, pl.String)).select(_TLS_KEPT)


def _next_final(early: pl.DataFrame, finals: pl.DataFrame, last: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Non-final tries with queue id and domain of the delivery they belong to, each once; and who must wait.

    A process serves one delivery at a time, and repeats the last try's text in the final line. Where no process
    is named, only that text, or the queue id, tells which final line it is.
    """
    alone, connect = pl.col("pid") == "", pl.col("kind") == "connect_fail"
    early = early.with_columns(who=pl.when(~alone).then("pid").when(connect).then("text").otherwise("key"))
    ends = finals.select("n", "at", "host", "pid", "key", "recipient", "mx_ip", "text", "error", "end")
    ends = ends.filter("end").with_columns(who=pl.when(alone).then("text").otherwise("pid"))
    ends = pl.concat([ends, ends.filter(alone).with_columns(who="key")]).sort("n")
    how: Any = {"on": "n", "by": ["host", "who"], "strategy": "forward", "check_sortedness": False}
    both = early.sort("n").join_asof(ends, suffix="_to", coalesce=False, **how)
    found = pl.col("n_to").is_not_null()
    same = {n: pl.col(n) == pl.col(f"{n}_to") for n in ("key", "text", "mx_ip")}
    near = (pl.col("at_to") - pl.col("at")).cast(pl.Int64).fill_null(0) < _HOUR
    latest = ~alone | (pl.col("n") == pl.col("n").max().over("n_to", "kind"))
    both = both.with_columns(mine=found & near & pl.when(connect).then(latest).otherwise(same["key"]))
    mine = pl.col("mine")
    handshake = (pl.col("error") == "tls_handshake") & (pl.col("error_to") == "tls_handshake")
    twice = (mine & same["mx_ip"] & (same["text"] | handshake)).fill_null(False)
    domain = pl.when(mine).then(pl.col("recipient_to").str.split("@").list.last().str.to_lowercase())
    key = pl.when(connect).then(pl.when(mine).then("key_to")).otherwise("key")
    newest = pl.lit(pl.concat([early["at"], finals["at"]]).max(), early.schema["at"])
    over = found | last | ((newest - pl.col("at")).cast(pl.Int64).fill_null(0) > 24 * _HOUR)  # zones may differ
    waits = both.filter(~over).select(early.columns)
    made = both.filter(over & ~twice).with_columns(domain=domain, key=key, asof=pl.when(mine).then("n_to"))
    return made.select(*early.columns, "domain", "asof"), waits


def _with_message(tries: pl.DataFrame, infos: pl.DataFrame) -> pl.DataFrame:
    """Sender, size, message-id and session: the last that was said of the queue id in its present life."""
    found = tries.select(pl.coalesce("asof", "n").alias("n"), "h").with_row_index("r").sort("n")
    for kind, names in {"from": ["sender", "size_bytes"], "id": ["message_id"], "removed": []}.items():
        told = infos.filter(pl.col("kind") == kind).select("n", "h", pl.col("n").alias(kind), *names).sort("n")
        found = found.join_asof(told, on="n", by="h", check_sortedness=False)
    found = found.sort("r")
    life = {kind: pl.when((pl.col("removed") < pl.col(kind)).fill_null(True)) for kind in ("from", "id")}
    found = found.select(
        *(life["from"].then(name).alias(name) for name in ("sender", "size_bytes", "from")),
        life["id"].then("message_id").alias("message_id"),
    )
    session = pl.format("{}/{}/{}/{}", "pid", "key", pl.col("from").fill_null(0), "mx_ip")
    return pl.concat([tries, found], how="horizontal").with_columns(session=session).drop("from")


def _with_tls(tries: pl.DataFrame, tls: pl.DataFrame) -> pl.DataFrame:
    """A connection has the TLS line just before its first row; a reused one keeps it.

    Among the TLS lines stand the last rows of earlier blocks, with their session.
    """
    used = tries.select("n", "peer", "session", "conn_use").with_row_index("r")
    both = pl.concat([tls.select("n", "session", _PEER).with_row_index("j"), used], how="diagonal")
    both = both.sort("n").sort("peer", maintain_order=True)
    j, r, session = pl.col("j"), pl.col("r"), pl.col("session")
    other = pl.col("peer").ne_missing(pl.col("peer").shift(1))
    line = j.is_not_null() & session.is_null()
    before = pl.when(r.is_null()).then(j).when(~other & line.shift(1)).then(j.shift(1)).otherwise(-1)
    fresh = r.is_null() | line.shift(1) | session.ne_missing(session.shift(1))
    begins = other | (~line & pl.col("conn_use").is_null() & fresh)
    both = both.with_columns(
        tls_j=pl.when(begins).then(pl.when(other & line).then(-1).otherwise(before)).forward_fill()
    )
    place = both.filter(pl.col("r").is_not_null()).sort("r").select(pl.col("tls_j").replace(-1, None))["tls_j"]
    made = tries.with_columns(tls[name].gather(place) for name in ("tls", "tls_cipher", "tls_trust"))
    return made.with_columns(tls_verified=pl.col("tls_trust").is_in(["Verified", "Trusted"]))


def _unremoved(infos: pl.DataFrame, waiting: pl.DataFrame) -> pl.DataFrame:
    """What the next block must know: messages that are still in the queue, and those of tries that wait.

    One that was never active for a week was refused, or thrown away, after its message-id was told.
    """
    gone = pl.when(pl.col("kind") == "removed").then("n").max().over("h").fill_null(-1)
    alive = infos.filter((gone < pl.col("n")) & pl.col("kind").is_in(["from", "id"]))
    alive = alive.sort("n").unique(["h", "kind"], keep="last", maintain_order=True)
    young = (pl.col("at").max() - pl.col("at")).dt.total_hours().fill_null(0) < 168
    alive = alive.filter(young | (pl.col("kind") == "from").any().over("h"))
    needed = infos.join(waiting.select(_H), on="h", how="semi")
    return pl.concat([alive, needed]).unique(["n", "kind"], maintain_order=True).drop("h")


def _unused(tls: pl.DataFrame, rows: pl.DataFrame, waiting: pl.DataFrame) -> pl.DataFrame:
    """The last that each process and peer has done (for a day): a TLS line, or a row with its session."""
    all_ = pl.concat([tls.select(_TLS_KEPT), rows.select(_TLS_KEPT)]).with_columns(_PEER)
    last = all_.filter(pl.col("n") == pl.col("n").max().over("peer"))
    last = last.filter((pl.col("at").max() - pl.col("at")).dt.total_hours().fill_null(0) < 24)
    needed = all_.join(waiting.select(_PEER), on="peer", how="semi")
    return pl.concat([last, needed]).unique("n", maintain_order=True).drop("peer")

"""widgets: forms for people who probe and send by hand: ProbeForm, SendForm, Console.

Each form shows the one line of Python that does the same. Not here: fields and status line (forms), what is
done (probing, sending, by_hand), what a reply means (transcript).
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as W  # noqa: N812  the name that its users write
import pandas as pd

from smtpkit import escape, plot
from smtpkit.address import domain_of
from smtpkit.by_hand import Dialogue
from smtpkit.campaign import Run
from smtpkit.diagnosis import diagnose
from smtpkit.errors import InvalidInput, refuse
from smtpkit.forms import Form, Raw, block, call, page, row
from smtpkit.message import Message, build_message
from smtpkit.mx import lookup_mx
from smtpkit.probing import probe
from smtpkit.sending import send
from smtpkit.styling import style

BEAT = 0.5
"""Seconds between two looks at a run."""


async def followed(run: Run, look: Callable[[pd.DataFrame], None]) -> pd.DataFrame:
    """Let `look` see the attempts that have ended so far, until the run is over; its frame, or its error raised."""
    seen = 0
    while run.running:
        await asyncio.sleep(BEAT)
        if run.done > seen:
            seen, frame = run.done, await asyncio.to_thread(run.frame)
            look(frame[frame.outcome.notna()])
    if run.error is not None:
        raise run.error
    return run.frame()


class ProbeForm(Form):
    """Ask every IP of every MX from a form: a live grid, Stop, the verdict; results in `frame`, `diagnosis`.

    Nothing is delivered: a probe ends after EHLO, or after RCPT if you name a recipient and a sender.

    >>> ProbeForm().fields["rounds"].value
    5
    """

    def __init__(self, network: Any = None) -> None:
        super().__init__(network)
        self.frame: pd.DataFrame | None = None
        self.diagnosis: Any = None
        self._run: Run | None = None
        self.picture = page()
        self.show(row(*self.buttons.values()), self.status, self.picture, self.line)

    def asked(self) -> dict[str, Any]:
        """The keywords of sk.probe that the fields stand for."""
        return {name: self.value(name) or None for name in ("recipient", "sender", "rounds", "tls")}

    def changed(self) -> None:
        self.show_call("probe", self.value("domain"), **self.asked())

    async def probe(self) -> None:
        """Run the probe; the grid follows it."""
        self.say(f"Asking every MX of {self.value('domain')} ...")
        self.picture.value, self.frame, self.diagnosis = "", None, None
        more = {"network": self.network, "background": True}
        self._run = run = await asyncio.to_thread(probe, self.value("domain"), **self.asked(), **more)
        self.buttons["stop"].disabled = False
        try:
            self.frame = await followed(run, self.draw)
        finally:
            self.buttons["stop"].disabled = True
        self.diagnosis = diagnose(self.frame)
        self.draw(self.frame, self.diagnosis)
        self.say("Stopped. " * run.stopped + self.diagnosis.verdict)

    def draw(self, frame: pd.DataFrame, diagnosis: Any = None) -> None:
        self.picture.value = plot.grid(frame, diagnosis).img()  # type: ignore[attr-defined]  # without ax= a Chart

    async def stop(self) -> None:
        """End the run; what was gathered stays."""
        if self._run is not None:
            self.say("Stopping ...")
            self._run.stop()


class SendForm(Form):
    """Write and send one message from a form: lints as you type, preview, dry run, then a real delivery.

    A real delivery needs a dry run of this very message, and the recipient's domain typed once more; `guard`
    (default the network's) holds as everywhere. The message is in `message`, the rows in `frame` and casebook.

    >>> form = SendForm()
    >>> form.fields["sender"].value, form.fields["to"].value = "me@ours.example", "r@daum.example"
    >>> form.message.envelope_to
    ('r@daum.example',)
    """

    def __init__(self, network: Any = None, guard: Any = None) -> None:
        super().__init__(network)
        self.guard = guard
        self.message: Message | None = None
        self.frame: pd.DataFrame | None = None
        self._dry: Message | None = None
        *before, self.real = self.buttons.values()
        self.words, self.typed = page(), W.Text(description="Type the domain").add_class("sk-typed")
        self.typed.observe(lambda _change: self.arm(), "value")
        self.confirm = W.VBox([self.words, row(self.typed, self.real)])
        self.pages = {name: page() for name in ("Lints", "Preview", "Envelope", "Transcript")}
        tabs = W.Tab(list(self.pages.values()), titles=list(self.pages))
        self.show(row(*before), self.status, self.confirm, tabs, self.line)

    def said(self) -> dict[str, Any]:
        """The keywords of sk.build_message that the fields stand for, but for attachments."""
        said = {name: self.value(name) for name in ("sender", "to", "cc", "subject", "text", "html")}
        said |= {name: _boxes(said[name]) for name in ("to", "cc")}
        return {name: value for name, value in said.items() if value or name == "text"}

    def how(self) -> dict[str, Any]:
        """The keywords of sk.send that the fields stand for."""
        mx = self.value("mx")
        where = {"mx": mx} if isinstance(mx, str) else {"server": mx[:2], "server_name": mx[2]}
        return where | {"tls": self.value("tls")}

    def build(self) -> Message:
        """The message of the fields; raises InvalidInput for what cannot be sent as meant."""
        files = [(file["name"], bytes(file["content"])) for file in self.value("attachments")]
        made = build_message(**self.said(), attachments=files)
        key = self.value("key")
        return made.sign(Path(key), self.value("selector"), domain_of(made.sender) or "") if key else made

    def changed(self) -> None:
        """Build, lint and preview what the fields say now; an earlier dry run no longer counts."""
        self._dry = self.message = None
        try:
            if self.value("sender") and self.value("to"):
                self.message = self.build()
                self._preview(self.message)
            self.say("Ready for a dry run." if self.message else "Fill in From and To.")
        except (InvalidInput, OSError) as error:
            self.say(str(error), bad=True)
        for name in ("lookup", "dry_run"):
            self.buttons[name].disabled = self.message is None
        self.arm()

    def _preview(self, message: Message) -> None:
        """Lints, the mail in a frame that runs nothing with its source, the envelope, the line of Python."""
        found = message.lint().query("status != 'pass'")[["check", "status", "value", "advice"]]
        lines = [f"MAIL FROM:<{message.sender}>", *(f"RCPT TO:<{to}>" for to in message.envelope_to)]
        lints = style(found).hide().to_html() if len(found) else "No lint has an objection."
        self.pages["Lints"].value = lints
        self.pages["Preview"].value = message._repr_html_() or block(repr(message), "message")
        self.pages["Envelope"].value = block("\n".join(lines), "envelope")
        files = [file["name"] for file in self.value("attachments")]
        given = self.said() | ({"attachments": files} if files else {})
        made = call("sk.build_message", **given)
        if key := self.value("key"):
            made = call(f"{made}.sign", call("Path", key), self.value("selector"), domain_of(message.sender))
        self.show_call("send", made, live=True, guard=self.guard and Raw("guard"), **self.how())

    async def lookup(self) -> None:
        """Offer each address of the recipient's MX."""
        route = await asyncio.to_thread(lookup_mx, self._domain(), network=self.network)
        found = [(f"{host.name} [{ip}]", (ip, 25, host.name)) for host, ip in route]
        self.fields["mx"].options = [*self.fields["mx"].options[:2], *found]
        self.say(f"{self._domain()}: {len(found)} MX addresses ({route.status}).", bad=not found)

    async def dry_run(self) -> None:
        """Ask sk.send what it would do; then offer the real delivery, in words."""
        message, frame = self.message, await self._hand_over(live=False)
        first, ways = frame.iloc[0], frame.mx_ip.nunique()
        if message and ways:
            via = f"{first.mx_host} [{first.mx_ip}]" if ways == 1 else f"each of {ways} MX addresses"
            to = ", ".join(message.envelope_to)
            text = f"Deliver {message.size:,} octets from {message.sender} to {to}, through {via}?"
            self.words.value = f'<div role="alert"><b>{escape.html(text)}</b></div>'
            self.typed.placeholder, self.typed.value, self._dry = self._domain(), "", message

    async def deliver(self) -> None:
        """Deliver, if the dry run was of this very message and the domain was typed."""
        if not self._confirmed():
            raise refuse("delivery to", self.value("to"), "was not confirmed", "make a dry run first")
        self._dry = None
        await self._hand_over(live=True)

    async def _hand_over(self, live: bool) -> pd.DataFrame:
        """Run sk.send; the transcript follows it, the outcome is told in words."""
        assert self.message is not None
        self.say("Sending ..." if live else "Dry run ...")
        more = {"network": self.network, "guard": self.guard, "live": live, "background": True}
        run = await asyncio.to_thread(send, self.message, **self.how(), **more)
        self.frame = frame = await followed(run, self._talk)
        self._talk(frame)
        good = frame.outcome.eq("accepted") | (frame.outcome.eq("withheld") & frame.error.isna())
        before = "" if live else "Dry run: nothing left this machine. "
        self.say(before + "; ".join(map(_outcome, frame.itertuples())) + ".", bad=not good.all())
        return frame

    def _talk(self, frame: pd.DataFrame) -> None:
        said = dict.fromkeys(str(frame.smtp[i].transcript) for i in range(len(frame)))
        text = "\n\n".join(filter(None, said)) or "nothing was said"
        self.pages["Transcript"].value = block(text, "transcript")

    def _domain(self) -> str:
        return domain_of(self.message.envelope_to[0] if self.message else None) or ""

    def _confirmed(self) -> bool:
        tried = self._dry is not None and self._dry is self.message  # any change of a field makes another
        return tried and self.typed.value.strip().lower() == self._domain()

    def arm(self) -> None:
        """The real delivery: offered after a dry run, armed once the domain is typed."""
        self.confirm.layout.display = "none" if self._dry is None else ""
        self.real.disabled = not self._confirmed()


def _boxes(text: str) -> list[str]:
    """The addresses of a field, separated by commas outside quotes."""
    return [part.strip() for part in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,])+', text) if part.strip()]


def _outcome(made: Any) -> str:
    where = f"{made.mx_host} [{made.mx_ip}]" if isinstance(made.mx_ip, str) else "no MX"
    texts = (getattr(made, name, None) for name in ("reply", "error", "why"))
    said = ": ".join(text for text in texts if isinstance(text, str))
    if made.outcome != "withheld":
        return f"{made.recipient} {made.outcome} by {where}: {said}"
    return f"{made.recipient} withheld by us: {said}" if said else f"{made.recipient} would go to {where}"


class Console(Form):
    """A session by hand: type a command, read the reply and what it means; `dialogue` is the session.

    `live` and `guard` are as for Dialogue: without them DATA is withheld. AUTH is not typed here, where a page
    would keep it: `console.dialogue.auth("you")` in a cell asks for the password.

    >>> Console().fields["port"].value
    25
    """

    def __init__(self, network: Any = None, guard: Any = None, *, live: bool = False) -> None:
        super().__init__(network)
        self.dialogue: Dialogue | None = None
        self.live, self.guard = live, guard
        self.command = self.fields.pop("command")
        self.command.observe(self._refuse_auth, "value")
        self.command.on_msg(self._entered)
        *above, self.send = self.buttons.values()
        self.said, typing = page(), W.HBox([self.command, self.send])
        self.show(row(*above), self.said, self.status, typing, self.line)

    def changed(self) -> None:
        how = {"tls": self.value("tls"), "live": self.live, "guard": self.guard and Raw("guard")}
        self.show_call("Dialogue", (self.value("server"), self.value("port")), **how)

    def _refuse_auth(self, change: Any) -> None:
        """Nothing that follows AUTH may stay in the page, or be saved with the notebook."""
        if re.match(r"(?i)\s*AUTH\b", change["new"]):
            self.command.value = ""
            self.say('AUTH is not typed here; call console.dialogue.auth("you") in a cell', bad=True)

    def _entered(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """The Enter key in the command's field."""
        if content.get("event") == "submit" and not self.send.disabled:
            self.begin(self.say_it(), self.send)

    async def connect(self) -> None:
        """Open a session, in the place of the one that was open."""
        await self.stop()
        how = {"tls": self.value("tls"), "live": self.live, "guard": self.guard, "connect": False}
        self.dialogue = Dialogue((self.value("server"), self.value("port")), network=self.network, **how)
        await self._hear(self.dialogue.connect)

    async def say_it(self) -> None:
        text, self.command.value = self.command.value, ""
        if self.dialogue is None:
            raise InvalidInput("there is no session yet; Connect first")
        said = self.dialogue.transcript.rows
        if text.strip() or (said and said[-1].reply.code == 354):  # a double click's blank line is none of ours
            await self._hear(self.dialogue.command, text)

    async def stop(self) -> None:
        """End at once whatever is waited for, and the session."""
        if self.dialogue is not None and not self.dialogue.over:
            self.dialogue.stop()
            self.say("Stopped.")

    async def _hear(self, call: Any, *given: str) -> None:
        """The answer, what it means, and all that was said."""
        talk, answer = self.dialogue, await asyncio.to_thread(call, *given)
        assert talk is not None
        self.said.value = block(str(talk.transcript), "transcript")
        if answer is None:
            self.say("A line of the message; a single dot ends it.")
        elif answer.code is None:
            self.say(f"No answer: {getattr(answer, 'error', 'no valid reply')}. {answer.text}", bad=True)
        else:
            line, end = talk.transcript[-1], "; the session is over" * talk.over
            self.say(f"{answer.code}: {line.meaning}{end}", bad=not line.expected)

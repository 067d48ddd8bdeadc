"""Forms without a browser: what they stand for, what they may do, that errors and hostile text are shown inert."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import ipywidgets as W  # noqa: N812  the name that its users write
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import smtpkit as sk
from smtpkit import Lab, forms, widgets
from smtpkit.guard import Guard
from smtpkit.limits import Pace
from smtpkit.widgets import Console, ProbeForm, SendForm
from tests.faultserver import SILENT, FaultServer
from tests.truth import network

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """Forms keep their values; a test begins and ends without, and looks more often than a person does."""
    monkeypatch.setattr(forms, "_KEPT", {})
    monkeypatch.setattr(widgets, "BEAT", 0.02)


@pytest.fixture
def lab():
    with Lab("stale_blacklist") as running:
        yield running


def fill(form, **values):
    for name, value in values.items():
        form.fields[name].value = value
    return form


def run(work):
    """To its end, in a loop of its own: where browser tests ran before, this thread has one already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def click(form, work, button=None):
    run(form.watched(work(), button or W.Button()))
    return form.status.value


def mail(lab, **more):
    form = SendForm(network=lab.network)
    values = {"sender": lab.sender, "to": lab.recipient, "subject": "hi", "text": "hello"}
    return fill(form, **(values | more))


def test_probe_form_shows_grid_and_verdict(lab):
    form = fill(ProbeForm(network=lab.network), domain=lab.domain, recipient=lab.recipient, sender=lab.sender)
    said = click(form, form.probe)
    assert form.error is None, said
    stale = lab.truth[0].values[0]
    assert f"{stale} refused 5 of 5 sessions" in said
    assert form.picture.value.startswith("<img alt=")
    assert form.diagnosis.causes[0].values == (stale,)
    assert len(form.frame) == 20
    assert form.buttons["stop"].disabled
    assert not next(iter(form.buttons.values())).disabled


def test_probe_form_shows_the_same_call(lab):
    form = fill(ProbeForm(network=lab.network), domain="daum.example", rounds=3, tls="require")
    line = form.line.value
    assert "sk.probe(&#x27;daum.example&#x27;, rounds=3, tls=&#x27;require&#x27;, network=network)" in line


def test_probe_form_stops(lab):
    lab.network.pace = Pace(receiver_gap=0.05, ip_gap=0.05, per_hour=None, per_day=None)
    form = fill(ProbeForm(network=lab.network), domain=lab.domain, rounds=50, tls="off")

    async def both():
        work = asyncio.ensure_future(form.watched(form.probe(), form.buttons["probe"]))
        while not form.picture.value and not work.done():
            await asyncio.sleep(0.01)
        await form.stop()
        await work

    run(both())
    assert form.status.value.count("Stopped.") == 1
    assert len(form.frame) < 200


def test_a_probe_stopped_before_any_answer_says_that_nothing_was_evidence(lab):
    lab.network.pace = Pace(receiver_gap=30, ip_gap=30, per_hour=None, per_day=None)
    form = fill(ProbeForm(network=lab.network), domain=lab.domain, tls="off")

    async def both():
        work = asyncio.ensure_future(form.watched(form.probe(), form.buttons["probe"]))
        while form.buttons["stop"].disabled and not work.done():
            await asyncio.sleep(0)
        await form.stop()
        await work

    run(both())
    assert form.error is None
    assert form.status.value.count("Stopped.") == 1


def test_the_callers_mistake_is_shown_and_kept(lab):
    form = fill(ProbeForm(network=lab.network), domain=f"{EVIL}.example")
    said = click(form, form.probe)
    assert "InvalidInput" in said
    assert "<img" not in said
    assert type(form.error).__name__ == "InvalidInput"
    assert not next(iter(form.buttons.values())).disabled


def test_a_form_made_again_has_its_values_but_no_files():
    fill(SendForm(), sender="me@ours.example", subject="again")
    assert SendForm().fields["subject"].value == "again"
    assert ("SendForm", "attachments") not in forms._KEPT
    assert ProbeForm().fields["sender"].value == ""


def test_send_form_lints_and_previews_as_you_type(lab):
    form = mail(lab, html=f"<b>hi</b>{EVIL}", subject=EVIL)
    assert form.message.header("Subject") == EVIL
    assert 'sandbox=""' in form.pages["Preview"].value
    assert all("<img" not in one.value for one in form.pages.values())
    assert f"RCPT TO:&lt;{lab.recipient}&gt;" in form.pages["Envelope"].value
    assert "alt text" in form.pages["Lints"].value
    fill(form, html="")
    assert "alt text" not in form.pages["Lints"].value
    assert form.line.value.count("sk.send(sk.build_message(sender=") == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"to": ""}, "Fill in From and To.", id="nobody"),
        pytest.param({"to": "a b@daum.example"}, "a b@daum.example", id="no address"),
        pytest.param({"subject": "a\rBcc: x@y.example"}, "subject", id="a header in the subject"),
        pytest.param({"key": "/no/such/key.pem", "selector": "s"}, "/no/such/key.pem", id="no key"),
    ],
)
def test_what_cannot_be_sent_cannot_be_tried(lab, values, said):
    form = mail(lab, **values)
    assert form.message is None
    assert form.buttons["dry_run"].disabled
    assert said.lower() in form.status.value.lower()


def test_a_delivery_needs_a_dry_run_and_the_domain(lab):
    form = mail(lab)
    assert form.real.disabled
    assert "not confirmed" in click(form, form.deliver)
    click(form, form.dry_run)
    assert lab.mailbox == []
    assert form.confirm.layout.display == ""
    host = form.frame.mx_host[0]
    assert f"to {lab.recipient}, through {host} [{form.frame.mx_ip[0]}]?" in form.words.value
    form.typed.value = "ours.example"
    assert form.real.disabled
    form.typed.value = lab.domain
    assert not form.real.disabled
    said = click(form, form.deliver)
    assert f"{lab.recipient} accepted by {host}" in said
    assert [mail.octets for mail in lab.mailbox] == [form.message.octets]
    assert "250" in form.pages["Transcript"].value
    assert form.real.disabled, "one confirmation is one delivery"
    assert "not confirmed" in click(form, form.deliver)
    assert len(lab.mailbox) == 1
    click(form, form.dry_run)
    form.typed.value = lab.domain
    said = click(form, form.deliver)
    assert "withheld by us: guard: " in said
    assert "again" in said
    assert len(lab.mailbox) == 1


def test_any_change_after_the_dry_run_takes_the_confirmation_back(lab):
    form = mail(lab)
    click(form, form.dry_run)
    form.typed.value = lab.domain
    fill(form, text="other")
    assert form.real.disabled
    assert form.confirm.layout.display == "none"
    assert "not confirmed" in click(form, form.deliver)
    assert lab.mailbox == []


def test_the_guard_holds_in_the_form(lab):
    form = mail(lab)
    form.guard = Guard(allow_to=("@elsewhere.example",))
    click(form, form.dry_run)
    form.typed.value = lab.domain
    assert "withheld" in click(form, form.deliver)
    assert lab.mailbox == []


def test_one_chosen_address_gets_it(lab):
    form = mail(lab)
    assert "4 MX addresses (mx)" in click(form, form.lookup)
    label, choice = form.fields["mx"].options[3]
    form.fields["mx"].value = choice
    click(form, form.dry_run)
    form.typed.value = lab.domain
    click(form, form.deliver)
    assert f"{form.frame.mx_host[0]} [{form.frame.mx_ip[0]}]" == label
    assert "server=(" in form.line.value


def test_attachments_are_sent(lab):
    form = mail(lab)
    file = {
        "name": "보고.txt",
        "type": "text/plain",
        "size": 3,
        "content": memoryview(b"abc"),
        "last_modified": datetime.now(UTC),
    }
    form.fields["attachments"].value = (file,)
    assert b"YWJj" in form.message.octets


def test_boxes_keep_quoted_commas_together():
    assert widgets._boxes('"Kim, Jo" <jo@a.example>,r@b.example,') == [
        '"Kim, Jo" <jo@a.example>',
        "r@b.example",
    ]


# ---- the console


def console(lab, server="192.0.2.11", **more):
    return fill(Console(network=lab.network, **more), server=server)


def say(form, *lines):
    """Type each line and press Enter; what the status line says then."""
    for line in lines:
        form.command.value = line
        click(form, form.say_it, form.send)
    return form.status.value


def test_a_console_shows_the_reply_and_what_it_means(lab):
    form = console(lab, "192.0.2.14")
    assert "220: ready: the greeting" in click(form, form.connect, form.buttons["connect"])
    assert "250: done as asked" in say(form, "EHLO mail.ours.example")
    assert "220: ready" in say(form, "starttls")
    assert form.dialogue.tls.version == "TLSv1.3"
    said = say(form, "EHLO mail.ours.example", f"MAIL FROM:<{lab.sender}>")
    assert "554: refused for good" in said
    assert "ip blocked" in said
    assert 'class="bad"' in said
    assert "~&gt; MAIL FROM:&lt;me@ours.example&gt;" in form.said.value
    assert form.command.value == ""
    assert "the session is over" in say(form, "QUIT")
    assert form.dialogue.frame().outcome[0] == "rejected"
    assert "sk.Dialogue((&#x27;192.0.2.14&#x27;, 25), network=network)" in form.line.value


def test_a_message_typed_into_a_console_is_delivered_only_if_live(lab):
    lines = ["EHLO c.example", f"MAIL FROM:<{lab.sender}>", f"RCPT TO:<{lab.recipient}>", "DATA"]
    form = console(lab)
    click(form, form.connect, form.buttons["connect"])
    assert "No answer: guard. DATA needs live=True" in say(form, *lines)
    live = console(lab, live=True)
    click(live, live.connect, live.buttons["connect"])
    assert "354: the server reads the message now" in say(live, *lines)
    assert "A line of the message" in say(live, "Subject: by hand", "", "hello")
    assert "250: done as asked" in say(live, ".")
    assert [mail.octets for mail in lab.mailbox] == [b"Subject: by hand\r\n\r\nhello\r\n"]
    assert "live=True" in live.line.value
    assert list(live.dialogue.frame().outcome) == ["accepted"]


def test_a_password_does_not_stay_in_the_page(lab):
    form = console(lab)
    click(form, form.connect, form.buttons["connect"])
    form.command.value = " auth PLAIN AGpvAGh1bnRlcjI="
    assert form.command.value == ""
    assert "AUTH is not typed here" in form.status.value
    widgets_of_it = [form, *form.fields.values(), form.command, form.said, form.status, form.line]
    assert "hunter" not in str([one.get_state() for one in widgets_of_it])
    assert "AGpv" not in str([one.get_state() for one in widgets_of_it])
    assert ("Console", "command") not in forms._KEPT


def test_a_console_stops_a_server_that_says_nothing(lab):
    form = console(lab)
    with FaultServer({"ehlo": SILENT}) as server:
        form.network = network(lab.network.casebook.parent, "console")
        fill(form, server=server.address[0], port=server.address[1])
        click(form, form.connect, form.buttons["connect"])
        form.command.value = "EHLO c.example"

        async def both():
            work = asyncio.ensure_future(form.watched(form.say_it(), form.send))
            await asyncio.sleep(0.2)
            await form.stop()
            await work

        run(both())
    assert form.dialogue.over
    assert "No answer: stopped" in form.status.value
    assert "the session is over" in say(form, "NOOP")


def test_a_console_stops_while_it_connects(lab):
    form = console(lab)
    with FaultServer({"banner": SILENT}) as server:
        form.network = network(lab.network.casebook.parent, "console")
        fill(form, server=server.address[0], port=server.address[1])

        async def both():
            work = asyncio.ensure_future(form.watched(form.connect(), form.buttons["connect"]))
            await asyncio.sleep(0.2)
            await form.stop()
            await work

        run(both())
    assert "No answer: stopped" in form.status.value
    assert not next(iter(form.buttons.values())).disabled


def test_a_console_without_a_session_says_so(lab):
    form = console(lab)
    assert "Connect first" in say(form, "NOOP")
    assert "no host name" in click(fill(form, server="a b"), form.connect, form.buttons["connect"]).replace(
        "is not a", "no"
    )


def test_hostile_replies_are_inert_in_a_console(lab):
    form = console(lab)
    with FaultServer({"banner": f"220 {EVIL}\x1b[2J\r\n".encode(), "noop": f"550 {EVIL}\r\n".encode()}) as server:
        form.network = network(lab.network.casebook.parent, "console")
        fill(form, server=server.address[0], port=server.address[1])
        click(form, form.connect, form.buttons["connect"])
        say(form, "NOOP")
        form.dialogue.drop()
    shown = form.said.value + form.status.value + form.line.value
    assert "&lt;img src=x" in shown
    assert "<img" not in shown
    assert "\x1b" not in shown


# ---- what readers met


def test_a_double_click_is_one(lab):
    form = fill(ProbeForm(network=lab.network), domain=lab.domain, rounds=2, tls="off")

    async def twice():
        form.buttons["probe"].click()
        form.buttons["probe"].click()
        await asyncio.gather(*form._tasks)

    run(twice())
    assert form.error is None
    assert len(sk.Casebook(lab.network.casebook).attempts()) == len(form.frame) == 8


def test_a_blank_line_goes_out_in_a_message_only(lab):
    form = console(lab)
    click(form, form.connect)
    before = str(say(form, "NOOP"))
    assert say(form, "", "  ") == before
    assert "502" not in form.said.value
    assert len(form.dialogue.transcript) == 2


def test_the_question_names_the_route_and_none_is_asked_without_one(lab):
    form = mail(lab, to=f'"a,b"@{lab.domain}, r@{lab.domain}')
    click(form, form.dry_run)
    assert f"through {form.frame.mx_host[0]} [{form.frame.mx_ip[0]}]?" in form.words.value
    nowhere = mail(lab, to="r@nosuch.example")
    assert "dns_nxdomain" in click(nowhere, nowhere.dry_run)
    assert nowhere.words.value == ""
    assert nowhere.confirm.layout.display == "none"


def test_the_same_call_has_attachments_and_the_signature(lab, tmp_path):
    form = mail(lab)
    content = {"name": "a.txt", "type": "text/plain", "size": 3, "content": memoryview(b"abc")}
    form.fields["attachments"].value = (content | {"last_modified": datetime.now(UTC)},)
    assert "attachments=[&#x27;a.txt&#x27;])" in form.line.value
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "k.pem").write_bytes(pem)
    fill(form, key=str(tmp_path / "k.pem"), selector="s1")
    assert ".sign(Path(&#x27;" in form.line.value
    assert "&#x27;s1&#x27;, &#x27;ours.example&#x27;)" in form.line.value

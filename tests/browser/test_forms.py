"""The forms as a person uses them: type, click, read, stop; by keyboard, too."""

import re

import pytest
from playwright.sync_api import expect

SETUP = """import smtpkit as sk
lab = sk.Lab("stale_blacklist").start()"""
STATUS = ".smtpkit-form [role=status]"


def form(found):
    return found.page.locator(".smtpkit-form").first


def type_in(form, **fields):
    for label, text in fields.items():
        box = form.get_by_label(label, exact=True)
        box.fill(text)
        box.press("Tab")


def test_a_probe_is_started_watched_and_told(notebook):
    found = notebook([SETUP, "probing = sk.widgets.ProbeForm(network=lab.network)\nprobing"])
    type_in(form(found), Domain="daum.example", Recipient="r@daum.example", Sender="me@ours.example")
    form(found).get_by_label("Rounds").fill("8")
    form(found).get_by_label("Rounds").press("Tab")
    form(found).get_by_role("button", name=re.compile("Start probe")).press("Enter")
    expect(found.page.locator(STATUS)).to_contain_text("192.0.2.14 refused 8 of 8", timeout=60_000)
    picture = form(found).locator("img")
    assert "192.0.2.14" in picture.get_attribute("alt")
    expect(form(found).locator("code")).to_contain_text("sk.probe('daum.example', recipient='r@daum.example'")
    assert found.outside() == []


def test_a_probe_is_stopped(notebook):
    slow = "lab.network.pace = sk.Pace(receiver_gap=1, ip_gap=1, per_hour=None, per_day=None)"
    found = notebook([SETUP, f"{slow}\nprobing = sk.widgets.ProbeForm(network=lab.network)\nprobing"])
    type_in(form(found), Domain="daum.example")
    form(found).get_by_role("button", name=re.compile("Start probe")).click()
    expect(form(found).locator("img")).to_be_visible(timeout=30_000)
    form(found).get_by_role("button", name=re.compile("Stop")).click()
    expect(found.page.locator(STATUS)).to_contain_text("Stopped.", timeout=30_000)
    expect(form(found).get_by_role("button", name=re.compile("Start probe"))).to_be_enabled()


def test_a_mail_is_written_tried_confirmed_and_delivered(notebook):
    found = notebook([SETUP, "sending = sk.widgets.SendForm(network=lab.network)\nsending"])
    mail = form(found)
    type_in(mail, From="Jo <me@ours.example>", To="r@daum.example", Subject="안녕", Text="hello")
    expect(found.page.locator(STATUS)).to_have_text("Ready for a dry run.")
    expect(mail.locator("code")).to_contain_text("text='hello'")  # a click would overtake a waiting field
    mail.get_by_role("button", name=re.compile("Dry run")).press("Enter")
    expect(found.page.locator(STATUS)).to_contain_text("nothing left this machine", timeout=30_000)
    expect(mail.get_by_role("alert")).to_contain_text("to r@daum.example, through mx1.daum.example [192.0.2.11]?")
    deliver = mail.get_by_role("button", name=re.compile("Deliver"))
    expect(deliver).to_be_disabled()
    type_in(mail, **{"Type the domain": "daum.example"})
    expect(deliver).to_be_enabled()
    deliver.press("Enter")
    expect(found.page.locator(STATUS)).to_contain_text(
        "r@daum.example accepted by mx1.daum.example", timeout=30_000
    )
    mail.get_by_role("tab", name="Transcript").click()
    expect(mail.get_by_role("region", name="transcript")).to_contain_text("RCPT TO:<r@daum.example>")
    expect(deliver).to_be_hidden()


def test_a_session_is_typed_read_and_ended_by_keyboard_alone(notebook):
    found = notebook([SETUP, "console = sk.widgets.Console(network=lab.network)\nconsole"])
    typing = form(found)
    typing.get_by_label("Server", exact=True).fill("192.0.2.14")
    typing.get_by_role("button", name="Connect").press("Enter")
    expect(found.page.locator(STATUS)).to_contain_text("220: ready: the greeting", timeout=30_000)
    command = typing.get_by_label("Command", exact=True)
    log = typing.get_by_role("region", name="transcript")
    for line, meaning, shown in [
        ("EHLO mail.ours.example", "250: done as asked", "<-  250-PIPELINING"),
        ("STARTTLS", "220: ready", "<-  220 2.0.0 Ready to start TLS"),
        ("EHLO mail.ours.example", "250: done as asked", "=== TLS started"),
        (
            "MAIL FROM:<me@ours.example>",
            "554: refused for good",
            "<~* 554-5.7.1 Your IP [198.51.100.7] is blocked",
        ),
        ("VRFY postmaster", "252: taken, without knowing", " ~> VRFY postmaster"),
        ("QUIT", "the session is over", "<~  221"),
    ]:
        command.fill(line)
        command.press("Enter")
        expect(found.page.locator(STATUS)).to_contain_text(meaning, timeout=30_000)
        expect(log).to_contain_text(shown)
        expect(command).to_have_value("")
    assert log.evaluate("log => log.scrollHeight > log.clientHeight && Math.abs(log.scrollTop) < 2"), (
        "its end shows"
    )
    assert found.outside() == []


def test_a_password_typed_into_the_console_is_not_in_the_saved_notebook(notebook):
    found = notebook([SETUP, "console = sk.widgets.Console(network=lab.network)\nconsole"])
    form(found).get_by_label("Server", exact=True).fill("192.0.2.11")
    form(found).get_by_role("button", name="Connect").click()
    expect(found.page.locator(STATUS)).to_contain_text("220: ready", timeout=30_000)
    form(found).get_by_label("Command", exact=True).press_sequentially("AUTH PLAIN AGpvAGh1bnRlcjI=")
    expect(found.page.locator(STATUS)).to_contain_text("AUTH is not typed here", timeout=30_000)
    expect(form(found).get_by_role("button", name="Send")).to_be_enabled()
    found.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    found.page.wait_for_timeout(1500)
    assert "AGpvAGh1bnRlcjI" not in (found.served.root / found.name).read_text()


def test_a_silent_server_is_stopped_from_the_console(notebook):
    silent = """import socket
port = socket.create_server(("127.0.0.1", 0))
net = sk.internet(allow_networks=["127.0.0.0/8"], pace=sk.Pace.none(), casebook="c.sqlite", ledger="l.sqlite")
console = sk.widgets.Console(network=net)
console.fields["server"].value, console.fields["port"].value = port.getsockname()
console"""
    found = notebook(["import smtpkit as sk", silent])
    form(found).get_by_role("button", name="Connect").click()
    expect(form(found).get_by_role("button", name="Connect")).to_be_disabled(timeout=30_000)
    form(found).get_by_role("button", name="Stop").press("Enter")
    expect(found.page.locator(STATUS)).to_contain_text("stopped", timeout=30_000)
    expect(form(found).get_by_role("button", name="Connect")).to_be_enabled()


def test_every_field_has_a_name_and_can_be_reached_by_keyboard(notebook):
    found = notebook(["import smtpkit as sk", "sk.widgets.SendForm()"])
    names = found.page.evaluate(
        """() => [...document.querySelectorAll('.smtpkit-form input, .smtpkit-form textarea, .smtpkit-form select')]
           .filter(field => field.type !== 'file').map(field => field.labels.length && field.labels[0].innerText)"""
    )
    assert all(names), names
    assert {"From", "To", "Cc", "Subject", "Text", "MX", "TLS"} <= set(names)
    form(found).get_by_label("From", exact=True).focus()
    reached = set()
    for _ in range(12):
        found.page.keyboard.press("Tab")
        reached.add(
            found.page.evaluate(
                "() => document.activeElement.labels?.[0]?.innerText || document.activeElement.innerText"
            )
        )
    assert {"To", "Subject", "Text", "TLS"} <= reached


CUT = """form => [...form.querySelectorAll(".sk-field, button")].filter(one => one.offsetParent)
  .filter(one => one.getBoundingClientRect().right > form.getBoundingClientRect().right ||
    (one.tagName === "BUTTON" && one.scrollWidth > one.clientWidth)).map(one => one.innerText)"""


@pytest.mark.parametrize("name", ["ProbeForm", "SendForm", "Console"])
def test_nothing_of_a_form_is_cut_in_a_narrow_window(notebook, name):
    found = notebook([SETUP, f"shown = sk.widgets.{name}(network=lab.network)\nshown"])
    expect(form(found)).to_be_visible()
    found.page.set_viewport_size({"width": 700, "height": 1100})
    found.page.wait_for_function(
        "form => form.getBoundingClientRect().width < 640", arg=form(found).element_handle()
    )
    assert form(found).evaluate(CUT) == []

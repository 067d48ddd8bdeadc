"""A hostile receiver's texts through every way of showing them: nothing runs in the page."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

SETUP = f"""import ipywidgets as W
import pandas as pd
import smtpkit as sk
lab = sk.Lab({str(Path(__file__).with_name("hostile.toml"))!r}).start()
sk.options.progress = True
evil = "<img src=x onerror=\\"(window.__ran=window.__ran||[]).push('ours')\\">"
frame = sk.probe(lab.domain, recipient=lab.recipient, sender=lab.sender, network=lab.network, rounds=8)
found = sk.diagnose(frame)
bad = int(frame.outcome.eq('rejected').to_numpy().argmax())
mail = sk.build_message(sender=lab.sender, to=lab.recipient, subject=evil, text=evil, html=evil)
form = sk.widgets.SendForm(network=lab.network)
form.fields["sender"].value, form.fields["to"].value = lab.sender, lab.recipient
form.fields["subject"].value = form.fields["html"].value = evil
console = sk.widgets.Console(network=lab.network)
console.fields["server"].value = "192.0.2.12\""""
SHOWN = {  # what a cell shows, and a text that proves that it did
    "frame": ("frame[['mx_ip', 'reply']]", "554 5.7.1"),
    "styled": ("sk.style(frame[['mx_ip', 'reply']])", "554 5.7.1"),
    "styled index": ("sk.style(pd.DataFrame({evil: [25]}, index=[frame.reply[bad]]))", "554 5.7.1"),
    "redacted": ("sk.style(sk.redact(frame)[['reply']])", "554 5.7.1"),
    "attempt": ("frame.smtp[bad]", "554 5.7.1"),
    "transcript": ("frame.smtp[bad].transcript", "RCPT TO"),
    "replies": ("frame.smtp[bad].replies[['text']]", "5.7.1 <img"),
    "route": ("sk.lookup_mx(lab.domain, network=lab.network)", "mx1.evil.example"),
    "diagnosis": ("found", "192.0.2.12"),
    "table": ("found.table", "192.0.2.12"),
    "evidence": ("found.causes[0].evidence[['reply']] if found.causes else frame[['reply']]", "554 5.7.1"),
    "reason": ("sk.classify(frame.reply[bad], code=554)", "ip_blocked"),
    "message": ("mail", "From"),
    "lints": ("sk.style(mail.lint())", "pass"),
    "letter": ("sk.report(found, frame=frame, own=[lab.recipient], network=lab.network)", "192.0.2.12"),
    "page": ("print(sk.report(found, frame=frame).page)", "192.0.2.12"),
    "grid": ("sk.plot.grid(frame.assign(mx_host=evil), found)", ""),
    "heatmap": ("sk.plot.heatmap(frame.assign(domain=evil), sk.Diagnosis((), evil))", ""),
    "timeline": ("sk.plot.timeline(frame, found, notes=[(pd.Timestamp.now('UTC'), evil)])", ""),
    "casebook": ("sk.Casebook(lab.network.casebook).replies()[['text']]", "<img"),
    "form": ("form", "From"),
    "dialogue": ("sk.Dialogue(('192.0.2.12', 25), network=lab.network)", "220 mx2.evil.example <img"),
    "dialogue's answer": ("sk.Dialogue(('192.0.2.12', 25), network=lab.network).last", "<img"),
    "console": ("console", "Connect"),
    "error": ("try:\n    sk.probe(evil, network=lab.network)\nexcept sk.errors.InvalidInput as error:\n"
              "    print('\\n'.join(error._render_traceback_()))", "InvalidInput"),
    "error shown": ("sk.lookup_mx(evil)", "InvalidInput"),
}  # fmt: skip


def test_the_trap_works(notebook):
    """The same text in a plain HTML widget does run: the check below can fail."""
    found = notebook(["import ipywidgets as W", "W.HTML('<img src=x onerror=\"window.__ran=[1]\">')"])
    found.page.wait_for_function("() => window.__ran", timeout=10_000)


def test_no_text_of_a_server_runs_anywhere(notebook):
    cells = [SETUP, *(source for source, _ in SHOWN.values())]
    found = notebook(cells, tags={len(cells) - 1: ["raises-exception"]})
    for number, (name, (_, proof)) in enumerate(SHOWN.items(), 1):
        shown = found.page.locator(".jp-CodeCell").nth(number).locator(".jp-Cell-outputArea")
        assert shown.count(), name
        assert proof in shown.inner_text(), f"{name} shows {shown.inner_text()[:200]!r}"
    found.page.get_by_role("button", name="Connect").click()
    expect(found.page.get_by_role("region", name="transcript")).to_contain_text("<img src=x", timeout=30_000)
    for title in ("Preview", "Envelope", "Transcript"):
        found.page.get_by_role("tab", name=title).click()
    found.page.wait_for_timeout(1000)
    assert found.page.evaluate("() => window.__ran || []") == []
    assert found.page.locator(".jp-Cell-outputArea a[href^='javascript']").count() == 0
    assert found.outside() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_forms_can_be_read_on_either_ground(notebook, dark):
    """Text of labels and status against its ground: WCAG's 4.5 at least."""
    given = "form.fields['sender'].value, form.fields['to'].value = 'me@ours.example', 'r@daum.example'"
    refused = "console = sk.widgets.Console()\nconsole.say('550: refused', bad=True)\nconsole"
    found = notebook(["import smtpkit as sk", f"form = sk.widgets.SendForm()\n{given}\nform", refused])
    found.theme(dark)
    for selector in (
        ".widget-label",
        ".widget-html-content div[role=status]",
        ".smtpkit-form .quiet",
        ".smtpkit-form .bad",
    ):
        text, ground = found.page.locator(selector).first.evaluate(COLOURS)
        assert contrast(text, ground) >= 4.5, selector


COLOURS = """start => {
  let node = start;
  const clear = colour => colour === "transparent" || colour.endsWith(", 0)");
  while (node.parentElement && clear(getComputedStyle(node).backgroundColor)) node = node.parentElement;
  const numbers = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
  return [numbers(getComputedStyle(start).color), numbers(getComputedStyle(node).backgroundColor)];
}"""


def contrast(a, b):
    def light(colour):
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)

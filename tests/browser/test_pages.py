"""Messages, tables and letters in a real browser: hostile text runs nothing and nobody outside is asked."""

import http.server
import threading

import pytest
from playwright.sync_api import expect

from smtpkit.packet import report
from tests.frames import Cause, Diagnosis, only, rounds

RUN = "(window.__ran = window.__ran || []).push({!r})"
SETUP = """import pandas as pd
import smtpkit as sk
evil = "<img src=x onerror=\\"(window.__ran = window.__ran || []).push('text')\\">"
page = "<meta http-equiv=refresh content='0;url=SEEN'><script>parent.__ran = ['script']</script>"
page += evil + "<h1>Hello</h1><img src='SEENpicture.png'><form action='SEEN'></form>"
frame = pd.DataFrame({evil: [evil]}, index=pd.Index([evil], name=evil))"""


@pytest.fixture
def web():
    """A web server on loopback: where it is, and what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_message_shows_its_html_without_running_or_asking(notebook, web):
    where, asked = web
    send = "sk.build_message(sender='a@ours.example', to='r@daum.example', "
    found = notebook([SETUP.replace("SEEN", where), f"{send} subject=evil, text=evil, html=page)"])
    inner = found.page.frame_locator(".jp-OutputArea iframe").locator("h1")
    expect(inner).to_have_text("Hello")
    found.page.wait_for_timeout(1000)
    assert found.page.evaluate("() => window.__ran || []") == []
    assert asked == []


def test_a_styled_frame_is_inert_in_cells_index_columns_and_names(notebook):
    found = notebook([SETUP, "sk.style(frame)"])
    table = found.page.locator(".jp-OutputArea table")
    expect(table).to_contain_text("<img src=x")
    assert found.page.locator(".jp-OutputArea table img").count() == 0
    assert found.page.evaluate("() => window.__ran || []") == []


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_packet_page_needs_nothing_from_outside(page, tmp_path, lang):
    frame = rounds(4, 6, only(3))
    evil = f'<img src=x onerror="{RUN.format("reply")}"><script>{RUN.format("script")}</script>'
    frame["reply"] = f"554 {evil} http://192.0.2.1/"
    frame["helo"] = frame["mx_host"] = frame["reply_host"] = evil
    diagnosis = Diagnosis((Cause("mx_block", "mx_ip", ("192.0.2.14",)),), evil)
    report(diagnosis, tmp_path, frame=frame, lang=lang, own="r@daum.example")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri(), wait_until="load")
    page.wait_for_timeout(300)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("() => window.__ran || []") == []
    assert page.locator("img").count() == 3
    assert all(alt for alt in page.locator("img").evaluate_all("all => all.map(one => one.alt)"))
    expect(page.locator("pre")).to_contain_text("554 <img src=x")
    expect(page.locator("tr#R1")).to_contain_text("192.0.2.14")


def test_on_paper_the_packet_page_has_every_column_of_every_attempt(page, tmp_path):
    report(Diagnosis((), "x"), tmp_path, frame=rounds(4, 6, only(3)))
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 without its margins
    page.goto((tmp_path / "report.html").as_uri())
    page.emulate_media(media="print")
    told = page.locator(".wide td:not(:empty)")
    edges = told.evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert len(edges) > 24 * 10
    assert max(edges) <= 718
    assert told.last.evaluate("one => getComputedStyle(one, '::before').content") not in ("none", "normal")

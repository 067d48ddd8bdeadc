"""Charts in a real notebook: shown once, with alt text, opaque on a dark page, hostile text inert."""

from playwright.sync_api import expect

SETUP = """import pandas as pd
import smtpkit as sk
evil = "<img src=x onerror=\\"(window.__ran = window.__ran || []).push('chart')\\"> $x$"
columns = {"mx_ip": ["192.0.2.11", evil], "mx_host": [evil, None], "code": [250, 554]}
frame = pd.concat([pd.DataFrame(columns)] * 3, ignore_index=True)"""


def test_a_chart_is_one_picture_with_alt_text_and_runs_nothing(notebook):
    found = notebook([SETUP, "sk.plot.grid(frame)", "sk.plot.forest(frame)"])
    pictures = found.page.locator(".jp-OutputArea img")
    expect(pictures).to_have_count(2)
    assert "3 of 6 attempts at 2 MX IPs were accepted; 3 refused" in pictures.first.get_attribute("alt")
    assert found.page.evaluate("() => window.__ran || []") == []
    assert found.outside() == []
    found.theme(dark=True)
    colour = pictures.first.evaluate("picture => getComputedStyle(picture).backgroundColor")
    assert colour == "rgb(255, 255, 255)"

"""What is handed out (pictures, letters, files) and said something wrong, or too much; one row a fault."""

import pandas as pd
import pytest

from smtpkit import plot, rows
from tests.frames import Cause, Diagnosis, join, only, rounds, row

TIME = pd.Timestamp("2026-11-24 00:30", tz="UTC")
SERVER = Cause("mx_block", "mx_ip", ("192.0.2.12",))
BOTH = Diagnosis((SERVER, Cause("recipient_bad", "recipient", ("gone@x.example",))))


def one_bad_server_and_dead_mailboxes():
    """192.0.2.12 refuses us; beside it some mailboxes are gone, at all servers."""
    dead = [row("nobody", TIME, n % 4, recipient="gone@x.example", sender_ip=f"198.51.100.{n}") for n in range(8)]
    return join(rounds(4, 5, only(1)), pd.DataFrame(dead)).assign(sender_ip="198.51.100.7")


@pytest.mark.parametrize("draw", [plot.forest, plot.heatmap])
def test_charts_are_about_the_cause_that_their_title_names(draw):
    """Dead mailboxes, as a later cause, gave a row a recipient, and a frame around innocent servers."""
    fig = draw(one_bad_server_and_dead_mailboxes(), BOTH)
    words = [label.get_text() for label in (*fig.axes[0].get_yticklabels(), *fig.axes[0].get_xticklabels())]
    assert any("192.0.2.12" in word for word in words)
    assert not any("@" in word for word in words)


def test_many_dead_mailboxes_fit_into_a_picture():
    """One row each: of 1,000 a picture 167 inches high and of 5 MB, of 4,000 none."""
    gone = [f"{n}@daum.example" for n in range(100)]
    whom = [*gone, *(f"ok{n}@daum.example" for n in range(100))]
    frame = pd.DataFrame([row("nobody" if to in gone else "good", TIME, 0, recipient=to) for to in whom])
    view = rows.Rows(frame, Diagnosis((Cause("recipient_bad", "recipient", tuple(gone)),)), order="rate")
    assert view.lines.label.tolist()[-2:] == ["\u2718 60 more", "  100 more"]
    assert view.lines.iloc[-2:][["k", "n", "accused"]].to_numpy().tolist() == [[60, 60, True], [0, 100, False]]
    assert len(view.lines) == 42

"""trees: the SPF tree drawn: every term as text, marks beside colours, hostile terms inert."""

import pandas as pd
import pytest

from smtpkit.checks import spf
from smtpkit.trees import MOST_ROWS, spf_tree
from tests.fake_network import FakeNetwork
from tests.test_checks_spf import ZONE


def words(figure: object) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]  # type: ignore[attr-defined]  # a Figure


def test_every_term_is_written_and_the_deciding_ones_are_marked() -> None:
    tree = spf.tree("ours.example", "192.0.2.9", FakeNetwork(ZONE))
    figure = spf_tree(tree)
    said = words(figure)
    assert set(tree.term[1:]) <= {word.split("   ")[0] for word in said}
    assert said.count("\u2714") == 3, "the record, the include, the network"
    assert figure.alt.startswith("SPF record as a tree. ours.example: pass, 8 of 10 DNS terms")  # type: ignore[attr-defined]  # a Chart
    assert [text for text in said if text.endswith("a loop")]
    assert [bar.get_width() for bar in figure.axes[0].patches][:2] == pytest.approx([8 * 1.6, 3 * 1.6])


def test_a_broken_limit_is_hatched_and_long_records_are_cut() -> None:
    figure = spf_tree(spf.tree("wide.example", "203.0.113.5", FakeNetwork(ZONE)))
    assert figure.axes[0].patches[0].get_hatch() == "///"
    assert "permerror, 11 of 10" in figure.alt  # type: ignore[attr-defined]  # a Chart
    zone = {"long.example": {"TXT": ["v=spf1 " + " ".join(f"ip4:192.0.2.{n}" for n in range(99)) + " -all"]}}
    long = spf_tree(spf.tree("long.example", network=FakeNetwork(zone)))
    assert len([word for word in words(long) if word.startswith("ip4")]) == MOST_ROWS - 1
    assert "61 more terms" in long.alt  # type: ignore[attr-defined]  # a Chart


def test_hostile_terms_and_foreign_axes() -> None:
    row = {
        "depth": 0,
        "domain": "$x^$\x1b[2J",
        "term": "v=spf1",
        "total": 0,
        "result": "",
        "note": "\u202e",
    }
    said = words(spf_tree(pd.DataFrame([row])))
    assert any("$x^$\\x1b[2J" in word and "\\u202e" in word for word in said)
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert spf_tree(pd.DataFrame([row]), ax=ax) is ax.get_figure()

"""Draws the README's picture from a real run on the lab: python -m tests.bench.readme_picture [file]

Probes the lab's stale MX, checks that the diagnosis is the lab's truth, and writes the grid as PNG.
"""

import sys
from pathlib import Path

import smtpkit as sk

PICTURE = Path(__file__).parents[2] / "data/pictures/one_stale_mx.png"
MOST = 120_000  # octets


def draw(path: Path) -> None:
    """Write the picture of the lab "stale_blacklist"."""
    with sk.Lab("stale_blacklist") as lab:
        frame = sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network)
        found = sk.diagnose(frame)
        truth = {(cause.kind, cause.values) for cause in lab.truth}
        assert {(cause.kind, cause.values) for cause in found.causes} == truth, found
    path.parent.mkdir(parents=True, exist_ok=True)
    sk.plot.grid(frame, found).savefig(path, dpi=200)
    assert path.stat().st_size <= MOST, f"{path.stat().st_size} octets are more than {MOST}"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    draw(target)
    print(target, target.stat().st_size, "octets")

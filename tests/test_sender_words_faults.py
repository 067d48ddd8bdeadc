"""What senders publish and write, and what was said of it: wrong causes, lost evidence, verdicts by chance."""

import pytest

from smtpkit.errors import InvalidInput
from tests.test_sender_faults import PEM, PLAIN

NAMES = {
    "a long domain": ("s1", f"{'a' * 30}.{'b' * 30}.example"),
    "a long label": ("s1", f"{'a' * 64}.example"),
    "a long selector": (f"{'s' * 40}.{'t' * 40}", "ours.example"),
    "two dots": ("s1", "ours..example"),
    "a dot first": ("s1", ".ours.example"),
    "a slash": ("s/1", "ours.example"),
}


@pytest.mark.parametrize(("selector", "domain"), NAMES.values(), ids=NAMES)
def test_a_signature_that_nobody_could_verify_is_not_made(selector: str, domain: str) -> None:
    with pytest.raises(InvalidInput):
        PLAIN.sign(PEM, selector, domain)


def test_a_domain_is_signed_for_in_its_normal_form() -> None:
    assert b" d=ours.example;" in PLAIN.sign(PEM, "s1", "Ours.example.").octets
    assert b" i=@" + b"a" * 58 + b".example;" in PLAIN.sign(PEM, "s1", f"{'a' * 58}.example").octets

"""checks.names: PTR and its way back, HELO, MX and SOA of the sender's domains."""

import pytest

from smtpkit.checks import names
from smtpkit.checks.found import Sender
from tests.fake_network import FakeNetwork, reverse

IP, V6 = "198.51.100.7", "2001:db8::7"
ZONE = {
    reverse(IP, "in-addr.arpa"): {"PTR": ["mail.ours.example"]},
    reverse("198.51.100.8", "in-addr.arpa"): {"PTR": ["198-51-100-8.isp.example"]},
    reverse("198.51.100.9", "in-addr.arpa"): {"PTR": ["mail.ours.example"]},
    reverse("198.51.100.10", "in-addr.arpa"): {"PTR": ["dead.example"]},
    reverse("198.51.100.11", "in-addr.arpa"): "servfail",
    reverse("198.51.100.12", "in-addr.arpa"): {"PTR": ["dead.example", "mail2.ours.example"]},
    reverse("198.51.100.13", "in-addr.arpa"): {"PTR": ["dyn13.ours.example"]},
    reverse(V6, "ip6.arpa"): {"PTR": ["mail.ours.example"]},
    "mail.ours.example": {"A": [IP], "AAAA": ["2001:DB8:0::7"]},
    "mail2.ours.example": {"A": ["198.51.100.12"]},
    "dyn13.ours.example": {"A": ["198.51.100.13"]},
    "198-51-100-8.isp.example": {"A": ["198.51.100.8"]},
    "dead.example": "timeout",
    "ours.example": {"MX": ["10 mail.ours.example"], "SOA": ["ns. host. 1 2 3 4 5"]},
    "null.example": {"MX": ["0 ."], "A": [IP]},
    "implicit.example": {"A": [IP]},
    "lost.example": {"MX": ["10 gone.lost.example"]},
    "slow.example": {"MX": ["10 dead.example"]},
    "silent.example": "servfail",
}  # fmt: skip


def check(name: str, domain: str = "ours.example", **more: str) -> tuple[str, str]:
    who = Sender(domain, FakeNetwork(ZONE), mail_from=more.pop("mail_from", domain), **more)
    row = next(row for row in names.rows(who) if row.check == name)
    return row.status, row.evidence


@pytest.mark.parametrize(
    ("ip", "status", "evidence"),
    [
        (IP, "pass", "PTR mail.ours.example; mail.ours.example leads back"),
        (V6, "pass", "PTR mail.ours.example; mail.ours.example leads back"),
        ("198.51.100.8", "warn", "PTR 198-51-100-8.isp.example; 198-51-100-8.isp.example leads back"),
        ("198.51.100.13", "warn", "PTR dyn13.ours.example; dyn13.ours.example leads back"),
        ("198.51.100.9", "fail", "PTR mail.ours.example; none leads back"),
        ("198.51.100.99", "fail", "PTR none; none leads back"),
        ("198.51.100.10", "unknown", "PTR dead.example; DNS timeout: timeout from the fake"),
        ("198.51.100.11", "unknown", "PTR none; DNS servfail: servfail from the fake"),
        ("198.51.100.12", "pass", "PTR dead.example, mail2.ours.example; mail2.ours.example leads back"),
    ],
)  # fmt: skip
def test_ptr_and_its_way_back(ip: str, status: str, evidence: str) -> None:
    assert check("ptr", ip=ip) == (status, evidence)


@pytest.mark.parametrize(
    ("helo", "status"),
    [
        ("mail.ours.example", "pass"),
        ("mail2.ours.example", "warn"),
        ("gone.ours.example", "fail"),
        ("[198.51.100.7]", "fail"),
        ("localhost", "fail"),
        ("my_pc.ours.example", "fail"),
        ("198.51.100.7", "fail"),
        ("dead.example", "unknown"),
    ],
)
def test_the_helo_name_has_the_sending_address(helo: str, status: str) -> None:
    assert check("helo", ip=IP, helo=helo)[0] == status


def test_without_address_or_name_nothing_is_claimed() -> None:
    assert check("ptr") == ("unknown", "not asked: no sending address known")
    assert check("helo", ip="198.51.100.99") == ("unknown", "not asked: no HELO name known")
    assert check("helo", ip=IP)[0] == "pass", "the confirmed PTR name"
    assert check("helo", helo="mail.ours.example")[0] == "unknown"


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("ours.example", "pass"),
        ("implicit.example", "warn"),
        ("null.example", "fail"),
        ("lost.example", "fail"),
        ("gone.example", "fail"),
        ("slow.example", "unknown"),
        ("silent.example", "unknown"),
    ],
)
def test_the_sender_domain_takes_mail(domain: str, status: str) -> None:
    assert check("mx", domain)[0] == status


def test_the_sender_domains_answer_soa() -> None:
    assert check("soa") == ("pass", "ns. host. 1 2 3 4 5")
    assert check("soa", "mail.ours.example") == ("pass", "nodata"), "the zone above answers for it"
    assert check("soa", "gone.example")[0] == "fail"
    assert check("soa", "silent.example")[0] == "unknown"
    who = Sender("ours.example", FakeNetwork(ZONE), mail_from="null.example")
    assert [row.subject for row in names.rows(who) if row.check == "mx"] == ["ours.example", "null.example"]

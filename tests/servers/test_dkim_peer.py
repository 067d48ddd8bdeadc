"""DKIM: SpamAssassin's Mail::DKIM, no kin of dkimpy, accepts what we sign (it knows RSA only)."""

import os
import shutil
import subprocess

import pytest

from smtpkit.message import build_message
from tests.test_message import RSA, fuzzed, record, unstuff

pytestmark = pytest.mark.server
VERIFY = """
use Mail::DKIM::Verifier;
use Mail::DKIM::PublicKey;
no warnings 'redefine';
my $key = shift;
*Mail::DKIM::Signature::get_public_key = sub { return Mail::DKIM::PublicKey->parse($key) };
for my $file (@ARGV) {
    open my $in, '<:raw', $file or die "$file: $!";
    local $/;
    my $verifier = Mail::DKIM::Verifier->new();
    $verifier->PRINT(<$in>);
    $verifier->CLOSE;
    print $verifier->result_detail, "\\n";
}
"""


@pytest.fixture
def verify():
    """Call it with files: what Mail::DKIM says of each."""
    perl = shutil.which("perl")
    found = (
        perl and subprocess.run([perl, "-MMail::DKIM::Verifier", "-e", "1"], capture_output=True).returncode == 0
    )
    if not found:
        if os.environ.get("CI"):
            pytest.fail("no Mail::DKIM: apt-get install libmail-dkim-perl (spamassassin brings it)")
        pytest.skip("no Mail::DKIM here (Debian: apt-get install libmail-dkim-perl)")
    key = record(b"rsa._domainkey.ours.example.").decode()

    def run(files):
        command = [perl, "-e", VERIFY, key, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split("\n")[:-1]

    return run


def test_another_verifier_accepts_what_we_sign_and_refuses_what_was_changed(verify, tmp_path):
    plain = build_message(
        sender="이 <a@ours.example>", to="r@daum.example", subject="안녕 " * 40, text="본문\n.dot\n",
        html="<p>x</p>",
        attachments=[("보고서.pdf", b"x" * 5000)], charset="euc-kr",
    )  # fmt: skip
    made = [plain.sign(RSA, "rsa", "ours.example")] + [
        fuzzed(n).sign(RSA, "rsa", "ours.example") for n in range(30)
    ]
    files = [tmp_path / f"{n}.eml" for n in range(len(made) + 1)]
    for file, message in zip(files[:-1], made, strict=True):
        file.write_bytes(unstuff(message.wire))
    files[-1].write_bytes(made[0].octets.replace(b"To: r@", b"To: s@"))
    *good, bad = verify(files)
    assert good == ["pass"] * len(made)
    assert bad.startswith("fail")

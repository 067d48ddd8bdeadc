"""The casebook: frames read back, checked, exported, merged, tidied; and what it says of damage."""

import json
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import escape, journal
from smtpkit.attempts import CATEGORIES, COLUMNS, conform, frame
from smtpkit.errors import InvalidInput, StoreError


@pytest.fixture(scope="module")
def probed() -> Iterator[tuple[Path, pd.DataFrame]]:
    """A casebook with a probe's evidence, and the frame that the probe gave."""
    with sk.Lab("stale_blacklist") as lab:
        made = sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network, rounds=2, case="monday")
        yield lab.network.casebook, made


@pytest.fixture
def book(probed: tuple[Path, pd.DataFrame], tmp_path: Path) -> sk.Casebook:
    """A copy of it, to be spoiled."""
    source, target = sqlite3.connect(probed[0]), sqlite3.connect(tmp_path / "c.sqlite")
    source.backup(target)
    source.close()
    target.close()
    return sk.Casebook(tmp_path / "c.sqlite")


def change(book: sk.Casebook, statement: str) -> None:
    base = sqlite3.connect(book.path)
    with base:
        base.execute(statement)
    base.close()


def test_a_probe_and_its_casebook_say_the_same(book: sk.Casebook, probed: tuple[Path, pd.DataFrame]) -> None:
    pd.testing.assert_frame_equal(book.attempts(), probed[1], check_like=False)


def test_the_frame_is_the_schema(book: sk.Casebook) -> None:
    made = book.attempts()
    assert list(made.columns) == list(COLUMNS)
    assert {name: str(dtype) for name, dtype in made.dtypes.items()} == COLUMNS
    for name, known in CATEGORIES.items():
        assert tuple(made[name].cat.categories) == known
    assert made["attempt_id"].is_monotonic_increasing
    assert str(made["started_at"].dt.tz) == "UTC"
    assert not (made.select_dtypes("number") == -1).any(axis=None)
    assert not (made.select_dtypes("str") == "").any(axis=None)


def test_an_empty_frame_has_it_all(tmp_path: Path) -> None:
    made = sk.Casebook(tmp_path / "new.sqlite").attempts()
    assert made.empty
    assert {name: str(dtype) for name, dtype in made.dtypes.items()} == COLUMNS
    assert {name: str(dtype) for name, dtype in pd.concat([made, frame()]).dtypes.items()} == COLUMNS


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    made = sk.Casebook(tmp_path / "new.sqlite")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600


def test_of_two_that_make_it_at_once_the_second_changes_nothing(
    book: sk.Casebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = book.attempts()
    monkeypatch.setattr(journal, "_is_casebook", lambda *_: False)  # as it was when the second looked
    pd.testing.assert_frame_equal(sk.Casebook(book.path).attempts(), rows)
    assert book.verify().empty


def test_cases_are_kept_apart(book: sk.Casebook) -> None:
    assert len(book.attempts("monday")) == len(book.attempts())
    assert book.attempts("tuesday").empty


def test_replies_belong_to_their_attempts(book: sk.Casebook) -> None:
    replies, attempts = book.replies(), book.attempts()
    assert set(replies["session"]) == set(attempts["session"])
    one = attempts.smtp[0]
    pd.testing.assert_frame_equal(
        one.replies.reset_index(drop=True), book.replies(one.session).reset_index(drop=True)
    )
    assert list(one.replies["seq"]) == list(range(len(one.replies)))
    assert one.replies["stage"].iloc[0] == "banner"
    assert all(isinstance(raw, bytes) for raw in replies["raw"])
    refused = attempts[attempts["outcome"] == "rejected"]["session"].iloc[0]
    assert 554 in set(book.replies(refused)["code"].dropna())


class TestVerify:
    def test_a_sound_one(self, book: sk.Casebook) -> None:
        assert book.verify().empty

    @pytest.mark.parametrize(
        ("statement", "table"),
        [
            ("update attempts set result = replace(result, '554', '250')", "attempts"),
            ("update attempts set planned = replace(planned, '192.0.2.14', '192.0.2.13')", "attempts"),
            (
                "update attempts set state = 'begun' where rowid in (select rowid from attempts limit 1)",
                "attempts",
            ),
            ("update replies set raw = x'323530' where code = 554", "replies"),
            ("update replies set latency_s = latency_s + 1 where seq = 0", "replies"),
            ("update notes set text = 'they promised nothing'", "notes"),
        ],
    )
    def test_a_change_is_named(self, statement: str, table: str, book: sk.Casebook) -> None:
        book.note("they promised to refresh")
        change(book, statement.replace("rowid", "attempt_id"))
        found = book.verify()
        assert set(found["table"]) == {table}
        assert found["problem"].str.contains("checksum").all()

    @pytest.mark.parametrize(
        ("statement", "table", "word"),
        [
            ("delete from replies where seq = 1", "replies", "are left"),
            ("delete from replies where code = 554", "replies", "decided this attempt"),
            ("delete from replies", "replies", "decided this attempt"),
            ("delete from runs", "runs", "the run was taken away"),
            ("update runs set facts = '{'", "runs", "cannot be read"),
        ],
    )
    def test_what_was_taken_away_shows(self, statement: str, table: str, word: str, book: sk.Casebook) -> None:
        change(book, statement)
        found = book.verify()
        assert set(found["table"]) == {table}
        assert found["problem"].str.contains(word).any()

    def test_a_row_that_is_no_text_hides_no_other(self, book: sk.Casebook) -> None:
        first, last = book.attempts().attempt_id.iloc[[0, -1]]
        change(book, f"update attempts set result = cast(x'7bff' as text) where attempt_id = '{first}'")
        change(book, f"update attempts set result = '{{}}' where attempt_id = '{last}'")
        assert list(book.verify().key) == [first, last]

    @pytest.mark.slow
    def test_flipped_octets_are_named_or_change_nothing(self, book: sk.Casebook) -> None:
        """Bit rot at 200 places: told by `verify`, or no figure is different."""
        sound = book.attempts(classify=False).to_dict("records"), book.replies().to_dict("records")
        octets = bytearray(book.path.read_bytes())
        for place in range(0, len(octets), max(len(octets) // 200, 1)):
            spoiled = bytearray(octets)
            spoiled[place] ^= 0x10
            path = book.path.with_name("spoiled.sqlite")
            for old in path.parent.glob("spoiled.sqlite*"):
                old.unlink()
            path.write_bytes(spoiled)
            try:
                other = sk.Casebook(path)
                told = not other.verify().empty
                same = (other.attempts(classify=False).to_dict("records"), other.replies().to_dict("records"))
            except StoreError:
                continue
            assert told or repr(same) == repr(sound), f"octet {place}: other figures, and nobody is told"


class TestOpening:
    def test_another_version_is_refused_as_it_is(self, book: sk.Casebook) -> None:
        change(book, "update meta set value = '99' where key = 'version'")
        before = book.path.read_bytes()
        with pytest.raises(StoreError, match="version 99"):
            sk.Casebook(book.path)
        assert book.path.read_bytes() == before

    def test_another_sqlite_file_is_refused_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.sqlite"
        base = sqlite3.connect(path)
        with base:
            base.execute("create table contacts (name text)")
        base.close()
        with pytest.raises(StoreError, match="mine"):
            sk.Casebook(path)
        base = sqlite3.connect(path)
        assert [row[0] for row in base.execute("select name from sqlite_master")] == ["contacts"]
        base.close()

    def test_no_database_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "c.sqlite"
        path.write_text("hello " * 1000)
        with pytest.raises(StoreError, match="cannot open casebook"):
            sk.Casebook(path)
        assert path.read_text() == "hello " * 1000

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="nowhere"):
            sk.Casebook(tmp_path / "nowhere" / "c.sqlite")


class TestExport:
    def test_parquet_keeps_every_dtype(self, book: sk.Casebook, tmp_path: Path) -> None:
        paths = book.export(tmp_path / "out", ["parquet"])
        assert [path.name for path in paths] == ["attempts.parquet", "replies.parquet"]
        back, here = conform(pd.read_parquet(paths[0])), book.attempts()
        back.attrs = here.attrs = {}
        pd.testing.assert_frame_equal(back, here)

    def test_json_lines_are_objects_a_line(self, book: sk.Casebook, tmp_path: Path) -> None:
        path, _ = book.export(tmp_path / "out", ["jsonl"])
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert [row["attempt_id"] for row in rows] == list(book.attempts()["attempt_id"])
        assert {row["code"] for row in rows} >= {554}

    def test_a_formula_is_quoted_unless_told_otherwise(self, book: sk.Casebook, tmp_path: Path) -> None:
        evil = '554 =HYPERLINK("http://evil")'
        change(book, f"update attempts set result = json_set(result, '$.reply', '{evil}')")
        clean, _ = book.export(tmp_path / "a", ["csv"])
        raw, _ = book.export(tmp_path / "b", ["csv"], sanitize=False)
        assert pd.read_csv(clean)["reply"].eq("'" + evil).all()
        assert pd.read_csv(raw)["reply"].eq(evil).all()

    @pytest.mark.parametrize("evil", ["＝1+1", "＋1", "－1+1", "＠SUM(1)", "554 ＝HYPERLINK(1)", "554 =1"])
    def test_wide_signs_are_signs(self, evil: str) -> None:
        assert escape.cell(evil) == f"'{evil}"

    def test_the_same_casebook_gives_the_same_octets(self, book: sk.Casebook, tmp_path: Path) -> None:
        first, second = book.export(tmp_path / "a"), book.export(tmp_path / "b")
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]

    def test_an_unknown_format(self, book: sk.Casebook, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="xlsx"):
            book.export(tmp_path, ["xlsx"])


def test_merging_takes_each_attempt_once(book: sk.Casebook, tmp_path: Path) -> None:
    book.note("from the first host")
    other = sk.Casebook(tmp_path / "all.sqlite")
    assert other.merge([book.path]) == len(book.attempts())
    assert other.merge([book.path]) == 0
    assert list(other.attempts()["attempt_id"]) == list(book.attempts()["attempt_id"])
    assert len(other.replies()) == len(book.replies())
    assert list(other.notes()["text"]) == ["from the first host"]
    assert other.verify().empty
    with pytest.raises(InvalidInput, match="absent"):
        other.merge([tmp_path / "absent.sqlite"])
    with pytest.raises(InvalidInput, match="no other casebook"):
        other.merge(other.path)
    assert not (tmp_path / "absent.sqlite").exists()


def test_one_that_may_not_be_written_is_read_and_merged(
    book: sk.Casebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = sk.Casebook(tmp_path / "ours.sqlite")
    rows, octets = book.attempts(), book.path.read_bytes()
    monkeypatch.setattr("smtpkit.journal.os.access", lambda path, mode: Path(path) != book.path)
    theirs = sk.Casebook(book.path)
    pd.testing.assert_frame_equal(theirs.attempts(), rows)
    assert len(theirs.attempts().smtp[0].transcript) > 3
    assert theirs.verify().empty
    assert ours.merge([book.path]) == len(rows)
    with pytest.raises(StoreError, match="readonly"):
        theirs.note("asked daum")
    with sk.Lab("healthy") as lab:
        with pytest.raises(StoreError, match="readonly"):
            sk.probe(lab.domain, network=lab.network, casebook=book.path)
        assert not lab.log
    assert book.path.read_bytes() == octets


def test_a_casebook_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:x?mode=memory", "한 #1?%41"):
        sk.Casebook(name).note("kept")
        assert len(sk.Casebook(name).notes()) == 1
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("table", ["attempts", "replies", "notes"])
def test_a_damaged_casebook_spoils_no_other(table: str, book: sk.Casebook, tmp_path: Path) -> None:
    book.note("asked daum")
    ours = sk.Casebook(tmp_path / "ours.sqlite")
    ours.merge([book.path])
    column, odd = {
        "notes": ("at", "odd"),
        "attempts": ("result", '{"outcome":"fine"}'),
        "replies": ("sent_at", "odd"),
    }[table]
    change(book, f"update {table} set {column} = '{odd}'")
    theirs = sk.Casebook(tmp_path / "theirs.sqlite")
    for mine in (ours, theirs):
        with pytest.raises(StoreError, match="nothing of it was taken"):
            mine.merge([book.path])
    assert (len(ours.attempts()), len(ours.notes())) == (len(ours.replies().session.unique()), 1)
    assert (len(theirs.attempts()), len(theirs.replies()), len(theirs.notes())) == (0, 0, 0)
    assert ours.verify().empty


def test_notes_that_are_damaged_are_told(book: sk.Casebook) -> None:
    book.note("asked daum")
    change(book, "update notes set at = 'odd'")
    with pytest.raises(StoreError, match="damaged rows"):
        book.notes()


def test_notes_have_their_time(book: sk.Casebook) -> None:
    at = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
    book.note("asked daum to refresh", at)
    book.note("답장이 왔다", at + timedelta(hours=2))
    made = book.notes()
    assert list(made["text"]) == ["asked daum to refresh", "답장이 왔다"]
    assert str(made["at"].dtype) == "datetime64[us, UTC]"
    assert made["at"].iloc[0] == pd.Timestamp(at)
    with pytest.raises(InvalidInput, match=r"U\+000A"):
        book.note("two\nlines")
    with pytest.raises(InvalidInput, match="time zone"):
        book.note("when?", at=datetime(2026, 3, 1))


def test_purge_forgets_what_is_old(book: sk.Casebook) -> None:
    assert book.purge(days=1) == 0
    number = len(book.attempts())
    assert book.purge(days=0) == number
    assert book.attempts().empty
    assert book.replies().empty
    with pytest.raises(InvalidInput):
        book.purge(days=-1)
    with pytest.raises(InvalidInput, match="1000000000"):
        book.purge(days=10**9)


class TestAttempt:
    def test_columns_are_attributes_and_missing_is_none(self, book: sk.Casebook) -> None:
        one = book.attempts().smtp[0]
        assert one.mx_ip.startswith("192.0.2.")
        assert one.queue_id is None
        with pytest.raises(AttributeError, match="colour"):
            one.colour  # noqa: B018 - the look-up is what is tested

    def test_its_repr_obeys_nothing(self, book: sk.Casebook) -> None:
        made = book.attempts().assign(reply="250 <script>\x1b[2J</script>")
        one = made.smtp[0]
        assert "\x1b" not in repr(one)
        assert "<script>" not in one._repr_html_()

    def test_another_frame_has_no_accessor(self) -> None:
        assert not hasattr(pd.DataFrame({"a": [1]}), "smtp")

    def test_a_frame_that_lost_its_casebook_says_so(self, book: sk.Casebook) -> None:
        made = book.attempts()
        made.attrs = {}
        with pytest.raises(StoreError, match="does not know its casebook"):
            made.smtp[0].replies  # noqa: B018 - the look-up is what is tested


@pytest.mark.parametrize(
    ("name", "value"), [("outcome", "fine"), ("error", "boom"), ("stage", "helo"), ("source", "guess")]
)
def test_a_value_outside_its_closed_list_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=value):
        frame([{name: value}])


def test_old_remarks_go_with_the_old_attempts(tmp_path: Path) -> None:
    book = sk.Casebook(tmp_path / "c.sqlite")
    book.note("old", at=datetime.now(UTC) - timedelta(days=9))
    book.note("new", at=datetime.now(UTC) - timedelta(days=1))
    book.purge(days=8)
    assert book.notes().text.tolist() == ["new"]


def test_times_in_json_lines_are_whole(book: sk.Casebook, tmp_path: Path) -> None:
    """To the microsecond, as the frame has them."""
    book.export(tmp_path / "out", ["jsonl"])
    lines = (tmp_path / "out" / "attempts.jsonl").read_text("utf-8").splitlines()
    told = pd.to_datetime([json.loads(line)["started_at"] for line in lines])
    assert told.tolist() == book.attempts().started_at.tolist()


# the journal, call by call ----------------------------------------------------------------------------------------
K = "k" * 32
BARS = {
    "the same message to the same one": (K, K, False),
    "a copy to one server, after one to any": (K, f"{K} 192.0.2.1", False),
    "one to any, after a copy to one server": (f"{K} 192.0.2.1", K, False),
    "a second copy to that server": (f"{K} 192.0.2.1", f"{K} 192.0.2.1", False),
    "a copy to each": (f"{K} 192.0.2.1", f"{K} 192.0.2.2", True),
    "sent again, as asked for": (K, f"{journal.new_id()} {K}", True),
    "another message": (K, "l" * 32, True),
    "no key": ("", "", True),
}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[journal.Journal]:
    made = journal.Journal(tmp_path / "c.sqlite", {})
    made.begin("s", [("a", {}), ("b", {})])
    yield made
    made.close()


def state(writer: journal.Journal, attempt: str) -> str:
    (found,) = writer.base.execute("select state from attempts where attempt_id = ?", (attempt,)).fetchone()
    return str(found)


@pytest.mark.parametrize("why", BARS)
def test_what_bars_a_hand_over(writer: journal.Journal, why: str) -> None:
    held, wanted, free = BARS[why]
    assert writer.claim(["a"], [held])
    assert writer.claim(["b"], [wanted]) is free
    assert (state(writer, "a"), state(writer, "b")) == ("dot", "dot" if free else "begun")


@pytest.mark.parametrize("outcome", ["accepted", "unknown", "rejected", "deferred", "failed", "withheld"])
def test_only_what_was_not_taken_may_be_handed_over_again(writer: journal.Journal, outcome: str) -> None:
    assert writer.claim(["a"], [K])
    writer.finish([("a", {"outcome": outcome})], [K])
    assert writer.claim(["b"], [K]) is (outcome not in ("accepted", "unknown"))


def test_one_that_is_barred_bars_none_of_its_message(writer: journal.Journal) -> None:
    """Of two recipients one was served: no dot leaves, and the other's key stays free."""
    assert writer.claim(["a"], [K])
    writer.finish([("a", {"outcome": "accepted"})], [K])
    writer.begin("t", [("c", {}), ("d", {})])
    assert not writer.claim(["c", "d"], ["l" * 32, K])
    assert writer.claim(["b"], ["l" * 32])


def test_whose_key_it_is_gives_it_back(writer: journal.Journal) -> None:
    assert writer.claim(["a"], [K])
    writer.finish([("b", {"outcome": "failed"})], [K])
    assert not writer.claim(["b"], [K])


@pytest.mark.parametrize(("error", "told"), [(None, "accepted"), ("interrupted", "rejected")])
def test_an_ending_stands_unless_it_was_only_supposed(
    writer: journal.Journal, error: str | None, told: str
) -> None:
    writer.finish([("a", {"outcome": "accepted", "error": error})], [""])
    writer.finish([("a", {"outcome": "rejected"})], [""])
    sql = "select json_extract(result, '$.outcome') from attempts where attempt_id = 'a'"
    assert writer.base.execute(sql).fetchone() == (told,)


def test_what_is_handed_over_is_on_disk_first(writer: journal.Journal) -> None:
    level = lambda: writer.base.execute("pragma synchronous").fetchone()[0]  # noqa: E731  one expression
    assert level() == 1
    writer.durable()
    assert level() == 2
    assert not writer.base.in_transaction


def test_an_open_row_that_reads_back_as_something_else_is_damage(writer: journal.Journal) -> None:
    writer.commit()
    writer.base.execute("update attempts set result = '5'")
    writer.base.close()
    writer._lock.drop()
    with pytest.raises(StoreError, match="damaged rows"):
        sk.Casebook(writer.path)

"""Reading a corpus, splitting it, encoding it to token files, and cutting batches."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
import threading
import zipfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from charlm.corpus.batches import Batches, BatchShape, Cursor, find_rare
from charlm.corpus.buckets import Buckets
from charlm.corpus.encoding import TokenFile, encode_to_file
from charlm.corpus.lines import LONGEST_LINE, LineBatch, cut_lines, line_batches
from charlm.corpus.reading import BLOCK_BYTES, RAW, Corpus
from charlm.corpus.stats import CorpusStats
from charlm.corpus.streams import StreamBatch, StreamBatches
from charlm.errors import InputError, OptionError
from charlm.tasks import load_task
from charlm.tokenizer import EOS, START, UNK, Tokenizer, train_tokenizer
from charlm.training.advice import advice, looks_hard_wrapped
from charlm.training.dataset import split
from charlm.training.options import TrainOptions

TEXT = "one\ntwo\n\nthree four\n"


def write(tmp_path: Path, data: bytes | str, name: str = "text.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def read(path: Path, **options: Any) -> str:
    return "".join(Corpus([path], **options).blocks())


def test_a_compressed_file_reads_like_the_plain_file(tmp_path: Path) -> None:
    for suffix, module in {".gz": gzip, ".xz": lzma, ".bz2": bz2}.items():
        path = write(tmp_path, module.compress(TEXT.encode()), f"text.txt{suffix}")
        assert read(path) == TEXT
        assert Corpus([path]).name == "text"


@pytest.mark.parametrize("name", ["text", "text.txt", "wrong.gz"])
def test_the_first_bytes_say_how_a_file_is_compressed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("folder/book.txt", TEXT)
    data = [module.compress(TEXT.encode()) for module in (gzip, lzma, bz2)]
    for content in [*data, zipped.getvalue(), TEXT.encode()]:
        assert read(write(tmp_path, content, name)) == TEXT
    for content in [*data, TEXT.encode()]:  # also in a pipe
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert "".join(Corpus(["-"], once=True).blocks()) == TEXT


def test_an_archive_of_several_files_and_unreadable_compression_are_one_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "letter.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
        archive.writestr("styles.xml", "<x/>")
    with pytest.raises(InputError, match="a zip archive of 2 files; unpack it"):
        read(path)
    if sys.version_info < (3, 14):
        with pytest.raises(InputError, match="compressed with zstd"):
            read(write(tmp_path, b"\x28\xb5\x2f\xfd rest", "text.zst"))
    assert read(write(tmp_path, "BZhello\nPKxx\n")) == "BZhello\nPKxx\n"


def test_files_are_joined_and_the_last_line_of_each_is_ended(tmp_path: Path) -> None:
    first, second = write(tmp_path, "a\nb", "1.txt"), write(tmp_path, "c\n", "2.txt")
    assert "".join(Corpus([first, second]).blocks()) == "a\nb\nc\n"


def test_standard_input_can_be_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    corpus = Corpus(["-"])
    assert corpus.name == "stdin"
    assert corpus.stats().chars == len(TEXT)
    assert "".join(corpus.blocks()) == TEXT


def test_a_corpus_made_of_another_shares_its_copy_of_standard_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    corpus = Corpus(["-"])
    assert corpus.stats().chars == len(TEXT)
    assert "".join(replace(corpus, encoding=RAW).blocks()) == TEXT


def fed(path: Path, *parts: bytes) -> threading.Thread:
    """A thread that writes to a named pipe, which it makes."""
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for part in parts:
                pipe.write(part)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_a_named_pipe_can_be_read_twice(tmp_path: Path) -> None:
    thread = fed(tmp_path / "fifo", TEXT.encode())
    corpus = Corpus([tmp_path / "fifo"])
    assert corpus.name == "pipe" and corpus.stats().chars == len(TEXT)
    assert "".join(corpus.blocks()) == TEXT
    thread.join()


def test_a_pipe_that_is_read_once_gives_its_lines_as_they_arrive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = os.open(tmp_path / "fifo", os.O_RDWR)
    groups = Corpus([tmp_path / "fifo"], once=True).line_groups()
    for text, expected in ((b"a\nb\nc", ["a", "b"]), (b"d\n", ["cd"])):
        os.write(writer, text)
        assert next(groups) == expected  # the writer has more to say, but later
    os.close(writer)


@pytest.mark.parametrize("bad", [b"a\0b", b"\xff"])
def test_the_lines_before_an_error_are_read(tmp_path: Path, bad: bytes) -> None:
    path = write(tmp_path, b"a line\n" * 5000 + bad + b"\nmore\n")
    lines = Corpus([path]).lines()
    assert [next(lines) for _ in range(5000)] == ["a line"] * 5000
    with pytest.raises(InputError, match="line 5001"):
        list(lines)


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-16", "looks like utf-16"),
        ("utf-16-le", "try `encoding=utf-16-le`"),
        ("utf-16-be", "try `encoding=utf-16-le` or `encoding=utf-16-be`"),
    ],
)
def test_a_file_in_utf_16_is_recognised(tmp_path: Path, encoding: str, words: str) -> None:
    path = write(tmp_path, "plain text\n".encode(encoding))
    with pytest.raises(InputError, match=words):
        read(path)
    assert read(path, encoding=encoding) == "plain text\n"


def test_a_binary_file_with_many_nuls_is_not_taken_for_utf_16(tmp_path: Path) -> None:
    header = b"\x7fELF\x02\x01\x01" + 9 * b"\0" + b"\x03\0>\0\x01" + 60 * b"\0\0\0@"
    with pytest.raises(InputError, match="is it a binary file"):
        read(write(tmp_path, header))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("corpus.txt", "corpus"),
        ("names.txt.gz", "names"),
        ("m30k.cs.gz", "m30k.cs"),
        ("m30k.fr.gz", "m30k.fr"),
        ("wiki.en", "wiki.en"),
        ("ptb.train.txt", "ptb.train"),
        (".txt", ".txt"),
    ],
)
def test_a_corpus_keeps_the_part_of_its_name_that_tells_it_apart(
    tmp_path: Path, file: str, name: str
) -> None:
    assert Corpus([write(tmp_path, b"a\n", file)]).name == name


def test_the_longest_line_is_counted_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.corpus.reading.BLOCK_BYTES", 100)
    for text in ("ab\n" * 90 + "x" * 730 + "\nab\n", "ab\n" * 90 + "x" * 730, "a\n" + "x" * 730):
        assert Corpus([write(tmp_path, text)]).stats().longest_line == 730


def test_windows_line_ends_and_byte_order_marks_are_removed(tmp_path: Path) -> None:
    assert read(write(tmp_path, b"\xef\xbb\xbfa\r\nb\rc\r\n")) == "a\nb\rc\n"


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    text = "a\x0bb\x0cc\x85d\u2028e\n"
    corpus = Corpus([write(tmp_path, text)])
    assert "".join(corpus.blocks()) == text and corpus.stats().lines == 1
    assert read(write(tmp_path, text), unit="paragraph") == text


def test_blocks_contain_whole_characters_and_lines(tmp_path: Path) -> None:
    text = ("é" * 999 + "\r\n") * (3 * BLOCK_BYTES // 2000)
    blocks = list(Corpus([write(tmp_path, text)]).blocks())
    assert len(blocks) > 1 and all(block.endswith("\n") for block in blocks)
    assert "".join(blocks) == text.replace("\r\n", "\n")


def test_a_very_long_line_is_read_in_bounded_blocks(tmp_path: Path) -> None:
    text = "word " * BLOCK_BYTES
    blocks = list(Corpus([write(tmp_path, text)]).blocks())
    assert max(map(len, blocks)) <= 2 * BLOCK_BYTES
    assert "".join(blocks) == text + "\n"


def test_paragraphs_are_joined_up_to_a_blank_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n b \n\n\nc\nd\n \ne")
    assert read(path, unit="paragraph") == "a b\nc d\ne\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"fine\nna\xefve\n",
            "line 2: not utf-8 text; name its `encoding` .* or train with `level=byte`",
        ),
        (b"fine\n\nbi\0nary\n", "line 3: holds a NUL"),
        (b"", "the corpus is empty"),
        (b"\n\n", "the corpus is empty"),
    ],
)
def test_invalid_text_raises_an_error_with_its_line_number(
    tmp_path: Path, data: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Corpus([write(tmp_path, data)]).stats()


def test_the_line_number_of_an_invalid_byte_counts_earlier_blocks(tmp_path: Path) -> None:
    path = write(tmp_path, b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 30_000 + b"\xff\n")
    with pytest.raises(InputError, match="line 30002: not utf-8"):
        Corpus([path]).stats()


def test_unreadable_files_and_invalid_options_raise_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Corpus([tmp_path / "missing.txt"])
    with pytest.raises(InputError, match="is a folder"):
        Corpus([tmp_path])
    truncated = write(tmp_path, gzip.compress(TEXT.encode() * 99)[:-20], "x.gz")
    with pytest.raises(InputError, match="damaged"):
        Corpus([truncated]).stats()
    with pytest.raises(OptionError, match="`encoding=latin-x`: no encoding of text"):
        Corpus([truncated], encoding="latin-x")
    with pytest.raises(OptionError, match="`unit=page`: choose line or paragraph"):
        Corpus([truncated], unit="page")


def test_a_text_is_read_in_its_encoding_or_as_raw_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, b"na\xefve\n")
    assert read(path, encoding="cp1252") == "naïve\n"
    assert read(path, encoding=RAW).encode("utf-8", "surrogateescape") == b"na\xefve\n"


def test_hard_wrapped_prose_is_recognised_and_verse_is_not() -> None:
    words = "the quick brown foxes jump over lazy dogs while nobody is looking at them all".split()
    rng = np.random.default_rng(0)
    lines: list[str] = []
    line = ""
    while len(lines) < 200:
        word = words[rng.integers(len(words))]
        if len(line) + len(word) > 70:
            lines.append(line.strip())
            line = ""
        line += f"{word} "
    assert looks_hard_wrapped("\n".join(lines))
    verse = [line[: int(rng.integers(20, 60))] for line in lines]
    assert not looks_hard_wrapped("\n".join(verse))


@pytest.mark.parametrize(
    ("text", "options", "part"),
    [
        ("one line\r" * 50, {}, "50 carriage returns and 0 line feeds"),
        ("one line\r\n" * 50, {}, ""),
        ("a\n\n\n" * 50, {"lines": True}, "67% of the lines are blank"),
        ("a\n\n\n" * 50, {}, ""),
        ("吾輩は猫である。名前はまだ無い。\n", {"level": "word"}, "a word is a single character"),
        ("吾輩は猫である。名前はまだ無い。\n", {}, ""),
        ("แมวนอนบนเสื่อ\n", {"level": "word"}, "a word is a single character"),
        ("고양이가 자고 있다\n", {"level": "word"}, ""),
        ("a" * 30_000 + "\n", {}, "1 line ends in 30,001 characters"),
    ],
)
def test_notes_on_options_that_do_not_suit_the_text(
    text: str, options: dict[str, Any], part: str
) -> None:
    stats = CorpusStats(len(text), text.count("\n"), max(map(len, text.split("\n"))), "")
    notes = list(advice(text, stats, TrainOptions(**options)))
    assert len(notes) == bool(part)
    assert part in "".join(notes)


def tokens_of(tmp_path: Path, text: str) -> TokenFile:
    tokenizer = train_tokenizer("char", lambda: [text])
    return encode_to_file([text], tokenizer, tmp_path / "train")


def test_a_token_file_has_one_eos_after_each_line(tmp_path: Path) -> None:
    tokenizer = train_tokenizer("char", lambda: ["ab\n"])
    tokens = encode_to_file(["a\n", "\nb", "b\n", "a"], tokenizer, tmp_path / "train")
    a, b = 3, 4
    assert tokens.ids.tolist() == [a, EOS, EOS, b, b, EOS, a, EOS]
    assert tokens.ids.dtype == np.uint8
    assert tokens.bounds.tolist() == [0, 2, 3, 6, 8]
    assert tokens.counts(tokenizer.size).tolist() == [0, 4, 0, 2, 2]


def split_parts(corpus: Corpus, **options: Any) -> tuple[list[str], list[str]]:
    """The blocks of the training and of the validation part."""
    parts = split(corpus, corpus.stats(), TrainOptions(**options), load_task("lm"))
    assert parts.held_out
    return [block for (block,) in parts.training()], [block for (block,) in parts.validation()]


@pytest.mark.parametrize("text", ["abcdefgh" * 2400, "a short line\n" + "abcdefgh" * 50])
def test_a_text_with_too_few_line_ends_is_split_within_a_line(tmp_path: Path, text: str) -> None:
    corpus = Corpus([write(tmp_path, text)])
    training, validation = map("".join, split_parts(corpus, valid_fraction=0.1))
    assert training + validation == text + "\n"
    assert len(training) == int(0.9 * len(text + "\n"))


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_a_document_is_split_at_the_first_line_start_after_the_fraction(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"{n} {'x' * (n % 7)}\n" for n in range(100))
    corpus = Corpus([write(tmp_path, text)])
    lines = text.splitlines(keepends=True)
    blocks = ["".join(lines[k : k + block]) for k in range(0, len(lines), block)]
    monkeypatch.setattr(Corpus, "blocks", lambda self: iter(blocks))
    train, valid = ("".join(part) for part in split_parts(corpus, valid_fraction=0.25))
    assert train + valid == text
    cut = int(len(text) * 0.75)
    assert len(train) >= cut > len(train[:-1].rpartition("\n")[0]) and train.endswith("\n")


def test_independent_validation_lines_are_random_and_reproducible(tmp_path: Path) -> None:
    text = "".join(f"{n}\n" for n in range(2000))
    corpus = Corpus([write(tmp_path, text)])
    train, valid = split_parts(corpus, lines=True)
    validation = "".join(valid).split()
    assert 150 < len(validation) < 250 and int(validation[0]) < 100 and int(validation[-1]) > 1900
    assert sorted([*validation, *"".join(train).split()], key=int) == text.split()
    assert split_parts(corpus, lines=True)[1] == valid


def streams(tokens: TokenFile, **options: Any) -> StreamBatches:
    lines = options.pop("lines", False)
    shape = BatchShape(
        **{"batch": 3, "length": 5, "independent_lines": lines, "seed": 1, **options}
    )
    return StreamBatches(tokens, shape, find_rare(tokens, 99, True))


@pytest.mark.parametrize("lines", [False, True])
def test_targets_follow_inputs_and_each_line_starts_with_start(tmp_path: Path, lines: bool) -> None:
    text = "".join(f"{chr(97 + n % 26) * (1 + n % 9)}\n" for n in range(200))
    tokens = tokens_of(tmp_path, text)
    iterator = streams(tokens, lines=lines).iterate(Cursor())
    previous = None
    continued = 0
    for batch in islice(iterator, 300):
        assert batch.predicted == 15
        assert batch.inputs.shape == batch.targets.shape == (5, 3)
        expected = np.where(batch.targets[:-1] == EOS, START, batch.targets[:-1])
        np.testing.assert_array_equal(batch.inputs[1:], expected)
        assert (batch.targets != START).all() and (batch.inputs != EOS).all()
        assert (batch.inputs[0][batch.restarted] == START).all()
        if previous is not None:
            next_inputs = np.where(previous.targets[-1] == EOS, START, previous.targets[-1])
            same = ~batch.restarted
            np.testing.assert_array_equal(batch.inputs[0][same], next_inputs[same])
            continued += same.sum()
        previous = batch
    assert continued > 500


def test_each_epoch_shuffles_the_lines_and_reads_most_of_them(tmp_path: Path) -> None:
    text = "".join(f"{chr(0x4E00 + n)}\n" for n in range(600))
    tokens = tokens_of(tmp_path, text)
    source = StreamBatches(tokens, BatchShape(2, 30, True, 3), find_rare(tokens, 700, True))
    epochs = []
    iterator = source.iterate(Cursor())
    for _ in range(2):
        chunks = [next(iterator).targets.T for _ in range(source.steps_per_epoch)]
        epochs.append([np.concatenate(rows) for rows in zip(*chunks, strict=True)])
    seen = [set(np.concatenate(rows).tolist()) for rows in epochs]
    assert all(len(s) > 0.8 * 600 for s in seen)
    first, second = (rows[0][rows[0] > UNK][:20].tolist() for rows in epochs)
    assert first != second and first != sorted(first)


def test_streams_resume_exactly_from_a_cursor(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "".join(f"line {n}\n" for n in range(60)))
    for lines in (False, True):
        cursor = Cursor()
        iterator = streams(tokens, lines=lines).iterate(cursor)
        for _ in range(41):
            next(iterator)
        saved = Cursor(cursor.epoch, cursor.step, list(cursor.positions or []))
        expected = [next(iterator) for _ in range(40)]
        again = streams(tokens, lines=lines).iterate(saved)
        for batch in expected:
            for a, b in zip(batch[:3], next(again)[:3], strict=True):
                np.testing.assert_array_equal(a, b)


def test_streams_restart_at_the_stated_rate(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "abcdefghi\n" * 400)
    source = streams(tokens, batch=50, lines=True)
    restarted = [batch.restarted for batch in islice(source.iterate(Cursor()), 400)]
    inner = [r for k, r in enumerate(restarted) if k % source.steps_per_epoch]
    assert np.mean(inner) == pytest.approx(0.1, abs=0.015)


def test_tokens_that_occur_once_are_sometimes_replaced_by_unk(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "aé\n" + "ab\n" * 20)
    source = streams(tokens)
    rare = int(np.flatnonzero(source.rare)[0])
    targets = np.concatenate([b.targets for b in islice(source.iterate(Cursor()), 2000)])
    unknown = (targets == UNK).sum()
    assert unknown / (unknown + (targets == rare).sum()) == pytest.approx(0.1, abs=0.04)


def test_a_corpus_shorter_than_a_batch_gives_full_batches(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "ab\n")
    batch = next(streams(tokens, batch=4, length=8).iterate(Cursor()))
    assert batch.targets.shape == (8, 4)


# --- batches of whole lines


def encoded(text: str, tmp_path: Path) -> tuple[Tokenizer, TokenFile]:
    tokenizer = train_tokenizer("char", lambda: [text])
    return tokenizer, encode_to_file([text], tokenizer, tmp_path / "lines")


def lines_of(
    tokens: TokenFile, vocab: int, batch: int, length: int, *, seed: int, unknowns: bool = True
) -> Buckets[LineBatch]:
    rare = find_rare(tokens, vocab, unknowns)
    return line_batches(tokens, BatchShape(batch, length, True, seed), rare)


class Line(NamedTuple):
    inputs: list[int]
    targets: list[int]
    following: list[int]


def lines_in(batches: Buckets[LineBatch], epoch: int = 0) -> list[Line]:
    """The lines in the batches of an epoch, without padding."""
    lines: list[Line] = []
    for batch in islice(batches.iterate(Cursor(epoch)), batches.steps_per_epoch):
        lengths = (batch.targets != START).sum(axis=0).tolist()
        assert batch.predicted == sum(lengths)
        for column, n in enumerate(lengths):
            assert not batch.targets[n:, column].any()
            lines.append(Line(*(array[:n, column].tolist() for array in batch[:3])))
    return lines


def test_line_batches_contain_whole_lines_and_the_neighbours_of_each_token(tmp_path: Path) -> None:
    tokenizer, tokens = encoded("ab\n\nabcde\nc\nbbbb\n" * 3, tmp_path)
    batches = lines_of(tokens, tokenizer.size, 2, 16, seed=1, unknowns=False)
    a, b, c, d, e = range(3, 8)
    lines = lines_in(batches)
    expected = [[a, b], [a, b, c, d, e], [c], [b, b, b, b]]
    for inputs, targets, following in lines:
        assert inputs == [START, *targets[:-1]] and following == [*targets[1:], EOS]
    counts = [sum(line.targets == targets for line in lines) for targets in expected]
    assert min(counts) >= 3 and sum(counts) == len(lines)
    assert lines_in(batches) == lines != lines_in(batches, epoch=1)


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_corpus_lines_are_the_lines_of_the_text(tmp_path: Path, end: str) -> None:
    lines = ["ab", "", "x" * (3 << 19) + " y", "z " * (1 << 20), "cd"]
    (tmp_path / "text.txt").write_text("\n".join(lines) + end, encoding="utf-8")
    assert list(Corpus([tmp_path / "text.txt"]).lines()) == lines + [""] * (len(end) > 1)


def test_long_lines_are_cut_and_keep_the_tokens_around_each_cut(tmp_path: Path) -> None:
    text = "".join("abcdefghij"[k % 7] for k in range(LONGEST_LINE * 2 + 50))
    tokenizer, tokens = encoded(text + "\nab\n", tmp_path)
    batches = lines_of(tokens, tokenizer.size, 1, 64, seed=0, unknowns=False)
    lines = {tuple(line.targets): line for line in lines_in(batches)}
    ids = tokenizer.encode_ids(text).tolist()
    first = lines[tuple(ids[:LONGEST_LINE])]
    assert first.inputs[0] == START and first.following[-1] == ids[LONGEST_LINE]
    second = lines[tuple(ids[LONGEST_LINE : 2 * LONGEST_LINE])]
    assert second.inputs[0] == ids[LONGEST_LINE - 1]
    last = lines[tuple(ids[-50:])]
    assert last.inputs == ids[-51:-1] and last.following == [*ids[-49:], EOS]


def test_cut_lines_drops_empty_lines_and_cuts_long_ones() -> None:
    starts, lengths = cut_lines(np.array([0, 3, 4, 2 * LONGEST_LINE + 6]))
    assert starts.tolist() == [0, 4, 4 + LONGEST_LINE, 4 + 2 * LONGEST_LINE]
    assert lengths.tolist() == [2, LONGEST_LINE, LONGEST_LINE, 1]


def test_line_batches_resume_exactly_from_a_cursor(tmp_path: Path) -> None:
    tokenizer, tokens = encoded("".join(f"{'ab' * (k % 40)}{k}\n" for k in range(200)), tmp_path)
    batches = lines_of(tokens, tokenizer.size, 2, 32, seed=3)
    uninterrupted = [b.targets for b in islice(batches.iterate(Cursor()), 60)]
    cursor = Cursor()
    first = [b.targets for b in islice(batches.iterate(cursor), 23)]
    resumed = [b.targets for b in islice(batches.iterate(Cursor(**vars(cursor))), 37)]
    for expected, targets in zip(uninterrupted, first + resumed, strict=True):
        np.testing.assert_array_equal(expected, targets)
    assert cursor.step == 23


def test_stream_and_line_batches_share_one_contract(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "abc\nde\n" * 30)
    sources: list[Batches] = [
        streams(tokens),
        lines_of(tokens, 99, 3, 5, seed=1),
    ]
    for source in sources:
        batch = next(source.iterate(Cursor()))
        assert isinstance(batch, StreamBatch | LineBatch)
        assert source.steps_per_epoch >= 1
        assert batch.inputs.shape == batch.targets.shape
        assert batch.predicted == (batch.targets != START).sum()

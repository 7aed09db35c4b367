"""Reading text, encoding it to token files, splitting it and cutting it into batches."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from charlm.corpus.batches import LONGEST_LINE, Batches, LineBatches, Place
from charlm.corpus.encoding import TokenFile, encode_to_file, split_off_validation
from charlm.corpus.reading import BLOCK_BYTES, RAW, Corpus, looks_hard_wrapped
from charlm.errors import InputError, OptionError
from charlm.tokenizer import EOS, START, UNK, Tokenizer, train_tokenizer

TEXT = "one\ntwo\n\nthree four\n"


def written(tmp_path: Path, data: bytes | str, name: str = "text.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def read(path: Path, **options: str) -> str:
    return "".join(Corpus([path], **options).blocks())


def test_compressed_files_read_as_the_plain_one(tmp_path: Path) -> None:
    for suffix, module in {".gz": gzip, ".xz": lzma, ".bz2": bz2}.items():
        path = written(tmp_path, module.compress(TEXT.encode()), f"text.txt{suffix}")
        assert read(path) == TEXT
        assert Corpus([path]).name == "text"


def test_several_files_follow_each_other_each_with_its_last_line_ended(tmp_path: Path) -> None:
    first, second = written(tmp_path, "a\nb", "1.txt"), written(tmp_path, "c\n", "2.txt")
    assert "".join(Corpus([first, second]).blocks()) == "a\nb\nc\n"


def test_standard_input_can_be_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    corpus = Corpus(["-"])
    assert corpus.name == "stdin"
    assert corpus.survey().chars == len(TEXT)
    assert "".join(corpus.blocks()) == TEXT


def test_windows_line_ends_and_byte_order_marks_are_gone(tmp_path: Path) -> None:
    assert read(written(tmp_path, b"\xef\xbb\xbfa\r\nb\rc\r\n")) == "a\nb\rc\n"


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    text = "a\x0bb\x0cc\x85d\u2028e\n"
    corpus = Corpus([written(tmp_path, text)])
    assert "".join(corpus.blocks()) == text and corpus.survey().lines == 1
    assert read(written(tmp_path, text), unit="paragraph") == text


def test_characters_and_lines_across_blocks_are_whole(tmp_path: Path) -> None:
    text = ("é" * 999 + "\r\n") * (3 * BLOCK_BYTES // 2000)
    blocks = list(Corpus([written(tmp_path, text)]).blocks())
    assert len(blocks) > 1 and all(block.endswith("\n") for block in blocks)
    assert "".join(blocks) == text.replace("\r\n", "\n")


def test_a_line_without_end_comes_in_bounded_blocks(tmp_path: Path) -> None:
    text = "word " * BLOCK_BYTES
    blocks = list(Corpus([written(tmp_path, text)]).blocks())
    assert max(map(len, blocks)) <= 2 * BLOCK_BYTES
    assert "".join(blocks) == text + "\n"


def test_paragraphs_are_joined_up_to_a_blank_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a\n b \n\n\nc\nd\n \ne")
    assert read(path, unit="paragraph") == "a b\nc d\ne\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"fine\nna\xefve\n", "line 2: not utf-8 text"),
        (b"fine\n\nbi\0nary\n", "line 3: holds a NUL"),
        (b"", "the corpus is empty"),
        (b"\n\n", "the corpus is empty"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Corpus([written(tmp_path, data)]).survey()


def test_a_bad_byte_is_placed_also_when_a_block_comes_before_it(tmp_path: Path) -> None:
    path = written(tmp_path, b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 30_000 + b"\xff\n")
    with pytest.raises(InputError, match="line 30002: not utf-8"):
        Corpus([path]).survey()


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Corpus([tmp_path / "missing.txt"])
    with pytest.raises(InputError, match="is a folder"):
        Corpus([tmp_path])
    truncated = written(tmp_path, gzip.compress(TEXT.encode() * 99)[:-20], "x.gz")
    with pytest.raises(InputError, match="damaged"):
        Corpus([truncated]).survey()
    with pytest.raises(OptionError, match="--encoding latin-x"):
        Corpus([truncated], encoding="latin-x")


def test_other_encodings_and_raw_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, b"na\xefve\n")
    assert read(path, encoding="cp1252") == "naïve\n"
    assert read(path, encoding=RAW).encode("utf-8", "surrogateescape") == b"na\xefve\n"


def test_hard_wrapped_prose_is_noticed_and_verse_is_not() -> None:
    words = "the quick brown foxes jump over lazy dogs while nobody is looking at them all".split()
    rng = np.random.default_rng(0)
    lines, line = [], ""
    while len(lines) < 200:
        word = words[rng.integers(len(words))]
        if len(line) + len(word) > 70:
            lines.append(line.strip())
            line = ""
        line += f"{word} "
    assert looks_hard_wrapped("\n".join(lines))
    verse = [line[: int(rng.integers(20, 60))] for line in lines]
    assert not looks_hard_wrapped("\n".join(verse))


def tokens_of(tmp_path: Path, text: str) -> TokenFile:
    tokenizer = train_tokenizer("char", lambda: [text])
    return encode_to_file([text], tokenizer, tmp_path / "train")


def test_a_token_file_holds_each_line_and_one_separator(tmp_path: Path) -> None:
    tokenizer = train_tokenizer("char", lambda: ["ab\n"])
    tokens = encode_to_file(["a\n", "\nb", "b\n", "a"], tokenizer, tmp_path / "train")
    a, b = 3, 4
    assert tokens.ids.tolist() == [a, EOS, EOS, b, b, EOS, a, EOS]
    assert tokens.ids.dtype == np.uint8
    assert tokens.bounds.tolist() == [0, 2, 3, 6, 8]
    assert tokens.counts(tokenizer.size).tolist() == [0, 4, 0, 2, 2]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_a_document_is_cut_at_the_first_line_start_after_the_fraction(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"{n} {'x' * (n % 7)}\n" for n in range(100))
    corpus = Corpus([written(tmp_path, text)])
    survey = corpus.survey()
    lines = text.splitlines(keepends=True)
    blocks = ["".join(lines[k : k + block]) for k in range(0, len(lines), block)]
    monkeypatch.setattr(Corpus, "blocks", lambda self: iter(blocks))
    train, valid = ("".join(p()) for p in split_off_validation(corpus, survey, 0.25, lines=False))
    assert train + valid == text
    cut = int(len(text) * 0.75)
    assert len(train) >= cut > len(train[:-1].rpartition("\n")[0]) and train.endswith("\n")


def test_independent_lines_are_held_out_here_and_there_and_always_the_same(tmp_path: Path) -> None:
    text = "".join(f"{n}\n" for n in range(2000))
    corpus = Corpus([written(tmp_path, text)])
    train, valid = split_off_validation(corpus, corpus.survey(), 0.1, lines=True)
    held_out = "".join(valid()).split()
    assert 150 < len(held_out) < 250 and int(held_out[0]) < 100 and int(held_out[-1]) > 1900
    assert sorted([*held_out, *"".join(train()).split()], key=int) == text.split()
    assert "".join(valid()).split() == held_out


def batches(tokens: TokenFile, **options: object) -> Batches:
    return Batches(tokens, 99, **{"batch": 3, "length": 5, "lines": False, "seed": 1, **options})


@pytest.mark.parametrize("lines", [False, True])
def test_targets_follow_inputs_and_lines_start_with_start(tmp_path: Path, lines: bool) -> None:
    text = "".join(f"{chr(97 + n % 26) * (1 + n % 9)}\n" for n in range(200))
    tokens = tokens_of(tmp_path, text)
    iterator = batches(tokens, lines=lines).iterate(Place())
    previous = None
    continued = 0
    for _, batch in zip(range(300), iterator, strict=False):
        assert batch.inputs.shape == batch.targets.shape == (5, 3)
        expected = np.where(batch.targets[:-1] == EOS, START, batch.targets[:-1])
        np.testing.assert_array_equal(batch.inputs[1:], expected)
        assert (batch.targets != START).all() and (batch.inputs != EOS).all()
        assert (batch.inputs[0][batch.restarted] == START).all()
        if previous is not None:
            goes_on = np.where(previous.targets[-1] == EOS, START, previous.targets[-1])
            same = ~batch.restarted
            np.testing.assert_array_equal(batch.inputs[0][same], goes_on[same])
            continued += same.sum()
        previous = batch
    assert continued > 500


def test_an_epoch_of_lines_holds_every_line_about_once_in_another_order(tmp_path: Path) -> None:
    text = "".join(f"{chr(0x4E00 + n)}\n" for n in range(600))
    tokens = tokens_of(tmp_path, text)
    source = Batches(tokens, 700, 2, 30, lines=True, seed=3)
    epochs = []
    iterator = source.iterate(Place())
    for _ in range(2):
        chunks = [next(iterator).targets.T for _ in range(source.steps_per_epoch)]
        epochs.append([np.concatenate(rows) for rows in zip(*chunks, strict=True)])
    seen = [set(np.concatenate(rows).tolist()) for rows in epochs]
    assert all(len(s) > 0.8 * 600 for s in seen)
    first, second = (rows[0][rows[0] > UNK][:20].tolist() for rows in epochs)
    assert first != second and first != sorted(first)


def test_batches_go_on_exactly_from_a_place(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "".join(f"line {n}\n" for n in range(60)))
    for lines in (False, True):
        place = Place()
        iterator = batches(tokens, lines=lines).iterate(place)
        for _ in range(41):
            next(iterator)
        kept = Place(place.epoch, place.step, list(place.positions or []))
        expected = [next(iterator) for _ in range(40)]
        again = batches(tokens, lines=lines).iterate(kept)
        for batch in expected:
            for a, b in zip(batch, next(again), strict=True):
                np.testing.assert_array_equal(a, b)


def test_streams_go_back_to_a_line_start_as_often_as_stated(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "abcdefghi\n" * 400)
    source = batches(tokens, batch=50, lines=True)
    found = [b.restarted for _, b in zip(range(400), source.iterate(Place()), strict=False)]
    inner = [f for k, f in enumerate(found) if k % source.steps_per_epoch]
    assert np.mean(inner) == pytest.approx(0.1, abs=0.015)


def test_tokens_seen_once_are_sometimes_read_as_unknown(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "aé\n" + "ab\n" * 20)
    source = batches(tokens)
    rare = int(np.flatnonzero(source.rare)[0])
    chunks = [b.targets for _, b in zip(range(2000), source.iterate(Place()), strict=False)]
    targets = np.concatenate(chunks)
    unknown = (targets == UNK).sum()
    assert unknown / (unknown + (targets == rare).sum()) == pytest.approx(0.1, abs=0.04)


def test_a_corpus_shorter_than_a_batch_still_gives_full_batches(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, "ab\n")
    batch = next(batches(tokens, batch=4, length=8).iterate(Place()))
    assert batch.targets.shape == (8, 4)


# --- batches of whole lines ---


def encoded(text: str, tmp_path: Path) -> tuple[Tokenizer, TokenFile]:
    tokenizer = train_tokenizer("char", lambda: [text])
    return tokenizer, encode_to_file([text], tokenizer, tmp_path / "lines")


def lines_in(batches: LineBatches, epoch: int = 0) -> list[tuple[list[int], list[int], list[int]]]:
    """What an epoch's batches hold: (inputs, targets, following) of each line."""
    found = []
    for batch in islice(batches.iterate(Place(epoch)), batches.steps_per_epoch):
        assert batch.following is not None and batch.restarted.all()
        for column in range(batch.targets.shape[1]):
            n = int((batch.targets[:, column] != START).sum())
            parts = (batch.inputs, batch.targets, batch.following)
            assert not batch.targets[n:, column].any()
            found.append(tuple(part[:n, column].tolist() for part in parts))
    return found


def test_lines_come_whole_with_what_stands_before_and_after_each_token(tmp_path: Path) -> None:
    tokenizer, tokens = encoded("ab\n\nabcde\nc\nbbbb\n" * 3, tmp_path)
    batches = LineBatches(tokens, tokenizer.size, 2, 16, seed=1, unknowns=False)
    a, b, c, d, e = range(3, 8)
    found = lines_in(batches)
    lines = [[a, b], [a, b, c, d, e], [c], [b, b, b, b]]
    assert {tuple(targets) for _, targets, _ in found} == {tuple(line) for line in lines}
    for inputs, targets, following in found:
        assert inputs == [START, *targets[:-1]] and following == [*targets[1:], EOS]
    counts = [sum(targets == line for _, targets, _ in found) for line in lines]
    assert min(counts) >= 3 and sum(counts) == len(found)
    assert lines_in(batches) == found != lines_in(batches, epoch=1)


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_lines_are_those_of_the_text(tmp_path: Path, end: str) -> None:
    lines = ["ab", "", "x" * (3 << 19) + " y", "z " * (1 << 20), "cd"]
    (tmp_path / "text.txt").write_text("\n".join(lines) + end, encoding="utf-8")
    found = list(Corpus([tmp_path / "text.txt"]).lines())
    assert found == lines + [""] * (len(end) > 1)


def test_long_lines_are_cut_into_pieces_that_know_their_neighbours(tmp_path: Path) -> None:
    text = "".join("abcdefghij"[k % 7] for k in range(LONGEST_LINE * 2 + 50))
    tokenizer, tokens = encoded(text + "\nab\n", tmp_path)
    batches = LineBatches(tokens, tokenizer.size, 1, 64, seed=0, unknowns=False)
    pieces = {len(targets): (inputs, targets, following) for inputs, targets, following in
              lines_in(batches) if len(targets) != LONGEST_LINE}  # fmt: skip
    ids = tokenizer.encode_ids(text).tolist()
    inputs, targets, following = pieces[50]
    assert targets == ids[-50:] and inputs == ids[-51:-1] and following == [*ids[-49:], EOS]
    whole = [p for p in lines_in(batches) if len(p[1]) == LONGEST_LINE]
    starts = {tuple(targets): (inputs, following) for inputs, targets, following in whole}
    first = starts[tuple(ids[:LONGEST_LINE])]
    assert first[0][0] == START and first[1][-1] == ids[LONGEST_LINE]
    second = starts[tuple(ids[LONGEST_LINE : 2 * LONGEST_LINE])]
    assert second[0][0] == ids[LONGEST_LINE - 1]


def test_a_place_among_lines_is_all_there_is_to_remember(tmp_path: Path) -> None:
    tokenizer, tokens = encoded("".join(f"{'ab' * (k % 40)}{k}\n" for k in range(200)), tmp_path)
    batches = LineBatches(tokens, tokenizer.size, 2, 32, seed=3)
    whole = [b.targets for b in islice(batches.iterate(Place()), 60)]
    place = Place()
    first = [b.targets for b in islice(batches.iterate(place), 23)]
    later = [b.targets for b in islice(batches.iterate(Place(**vars(place))), 37)]
    for x, y in zip(whole, first + later, strict=True):
        np.testing.assert_array_equal(x, y)
    assert place.step == 23

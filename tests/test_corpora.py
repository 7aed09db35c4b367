"""The grammar is exact, and the generated corpus is as its README says."""

import json
import math
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.bracketing import bracketed
from corpora.generate import (
    ALL_SWAPS,
    DEMO_SENTENCES,
    GRAMMAR,
    HELD_OUT_LINES,
    HERE,
    LABELLED_HELD_OUT_LINES,
    LABELLED_LINES,
    OPINIONS,
    TAGGED_HELD_OUT_SENTENCES,
    TAGGED_SENTENCES,
    TAGS,
    TRAINING_LINES,
    is_held_out,
    label,
    sample_sentences,
    swaps,
    write,
)
from corpora.grammar import Grammar, Symbol, Tree
from corpora.nbest import HYPOTHESES, LISTS
from corpora.nbest import write as write_nbest
from corpora.numerals import ONES, TENS, in_words
from corpora.pairs import minimal_pairs
from corpora.pairs import write as write_pairs
from corpora.tagging import TOKEN, Lexicon, tag_tokens

TOY = """
# Three rules
Order = a <Size> tea | [3] a coffee | [2] <Size> beans
    and <Size> eggs
Size = small | [2] large
"""


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar.read(GRAMMAR)


@pytest.fixture(scope="module")
def opinions() -> Grammar:
    return Grammar.read(OPINIONS)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.read(TAGS)


@pytest.fixture(scope="module")
def automaton(grammar: Grammar) -> "Automaton":
    return Automaton(grammar)


@pytest.fixture(scope="module")
def sample(grammar: Grammar) -> list[str]:
    rng = random.Random(7)
    return [grammar.sample(rng) for _ in range(3000)]


def lines(name: str) -> list[str]:
    return (HERE / name).read_text(encoding="utf-8").splitlines()


def enumerate_all(grammar: Grammar, name: str) -> Iterator[tuple[str, float]]:
    """The sentence and the probability of every derivation, by enumeration."""
    for alternative in grammar._rules[name].alternatives:
        partial = [("", alternative.probability)]
        for part in alternative.parts:
            tails = (
                list(enumerate_all(grammar, part.name))
                if isinstance(part, Symbol)
                else [(part, 1.0)]
            )
            partial = [(head + tail, p * q) for head, p in partial for tail, q in tails]
        yield from partial


Rest = tuple[str | Symbol, ...]


class Automaton:
    """The deterministic automaton of a grammar. It shares no code with the parser.

    A state is the set of all possible rests of a sentence. A rest is a tuple of parts.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._rules = grammar._rules
        self.start = frozenset(self._expanded((Symbol(next(iter(self._rules))),)))
        self._successors: dict[frozenset[Rest], dict[str, frozenset[Rest]]] = {}

    def _expanded(self, rest: Rest) -> Iterator[Rest]:
        if rest and isinstance(rest[0], Symbol):
            for alternative in self._rules[rest[0].name].alternatives:
                yield from self._expanded(alternative.parts + rest[1:])
        else:
            yield rest

    def successors(self, state: frozenset[Rest]) -> dict[str, frozenset[Rest]]:
        """The states after one more letter."""
        if state not in self._successors:
            rests: dict[str, set[Rest]] = {}
            for head, *rest in filter(None, state):
                tail = (head[1:], *rest) if len(head) > 1 else tuple(rest)
                rests.setdefault(str(head[0]), set()).update(self._expanded(tail))
            self._successors[state] = {letter: frozenset(r) for letter, r in rests.items()}
        return self._successors[state]

    def accepts(self, text: str) -> bool:
        """Whether the text is a sentence."""
        state = self.start
        for letter in text:
            state = self.successors(state).get(letter, frozenset())
        return () in state


def count_distinct(grammar: Grammar) -> int:
    """The number of sentences (not derivations): the paths of the automaton."""
    automaton = Automaton(grammar)
    counts: dict[frozenset[Rest], int] = {}

    def count(state: frozenset[Rest]) -> int:
        if state not in counts:
            counts[state] = (() in state) + sum(map(count, automaton.successors(state).values()))
        return counts[state]

    return count(automaton.start)


def test_toy_entropy_size_and_logprobs_agree_with_enumeration() -> None:
    toy = Grammar.parse(TOY)
    all_sentences = list(enumerate_all(toy, "Order"))
    distinct = len({text for text, _ in all_sentences})
    assert len(all_sentences) == distinct == toy.size() == count_distinct(toy) == 7
    assert math.fsum(p for _, p in all_sentences) == pytest.approx(1)
    entropy = -math.fsum(p * math.log(p) for _, p in all_sentences)
    assert toy.entropy() == pytest.approx(entropy, abs=1e-12)
    for text, probability in all_sentences:
        assert math.exp(toy.logprob(text)) == pytest.approx(probability)
        assert toy.derivations(text) == 1
    assert "small beans and large eggs" in toy
    assert all(map(Automaton(toy).accepts, dict(all_sentences)))


def test_sentences_outside_the_language_have_no_probability() -> None:
    toy = Grammar.parse(TOY)
    for text in ("", "a coffee ", "a medium tea", "a small", "A coffee"):
        assert text not in toy
        assert toy.logprob(text) == -math.inf


def test_a_tree_has_the_rules_and_the_texts_of_the_derivation() -> None:
    toy = Grammar.parse(TOY)
    tree = toy.tree("small beans and large eggs")
    size = [child for child in tree.children if isinstance(child, Tree)]
    assert size == [Tree("Size", ("small",)), Tree("Size", ("large",))]
    assert list(tree.leaves()) == [
        *(("Size", "small"), ("Order", " beans and ")),
        *(("Size", "large"), ("Order", " eggs")),
    ]
    for outside in ("", "a coffee ", "a medium tea"):
        with pytest.raises(ValueError, match=f"not in the language: '{outside}'"):
            toy.tree(outside)


def test_the_leaves_of_a_tree_are_the_sentence(grammar: Grammar, sample: list[str]) -> None:
    for sentence in sample[:500]:
        assert "".join(text for _, text in grammar.tree(sentence).leaves()) == sentence


def test_an_ambiguous_sentence_has_two_derivations_and_their_summed_probability() -> None:
    ambiguous = Grammar.parse("S = <A><B>\nA = a | aa\nB = b | ab")
    assert ambiguous.derivations("aab") == 2
    assert ambiguous.logprob("aab") == pytest.approx(math.log(0.5))
    assert (ambiguous.size(), count_distinct(ambiguous)) == (4, 3)


def test_toy_sampling_follows_the_weights() -> None:
    toy, rng = Grammar.parse(TOY), random.Random(3)
    counts = Counter(toy.sample(rng) for _ in range(6000))
    for text, probability in enumerate_all(toy, "Order"):
        assert counts[text] / 6000 == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: there is no rule"),
        ("S = a <B>\nB = b\n\nC = c", "line 4: <C> cannot be reached from the first rule"),
        ("# note\nS = a <B>", "line 2: <B> is not defined"),
        ("S = <A>\nA = a <B>\nB = b <A>", "line 3: <A> derives itself"),
        ("S = a | b\nS = c", "line 2: <S> is defined a second time"),
        ("S = <A>\nA = [0] a | b", r"line 2: the weight \[0\] is not a whole number above zero"),
        ("S = [1.5] a", r"line 1: the weight \[1.5\] is not a whole number above zero"),
        ("S = [x] a", r"line 1: the weight \[x\] is not a whole number above zero"),
        ("S = a |\n  | b", "line 1: an alternative is empty"),
        ("S = a <B", "line 1: an unexpected bracket or sign in 'a <B'"),
        ("S = a [2] b", "line 1: an unexpected bracket or sign"),
        ("  a | b", "line 1: expected 'Name = ...'"),
        ("S = a\nnonsense", "line 2: expected 'Name = ...'"),
    ],
)
def test_a_malformed_grammar_is_refused_with_the_line_number(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grammar.parse(text)


def test_every_sentence_of_the_language_has_one_derivation(grammar: Grammar) -> None:
    assert count_distinct(grammar) == grammar.size() > 10**8


def test_entropy_agrees_with_the_mean_surprisal_of_a_sample(
    grammar: Grammar, sample: list[str]
) -> None:
    surprisals = [-grammar.logprob(sentence) for sentence in sample]
    mean = math.fsum(surprisals) / len(surprisals)
    variance = math.fsum((s - mean) ** 2 for s in surprisals) / (len(surprisals) - 1)
    assert abs(mean - grammar.entropy()) < 4 * math.sqrt(variance / len(surprisals))


def test_a_sentence_with_a_homophone_swapped_is_not_in_the_language(
    grammar: Grammar, sample: list[str]
) -> None:
    assert [w for sentence in sample for _, _, w in swaps(sentence) if w in grammar] == []


def test_a_and_an_agree_with_the_next_word(sample: list[str]) -> None:
    words = [pair for text in sample for pair in zip(text.split(), text.split()[1:], strict=False)]
    assert {b for a, b in words if a in ("a", "A") and b[0] in "aeiou"} <= {"one"}
    assert {b for a, b in words if a in ("an", "An") and b[0] not in "aeiou"} <= {"hour"}


@pytest.mark.parametrize("name", ["sentences.txt", "sentences.heldout.txt"])
def test_corpus_lines_have_one_derivation(grammar: Grammar, name: str) -> None:
    chosen = random.Random(1).sample(lines(name), 2000)
    assert [line for line in chosen if grammar.derivations(line) != 1] == []


def test_the_demo_sentences_are_in_the_language_and_not_in_the_training_text(
    grammar: Grammar,
) -> None:
    for sentence in DEMO_SENTENCES:
        assert grammar.derivations(sentence) == 1
    text = (HERE / "sentences.txt").read_text(encoding="utf-8")
    assert "the apple and pair salad" not in grammar
    for unseen in (*DEMO_SENTENCES, "the apple and pair salad"):
        assert unseen not in text


def test_the_training_text_has_no_held_out_sentence() -> None:
    training, held_out = lines("sentences.txt"), lines("sentences.heldout.txt")
    assert not any(map(is_held_out, training))
    assert all(map(is_held_out, held_out))
    assert (len(training), len(held_out)) == (TRAINING_LINES, HELD_OUT_LINES)


def test_about_a_tenth_of_the_sentences_is_held_out(sample: list[str]) -> None:
    assert sum(map(is_held_out, sample)) / len(sample) == pytest.approx(0.1, abs=0.03)


def test_homophone_pairs_differ_in_one_word_and_the_wrong_one_is_not_in_the_language(
    grammar: Grammar,
) -> None:
    pairs = [line.split("\t") for line in lines("homophones.tsv")]
    assert pairs[0] == ["the apple and pear salad", "the apple and pair salad"]
    counts: Counter[tuple[str, str]] = Counter()
    for right, wrong in pairs:
        assert is_held_out(right)
        assert right in grammar
        assert wrong not in grammar
        [words] = {(a, b) for a, b in zip(right.split(), wrong.split(), strict=True) if a != b}
        before, after = (re.split(r"[^a-z]", word.lower())[0] for word in words)
        counts[before, after] += 1
    assert counts == Counter(dict.fromkeys(ALL_SWAPS, 5))
    assert len(pairs) >= 300


@pytest.mark.parametrize("script", sorted(HERE.glob("*.py")), ids=lambda path: path.stem)
def test_no_file_beside_the_scripts_hides_a_module_of_python(script: Path) -> None:
    """A script imports from its own folder first."""
    assert script.stem not in sys.stdlib_module_names


def test_the_report_of_the_demo_begins_as_a_script() -> None:
    ran = subprocess.run(
        [sys.executable, HERE / "report.py", "no-such-run"], capture_output=True, text=True
    )
    assert "no-such-run" in ran.stderr.splitlines()[-1]


def test_the_generated_files_are_reproduced_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        *("homophones.tsv", "labelled.heldout.tsv", "labelled.tsv"),
        *("numbers.heldout.tsv", "numbers.tsv", "opinions.heldout.trees", "opinions.trees"),
        *("sentences.heldout.txt", "sentences.txt", "tagged.conll", "tagged.heldout.conll"),
    ]
    for name in names:
        assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()


def test_the_seed_determines_the_sample(grammar: Grammar) -> None:
    first, again, other = (
        list(islice(sample_sentences(grammar, False, seed), 5)) for seed in (1, 1, 2)
    )
    assert first == again == lines("sentences.txt")[:5]
    assert first != other


def test_minimal_pairs_are_held_out_sentences_and_what_is_not_in_the_language(
    automaton: Automaton, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.jsonl")
    pairs = list(map(json.loads, (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()))
    training = set(lines("sentences.txt"))
    words = {word for line in training for word in re.split(r"[^a-z]+", line.lower())}
    counts: Counter[str] = Counter()
    for good, bad, phenomenon in {tuple(pair.values()) for pair in pairs}:
        assert automaton.accepts(good) and good not in training
        assert not automaton.accepts(bad)
        changed = [(a, b) for a, b in zip(good.split(), bad.split(), strict=True) if a != b]
        if phenomenon == "word_order":
            assert len(changed) == 2 and changed[0] == changed[1][::-1]
        else:
            before, after = (re.split(r"[^a-z]", word.lower())[0] for word in changed[0])
            expected = ALL_SWAPS if phenomenon == "homophones" else NUMBERS
            assert len(changed) == 1 and (before, after) in expected
            assert after in words  # so no unknown word gives the error away
        counts[phenomenon] += 1
    assert counts == {"agreement": 1000, "homophones": 1000, "word_order": 1000}


def test_the_seed_determines_the_minimal_pairs(grammar: Grammar) -> None:
    first, again, other = (list(minimal_pairs(grammar, 20, seed)) for seed in (4, 4, 5))
    assert first == again != other


SINGULAR_PLURAL = [("is", "are"), ("was", "were"), ("has", "have"), ("works", "work")]
NUMBERS = [*SINGULAR_PLURAL, *((plural, singular) for singular, plural in SINGULAR_PLURAL)]


def test_nbest_lists_have_the_sentence_that_was_said_and_errors(
    automaton: Automaton, tmp_path: Path
) -> None:
    write_nbest(tmp_path)
    training, said = set(lines("sentences.txt")), []
    for name in ("dev", "test"):
        references = (tmp_path / f"{name}.ref").read_text("utf-8").splitlines()
        found: dict[str, list[tuple[str, float]]] = {}
        for line in (tmp_path / f"{name}.nbest").read_text("utf-8").splitlines():
            number, text, feature, total = line.split(" ||| ")
            assert feature == f"acoustic= {total}"
            found.setdefault(number, []).append((text, float(total)))
        assert list(found) == [str(number) for number in range(LISTS)]
        assert all(len(dict(one)) == len(one) == HYPOTHESES for one in found.values())
        scores = [[score for _, score in one] for one in found.values()]
        assert scores == [sorted(one, reverse=True) for one in scores]
        texts = [[text for text, _ in one] for one in found.values()]
        there = [right in one for right, one in zip(references, texts, strict=True)]
        first = [right == one[0] for right, one in zip(references, texts, strict=True)]
        assert 0.8 < sum(there) / LISTS < 0.97  # without it in one of ten
        assert 0.2 < sum(first) / sum(there) < 0.8  # the score is imperfect, and not noise alone
        said += references
    assert len(set(said)) == 2 * LISTS
    assert all(map(automaton.accepts, said)) and not training & set(said)


# ---- Sentences with a label

LABELS = ("good", "bad", "mixed", "neutral")
HAND_LABELLED = [
    ("good", "The soup at the inn was not at all bland"),
    ("bad", "The soup at the inn was not at all tasty"),
    ("good", "The soup at the inn was salty, but we enjoyed it"),
    ("bad", "The soup at the inn was tasty, but we did not enjoy it"),
    ("mixed", "The soup at the inn was tasty, but the waiter was not friendly"),
    ("good", "The lesson at the bank used to be boring, but now it is easy"),
    ("bad", "The lesson at the bank used to be easy, but now it is boring"),
    ("good", "I expected the week by the sea to be wet, yet it was anything but wet"),
    ("bad", "We did not like the young pony, although it was gentle"),
    ("good", "The young pony could not have been better"),
    ("bad", "The young pony could have been better"),
    ("good", "Nobody could say that the new dog was wild"),
    ("bad", "It is not true that the new dog was not at all wild"),
    ("good", "Ruth asked whether the pie at the inn was sour, and it was not"),
    ("neutral", "Ruth asked whether the pie at the inn was sour"),
    ("neutral", "Ben told us that the pie at the inn was sour, but I was not there"),
    ("mixed", "I did not like the job at the zoo, but Tom did"),
    ("bad", "I did not like the job at the zoo, and neither did Tom"),
    ("neutral", "The job at the zoo was neither easy nor boring"),
    ("mixed", "The day in the hills was terrible; the sea was not too rough"),
]


@pytest.mark.parametrize(("expected", "sentence"), HAND_LABELLED)
def test_the_label_follows_the_meaning(opinions: Grammar, expected: str, sentence: str) -> None:
    assert label(opinions, sentence) == expected


def test_every_opinion_has_one_derivation_and_so_one_label(opinions: Grammar) -> None:
    assert count_distinct(opinions) == opinions.size() > 10**5


def labelled(name: str) -> list[tuple[str, str]]:
    """The sentences and labels of a file."""
    pairs = [line.split("\t") for line in lines(name)]
    return [(sentence, answer) for sentence, answer in pairs]


def test_labelled_sentences_occur_once_in_one_of_the_two_files(opinions: Grammar) -> None:
    training, held_out = labelled("labelled.tsv"), labelled("labelled.heldout.tsv")
    assert (len(training), len(held_out)) == (LABELLED_LINES, LABELLED_HELD_OUT_LINES)
    assert len(dict([*training, *held_out])) == len(training) + len(held_out)
    assert not any(is_held_out(sentence) for sentence, _ in training)
    assert all(is_held_out(sentence) for sentence, _ in held_out)


@pytest.mark.parametrize("name", ["labelled.tsv", "labelled.heldout.tsv"])
def test_every_label_has_its_share(name: str) -> None:
    counts = Counter(answer for _, answer in labelled(name))
    shares = {answer: count / counts.total() for answer, count in counts.items()}
    expected = dict(zip(LABELS, (4 / 14, 4 / 14, 3 / 14, 3 / 14), strict=True))
    assert shares == pytest.approx(expected, abs=0.05)


def test_no_frequent_word_tells_good_from_bad() -> None:
    counts: dict[str, Counter[str]] = {}
    for sentence, answer in labelled("labelled.tsv"):
        if answer in ("good", "bad"):
            for word in set(re.findall(r"\w+", sentence.lower())):
                counts.setdefault(word, Counter())[answer] += 1
    frequent = {word: count for word, count in counts.items() if count.total() >= 60}
    assert len(frequent) > 60
    assert [w for w, count in frequent.items() if max(count.values()) > 0.8 * count.total()] == []


@pytest.mark.parametrize("part", ["", ".heldout"])
def test_a_tree_has_the_words_of_its_sentence_and_its_label_at_the_root(part: str) -> None:
    brackets = lines(f"opinions{part}.trees")
    for tree, (sentence, answer) in zip(brackets, labelled(f"labelled{part}.tsv"), strict=True):
        assert tree.startswith(f"({answer} ")
        words = re.sub(r"\([a-z]+ |\)", "", tree)
        assert words.replace(" ", "") == sentence.replace(" ", "")


@pytest.mark.parametrize(
    ("sentence", "tree"),
    [
        (
            "Although the soup at the inn was not at all tasty, nobody left any of it",
            "(good Although the (neutral (neutral soup) at the (neutral inn)) was "
            "(bad not at all (good tasty)) , (good nobody left any of it))",
        ),
        ("There was nothing wrong with the old dog",
         "(good There was nothing wrong with the (neutral (neutral old) (neutral dog)))"),
    ],
)  # fmt: skip
def test_each_part_has_its_own_opinion(opinions: Grammar, sentence: str, tree: str) -> None:
    assert bracketed(opinions.tree(sentence)) == tree


# ---- Sentences with tags


def compact(tokens: Iterable[Sequence[str]]) -> str:
    """Such as "[NP the/DET soup/NOUN] and/CCONJ [VP ran/VERB]"."""
    text = ""
    for word, part_of_speech, chunk in tokens:
        if chunk.startswith("I-"):
            text = f"{text.removesuffix(']')} {word}/{part_of_speech}]"
        elif chunk == "O":
            text += f" {word}/{part_of_speech}"
        else:
            text += f" [{chunk.removeprefix('B-')} {word}/{part_of_speech}]"
    return text.strip()


HAND_TAGGED = [
    (
        "the leek and potato soup with brown bread and butter",
        "[NP the/DET leek/NOUN and/CCONJ potato/NOUN soup/NOUN] [PP with/ADP] "
        "[NP brown/ADJ bread/NOUN] and/CCONJ [NP butter/NOUN]",
    ),
    (
        "Bake the plum cake for forty minutes and serve it warm with cream",
        "[VP Bake/VERB] [NP the/DET plum/NOUN cake/NOUN] [PP for/ADP] [NP forty/NUM minutes/NOUN] "
        "and/CCONJ [VP serve/VERB] [NP it/PRON] [ADJP warm/ADJ] [PP with/ADP] [NP cream/NOUN]",
    ),
    (
        "Beat two eggs with the milk and fold in two cups of flour",
        "[VP Beat/VERB] [NP two/NUM eggs/NOUN] [PP with/ADP] [NP the/DET milk/NOUN] and/CCONJ "
        "[VP fold/VERB] [PRT in/ADP] [NP two/NUM cups/NOUN] [PP of/ADP] [NP flour/NOUN]",
    ),
    (
        "Our cook ate roast lamb with chips after work",
        "[NP Our/PRON cook/NOUN] [VP ate/VERB] [NP roast/ADJ lamb/NOUN] [PP with/ADP] "
        "[NP chips/NOUN] [PP after/ADP] [NP work/NOUN]",
    ),
    (
        "Cats need about 15 hours of sleep a day",
        "[NP Cats/NOUN] [VP need/VERB] [NP about/ADV 15/NUM hours/NOUN] [PP of/ADP] "
        "[NP sleep/NOUN] [NP a/DET day/NOUN]",
    ),
    (
        "A lone bear stood very still close to the church last Sunday",
        "[NP A/DET lone/ADJ bear/NOUN] [VP stood/VERB] [ADJP very/ADV still/ADJ] [ADVP close/ADV] "
        "[PP to/ADP] [NP the/DET church/NOUN] [NP last/ADJ Sunday/PROPN]",
    ),
    (
        "The cook told us a sad tale about a proud fox and a poor king",
        "[NP The/DET cook/NOUN] [VP told/VERB] [NP us/PRON] [NP a/DET sad/ADJ tale/NOUN] "
        "[PP about/ADP] [NP a/DET proud/ADJ fox/NOUN] and/CCONJ [NP a/DET poor/ADJ king/NOUN]",
    ),
    (
        "Anna's old pony was tied to a stake near the mill",
        "[NP Anna/PROPN] [NP 's/PART old/ADJ pony/NOUN] [VP was/AUX tied/VERB] [PP to/ADP] "
        "[NP a/DET stake/NOUN] [PP near/ADP] [NP the/DET mill/NOUN]",
    ),
    (
        "It was a cold morning and the trees behind the inn were still bare",
        "[NP It/PRON] [VP was/AUX] [NP a/DET cold/ADJ morning/NOUN] and/CCONJ "
        "[NP the/DET trees/NOUN] [PP behind/ADP] [NP the/DET inn/NOUN] [VP were/AUX] "
        "[ADVP still/ADV] [ADJP bare/ADJ]",
    ),
    (
        "The sea was cold last night and the boats stayed in the harbour",
        "[NP The/DET sea/NOUN] [VP was/AUX] [ADJP cold/ADJ] [NP last/ADJ night/NOUN] and/CCONJ "
        "[NP the/DET boats/NOUN] [VP stayed/VERB] [PP in/ADP] [NP the/DET harbour/NOUN]",
    ),
    (
        "The mail for the bank came two hours late again because of the ice",
        "[NP The/DET mail/NOUN] [PP for/ADP] [NP the/DET bank/NOUN] [VP came/VERB] "
        "[NP two/NUM hours/NOUN] [ADVP late/ADV] [ADVP again/ADV] [PP because/ADP of/ADP] "
        "[NP the/DET ice/NOUN]",
    ),
    (
        "Dear guests, the old hotel will close at ten on Friday",
        "[NP Dear/ADJ guests/NOUN] ,/PUNCT [NP the/DET old/ADJ hotel/NOUN] "
        "[VP will/AUX close/VERB] [PP at/ADP] [NP ten/NUM] [PP on/ADP] [NP Friday/PROPN]",
    ),
    (
        "Please write the right date on page two in blue ink",
        "[INTJ Please/INTJ] [VP write/VERB] [NP the/DET right/ADJ date/NOUN] [PP on/ADP] "
        "[NP page/NOUN two/NUM] [PP in/ADP] [NP blue/ADJ ink/NOUN]",
    ),
    (
        "There is a slow leak in the office roof at Eva's house",
        "[NP There/PRON] [VP is/VERB] [NP a/DET slow/ADJ leak/NOUN] [PP in/ADP] "
        "[NP the/DET office/NOUN roof/NOUN] [PP at/ADP] [NP Eva/PROPN] [NP 's/PART house/NOUN]",
    ),
    (
        "Turn right at the farm and walk for five minutes to the lake",
        "[VP Turn/VERB] [ADVP right/ADV] [PP at/ADP] [NP the/DET farm/NOUN] and/CCONJ "
        "[VP walk/VERB] [PP for/ADP] [NP five/NUM minutes/NOUN] [PP to/ADP] [NP the/DET lake/NOUN]",
    ),
    (
        "Tom would like to buy a whole cake and a jar of honey for Ruth",
        "[NP Tom/PROPN] [VP would/AUX like/VERB to/PART buy/VERB] [NP a/DET whole/ADJ cake/NOUN] "
        "and/CCONJ [NP a/DET jar/NOUN] [PP of/ADP] [NP honey/NOUN] [PP for/ADP] [NP Ruth/PROPN]",
    ),
    (
        "Nina painted the kitchen blue before the vet baked the salmon",
        "[NP Nina/PROPN] [VP painted/VERB] [NP the/DET kitchen/NOUN] [ADJP blue/ADJ] "
        "[SBAR before/SCONJ] [NP the/DET vet/NOUN] [VP baked/VERB] [NP the/DET salmon/NOUN]",
    ),
]


@pytest.mark.parametrize(("sentence", "expected"), HAND_TAGGED)
def test_tags_are_those_that_a_person_wrote(
    grammar: Grammar, lexicon: Lexicon, sentence: str, expected: str
) -> None:
    assert compact(tag_tokens(grammar.tree(sentence), lexicon)) == expected


def test_every_word_of_the_grammar_has_a_tag_and_every_tag_a_word(
    grammar: Grammar, lexicon: Lexicon
) -> None:
    words = {
        (rule, word)
        for rule, definition in grammar._rules.items()
        for alternative in definition.alternatives
        for part in alternative.parts
        if isinstance(part, str)
        for word in TOKEN.findall(part)
    }
    forms = {form for _, word in words for form in (word, word.lower())}
    in_rules = {(f"in {rule}", form) for rule, word in words for form in (word, word.lower())}
    for context, word in lexicon.tags:
        assert word in forms
        assert not context.startswith("in ") or (context, word) in in_rules
    for rule, word in words:
        keys = {(context, f) for context in ("", f"in {rule}") for f in (word, word.lower())}
        assert keys & lexicon.tags.keys(), word


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# note\nNOUN = cat", "line 2: expected 'TAG/CHUNK = words'"),
        ("NOUN/NP cat", "line 1: expected 'TAG/CHUNK = words'"),
        ("NOUN/NP = cat\n  dog\n\nVERB/VP = ran dog", "line 4: 'dog' has a tag already"),
        ("ADJ/NP in A B = old\nADJ/B-NP in B = old", "line 2: 'old' has a tag already"),
    ],
)
def test_a_malformed_file_of_tags_is_refused_with_the_line_number(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lexicon.parse(text)


def tagged(name: str) -> list[list[list[str]]]:
    """The columns of each token of each sentence."""
    text = (HERE / name).read_text(encoding="utf-8").removesuffix("\n\n")
    return [[line.split("\t") for line in block.split("\n")] for block in text.split("\n\n")]


def sentence_of(tokens: list[list[str]]) -> str:
    """The sentence that the tokens were made from."""
    return re.sub(r" (?=,|'s)", "", " ".join(word for word, _, _ in tokens))


def test_tagged_sentences_occur_once_in_one_of_the_two_files(grammar: Grammar) -> None:
    training = list(map(sentence_of, tagged("tagged.conll")))
    held_out = list(map(sentence_of, tagged("tagged.heldout.conll")))
    assert (len(training), len(held_out)) == (TAGGED_SENTENCES, TAGGED_HELD_OUT_SENTENCES)
    assert len({*training, *held_out}) == len(training) + len(held_out)
    assert not any(map(is_held_out, training))
    assert all(map(is_held_out, held_out))
    assert [sentence for sentence in held_out if sentence not in grammar] == []


@pytest.mark.parametrize("name", ["tagged.conll", "tagged.heldout.conll"])
def test_chunk_tags_are_well_formed(name: str) -> None:
    for sentence in tagged(name):
        before = "O"
        for _, _, chunk in sentence:
            if chunk.startswith("I-"):
                assert before in (f"B-{chunk[2:]}", chunk), compact(sentence)
            before = chunk


@pytest.mark.parametrize("name", ["tagged.conll", "tagged.heldout.conll"])
def test_every_tag_has_its_share(name: str) -> None:
    tokens = [token for sentence in tagged(name) for token in sentence]
    for column, rarest, expected in (
        (1, 0.002, "NOUN DET ADP ADJ VERB PROPN CCONJ NUM PRON AUX PART SCONJ ADV PUNCT"),
        (2, 0.001, "I-NP B-NP B-PP B-VP O I-VP B-SBAR B-ADJP B-ADVP I-ADJP I-PP B-PRT"),
    ):
        counts = Counter(token[column] for token in tokens)
        rare = {"INTJ", "B-INTJ", "I-ADVP"}
        assert {tag for tag in counts if tag not in rare} == set(expected.split())
        assert max(counts.values()) < 0.37 * len(tokens)
        assert all(counts[tag] >= rarest * len(tokens) for tag in expected.split())


def test_the_rule_decides_where_a_word_has_several_tags() -> None:
    tags: dict[str, set[tuple[str, str]]] = {}
    for sentence in tagged("tagged.conll"):
        for word, part_of_speech, chunk in sentence:
            tags.setdefault(word, set()).add((part_of_speech, chunk))
    assert tags["after"] == {("ADP", "B-PP"), ("SCONJ", "B-SBAR")}
    assert tags["about"] == {("ADP", "B-PP"), ("ADV", "B-NP")}
    assert tags["plan"] == {("NOUN", "I-NP"), ("VERB", "B-VP")}
    assert tags["and"] == {("CCONJ", "O"), ("CCONJ", "I-NP")}
    assert tags["to"] == {("ADP", "B-PP"), ("PART", "I-VP"), ("PART", "B-VP")}


# --- numbers ---


def value(words: str) -> int:
    """The number of these words, word by word: read, and not written."""
    total = part = 0
    for word in re.split("[ -]", words):
        if word == "thousand":
            total, part = 1000 * part, 0
        elif word == "hundred":
            part *= 100
        elif word != "and":
            part += ONES.index(word) if word in ONES else 10 * TENS.index(word)
    return total + part


def test_numbers_are_said_as_in_a_textbook() -> None:
    assert in_words(0) == "zero" and in_words(19) == "nineteen" and in_words(80) == "eighty"
    assert in_words(101) == "one hundred and one" and in_words(1100) == "one thousand one hundred"
    assert in_words(21_034) == "twenty-one thousand and thirty-four"
    with pytest.raises(ValueError, match="1000000 is not from 0 to 999999"):
        in_words(1_000_000)


@given(st.integers(0, 999_999))
def test_the_words_of_a_number_are_read_back(number: int) -> None:
    assert value(in_words(number)) == number


def test_numbers_occur_once_in_one_of_the_two_files() -> None:
    training, held_out = (
        [line.split("\t") for line in lines(name)]
        for name in ("numbers.tsv", "numbers.heldout.tsv")
    )
    numbers = [number for number, _ in (*training, *held_out)]
    assert len(set(numbers)) == len(numbers) == 2500
    for number, words in (*training, *held_out):
        assert value(words) == int(number)
    assert {is_held_out(number) for number, _ in training} == {False}

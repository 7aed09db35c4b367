"""Pages for a browser: what they say of the model and the text, and the figures in them."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import charlm
from charlm import LanguageModel, Transducer
from charlm.cli.page import score_facts
from charlm.engines.drawn_scores import figures_of
from charlm.engines.scores import SentenceScore, TokenScore
from charlm.engines.scoring import SentenceOptions
from charlm.pages.predicted import Looked, predicted
from charlm.pages.sentence import Piece, sentence
from charlm.uses.comparison import draw_difference, scores_of
from conftest import Command

GOLDEN = Path(__file__).parent / "golden"
SCRIPT = '<script>alert("1")</script> & the cat'
TEXTS = [SCRIPT, "", "the cat\tsat", "שלום, e\u0301 naïve"]
VOID = {"meta", "br"}


class Page(HTMLParser):
    """What a page holds.

    tokens:     of each sentence, the text, the strength and the figures of its pieces, in order
    sentences:  the text of each sentence
    figures:    what stands below it
    facts:      by their headings
    bars:       of each row of a chart, its cells and the side and the length of its bar
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tokens: list[list[tuple[str, float, list[str]]]] = []
        self.sentences: list[str] = []
        self.figures: list[str] = []
        self.facts: dict[str, str] = {}
        self.bars: list[tuple[list[str], str, float]] = []
        self.title, self.links, self._term = "", list[str](), ""
        self._open: list[tuple[str, dict[str, str]]] = []
        self._cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.links += [tag] * (tag == "link") + [name for name in found if name in ("src", "href")]
        if tag not in VOID:
            self._open.append((tag, found))
        if tag == "p" and found.get("class") == "text":
            assert found["dir"] == "auto"
            self.tokens.append([])
            self.sentences.append("")
        elif tag == "td":
            self._cells.append("")
        elif tag == "tr":
            self._cells = []
        elif tag == "i":
            bar = found["class"], float(found["style"].removeprefix("--d:"))
            self.bars.append((self._cells, *bar))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        inside = [attributes.get("class") for _, attributes in self._open]
        if tag in ("title", "dt", "dd", "td"):
            self._of_page(tag, data)
        elif "figures" in inside:
            self.figures.append(data)
        elif "text" in inside:
            self.sentences[-1] += data
            if tag == "b":
                strength = float(attributes["style"].removeprefix("--s:"))
                figures = attributes.get("data-t", attributes.get("title", "")).split("\t")
                self.tokens[-1].append((data, strength, figures))

    def _of_page(self, tag: str, data: str) -> None:
        if tag == "title":
            self.title = data
        elif tag == "dt":
            self._term = data
        elif tag == "dd":
            self.facts[self._term] = data
        else:
            self._cells[-1] += data


def page_of(command: Command, *arguments: object, name: str = "page.html") -> tuple[Page, str]:
    """The page that a command writes, and its HTML."""
    assert command(*arguments, "--html", name).stdout == b""
    text = Path(name).read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a test, with a file of sentences."""
    monkeypatch.chdir(tmp_path)
    Path("a<i>.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return tmp_path


def name_of(score: SentenceScore, token: TokenScore) -> str:
    """A token as a page names it: an unknown one with its letter."""
    letter = score.text[token.start : token.end].strip() if token.is_unknown else ""
    return f"{token.token} {letter}".rstrip()


def about_tokens(score: SentenceScore) -> list[list[str]]:
    """The name, the figures and the likeliest tokens of each token, as a page has them."""
    found: list[list[str]] = []
    for t in score.token_scores:
        assert t.entropy is not None and t.likeliest is not None
        likeliest = [field for name, p in t.likeliest for field in (name, f"{math.exp(p):.3g}")]
        bits, entropy = t.logprob / -math.log(2), t.entropy / math.log(2)
        found.append([name_of(score, t), f"{bits:.4f}", str(t.rank), f"{entropy:.2f}", *likeliest])
    return found


@pytest.mark.parametrize("level", ["char", "word-whitespace", "subword", "byte"])
def test_a_page_is_whole_by_itself_and_has_every_token(charlm_command: Command, level: str) -> None:
    model = charlm.load(GOLDEN / f"lm-{level}.safetensors", kind=LanguageModel)
    page, html = page_of(charlm_command, "score", "--file", "a<i>.txt", "-m", model.path)
    assert not page.links and not re.search(r"https?:|url\(|@import|import\(|fetch\(", html)
    assert html.count("<script") == html.count("</script") == 1
    scores = model.score(TEXTS, details=True)
    assert page.title == f"Surprisal of tokens by lm-{level}"
    for text, score, shown, tokens, figures in zip(
        TEXTS, scores, page.sentences, page.tokens, page.figures, strict=True
    ):
        assert re.sub("[·¶]", "", shown) == text and shown.endswith("¶")
        assert [about for _, _, about in tokens] == about_tokens(score)
        for token, (_, strength, _) in zip(score.token_scores, tokens, strict=True):
            assert strength == pytest.approx(min(token.bits / 10, 1), abs=0.006)
        assert f"probability {score.probability} · {score.bits:.1f} bits · " in figures
        assert figures.endswith(f"perplexity {score.perplexity:.2f}")


def test_a_page_of_words(charlm_command: Command, model: LanguageModel) -> None:
    text, options = "the cat sat, at home", ["-m", model.path, "--words", "--punctuation"]
    page, html = page_of(charlm_command, "score", text, *options)
    (tokens,), words = page.tokens, model.score(text, details=True).words(punctuation=True)
    assert page.sentences == [f"{text}¶"]
    assert [(shown, about[:2]) for shown, _, about in tokens] == [
        ("¶" if w.is_line_end else w.word, [w.word, f"{w.bits:.4f}"]) for w in words
    ]
    assert [strength for _, strength, _ in tokens] == pytest.approx(
        [min(w.bits / 20, 1) for w in words], abs=0.006
    )
    assert "20+<br>9.5e-07" in html


def test_a_page_says_which_model_and_which_text(
    charlm_command: Command, model: LanguageModel
) -> None:
    arguments = ["score", "a cat", "the жук", "-m", model.path, "--context", "by ", "--no-eos"]
    facts = page_of(charlm_command, *arguments)[0].facts
    total = model.score("a cat", context="by ", eos=False) + model.score(
        "the жук", context="by ", eos=False
    )
    info = charlm_command("info", model.path).text
    for row in ("network", "corpus", "validation", "tokens"):
        assert re.search(rf"^{row} +{re.escape(facts[row.capitalize()])}$", info, re.MULTILINE)
    assert facts["Model"] == f"model, trained by charlm {charlm.__version__}"
    assert facts["Text"] == (
        "given on the command line: 2 sentences, 12 tokens, 3 of them unknown, read as <UNK>; "
        "12 characters"
    )
    assert facts["Scored"] == "each sentence by itself, without the line end, after 'by '"
    assert facts["Total"] == (
        f"{total.bits:.1f} bits, {total.bits / 12:.4f} bits per character, perplexity "
        f"{total.perplexity:.2f}, by charlm {charlm.__version__}"
    )
    of_ngrams = page_of(charlm_command, "score", "a", "-m", model.path, "--ngram-only")[0].facts
    assert of_ngrams["Scored"] == "each sentence by itself, with the line end, --ngram-only"
    assert of_ngrams["Text"].startswith("given on the command line: 1 sentence, 2 tokens, all know")


def test_one_is_singular_and_a_large_perplexity_is_short(
    charlm_command: Command, model: LanguageModel
) -> None:
    score = replace(model.score("a", eos=False), tokens=1, logprob=math.log(1 / 3.2133e12))
    facts = score_facts("x", 1, {"m": (model, score)}, SentenceOptions())
    assert facts["Text"] == "x: 1 sentence, 1 token, all known; 1 character"
    assert ", perplexity 3.2e+12, by " in facts["Total"]
    assert figures_of(score).endswith("perplexity 3.2e+12")
    assert figures_of(replace(score, logprob=-math.log(999999))).endswith("perplexity 999999.00")
    table = charlm_command("compare", "a cat", "a dog", "-m", model.path, "--format", "table").text
    assert "\nA difference above 0 is bits for the first sentence, one below 0 is for the " in table


def test_a_page_of_the_targets_of_a_source(charlm_command: Command) -> None:
    path = GOLDEN / "seq2seq-char.safetensors"
    whole = charlm.load(path, kind=Transducer)
    page, _ = page_of(charlm_command, "score", "a", "-m", path, "--given", "bake")
    (tokens,), score = page.tokens, whole.given("bake").score("a", details=True)
    assert [about for *_, about in tokens] == about_tokens(score)
    assert page.facts["Task"].startswith("seq2seq: ")
    assert page.facts["Validation"] == whole.validation()
    assert page.facts["Scored"].endswith(", --given bake")


def test_a_page_of_several_models(charlm_command: Command, model: LanguageModel) -> None:
    other = charlm.load(GOLDEN / "lm-subword.safetensors", kind=LanguageModel)
    models = ["-m", model.path, "-m", other.path]
    page, _ = page_of(charlm_command, "score", "the cat", "a bird", *models)
    scores = [m.score(text, details=True) for text in ("the cat", "a bird") for m in (model, other)]
    assert [[about for *_, about in of] for of in page.tokens] == list(map(about_tokens, scores))
    names = [model.path.parent.name, other.path.stem]
    labels = [f"{number} · {name} · probability " for number in (1, 2) for name in names]
    assert all(map(str.startswith, page.figures, labels))
    for name, one in zip(names, (model, other), strict=True):
        total = one.score("the cat") + one.score("a bird")
        assert page.facts[f"Total ({name})"].startswith(f"{total.bits:,.1f} bits, ")
        assert page.facts[f"Validation ({name})"] == one.validation()
    assert page.facts["Scored"] == "each sentence by itself, with the line end"


def test_the_columns_of_a_table_stand_by_its_sentences(
    charlm_command: Command, model: LanguageModel
) -> None:
    Path("a.tsv").write_text("item\ttext\n7\tthe cat\n", encoding="utf-8")
    options = ["--file", "a.tsv", "--text-column", "text", "-m", model.path]
    page, _ = page_of(charlm_command, "score", *options)
    assert page.sentences == ["the cat¶"] and page.figures[0].startswith("1 · item 7 · prob")
    assert page.facts["Text"].startswith("a.tsv: 1 sentence, ")


def test_a_page_of_a_comparison(charlm_command: Command, model: LanguageModel) -> None:
    texts = ["the dog sat", "the cat slept on the mat", "the cat sat on the mat"]
    page, html = page_of(charlm_command, "compare", *texts, "-m", model.path)
    comparisons = charlm.compare(model, texts)
    order = [comparisons[0].first, *(c.second for c in comparisons)]
    assert page.sentences == [f"{score.text}¶" for score in order]
    for score, tokens in zip(order, page.tokens, strict=True):
        bits = [float(about[1]) for *_, about in tokens]
        assert sum(bits) == pytest.approx(score.bits, abs=1e-3)
    steps = [(c, step) for c in comparisons for step in c.steps]
    for (comparison, step), (cells, side, length) in zip(steps, page.bars, strict=True):
        (first, second), (a, b) = step.texts, step.bits
        difference = f"{b - a:+.2f}" if abs(b - a) >= 0.005 else ""
        assert cells[:5] == [first, f"{a:.2f}", second, f"{b:.2f}", difference]
        longest = max(abs(s.difference) for s in comparison.steps)
        signed = length if side == "first" else -length
        assert signed == pytest.approx((b - a) / longest, abs=1e-3)
    for comparison in comparisons:
        assert comparison.parting
        before, *parting = comparison.parting
        said = [f"{t.token!r} has probability {math.exp(t.logprob):.2g}" for t in parting]
        after = f"After {before!r}" if before else "At the start"
        assert f"{after}, {said[0]}, and {said[1]}." in re.sub("</?bdi>", "", unescape(html))
    same, html = page_of(charlm_command, "compare", "a cat", "a cat", "-m", model.path)
    assert "The sentences are the same." in html and not same.bars
    error = charlm_command("compare", "a", "b", "-m", model.path, "--html", "no/page.html").error
    assert error == "no: no such folder; make it first"


@pytest.mark.parametrize("command", ["score", "compare", "predict"])
def test_a_text_is_not_taken_for_the_name_of_a_page(charlm_command: Command, command: str) -> None:
    text = "The king shall die."
    error = charlm_command(command, "--html", text, "a cat", "a dog").error
    assert error == f"--html {text}: give a file whose name ends in .html, or .htm"
    assert not Path(text).exists()
    error = charlm_command(command, "--html", "no/A.HTM", "a cat", "a dog").error
    assert error == "no: no such folder; make it first"


def test_quoted_texts_do_not_turn_the_english_around_them(model: LanguageModel) -> None:
    (comparison,) = charlm.compare(model, ["the שלום", "the <b>"])
    first, second = (f"<bdi>{escape(repr(s.text))}</bdi>" for s in scores_of([comparison]))
    for shown in (draw_difference(comparison), comparison._repr_html_()):
        said = re.findall(r'<p dir="ltr">(.*)</p>', shown)
        assert said[0] == f"{first} is {comparison.ratio} times as probable as {second}."
        plain = [unescape(re.sub("</?bdi>", "", line)) for line in said]
        assert plain == comparison.summary and said[1].count("<bdi>") == 3
        assert [re.sub("<bdi>.*?</bdi>", "", line).isascii() for line in said] == [True] * 3


def test_a_page_of_predictions_says_which_model(charlm_command: Command) -> None:
    model = GOLDEN / "classify-word.safetensors"
    charlm_command("predict", "a < b", "-m", model, "--html", "page.html")
    page = Page(Path("page.html").read_text(encoding="utf-8"))
    assert page.facts["Model"].startswith("classify-word, trained by charlm ")
    assert page.facts["Text"] == "given on the command line: 1 text"
    assert page.facts["Validation"] == charlm.load(model).validation()
    assert page.sentences[0].startswith("a < b")


def test_a_notebook_shows_sentences_in_colour(model: LanguageModel) -> None:
    score = model.score("the <i> cat", details=True)
    page = Page(score._repr_html_())
    assert page.sentences == ["the <i> cat¶"] and "<script" not in score._repr_html_()
    assert [about[0].splitlines()[:3] for *_, about in page.tokens[0]] == [
        [
            f"{name_of(score, t)}  {t.bits:.2f} bits",
            f"probability {2**-t.bits:.3g}",
            f"rank {t.rank}",
        ]
        for t in score.token_scores
    ]
    many = model.score(["the cat", "a dog"] * 15)
    assert Page(many._repr_html_()).sentences == ["the cat¶", "a dog¶"] * 10
    assert many._repr_html_().endswith("<p>… and 10 more</p>")
    (comparison,) = charlm.compare(model, ["the cat sat", "the dog sat"])
    page = Page(comparison._repr_html_())
    assert len(page.sentences) == 2 and len(page.bars) == len(comparison.steps)


def test_hues_of_tags_do_not_read_as_right_or_wrong() -> None:
    tags = [Looked(tag, tag=f"B-{tag}") for tag in "abcdefga"]
    hues = [int(hue) for hue in re.findall(r"--h:(\d+)", predicted([(tags, "")], {}))]
    assert hues[0] == hues[7] and len({*hues}) == 7
    assert all(min(abs(h - bad) % 360 for bad in (0, 60, 120, 360)) >= 20 for h in hues)


def test_a_piece_has_the_strength_of_its_bits() -> None:
    pieces: list[Piece | str] = [
        Piece("x\ty", "x\ty", 2.5),
        " & ",
        Piece("<", "<", 99.0, 3, 1.0, [('"', 0.5)]),
    ]
    page = Page(sentence(pieces, "2 < 3", 10.0))
    assert page.sentences == ["x\ty & <"] and page.figures == ["2 < 3"]
    assert page.tokens == [
        [
            ("x\ty", 0.25, ["x y", "2.5000", "", ""]),
            ("<", 1.0, ["<", "99.0000", "3", "1.00", '"', "0.5"]),
        ]
    ]


PROBE = """<script>{
const style = element => getComputedStyle(element), body = document.body;
const tokens = document.querySelectorAll("b[data-t]"), about = document.getElementById("about");
const seen = [style(body).backgroundColor, style(body).color, style(tokens[0]).backgroundColor,
  style(about).display];
tokens[8].dispatchEvent(new Event("mouseover", {bubbles: true}));
seen.push(style(about).display, [...about.querySelectorAll("tr")].map(
  row => [...row.children].map(cell => cell.textContent)));
document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
seen.push(style(about).display);
const press = key => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const focused = () => [...tokens].indexOf(document.activeElement);
tokens[0].focus(); press("ArrowLeft"); press("ArrowRight"); press("ArrowRight");
seen.push(focused()); press("ArrowLeft"); seen.push(focused());
seen.push(document.querySelectorAll('[tabindex="0"]').length);
document.body.replaceChildren(JSON.stringify(seen));
}</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_page_in_a_browser(charlm_command: Command, model: LanguageModel, folder: Path) -> None:
    _, html = page_of(charlm_command, "score", SCRIPT, "-m", model.path)
    page = folder / "page.html"
    page.write_text(html + PROBE, encoding="utf-8")
    name, bits, rank, entropy, *likeliest = about_tokens(model.score(SCRIPT, details=True))[8]
    for options, is_dark in (([], False), (["--force-dark-mode"], True)):
        ran = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={folder / 'profile'}", *options, "--dump-dom", page.as_uri()],
            capture_output=True, check=True, timeout=120,
        )  # fmt: skip
        body = re.search(r"<body[^>]*>(.*)</body>", ran.stdout.decode(), re.DOTALL)
        assert body
        paper, ink, marked, *shown, rows, hidden, two, one, stops = json.loads(unescape(body[1]))
        brightness = [sum(map(int, re.findall(r"\d+", colour))) for colour in (paper, ink)]
        assert (brightness[0] < brightness[1]) is is_dark
        assert marked not in (paper, "rgba(0, 0, 0, 0)")
        assert (*shown, hidden) == ("none", "block", "none")
        p = f"{2 ** -float(bits):.3g}"
        assert rows[0] == [name, f"{float(bits):.2f} bits"] and float(rows[1][1]) == float(p)
        assert rows[2:4] == [["rank", rank], ["entropy", f"{entropy} bits"]]
        assert [cell for row in rows[5:] for cell in row] == likeliest
        assert (two, one, stops) == (2, 1, 1)

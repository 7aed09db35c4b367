"""The text of docs/uses.md, with the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.markdown import table
from benchmarks.project import ROOT

PAGE = ROOT / "docs/uses.md"
INTRODUCTION = """\
# Uses of scores

What the commands around `score` give on texts and tasks whose right answers are known. This page
is written by `python -m benchmarks.uses DATA --kenlm DIR`; `--only PART` measures a part again. Its
sentences come from the bundled grammar (`corpora/`), and its longer texts from Penn Treebank and
tiny-shakespeare.
"""

Results = Mapping[str, Any]


def write_page(results: Results) -> None:
    """Write docs/uses.md."""
    PAGE.write_text(page(results), encoding="utf-8")


def page(results: Results) -> str:
    """The whole page, with a section for each part that has results."""
    sections = [section(results[name]) for name, section in SECTIONS.items() if name in results]
    return "\n".join([INTRODUCTION, *sections])


def formats(r: Results) -> str:
    sums = [
        [
            f"`{name}`",
            f"{s['tokens']:,.0f}",
            f"{s['unknown']:,.0f}",
            *(f"{s[kind]:.6g}" if kind in s else "" for kind in ("all", "known")),
        ]
        for name, s in r["sums"].items()
    ]
    kenlm, srilm = r["kenlm"], r["srilm"]
    summary = [[k, f"{v:.6g}", f"{kenlm['charlm'][k]:.6g}"] for k, v in kenlm["program"].items()]
    totals = [[k, f"{v:.6g}", f"{srilm['charlm'][k]:.6g}"] for k, v in srilm["formulas"].items()]
    return f"""\
## Formats of KenLM and SRILM

A model of words learns {r["lines"]:,} lines of Penn Treebank for {r["minutes"]:g} minutes. Three
commands give the log₁₀ P of the test part, each line by itself (`score --file test.txt`,
`evaluate test.txt --reset-lines`). SRILM's format leaves out unknown words, JSON has only the sum
of all.

{table("command | tokens | unknown | log₁₀ P | without unknown words", sums)}
KenLM (`lmplz -o {r["order"]}`) learns the same lines, and its `query` gives the log₁₀ P of each
word of the test part. From these values `charlm` writes its summary. The printed log₁₀ P of a
sentence differs by at most {r["largest_difference"]:.2g}, since both print six digits.

{table("figure | KenLM's `query` | `--format kenlm`", summary)}
The same values by SRILM's formulas, ppl = 10^(−logprob / (words − OOVs + sentences)) and
ppl1 = 10^(−logprob / (words − OOVs)):

{table("figure | formula | `--format srilm`", totals)}"""


def pairs(r: Results) -> str:
    rows = []
    for sentences, levels in r["sentences"].items():
        for of_levels in zip(*levels.values(), strict=True):
            name, items = of_levels[0]["phenomenon"].replace("_", " "), of_levels[0]["items"]
            rows.append([f"{int(sentences):,}", name, f"{items:,}", *map(_accuracy, of_levels)])
    return f"""\
## Minimal pairs

`python -m corpora.pairs FILE` makes pairs of a sentence of the grammar and the same sentence with
one error. The good sentences are not in the training text. A model of each level is trained for
{r["minutes"]:g} minutes (`charlm train corpora/sentences.txt --lines --level LEVEL`), and another
one of the first sentences of this file only. `charlm pairs FILE` gives the share of the pairs whose
good sentence is the more probable one, and its 95 % interval:

{table(f"sentences | error | pairs | {' | '.join(levels)}", rows)}"""


def _accuracy(record: Results) -> str:
    return "{accuracy:.1%} ({low_95:.1%} – {high_95:.1%})".format(**record)


def nbest(r: Results) -> str:
    def rate(errors: int) -> str:
        return f"{errors / r['words']:.2%}"

    rows = [
        [level, f"{x['weight']:g}", f"{x['word_penalty']:g}", rate(r["before"]), rate(x["after"])]
        for level, x in r["levels"].items()
    ]
    rows = [[*row, rate(r["fewest"])] for row in rows]
    return f"""\
## n-best lists

`python -m corpora.nbest FOLDER` makes lists of ten hypotheses of sentences of the grammar, as a
recogniser would give them; `corpora/nbest.py` says how. One list in ten does not have the right
sentence. `charlm rescore dev.nbest --references dev.ref` chooses the weights on {r["lists"]} lists.
`charlm rescore test.nbest --weight W --word-penalty P --best` uses them on {r["lists"]} other lists
with {r["words"]:,} words. The models are those of the minimal pairs, of all sentences. The last
three columns are word error rates: of the first hypotheses by the scores of the lists, of the first
ones after rescoring, and of the best ones in the lists.

{table("level | weight | word penalty | before | after | best possible", rows)}"""


def words(r: Results) -> str:
    rows = [
        [level, f"{x['joined']:.1e}", f"{x['punctuation']:.1e}"] for level, x in r["levels"].items()
    ]
    return f"""\
## Words

`charlm score --words` gives the surprisal of each word. The words add up to the sentence, at every
level. This is the largest difference in bits over {r["sentences"]:,} sentences, half of them of the
grammar and half of Shakespeare, by the same models:

{table("level | `--words` | `--words --punctuation`", rows)}"""


def unknown(r: Results) -> str:
    rows = [
        [
            x["level"],
            f"`{x['unknown words']}`" if x["unknown"] else "",
            f"{x['unknown']:,}" if x["unknown"] else "",
            f"{x['tokens']:,}",
            f"{x['perplexity']:.2f}",
            f"{x['bits_per_char']:.4f}",
        ]
        for x in r["rows"]
    ]
    return f"""\
## Unknown words

Models of three levels learn Penn Treebank for {r["minutes"]:g} minutes each, and
`charlm evaluate` measures the test part. The model of words knows the {r["vocabulary"]:,} most
frequent tokens only, so that words are unknown to it in their own letters. (In this text the rarest
words are already written as `<unk>`; for all models that is a word like others.) `--unknown` says
how they count:

{table("level | `--unknown` | unknown | tokens | perplexity | bits/char", rows)}
`spell` gives every letter of the text a probability, as the models of subwords and characters do,
so these three compare. `include` and `exclude` do not predict the letters of unknown words.
"""


def filtered(r: Results) -> str:
    rows = [
        [
            f"`{options}`",
            f"{c['seconds']:.0f}",
            f"{r['lines'] / c['seconds']:,.0f}",
            f"{c['megabytes']:,.0f}",
            f"{c['children']:,.0f}" if c["children"] else "",
        ]
        for options, c in r["costs"].items()
    ]
    same = "The output is the same" if r["same"] else "The output is **not** the same"
    complete = "in their order" if r["complete"] else "**not** in their order"
    return f"""\
## Filter

`charlm filter lines.txt --max {r["bits"]:g}` reads {r["lines"]:,} lines, together
{r["characters"] / 1e6:.1f} MB, and one of them {r["longest"] / 1e6:g} MB. The model is of the
characters of tiny-shakespeare, trained for {r["minutes"]:g} minutes. On {r["cores"]} cores:

{table("options | seconds | lines/s | peak memory, MB | of its largest child, MB", rows)}
{same} with one process and with two. {r["kept"]:,} lines are kept and
{r["dropped"]:,} are dropped; together they are the lines of the text, {complete}.
"""


def copied(r: Results) -> str:
    row = [f"{r['seconds']:.1f}", f"{r['megabytes']:,.0f}", f"{r['longest']:,}"]
    return f"""\
## Copied text

`charlm copied text.txt --corpus corpus.txt` on two different parts of Penn Treebank of
{r["characters"] / 1e6:g} MB each:

{table("seconds | peak memory, MB | longest piece, characters", [row])}"""


SECTIONS: dict[str, Callable[[Results], str]] = {
    "formats": formats,
    "pairs": pairs,
    "nbest": nbest,
    "words": words,
    "unknown": unknown,
    "filter": filtered,
    "copied": copied,
}

"""The figures of docs/mixture.md."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.markdown import table
from benchmarks.project import ROOT

PAGE = ROOT / "docs/mixture.md"


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, by the names of their marks."""
    tables = (files, contexts, contexts_by_part, halves, copying, sampling, kenlm, large)
    found = dict(results)
    if "contexts" in results:
        found["contexts_by_part"] = results["contexts"]
    return {t.__name__: t(found[t.__name__]) for t in tables if t.__name__ in found}


def files(results: list[dict[str, Any]]) -> str:
    rows = [
        [
            r["text"],
            f"{r['ngrams']:,}",
            f"{r['bytes']['network'] / 1e6:.1f}",
            f"{r['bytes']['mixture'] / 1e6:.1f}",
            f"{(r['bytes']['mixture'] - r['bytes']['network']) / r['characters']:.2f}",
            f"{r['seconds']['network']:.3f}",
            f"{r['seconds']['mixture']:.3f}",
        ]
        for r in results
    ]
    return table(
        "training text | n-grams | file without, MB | with, MB | bytes per character | "
        "`score` without, s | with, s",
        rows,
    )


def contexts(results: dict[str, Any]) -> str:
    rows = []
    for text, r in results.items():
        before, after = r["n-grams"], r["contexts"]
        figures = (("alone", 4), ("mixture", 4), ("seconds", 1), ("bytes", 2))
        pairs = [f"{before[key]:.{d}f} → {after[key]:.{d}f}" for key, d in figures]
        rows.append([text, f"{after['network']:.4f}", *pairs])
    return table(
        "text | network alone | n-grams alone → with contexts | mixture | seconds to count | "
        "bytes per character",
        rows,
    )


def contexts_by_part(results: dict[str, Any]) -> str:
    texts = {text: r for text, r in results.items() if any("without" in name for name in r)}
    names = ["n-grams", "contexts"]
    names += [name for name in next(iter(texts.values())) if "without" in name]
    rows = [
        [
            {"contexts": "all contexts", "n-grams": "n-grams only"}.get(name, name),
            *(f"{r[name][kind]:.4f}" for r in texts.values() for kind in ("alone", "mixture")),
        ]
        for name in names
    ]
    heads = " | ".join(f"{text}, alone | in the mixture" for text in texts)
    return table(f"contexts | {heads}", rows)


def halves(results: dict[str, Any]) -> str:
    rows = [
        [name, f"{r['examples']:,}", *(f"{r[k]:.4f}" for k in ("default", "fitted", "crossed"))]
        for name, r in results.items()
    ]
    return table(
        "validation text | tokens | default weights | fitted | fitted on the other half",
        rows,
    )


def copying(results: dict[str, Any]) -> str:
    rows = [
        [kind, f"{statistics.median(lengths):g}", str(max(lengths))]
        for kind, lengths in results.items()
    ]
    return table("text | median | longest", rows)


def sampling(results: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{r['network']:,.0f}",
            f"{r['mixture']:,.0f}",
            f"{r['mixture'] / r['network']:.2f}",
        ]
        for name, r in results.items()
    ]
    return table("one sample | network, tokens/s | mixture, tokens/s | ratio", rows)


def kenlm(results: list[dict[str, Any]]) -> str:
    rows = [
        [
            r["text"],
            f"{r['kenlm_seconds']:.0f}",
            f"{r['seconds']:.0f}",
            *(f"{r[kind]:.4f}" for kind in ("kenlm", "network", "mixture", "carried")),
        ]
        for r in results
    ]
    return table(
        "text | KenLM, s | charlm, s | KenLM | network | mixture | mixture, state carried", rows
    )


def large(results: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{r['characters'] / 1e6:,.0f} MB",
            f"{r['seconds']:.0f}",
            f"{r['megabytes']:,.0f}",
            f"{r['network']:.4f}",
            f"{r['mixture']:.4f}",
        ]
        for r in results
    ]
    return table("text | seconds | peak memory, MB | network, nats/char | mixture, nats/char", rows)

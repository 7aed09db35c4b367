"""The figures of docs/mixture.md."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.markdown import table
from benchmarks.project import ROOT

PAGE = ROOT / "docs/mixture.md"


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, by the names of their marks."""
    tables = (files, halves, copying, sampling, kenlm, large)
    return {t.__name__: t(results[t.__name__]) for t in tables if t.__name__ in results}


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

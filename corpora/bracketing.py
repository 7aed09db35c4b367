"""Sentences of opinions.grammar as bracketed trees, with an opinion at each node."""

from __future__ import annotations

import re

from corpora.grammar import Tree

# What is said, by a part of the name of a rule; see the header of opinions.grammar.
OPINIONS = {
    "good": ("Good", "Fair", "Up", "Praise", "Plus", "Superb"),
    "bad": ("Bad", "Weak", "Down", "Blame", "Minus", "Dire"),
    "mixed": ("Mixed",),
}
BY_PART = {part: label for label, parts in OPINIONS.items() for part in parts}
NEUTRAL = "neutral"


def opinion(name: str) -> str:
    """The label of what a rule derives.

    >>> opinion("MealUp"), opinion("WeakThat"), opinion("Dish")
    ('good', 'bad', 'neutral')
    """
    labels = (BY_PART.get(part) for part in re.findall("[A-Z][a-z]*", name))
    return next(filter(None, labels), NEUTRAL)


def bracketed(tree: Tree) -> str:
    """A derivation in brackets. A rule that only refers to another one has no node of its own.

    >>> bracketed(Tree("Good", (Tree("MealGood", ("not at all ", Tree("MealDown", ("sour",)))),)))
    '(good not at all (bad sour))'
    """
    if len(tree.children) == 1 and isinstance(tree.children[0], Tree):
        return bracketed(tree.children[0])
    parts = [
        bracketed(child) if isinstance(child, Tree) else " ".join(re.findall(r"[\w'-]+|\S", child))
        for child in tree.children
    ]
    return f"({opinion(tree.name)} {' '.join(filter(None, parts))})"

"""How a server runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charlm.errors import OptionError
from charlm.options import Range, check_options, option

LIMITS, ACCESS = "Limits", "Access"


@dataclass(frozen=True)
class ServeOptions:
    """How a server runs. The fields describe themselves."""

    host: str = option(
        "127.0.0.1",
        "The address to listen at. The default is for this machine alone; 0.0.0.0 is for all.",
        metavar="ADDRESS",
    )
    port: int = option(8000, "The port; 0 for any that is free.", Range(0, 65535), metavar="N")
    api_key: str | None = option(
        None,
        "The key that every request must have, as `Authorization: Bearer KEY`.",
        panel=ACCESS,
        metavar="KEY",
        auto="$CHARLM_API_KEY, else none",
    )
    cors_origin: Sequence[str] | None = option(
        None,
        "A site whose pages may use the server, such as https://example.org; * for all.",
        panel=ACCESS,
        metavar="URL",
        auto="pages of this machine",
    )
    max_tokens: int = option(
        200_000,
        "The most tokens of a request: its prompts and what is written. Of texts that are scored, "
        "the most characters.",
        Range(1),
        panel=LIMITS,
        metavar="N",
    )
    max_bytes: int = option(
        16_000_000, "The most bytes of a request.", Range(1), panel=LIMITS, metavar="N"
    )
    queue: int = option(
        512, "The most requests at a time; further ones are refused.", Range(1), panel=LIMITS,
        metavar="N",
    )  # fmt: skip
    timeout: float = option(
        600,
        "The most seconds of a request, and of the last requests when the server is stopped.",
        Range(0, exclude_low=True),
        panel=LIMITS,
        metavar="S",
    )
    batch: int = option(
        128,
        "Texts that are written side by side. Further requests wait while there are this many.",
        Range(1),
        panel=LIMITS,
        metavar="N",
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise OptionError("`api_key`: use letters, digits and marks of ASCII only")

"""What training writes to stderr: notes, warnings and progress."""

from __future__ import annotations

from collections.abc import Callable

from charlm.progress import ProgressLine, minutes_and_seconds, sparkline
from charlm.training.loop import Progress


class Reporter:
    """Writes notes and progress to stderr.

    quiet:    only warnings
    rewrite:  applied to every message before it is written
    """

    def __init__(self, quiet: bool = False, rewrite: Callable[[str], str] = str) -> None:
        self.quiet, self.rewrite = quiet, rewrite
        self.line = ProgressLine(keep=True)
        self.losses: list[float] = []

    def note(self, text: str) -> None:
        """Write a note."""
        if not self.quiet:
            self.line.print(self.rewrite(text))

    def warn(self, text: str) -> None:
        """Write a warning, even when quiet."""
        self.line.print(self.rewrite(f"warning: {text}"))

    def note_what_is_measured(
        self, during: int, final: int, precision: str, companions: bool, predicted: str
    ) -> None:
        """Say how the validation loss during training differs from the final one, if it does.

        during, final:  numbers of tokens or labels that are measured
        precision:      during training
        companions:     the final model is more than its network
        predicted:      what the model predicts one of at a time, such as "token"
        """
        if during == final and precision == "fp32" and not companions:
            return
        alone, whole = (
            (", by the network alone", ", by the whole model") if companions else ("", "")
        )
        self.note(
            f"note: during training, valid is the loss of {during:,} {predicted}s in "
            f"{precision}{alone}; the final loss is of {final:,} in fp32{whole}"
        )

    def progress(self, p: Progress, predicted: str) -> None:
        """Show progress: on a terminal one line that changes, elsewhere a line per evaluation.

        predicted:  what the model predicts one of at a time, such as "token"
        """
        if p.valid_loss is not None:
            self.losses.append(p.valid_loss)
        if self.quiet:
            return
        speed, loss = f"{p.tokens_per_second:,.0f} {predicted}s/s", f"train {p.train_loss:.3f}"
        valid = f"valid {self.losses[-1]:.3f}" if self.losses else ""
        curve = sparkline(self.losses)
        if self.line.is_live:
            text = " ".join(part for part in (speed, loss, valid, curve) if part)
            self.line.update(p.fraction, p.seconds_left, text)
        elif p.valid_loss is not None:
            left = f"{p.fraction:4.0%} · {minutes_and_seconds(p.seconds_left)} left"
            self.line.print(f"{left} · {speed} · {loss} · {valid} nats/{predicted} {curve}")

    def close(self) -> None:
        """Leave the last progress on the screen."""
        self.line.close()


class Silent(Reporter):
    """The reporter of all processes of a training but the first: it writes nothing."""

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, p: Progress, predicted: str) -> None: ...

"""Colours of images, for a light page and for a dark one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """Colours by what they are for."""

    ground: str
    ink: str
    """Operations, and what is written in boxes."""
    faint: str
    """Constants and edges."""
    parameter: str
    input: str
    gradient: str

    def of(self, kind: str) -> str:
        """The colour of a box, by the kind of its node."""
        return {"parameter": self.parameter, "input": self.input, "constant": self.faint}.get(kind, self.ink)


PAPER = Palette(
    ground="#ffffff", ink="#23262b", faint="#666a71", parameter="#8a6500", input="#14568f", gradient="#b0360a"
)
BOARD = Palette(
    ground="#22332d", ink="#f4f1e6", faint="#9fb3a8", parameter="#ffd166", input="#8ecae6", gradient="#ff9f6b"
)

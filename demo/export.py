"""``python -m demo.export FILE``: the rows that the demo trains on, for programs in other languages."""

import sys
from pathlib import Path

import numpy as np

from demo import problem


def main(file: Path) -> None:
    """Write a row of numbers for each example, as CSV: its features, the last of them 1 for the bias, and its label."""
    train, _ = problem.load()
    rows = np.column_stack([train.features, train.labels])
    # The shortest decimals that are read as the same bits.
    file.write_text("".join(",".join(map(repr, row)) + "\n" for row in rows.tolist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""How all benchmarks speak: one command line, one kind of table, one word for each verdict."""

import argparse
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from threadpoolctl import threadpool_info

MISSING = "not installed"


def argument_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--smoke", action="store_true", help="hardly any data: only to see it run")
    return parser


def print_setting() -> None:
    """Print what the numbers depend on."""
    versions = ", ".join(f"{name} {_version(name)}" for name in ("scikit-learn", "numpy", "torch"))
    threads = max(
        (p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"), default=1
    )
    python = platform.python_version()
    print(f"Python {python}, {versions}; {os.cpu_count()} CPUs, {threads} BLAS threads.")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return MISSING


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table, readable as it stands; all columns but the first to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "| " + " | ".join(padded) + " |"

    print(f"\n{title}\n")
    for cells in (head, rule, *rows):
        print(line(cells))


def verdict(reached: bool, smoke: bool) -> str:
    if smoke:
        return "(smoke)"
    return "reached" if reached else "MISSED"


def as_time(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"

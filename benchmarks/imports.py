"""Time of the import in a fresh process, Python's own start left out."""

import subprocess
import sys

from benchmarks._contenders import OURS, SKLEARN
from benchmarks._report import argument_parser, as_time, print_setting, print_table, verdict
from benchmarks._timing import best_seconds

GOAL = 1.10
STATEMENTS = {
    "python": "pass",
    OURS: "import skbackprop",
    SKLEARN: "from sklearn.neural_network import MLPClassifier",
}


def fresh_process(statement: str):
    def run(n_times: int) -> None:
        for _ in range(n_times):
            subprocess.run([sys.executable, "-c", statement], check=True)

    return run


def report(smoke: bool) -> None:
    runs = {name: fresh_process(statement) for name, statement in STATEMENTS.items()}
    best_seconds(runs, 1, 1)  # let each compile its modules
    seconds = best_seconds(runs, 1, 1 if smoke else 10)
    ours, sklearn = (seconds[name] - seconds["python"] for name in (OURS, SKLEARN))
    ratio = ours / sklearn
    print_table(
        "Time of the import:",
        ["statement", "time", "ratio", "goal", "verdict"],
        [
            [f"`{STATEMENTS[SKLEARN]}`", as_time(sklearn), "1.00", "", ""],
            [
                f"`{STATEMENTS[OURS]}`",
                as_time(ours),
                f"{ratio:.2f}",
                f"{GOAL:.2f}",
                verdict(ratio <= GOAL, smoke),
            ],
        ],
    )


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)

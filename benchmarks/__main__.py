"""Run every benchmark, one after the other; `--smoke` shows in seconds that each still runs."""

from benchmarks import imports, memory, speed
from benchmarks._report import parse_arguments, print_setting

if __name__ == "__main__":
    arguments = parse_arguments(__doc__)
    print_setting()
    for benchmark in (speed, memory, imports):
        benchmark.report(arguments.smoke)

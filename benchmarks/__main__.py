"""Run every benchmark, one after the other; `--smoke` shows in seconds that each still runs."""

from benchmarks import (
    calibration,
    cores,
    dask_rounds,
    ensembles,
    export,
    fine_tuning,
    goal,
    growth,
    halving,
    images,
    imports,
    intervals,
    large,
    large_tables,
    layers,
    memory,
    monotone,
    regularization,
    search,
    series,
    several_targets,
    speed,
    tabular,
)
from benchmarks._report import argument_parser, print_setting

if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    quality = (ensembles, regularization, fine_tuning, intervals, calibration, monotone)
    for benchmark in (
        speed,
        growth,
        layers,
        goal,
        images,
        series,
        search,
        halving,
        *quality,
        tabular,
        several_targets,
        memory,
        large,
        large_tables,
        cores,
        export,
        dask_rounds,
        imports,
    ):
        benchmark.report(arguments.smoke)

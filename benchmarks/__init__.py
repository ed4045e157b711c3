"""Measurements of skbackprop, side by side with its alternatives, as Markdown tables.

`python -m benchmarks` runs all of them: `speed`, `goal`, `search`, `ensembles`, `regularization`,
`fine_tuning`, `intervals`, `calibration`, `tabular`, `memory`, `large` and `imports`, each of which
also runs by itself.
Goals are ratios within one run, or shares of rows held out, so that they hold on any machine.
"""

"""The rows of `tools/bench_runtime.py`, and the programs they are measured against."""

"""The demo, the load generator and the benchmarks: `python -m bench`."""

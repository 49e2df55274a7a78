"""The laboratory: what the package is compared with, measured on data, and reported. Not installed.

Run from a checkout: `python -m benchmarks list`, `run SUITE`, `report`.
"""

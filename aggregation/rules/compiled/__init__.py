"""Loops over rounds that numba compiles: what the rules do where no whole-array form exists.

Imports the array types of ``base`` only; a rule imports its loop when it runs, because numba takes a second to load.
"""

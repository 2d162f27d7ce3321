"""Measurements of a finished network: quality, sizes, latency, bytes of a file.

`handover.py` writes what a trial ended with, in the process that ran its method; `record.py` collects all
columns of it, in one that did not, and `recount.py` counts them again from what is stored. `quality.py` is
the one place that puts test images into a network. The package `codec` writes and reads the files of Deep
Compression.

May import: data, errors, graph, pruning, seeds, store, training.
Open first: record.py
"""

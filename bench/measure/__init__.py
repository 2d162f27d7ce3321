"""Measurements of a finished network: quality, sizes, latency, bytes of a file.

`quality.py` is the one place that puts test images into a network; `record.py` collects all columns of a
trial. The package `codec` writes and reads Deep Compression's files.

May import: data, errors, graph, pruning, seeds, store, training.
Open first: record.py
"""

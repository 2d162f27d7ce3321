"""Data sets: their parts on the device, batches, augmentation, streaming, and the tasks they set.

A source of images is a `Dataset`; `splits.py` cuts it into parts, `batches.py` cuts parts into batches,
`tasks.py` has the loss and the score of each task and `metrics.py` their columns.

May import: apportion, errors, seeds.
Open first: dataset.py
"""

"""Data sets: their parts on the device, batches, augmentation, streaming, and the tasks they set.

A source of images is a `Dataset`; `splits.py` cuts it into parts, `batches.py` cuts parts into batches,
`decoding.py` reads image files, and in `tasks/` each task has a file with all that is particular to it.

May import: apportion, errors, regular_file, seeds.
Open first: dataset.py
"""

"""Running a plan: who computes what where, and what is done with finished trials afterwards.

`pending.py` finds what is left, `local_workers.py` hands chains to worker processes, `execute.py` runs
one trial from its specification to its files, which `measurer.py` turns into its record in another process.
`reload.py` builds a finished network again, for `export_network.py`, `latency_pass.py` and `verify.py`, which
holds its record against its files.

May import: choices, data, errors, graph, measure, plan, store, system_errors, training.
Open first: execute.py
"""

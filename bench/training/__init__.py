"""The trial: the contract with methods, and the one training loop behind it.

`contract.py` is all that a method sees; `trial.py` is the harness's side of it, where every piece of work
becomes a phase under a key. `loop.py` trains, `batchnorm.py` estimates statistics, `method.py` has the
base classes of methods.

May import: choices, data, errors, graph, pruning, regular_file, seeds, store.
Open first: contract.py
"""

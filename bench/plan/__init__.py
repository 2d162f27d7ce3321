"""From a request to the graph of its trials: names, options, suites, controls.

`request.py` reads flags and suite files, `registry.py` finds plug-ins by name, `expand.py` makes the
trials and what waits for what, `build_network.py` builds a network for a data set. `user_modules.py`
imports a user's file, `recorded_code.py` the one that a record names.

May import: choices, data, errors, graph, regular_file, seeds, store, training.
Open first: expand.py
"""

"""The command line: one file per command, and the flags they share.

`main.py` declares the commands and imports nothing heavy; what a command does stands in the file of its
name. `streams.py` prepares standard output and error.

May import: choices, data, errors, graph, measure, plan, regular_file, report, store, sweep,
system_errors, training.
Open first: main.py
"""

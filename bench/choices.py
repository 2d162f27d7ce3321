"""The values that flags, suites and specifications may have, spelled once."""

from typing import Literal

# What becomes of units of layers that are added into one stream (`Layout.coupling`).
Coupling = Literal["tied", "branch", "intersection", "internal"]
# Length of a training, and size of the data.
Budget = Literal["smoke", "quick", "full"]
# Which controls are run beside the methods.
Controls = Literal["none", "default", "cost", "all"]
# How long each network is timed.
Effort = Literal["off", "quick", "full"]
# CPU threads that a command may be given: torch ends the process at some number above.
MOST_THREADS = 1024
# How progress is shown.
ProgressStyle = Literal["auto", "live", "plain", "off"]

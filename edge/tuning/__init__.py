"""A search for the settings with which llama.cpp runs an export fastest on this machine: `python -m edge.tuning`."""

"""On the device: an aligned policy in 4 bits, its vision part for NPUs, llama.cpp compiled and tuned for the machine.

Reads the policy of a run and writes RUN/edge/. Packages of requirements/edge.txt are imported where they are used.
"""

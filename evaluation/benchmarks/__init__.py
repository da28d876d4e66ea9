"""Public hallucination benchmarks, read from the files they are published as: CHAIR, AMBER, POPE, MMHal-Bench.

Each benchmark is one file: what it reads, how an answer is counted, which figures the counts give. No paid model is
used: CHAIR, AMBER and POPE are counted by rules, answers to MMHal-Bench are rated by a local model (rating.py).
"""

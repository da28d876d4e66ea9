"""Public hallucination benchmarks, read from the files they are published as: CHAIR, AMBER, POPE, MMHal-Bench.

`python -m evaluation.benchmarks` starts in __main__.py. Each benchmark is one file: what it reads, how an answer is
counted, what figures the counts make. No paid judge: CHAIR, AMBER and POPE are counted by rules, MMHal-Bench is rated
by a local model (judging.py).
"""

"""Direct preference optimisation: the pairs of a run in, the aligned policy out. Its command is `python -m dpo`."""

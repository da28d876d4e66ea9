"""Direct preference optimization: pairs of a run -> aligned policy. The command is `python -m dpo`."""

"""Responses -> claims -> verdicts -> scores -> pairs, with an open-source labeler (RLAIF-V, arXiv 2405.17220).

`python -m feedback` writes the tables `claims`, `scores` and `pairs`. The stage is in stage.py; its steps are divide.py
(response -> claims), verify.py (claim -> verdict), score.py (verdicts -> score), pair.py (scored responses -> pairs).
"""

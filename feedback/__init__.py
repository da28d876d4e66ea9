"""Responses -> claims -> verdicts -> scores -> pairs: divide and conquer by an open labeler (RLAIF-V, 2405.17220).

`python -m feedback` makes the tables `claims`, `scores` and `pairs`; it starts in feedback/stage.py and reads in
this order: claims (divide), verdicts (conquer), scores (combine), pairs. `python -m evaluation` measures
hallucination, `python -m evaluation.benchmarks` runs public benchmarks of it.
"""

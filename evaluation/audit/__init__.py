"""People's verdicts on a sample of a run's claims and pairs, weighted back to the whole run."""

"""Compares every export of a run with the policy that it was made from: `make edge-check`."""

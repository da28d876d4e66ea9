"""The pages of `make audit`: people judge a sample of a run's claims and pairs. See docs/audit.md."""

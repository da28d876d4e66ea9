"""Which claims a response makes, and which questions ask exactly a claim: decided by words, without a model."""

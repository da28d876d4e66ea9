"""Training of the vision encoder on pictures and short texts, before pre-training 1; see training.encoder.stage."""

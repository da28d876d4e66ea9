"""Training of MiniCPM-V: pre-training, supervised fine-tuning, packing, assembly of the start model."""

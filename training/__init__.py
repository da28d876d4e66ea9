"""MiniCPM-V's own training: pre-training, supervised fine-tuning, packing, assembly of a first model."""

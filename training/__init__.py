"""MiniCPM-V's own training: pre-training, supervised fine-tuning, packing."""

"""The work of a stage in chunks of prompts, through one engine or several."""

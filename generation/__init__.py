"""From images and instructions to responses: `prompts` reads and checks the sources, `sampling` asks the policy.

Beside it, from raw captions to training captions: `rewrite` asks a language model, `quality` decides what is kept.
"""

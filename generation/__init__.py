"""Images and instructions -> responses of the policy.

`sources` reads pictures, `images` loads and checks them, `prompts` turns them into rows, `sampling` gets responses to
them. Separate from these, `rewrite` asks a language model for better captions, and `quality` filters them.
"""

"""Images and instructions -> responses of the policy.

`sources` reads pictures, `images` loads and checks them, `prompts` turns them into rows, `sampling` samples responses.
Independent of these, `rewrite` rewrites captions with a language model, and `quality` filters the result.
"""

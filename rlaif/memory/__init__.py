"""Memory of a GPU, reckoned before anything is loaded: weights, optimizer, activations, KV cache against the card.

Shapes come from the model's own config.json (`shapes`), activations from a forward pass of two layers without data
(`activations`); what training needs is added up in `training`, what vLLM needs in `serving`, and `card` knows the card.
tests/rlaif/memory compares the sum with what torch allocates.
"""

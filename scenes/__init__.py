"""The embedded world: rendered scenes whose truth is known, their language, and the recipe of the models in assets/."""

"""The embedded default: rendered scenes whose truth is known, their language, and the recipe that trains the two
small models shipped in assets/.
"""

"""What the tests of the house rules read: the source tree and the Makefile."""

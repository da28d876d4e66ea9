"""The policy as GGUF for llama.cpp: the language model in several quantisations, and the vision part as mmproj."""

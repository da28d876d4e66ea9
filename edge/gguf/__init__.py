"""The policy as GGUF for llama.cpp: the language model in several quantizations, and the vision part as mmproj."""

"""Models that answer: the engine protocol, vLLM, endpoints, and work shared by several engines."""

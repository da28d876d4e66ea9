"""What vLLM needs to serve MiniCPM-V without remote code."""

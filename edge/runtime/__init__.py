"""llama.cpp, compiled for a machine: targets, probes of what the machine executes, the build, and the library."""

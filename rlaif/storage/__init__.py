"""Run folders: table schemas, reading and writing tables, and the settings that each output is bound to."""

"""What lies in a run folder: table schemas, how tables are written and read, and which settings made them."""

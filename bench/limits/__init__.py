"""The limit of the machine: useful arithmetic, steps of a trainer, and what the time of a piece of work goes to."""

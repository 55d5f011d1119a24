"""The process that work is done in: its wall time by parts, the signals that ask it to stop, its settings of torch."""

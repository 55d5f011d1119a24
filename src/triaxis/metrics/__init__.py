"""What a cut costs: counted or measured, and the table of every cut's cost."""

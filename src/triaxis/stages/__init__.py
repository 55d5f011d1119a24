"""The story: the stages of a run, one module each. Read pipeline.py first."""

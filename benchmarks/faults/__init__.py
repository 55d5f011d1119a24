"""Runs that are harmed on purpose: killed at any operation on a file, or told that the disk is full. Linux with a C compiler."""

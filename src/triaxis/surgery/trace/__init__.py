"""Trace: run a network once and read what goes with what; nothing is changed here."""

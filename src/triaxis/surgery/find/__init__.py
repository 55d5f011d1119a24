"""Find: what a trace lets go, blocks and channel groups, and which of their channels a plan takes."""

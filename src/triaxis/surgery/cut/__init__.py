"""Cut: what changes a copy of the network, its weights, its sides, its numbers and what it says of itself."""

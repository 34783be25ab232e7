"""Models: where their files lie, how they are built, and how they are driven."""

"""The flight recorder: what the engine was given and what it made of it, in a ring on disk."""

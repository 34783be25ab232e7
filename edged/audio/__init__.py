"""Audio: where it comes from, how it becomes float32 mono at 16 kHz, and the ring it lies in."""

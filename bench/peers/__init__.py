"""edged beside the others: one machine, the same audio, by turns."""

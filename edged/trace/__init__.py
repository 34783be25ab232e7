"""`edged trace`: what every process did with a recording, and when."""

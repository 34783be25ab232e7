"""`edged bench`: what edged costs on this machine, and how two results differ."""

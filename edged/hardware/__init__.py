"""What this machine is made of, found by reading files: no driver, no runtime, no other program."""

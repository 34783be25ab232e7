"""The engine: workers that recognise, and the supervisor that never lets audio be lost."""

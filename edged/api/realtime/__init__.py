"""OpenAI's Realtime protocol, as far as it transcribes."""

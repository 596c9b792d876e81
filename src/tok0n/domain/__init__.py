"""The pure rules. No I/O, no clock, no chance, no asyncio: `now` and ids come in as arguments."""

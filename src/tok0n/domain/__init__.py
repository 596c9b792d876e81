"""Pure rules on frozen values. No I/O, clock, randomness or asyncio: the time and random bytes are arguments."""

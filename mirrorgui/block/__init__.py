"""Images: blocking, thread-safe drivers behind one contract. No asyncio and no Qt here."""

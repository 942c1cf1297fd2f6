"""The mirror job. asyncio, no Qt; knows images only by the contract of ``block.node``."""

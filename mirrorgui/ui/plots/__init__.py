"""The charts, and the pure numbers behind them."""

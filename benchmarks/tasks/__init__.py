"""What methods are run on: rows that name cached features by number, and the data sets behind them."""

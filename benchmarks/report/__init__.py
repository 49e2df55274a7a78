"""From cells to intervals, tables and plots; nothing here runs or trains."""

"""Room 7d, creatives: pairs from logs, what can be measured of them, the selector and its use online."""

"""Room 9, what people look at: contact sheets, heatmaps, the self-contained HTML report."""

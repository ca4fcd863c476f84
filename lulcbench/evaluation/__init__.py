"""From predictions and labels to scores: counts, metrics, intervals, comparisons, points. Free of torch."""

//! Histograms, paired ratios and intervals.

"""Figures: what is shown on which axes in which style, and the two painters, matplotlib and plotly."""

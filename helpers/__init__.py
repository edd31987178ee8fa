"""Helpers of the course Harmony in Practice: data, integration, scores and pictures."""

"""REVTAF: Learnable Retrieval Enhanced Visual-Text Alignment and Fusion (ICCV 2025).

A clean-room reference implementation, written from the paper. Not a medical device.
"""

__version__ = "0.1.0"

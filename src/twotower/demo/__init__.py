"""Streamlit demo of a bundle's recommendations and their reasons. See ``docs/demo.md``."""

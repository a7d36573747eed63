"""The demo: pages that show what a bundle recommends, and why. See ``docs/demo.md``."""

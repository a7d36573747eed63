"""How the report's page looks."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light; --ink: #1f2933; --soft: #52606d; --line: #e4e7eb; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: var(--ink);
  font: 16px/1.6 Inter, system-ui, "Segoe UI", sans-serif; }
header { background: linear-gradient(120deg, #102a43, #0b4f79); color: #fff; }
.inner, main { max-width: 1200px; margin: 0 auto; padding: 0 24px; }
.inner { padding-top: 48px; padding-bottom: 72px; }
.kicker { margin: 0; letter-spacing: .08em; text-transform: uppercase; font-size: 13px;
  color: #9fd3f5; }
h1 { margin: 6px 0 12px; font-size: 40px; line-height: 1.15; letter-spacing: -.02em; }
.lead { margin: 0; max-width: 72ch; font-size: 18px; color: #e3edf5; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 28px 0 0; }
.facts div { padding: 10px 18px; border-radius: 10px; background: rgba(255, 255, 255, .1); }
.facts dt { font-size: 13px; color: #b8d8ec; }
.facts dd { margin: 0; font-size: 20px; font-weight: 650; }
main { margin-top: -40px; padding-bottom: 64px; }
section { margin: 0 0 24px; padding: 26px 30px; border-radius: 14px; background: #fff;
  box-shadow: 0 1px 3px rgba(16, 42, 67, .1); }
h2 { margin: 0 0 6px; font-size: 23px; letter-spacing: -.01em; }
.answer { margin: 0 0 10px; max-width: 84ch; font-size: 17px; }
.reading { margin: 6px 0 0; max-width: 92ch; font-size: 14px; color: var(--soft); }
figure { margin: 0; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 14px;
  font-variant-numeric: tabular-nums; line-height: 1.4; }
th, td { padding: 8px 8px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-size: 13px; color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
td.words { text-align: left; white-space: normal; min-width: 170px; color: var(--soft); }
td.best { font-weight: 700; }
td.absent { text-align: left; color: var(--soft); font-style: italic; }
.theirs { color: #7b5400; }
.chip { display: inline-block; padding: 1px 10px; border-radius: 999px; font-size: 13px;
  font-weight: 600; }
.helps { background: #d6ebf8; color: #00507d; }
.hurts { background: #fde3d3; color: #8f3d00; }
.none { background: #edf0f3; color: #4b5563; }
code { font-size: 13px; overflow-wrap: anywhere; }
li { margin-bottom: 8px; color: var(--soft); }
a { color: var(--accent); }
"""

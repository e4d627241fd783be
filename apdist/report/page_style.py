"""The style sheet of the report: one page for a phone and a wide screen, light and dark."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --edge: #dcdfe5; --text: #16191f; --muted: #565d6b;
  --after: #1d5fd1; --before: #8a6d1f; --second: #0b7a6f; --third: #a63d8f;
  --hit: #157a3c; --miss: #c4281c; --soft: #eef1f6; --grid: #e4e7ec;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1116; --card: #171b22; --edge: #2b313b; --text: #e9ecf1; --muted: #a3abb9;
    --after: #7fb0ff; --before: #e0b84f; --second: #4fd1c0; --third: #ee9ddb;
    --hit: #4ccf7d; --miss: #ff8578; --soft: #20262f; --grid: #262c36;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
    "Noto Sans", "DejaVu Sans", sans-serif;
}
.page { max-width: 1360px; margin: 0 auto; padding: 28px clamp(14px, 3vw, 40px) 56px; }
h1, h2, h3, h4, p, figure, dl, dd, ol, ul { margin: 0; }
h1 { font-size: clamp(1.6rem, 1.2rem + 1.8vw, 2.5rem); line-height: 1.15; letter-spacing: -.02em; }
h2 { font-size: 1.35rem; margin: 44px 0 4px; letter-spacing: -.01em; }
h3 { font-size: 1rem; }
.eyebrow {
  color: var(--muted); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase;
  margin-bottom: 6px;
}
.lead { font-size: 1.12rem; color: var(--muted); max-width: 70ch; margin-top: 8px; }
.intro { color: var(--muted); max-width: 76ch; margin-bottom: 14px; }
.card { background: var(--card); border: 1px solid var(--edge); border-radius: 12px; }
h1, h2, h3, h4, p, td, th, dd, code { overflow-wrap: anywhere; }
a:focus-visible, summary:focus-visible { outline: 3px solid var(--after); outline-offset: 2px; }

.figures {
  display: grid; gap: 12px; margin-top: 24px; grid-template-columns: repeat(2, minmax(0, 1fr));
}
.figure { padding: 14px 16px 16px; }
.figure .name { color: var(--muted); font-size: .9rem; }
.figure .value { font-size: 2rem; font-weight: 650; line-height: 1.2; }
.figure .change { font-size: .88rem; color: var(--muted); font-variant-numeric: tabular-nums; }
.bar {
  position: relative; height: 8px; border-radius: 4px; background: var(--soft); margin: 8px 0;
}
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; background: var(--after); }
.bar b { position: absolute; top: -3px; bottom: -3px; width: 3px; background: var(--before); }
.first {
  grid-column: 1 / -1; border-color: var(--after); box-shadow: inset 0 0 0 1px var(--after);
}
.first .value { font-size: 2.6rem; color: var(--after); line-height: 1.1; }
@media (min-width: 700px) { .figures { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
@media (min-width: 1100px) {
  .figures { grid-template-columns: 2fr repeat(4, minmax(0, 1fr)); }
  .first { grid-column: 1; }
}

.facts {
  display: grid; gap: 8px 28px; margin-top: 22px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 210px), 1fr));
}
.facts div { border-top: 1px solid var(--edge); padding-top: 8px; }
.facts dt { color: var(--muted); font-size: .85rem; }
.facts dd { font-weight: 550; }

.charts {
  display: grid; gap: 14px; margin-top: 14px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr));
}
.chart { padding: 14px 14px 8px; min-width: 0; display: flex; flex-direction: column; }
.chart figcaption { flex: 1; }
.chart figcaption p { color: var(--muted); font-size: .88rem; }
.chart svg { display: block; width: 100%; height: auto; max-height: 380px; }
.chart text { font-size: 12px; fill: var(--muted); font-variant-numeric: tabular-nums; }
.grid { stroke: var(--grid); }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
.line.after { stroke: var(--after); } .dot.after { fill: var(--after); }
.line.before { stroke: var(--before); stroke-dasharray: 6 4; } .dot.before { fill: var(--before); }
.line.second { stroke: var(--second); stroke-dasharray: 9 3; } .dot.second { fill: var(--second); }
.line.third { stroke: var(--third); stroke-dasharray: 2 4; } .dot.third { fill: var(--third); }
.line.faint { stroke: var(--after); stroke-width: 1; opacity: .35; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 16px; }
.legend li { display: flex; align-items: center; gap: 6px; font-size: .85rem; }
.chart svg.key { width: 24px; height: 8px; flex: none; }

.gallery h3 { margin: 22px 0 10px; font-size: 1.05rem; }
.query { padding: 14px; margin-bottom: 12px; display: grid; gap: 14px; }
.asked { display: flex; gap: 14px; align-items: flex-start; min-width: 0; }
.asked img { width: 112px; flex: none; }
.asked .about { min-width: 0; flex: 1; }
.query img {
  display: block; aspect-ratio: 1; object-fit: contain; border-radius: 8px; background: var(--soft);
}
.tag { color: var(--muted); font-size: .75rem; letter-spacing: .08em; text-transform: uppercase; }
.query h4 { font-size: 1.1rem; line-height: 1.3; }
.ap { font-variant-numeric: tabular-nums; }
.hits { color: var(--muted); font-size: .85rem; }
meter { width: 100%; max-width: 160px; height: 12px; display: block; }
.results {
  list-style: none; padding: 0; display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(70px, 1fr));
}
.results li { min-width: 0; }
.frame { position: relative; border-radius: 10px; border: 3px solid; padding: 2px; }
.frame img { width: 100%; }
.hit .frame { border-color: var(--hit); }
.miss .frame { border-color: var(--miss); border-style: dashed; }
.mark {
  position: absolute; top: -3px; left: -3px; width: 24px; height: 24px; border-radius: 9px 0 9px 0;
  display: grid; place-items: center; font-size: 15px; font-weight: 700; color: var(--card);
}
.hit .mark { background: var(--hit); } .miss .mark { background: var(--miss); }
.score { font-size: .88rem; font-variant-numeric: tabular-nums; margin-top: 4px; }
.place { color: var(--muted); } .place::after { content: "."; }
.results .label {
  font-size: .8rem; line-height: 1.35; color: var(--muted);
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden;
}
@media (min-width: 800px) {
  .query { grid-template-columns: 270px minmax(0, 1fr); align-items: start; padding: 16px; }
}
@media (min-width: 1100px) {
  .query { grid-template-columns: 320px minmax(0, 1fr); }
  .results { grid-template-columns: repeat(var(--columns), minmax(0, 132px)); }
}

details { margin-top: 14px; }
summary { cursor: pointer; padding: 12px 16px; font-weight: 550; }
details > div { padding: 0 16px 14px; overflow-x: auto; }
table {
  border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums;
}
caption { text-align: left; color: var(--muted); padding-bottom: 6px; }
th, td {
  text-align: left; padding: 6px 12px 6px 0; border-top: 1px solid var(--edge); vertical-align: top;
}
thead th { border-top: 0; color: var(--muted); font-weight: 550; }
tbody th { font-weight: 450; }
.number { text-align: right; white-space: nowrap; overflow-wrap: normal; }
code, .settings td {
  font: .88rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
.next { display: grid; gap: 10px; margin-top: 14px; padding: 0; list-style: none; }
.next li { padding: 12px 16px; }
.next code {
  display: block; margin-top: 6px; padding: 8px 10px; border-radius: 8px; background: var(--soft);
  white-space: pre-wrap; user-select: all;
}
@media print { body { background: #fff; } .query, .chart { break-inside: avoid; } }
"""

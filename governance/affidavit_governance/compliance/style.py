"""The report's style sheet: light and dark by the reader's setting, and fit for print."""

CSS = """
:root{--ink:#1a2230;--soft:#5b6575;--line:#dfe4ea;--page:#f6f7f9;--card:#fff;--accent:#0f5f8c;--bar:#2f7fb0;--earlier:#8fb8d3;--empty:#e8edf2;
--good:#0b6b45;--goodback:#e4f4ec;--warn:#8a5200;--warnback:#fdf1dd;--bad:#a32020;--badback:#fbe7e7;--code:#eef1f5}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa5b4;--line:#2c3542;--page:#12161c;--card:#1a2029;--accent:#6fb6e0;--bar:#4b9bcb;
--earlier:#2d5d7b;
--empty:#2a333f;--good:#6fd3a5;--goodback:#143526;--warn:#f0b862;--warnback:#3a2c12;--bad:#f39a9a;--badback:#3d1a1c;--code:#242c37}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
main,header>div,nav>div{max-width:1060px;margin:0 auto;padding:0 24px}
header{background:var(--card);border-bottom:1px solid var(--line);padding:34px 0 22px}
header .kicker{color:var(--soft);font-size:13px;letter-spacing:.09em;text-transform:uppercase;margin:0}
h1{font-size:30px;line-height:1.2;margin:4px 0 8px;letter-spacing:-.01em}
header p{margin:0;color:var(--soft)}
nav{position:sticky;top:0;background:var(--card);border-bottom:1px solid var(--line);z-index:2}
nav>div{display:flex;gap:18px;overflow-x:auto;padding-top:9px;padding-bottom:9px;font-size:13.5px;white-space:nowrap}
nav a{color:var(--soft);text-decoration:none}
nav a:hover{color:var(--accent)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:22px 26px;margin:22px 0;scroll-margin-top:52px}
h2{font-size:20px;margin:0 0 10px}
h3{font-size:15.5px;margin:24px 0 6px}
p{margin:8px 0}
a{color:var(--accent)}
code{font:12.5px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;background:var(--code);padding:1px 5px;
border-radius:4px;overflow-wrap:anywhere}
pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;background:var(--code);padding:14px 16px;
border-radius:8px;overflow-x:auto}
sup{font-size:10px;line-height:0;margin-left:2px}
sup a{text-decoration:none;color:var(--soft);font-weight:400}
sup a:hover{color:var(--accent);text-decoration:underline}
.figure{font-variant-numeric:tabular-nums;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(228px,1fr));gap:12px;margin:16px 0 4px}
.tile{border:1px solid var(--line);border-left:4px solid var(--soft);border-radius:8px;padding:11px 14px}
.tile.good{border-left-color:var(--good)}.tile.warn{border-left-color:var(--warn)}.tile.bad{border-left-color:var(--bad)}
.tile h3{margin:0;font-size:12.5px;font-weight:600;color:var(--soft);text-transform:uppercase;letter-spacing:.05em}
.tile p.big{color:var(--ink);font-size:21px;font-weight:650;margin:2px 0 1px;line-height:1.3;overflow-wrap:anywhere}
.tile p{margin:0;font-size:13px;color:var(--soft)}
.tile .verdict{font-weight:600}
.good .verdict,span.good{color:var(--good)}.warn .verdict,span.warn{color:var(--warn)}.bad .verdict,span.bad{color:var(--bad)}
.plain{border-left:3px solid var(--accent);padding-left:14px;font-size:16px;margin:10px 0 16px}
.warning{background:var(--warnback);color:var(--warn);border-radius:6px;padding:7px 12px}
.note,.none{color:var(--soft);font-size:13.5px}
.chip{background:var(--goodback);color:var(--good);border-radius:20px;padding:1px 9px;font-size:12.5px;white-space:nowrap}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(290px,1fr));gap:0 28px;margin:10px 0}
.facts div{display:flex;justify-content:space-between;gap:14px;border-bottom:1px solid var(--line);padding:6px 0}
dt{color:var(--soft);flex:none}
dd{margin:0;text-align:right;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:10px 0}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{text-align:left;color:var(--soft);font-weight:600;border-bottom:1px solid var(--line);padding:6px 12px 6px 0;white-space:nowrap}
td{border-bottom:1px solid var(--line);padding:6px 12px 6px 0;vertical-align:top;overflow-wrap:break-word;min-width:56px}
td code{white-space:nowrap;overflow-wrap:normal}
tbody tr:last-child td{border-bottom:0}
tr:target td{background:var(--warnback)}
.log td:first-child{white-space:nowrap}
.evidence td{white-space:nowrap}.evidence td code{font-size:11px;white-space:normal;overflow-wrap:anywhere;display:inline-block;min-width:270px}
.evidence td:nth-child(5){white-space:normal;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(260px,1fr));gap:16px;margin-top:14px}
figure{margin:6px 0}
figure.wide{margin:14px 0}
figcaption{font-size:13px;color:var(--soft);font-weight:600}
svg{display:block;overflow:visible}
svg.square{width:100%;max-width:330px}svg.wide{width:100%;max-width:680px}svg.inline{width:150px;height:16px}
svg text{fill:var(--ink);font-size:11.5px;font-family:inherit}
svg .tick{fill:var(--soft);font-size:10.5px}svg .axis{fill:var(--soft);font-size:11.5px}svg .value{fill:var(--soft)}
svg .end{text-anchor:end}svg .mid{text-anchor:middle}
svg .grid{stroke:var(--line);stroke-width:1}svg .chance{stroke:var(--soft);stroke-width:1;stroke-dasharray:4 4}
svg .curve{fill:none;stroke:var(--bar);stroke-width:2.2;stroke-linejoin:round}
svg .dot{fill:var(--bar)}svg .bar{fill:var(--bar)}svg .bar.small{opacity:.5}svg .earlier{fill:var(--earlier)}svg .left{fill:var(--empty)}
svg .zero{stroke:var(--soft);stroke-width:1}svg .whisker{fill:none;stroke:var(--ink);stroke-width:1.2}svg .reference{stroke:var(--bad);
stroke-width:1.4;stroke-dasharray:5 3}
svg .track{stroke:var(--line);stroke-width:2}svg .range{stroke:var(--bar);stroke-width:4;stroke-linecap:round;opacity:.45}
footer{color:var(--soft);font-size:13px;padding:4px 0 40px}
.key{display:inline-block;margin-top:3px}
li{margin:7px 0}
@media(max-width:640px){main,header>div,nav>div{padding:0 14px}section{padding:16px}h1{font-size:24px}.facts{grid-template-columns:1fr}}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--page:#fff;--card:#fff;--accent:#000;--bar:#4a7fa3;--earlier:#a9c3d4;--empty:#eee;
--good:#0b6b45;--goodback:#fff;
--warn:#8a5200;--warnback:#fff;--bad:#a32020;--badback:#fff;--code:#f3f3f3}
body{font-size:10.5pt}nav{display:none}section{border:0;border-top:1px solid var(--line);border-radius:0;padding:12px 0;margin:0}
figure,tr,.tile,.facts div{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}pre{white-space:pre-wrap}
.evidence td code{min-width:0}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

"""What the page looks like, and the few lines of script that show values under the pointer."""

STYLE = """
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--fg:#1b1f27;--soft:#586071;--edge:#dde1e8;--a:#6b7280;--b:#1d4ed8;
--c:#b45309;--d:#047857;--bar:#1d4ed8;--heat:#1e40af;--cell:#000;--grid:#e8ebf0;--kw:#7c3aed;--str:#047857;--com:#667085;--num:#b45309}
@media (prefers-color-scheme:dark){:root{--bg:#0f1319;--card:#171c25;--fg:#e6e9ef;--soft:#9aa4b5;--edge:#2a3240;--a:#9aa4b5;
--b:#6ea0ff;--c:#f0a35e;--d:#4fd1a1;--bar:#6ea0ff;--heat:#2f5fe0;--cell:#e6e9ef;--grid:#252c38;--kw:#c4a1ff;--str:#6fd3a6;--com:#8b95a7;
--num:#f0a35e}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1280px;margin:0 auto;padding:28px 20px 48px}
header{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline;margin-bottom:16px}
h1{font-size:1.7rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:32px 0 10px}
h3{font-size:.95rem;margin:0;font-weight:600}
.sub{color:var(--soft);margin:0;flex-basis:100%}
.state{font-size:.8rem;font-weight:600;border:1px solid currentColor;border-radius:99px;padding:1px 10px}
.state.finished,.state.stopped{color:var(--d)}.state.running{color:var(--b)}.state.failed,.state.interrupted{color:var(--c)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}
.tile,.card{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:12px 14px;min-width:0}
.tile b{display:block;font-size:1.45rem;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.82rem;overflow-wrap:anywhere;display:block}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:14px}
.two{grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr))}
.chart{position:relative}
.head{display:flex;flex-wrap:wrap;gap:2px 14px;align-items:center;margin-bottom:6px;min-height:1.5rem}
.key{color:var(--soft);font-size:.82rem;display:inline-flex;align-items:center;gap:6px}
.key::before{content:"";width:16px;border-top:3px solid}
.key.a::before{border-color:var(--a)}.key.b::before{border-color:var(--b)}.key.c::before{border-color:var(--c)}
.key.d::before{border-color:var(--d)}
svg{display:block;width:100%;height:auto;overflow:visible}.two svg{max-width:480px;margin:0 auto}
.grid{stroke:var(--grid)}.axis{stroke:var(--edge)}
.tick{fill:var(--soft);font-size:11.5px;font-variant-numeric:tabular-nums}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.a{stroke:var(--a)}.line.b{stroke:var(--b)}.line.c{stroke:var(--c)}.line.d{stroke:var(--d)}
.dot.a{fill:var(--a)}.dot.b{fill:var(--b)}.dot.c{fill:var(--c)}.dot.d{fill:var(--d)}
.bar{fill:var(--bar)}
.cursor{stroke:var(--soft);stroke-dasharray:3 3;visibility:hidden}
.tip{position:absolute;top:38px;pointer-events:none;background:var(--card);border:1px solid var(--edge);border-radius:6px;
padding:4px 8px;font-size:.8rem;box-shadow:0 2px 8px #0003;font-variant-numeric:tabular-nums;white-space:pre;z-index:1}
.switch{font-size:.82rem;color:var(--soft);float:right;display:flex;gap:5px;align-items:center;cursor:pointer}
.switch input{accent-color:var(--b);margin:0}
.chart:has(.switch input:checked) .linear,.chart:has(.switch input:not(:checked)) .log{display:none}
.scroll{overflow:auto;max-width:100%}.scroll:focus-visible{outline:2px solid var(--b);outline-offset:2px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.88rem}
.rows{width:100%}
.rows th,.rows td{padding:5px 12px 5px 0;text-align:left;border-bottom:1px solid var(--grid);white-space:nowrap}
.rows thead th{color:var(--soft);font-weight:600}.rows tbody th{font-weight:500}
.rows .n{text-align:right}.rows tfoot th,.rows tfoot td{border:0;font-weight:600}
.share{width:34%;min-width:70px;padding-right:0!important}
.share i{display:block;height:9px;border-radius:3px;background:var(--bar);min-width:1px}
.matrix{margin:0 auto}
.matrix th{font-weight:500;color:var(--soft);padding:3px 7px;text-align:right}
.matrix thead th{text-align:center}
.matrix td{min-width:36px;height:32px;padding:2px 5px;text-align:center;border:2px solid var(--card);border-radius:6px;
background:color-mix(in srgb,var(--heat) calc(var(--v)*1%),var(--card))}
.matrix td{color:var(--cell)}.matrix td.hi{color:#fff}.matrix td.zero{color:var(--soft)}
.matrix td.sum{background:none;color:var(--soft);padding-left:10px}
.notes{color:var(--soft);font-size:.88rem;margin:10px 0 0}
pre{margin:0;font:12.5px/1.55 ui-monospace,"SF Mono",Consolas,"DejaVu Sans Mono",monospace;tab-size:4}
.code{max-height:520px}summary{cursor:pointer;color:var(--soft);font-size:.88rem;margin:0 0 8px}
.kw{color:var(--kw)}.str{color:var(--str)}.com{color:var(--com)}.num{color:var(--num)}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 16px;margin:0;font-size:.9rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.warn{border-color:var(--c)}
@media (max-width:520px){main{padding:18px 12px 36px}.card{padding:10px 12px}.tiles{grid-template-columns:1fr 1fr}
h1{font-size:1.4rem}.matrix td{min-width:24px;height:26px;padding:0;border-width:1px}.matrix{font-size:.76rem}
.matrix th{padding:2px 4px}.matrix td.sum{padding-left:4px}.rows .share,.rows thead th:last-child:not(.n){display:none}
.rows th,.rows td{padding-right:8px}table{font-size:.82rem}}
@media print{body{background:#fff}.code{max-height:none}.card{break-inside:avoid}}
"""

SCRIPT = """
for (const chart of document.querySelectorAll('.chart')) {
  const tip = document.createElement('div');
  tip.className = 'tip'; tip.hidden = true; chart.append(tip);
  for (const svg of chart.querySelectorAll('svg[data-chart]')) {
    const data = JSON.parse(svg.dataset.chart), cursor = svg.querySelector('.cursor');
    const leave = () => { tip.hidden = true; cursor.style.visibility = 'hidden'; };
    svg.addEventListener('pointerleave', leave);
    svg.addEventListener('pointermove', event => {
      const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      let near = 0;
      data.x.forEach((p, i) => { if (Math.abs(p.px - x) < Math.abs(data.x[near].px - x)) near = i; });
      if (!data.x.length) return;
      const at = data.x[near];
      cursor.setAttribute('x1', at.px); cursor.setAttribute('x2', at.px); cursor.style.visibility = 'visible';
      tip.textContent = ['epoch ' + at.e, ...data.s.filter(s => s.v[near] !== null).map(s => s.n + ' ' + s.v[near])].join('\\n');
      tip.hidden = false;
      const left = at.px / svg.viewBox.baseVal.width * box.width + svg.offsetLeft;
      const room = chart.clientWidth - tip.offsetWidth, right = left + 24;
      tip.style.left = Math.max(0, right > room ? Math.min(left - tip.offsetWidth, room) : right) + 'px';
    });
  }
}
"""

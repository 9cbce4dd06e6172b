"""How a page looks: on a phone and a wide screen, light and dark, and on paper."""

from collections.abc import Sequence

from ..evaluation.palette import BLACK, LINE_COLORS, readable

LIGHT, DARK = "#FFFFFF", "#15161A"  # the grounds

CSS = """
:root{--ground:#fff;--card:#f4f4f7;--ink:#1b1b1f;--faint:#55555f;--rule:#c9c9d2;--link:#004f8b;--note:#fff4d6}
@media screen and (prefers-color-scheme:dark){
:root{--ground:#15161a;--card:#202127;--ink:#ececf1;--faint:#b4b4c2;--rule:#484955;--link:#8ccbff;--note:#3a3010}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0 auto;max-width:76rem;padding:0 1rem 3rem;background:var(--ground);color:var(--ink);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:1rem 0 .5rem}
h2{font-size:1.3rem;margin:2.5rem 0 .5rem;border-bottom:1px solid var(--rule)}
h3{font-size:1.1rem;margin:1.5rem 0 .5rem}
h4{font-size:1rem;margin:0 0 .3rem}
p{max-width:46rem}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
main:focus{outline:none}
.skip{position:absolute;left:1rem;top:-4rem;background:var(--ground);padding:.5rem 1rem}
.skip:focus{top:.5rem;z-index:1}
nav ul{display:flex;flex-wrap:wrap;gap:0 1.2rem;list-style:none;padding:0}
nav a{display:inline-block;padding:.4rem 0}
summary{padding:.4rem 0}
.note{background:var(--note);padding:.6rem .8rem;border-left:4px solid var(--ink)}
.small{color:var(--faint);font-size:.9rem}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.6rem;margin:1rem 0}
.facts div{background:var(--card);padding:.5rem .7rem}
dt{color:var(--faint);font-size:.85rem}
dd{margin:0;font-size:1.15rem}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.95rem}
caption{text-align:left;color:var(--faint);padding-bottom:.3rem}
th,td{padding:.25rem .9rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--rule)}
th[scope=row]{font-weight:400;min-width:9rem;max-width:20rem}
th[scope=row].n{min-width:0}
thead th{overflow-wrap:normal}
td{max-width:30rem}
.n{text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:normal}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--link)}
code{font-size:.9em}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}
figure{margin:0 0 1rem}
figcaption{color:var(--faint);font-size:.95rem;max-width:46rem}
.chart svg.plot{width:100%;max-width:34rem;height:auto;display:block}
.plot text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
.plot .grid{stroke:var(--rule);stroke-width:1}
.plot .line{fill:none;stroke-width:1.6}
.plot .strong{stroke-width:2.6}
.plot .band{opacity:.2;stroke:none}
.plot .pool{stroke:var(--faint);stroke-width:4;stroke-linecap:round;opacity:.7;fill:none}
.key{list-style:none;padding:0;margin:.3rem 0;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem}
.key svg{width:30px;height:16px;vertical-align:-3px;margin-right:.35rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,32rem),1fr));gap:1rem}
.tile{background:var(--card);padding:.7rem}
.pair{display:flex;flex-wrap:wrap;gap:.5rem}
.pair figure{flex:1 1 14rem;max-width:24rem;margin:0}
.pair svg,.crops svg{width:100%;height:auto;display:block;background:#e8e2ea}
.tile p{margin:.4rem 0}
.crops{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.7rem;padding:0;list-style:none}
.box{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}
.rim{fill:none;stroke:#000;stroke-width:4;vector-effect:non-scaling-stroke}
.dashed{stroke-dasharray:5 5}
.mark{font:bold 11px system-ui,sans-serif;fill:#fff;stroke:#000;stroke-width:3px;paint-order:stroke}
.gone{fill:#e8e2ea}
@media print{
body{max-width:none;font-size:10pt;padding:0}
nav,.skip{display:none}
details::details-content{content-visibility:visible;display:block;height:auto;opacity:1}
summary{list-style:none}
.tile,figure,tr,.facts div,.crops li{break-inside:avoid}
h2,h3,h4{break-after:avoid}
.scroll{overflow:visible}
a{color:inherit;text-decoration:none}
.box,.rim,.band{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""


def colours(lines: Sequence[str], rounds: int) -> str:
    """CSS of the lines s0, s1, ... in these colours, and of the marks of rounds r0, r1, ...

    Each has a contrast of 3 or more to its ground, the light and the dark one: it is mixed until it has.
    """
    number = len(LINE_COLORS)
    marks = [LINE_COLORS[(i + i // number) % number] for i in range(rounds)]
    named = [(f"s{i}", color) for i, color in enumerate(lines)]
    named += [(f"r{i}", color) for i, color in enumerate(marks)]

    def rules(ground: str) -> str:
        shades = [(name, "var(--ink)" if c == BLACK else readable(c, ground)) for name, c in named]
        return "".join(f".{name}{{stroke:{shade};fill:{shade}}}" for name, shade in shades)

    return rules(LIGHT) + "@media screen and (prefers-color-scheme:dark){" + rules(DARK) + "}"

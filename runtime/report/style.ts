/**
 * How the page looks: one column, numbers that line up, light and dark, and paper.
 */
import { COLOURS, FONT } from "./svg.ts";

function variables(scheme: "light" | "dark"): string {
  return Object.entries(COLOURS[scheme])
    .map(([name, colour]) => `--${name}:${colour}`)
    .join(";");
}

export const STYLE: string = `
:root{color-scheme:light dark;${variables("light")}}
@media (prefers-color-scheme:dark){:root{${variables("dark")}}}
@media print{:root{color-scheme:light;${variables("light")}}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 ${FONT};font-variant-numeric:tabular-nums}
main,header,footer{max-width:1010px;margin:0 auto;padding:0 20px}
header{padding-top:44px}
.kind{margin:0;color:var(--muted);font-size:13px;letter-spacing:.06em;text-transform:uppercase}
h1{margin:2px 0 6px;font-size:32px;line-height:1.2;letter-spacing:-.015em;overflow-wrap:anywhere}
h2{margin:56px 0 6px;padding-top:14px;border-top:1px solid var(--grid);font-size:21px;line-height:1.3;letter-spacing:-.01em}
h3{margin:28px 0 6px;font-size:15px;font-weight:600}
p{margin:6px 0 12px;max-width:46em}
.lead{font-size:17px;line-height:1.55;margin-top:14px}
.quiet,figcaption{color:var(--muted);font-size:13px}
.quiet{max-width:58em}
ul.quiet{margin:8px 0 14px;padding:0;list-style:none}
ul.quiet li{margin:2px 0}
.synthetic{margin:20px 0 4px;padding:12px 16px;border:2px solid var(--b);border-radius:8px;background:repeating-linear-gradient(-45deg,transparent 0 14px,color-mix(in srgb,var(--b) 9%,transparent) 14px 28px)}
.synthetic strong{color:var(--b);letter-spacing:.08em}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:12px;margin:24px 0 4px}
.tile{padding:14px 16px 12px;border-radius:8px;background:var(--raised);break-inside:avoid}
.tile .name{font-size:13px;color:var(--muted)}
.tile .value{font-size:27px;font-weight:600;line-height:1.3;letter-spacing:-.02em}
.tile .aside{font-size:13px;color:var(--muted)}
nav{margin:22px 0 0;font-size:14px}
nav a{margin-right:12px;white-space:nowrap}
a{color:var(--a);text-decoration:none}
a:hover{text-decoration:underline}
.wide{overflow-x:auto}
table{border-collapse:collapse;margin:10px 0 6px;font-size:14px}
th{font-weight:500;color:var(--muted);font-size:13px;text-align:left;vertical-align:bottom;border-bottom:1px solid var(--muted)}
th,td{padding:5px 20px 5px 0}
td{vertical-align:top;border-bottom:1px solid var(--grid)}
tr:last-child td{border-bottom:0}
tr.sum td{border-top:1px solid var(--muted);font-weight:600}
.r{text-align:right;white-space:nowrap}
.keep{white-space:nowrap}
.formula{color:var(--muted);font-size:13px;padding-right:0;min-width:19em}
.main td:first-child,.main td.r{font-weight:600}
.main td.interval{font-weight:400}
.words{margin-top:2px}
.words td:first-child{color:var(--muted);white-space:nowrap}
.words td,.words tr:last-child td{border-bottom:0;padding-top:2px;padding-bottom:2px}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:20px 30px;margin-top:16px}
figure{margin:0;break-inside:avoid;min-width:0}
.figures.single{grid-template-columns:minmax(0,1fr)}
.single svg{min-width:680px}
figure svg{display:block;width:100%;height:auto;overflow:visible}
figcaption{margin-top:6px;max-width:44em}
code,.mono{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
details{margin-top:8px}
summary{cursor:pointer;color:var(--a)}
.bar{display:inline-block;height:9px;border-radius:2px;background:var(--cell);vertical-align:1px}
.warn{color:var(--b)}
footer{margin-top:64px;padding-top:16px;padding-bottom:48px;border-top:1px solid var(--grid);color:var(--muted);font-size:13px;max-width:970px}
@media print{
  @page{margin:16mm 14mm}
  body{font-size:10.5pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}
  nav,summary{display:none}
  details::details-content{display:block;content-visibility:visible}
  header{padding-top:0}
  h2,h3{break-after:avoid}
  h2{margin-top:28px}
  tr{break-inside:avoid}
  .figures{grid-template-columns:1fr 1fr}
  .tiles{grid-template-columns:repeat(4,1fr)}
  .tile .value{font-size:20px}
  .single svg{min-width:0}
  .wide{overflow:visible}
}
`;

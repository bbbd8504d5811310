"use strict"; // What moves on the page: curves, brushes, the tables, and the address, which keeps the view.
const data = JSON.parse(document.getElementById("data").textContent);
const element = (name) => document.getElementById(name);
const defaults = { metric: "", shown: "8", smooth: "0", one: "0", other: "1", filter: "", sort: "", brush: "" };
const view = { ...defaults, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };

function keep(name, value) {
  view[name] = value;
  const changed = Object.entries(view).filter(([key, own]) => key in defaults && own !== defaults[key]);
  history.replaceState(null, "", "#" + new URLSearchParams(changed));
}

function control(name, draw) {
  const input = element(name);
  if (!input) return;
  if (input.tagName === "SELECT" && ![...input.options].some((option) => option.value === view[name])) view[name] = input.options[0]?.value ?? "";
  input.value = view[name];
  input.addEventListener("input", () => { keep(name, input.value); draw(); });
}

// Learning curves

function smoothed(values, weight) { // exponential mean, corrected for its start
  let mean = 0, share = 0;
  return values.map((value) => (mean = weight * mean + (1 - weight) * value, share = weight * share + 1 - weight, mean / share));
}

function groupCurve(group, factor, weight) {
  const lines = group.runs.map((run) => data.curves.runs[view.metric][run]).filter(([, values]) => values.length)
    .map(([steps, values]) => ({ steps: data.curves.steps[steps], raw: values.map((value) => factor * value) }));
  for (const line of lines) line.values = smoothed(line.raw, weight);
  const tables = lines.map((line) => new Map(line.steps.map((step, index) => [step, line.values[index]])));
  const steps = (lines[0]?.steps ?? []).filter((step) => tables.every((table) => table.has(step)));
  const columns = steps.map((step) => tables.map((table) => table.get(step)));
  const mean = columns.map((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
  return { lines, steps, mean, low: columns.map((values) => Math.min(...values)), high: columns.map((values) => Math.max(...values)) };
}

function drawCurves(plots) {
  const weight = Number(view.smooth), factor = data.shares.includes(view.metric) ? 100 : 1;
  const shown = view.shown === "all" ? data.groups : data.groups.slice(0, Number(view.shown));
  element("smooth-value").textContent = weight ? weight.toFixed(2) : "off";
  const empty = () => ({ xs: [], ys: [], color: [], group: [] });
  const [bands, raw, seeds, means, points] = [empty(), empty(), empty(), { ...empty(), dash: [] }, { x: [], y: [], color: [], marker: [] }];
  const add = (target, xs, ys, group) => { target.xs.push(xs); target.ys.push(ys); target.color.push(group.look[0]); target.group.push(group.name); };
  for (const group of shown) {
    const { lines, steps, mean, low, high } = groupCurve(group, factor, weight);
    for (const line of lines) { if (lines.length > 1) add(seeds, line.steps, line.values, group); if (weight) add(raw, line.steps, line.raw, group); }
    if (lines.length > 1) add(bands, [...steps, ...[...steps].reverse()], [...high, ...low.reverse()], group);
    add(means, steps, mean, group);
    means.dash.push(group.look[2] === "solid" ? [] : group.look[2].split(" ").map(Number));
    if (steps.length <= 60) steps.forEach((step, index) => { points.x.push(step); points.y.push(mean[index]); points.color.push(group.look[0]); points.marker.push(group.look[1]); });
  }
  delete bands.group;
  for (const [name, columns] of Object.entries({ bands, raw, seeds, means, points })) plots(name).data_source.data = columns;
  plots("curves").left[0].axis_label = view.metric + (factor === 100 ? " (%)" : "");
  const swatches = document.querySelectorAll("#groups .swatch");
  element("curves-legend").replaceChildren(...shown.flatMap((group, index) => [swatches[index].cloneNode(true), group.name]));
}

// What differs between two groups

function drawDifference() {
  const [one, other] = [data.groups[view.one].settings, data.groups[view.other].settings];
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])].filter((key) => one[key] !== other[key]);
  element("difference").tBodies[0].replaceChildren(...keys.map((key) => row([key, one[key] ?? "(missing)", other[key] ?? "(missing)"])));
}

function row(texts) {
  const made = document.createElement("tr");
  for (const text of texts) made.insertCell().textContent = text;
  return made;
}

// The table of runs, and the brushes of the parallel coordinates, which choose among the same runs

const table = element("runs");
const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
const rows = [...table.tBodies[0].rows];
const compare = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };

const columnOf = (name) => names.findIndex((known) => known === name || known.startsWith(name + " "));

function meets(line, word) {
  const [, name, sign, wanted] = word.match(/^([^<>=!]+)(<=|>=|!=|=|<|>)(.+)$/) ?? [];
  const column = columnOf(name);
  if (sign && column < 0) return false;
  if (column < 0) return line.textContent.toLowerCase().includes(word.toLowerCase());
  const cell = line.cells[column], value = cell.dataset.value;
  const areNumbers = value !== "" && !isNaN(value) && !isNaN(wanted);
  const isSame = cell.textContent === wanted || (areNumbers && [value, cell.textContent].some((own) => Number(own) === Number(wanted))); // what is shown is rounded
  if (sign === "=" || sign === "!=") return isSame === (sign === "=");
  return areNumbers && compare[sign](Number(value), Number(wanted));
}

function drawRuns(plots) {
  const words = view.filter.split(/\s+/).filter(Boolean), brushes = parseBrushes();
  const source = plots("parallel")?.renderers[0].data_source;
  const passes = (run) => brushes.every(([axis, low, high]) => { const y = source.data.ys[run]?.[axis]; return y >= low && y <= high; });
  const kept = rows.filter((line) => words.every((word) => meets(line, word)) && (!source || !brushes.length || passes(line.dataset.run)));
  for (const line of rows) line.hidden = true;
  for (const line of kept) line.hidden = false;
  const unknown = words.map((word) => word.match(/^([^<>=!]+)[<>=!]/)?.[1]).filter((name) => name && columnOf(name) < 0);
  element("count").textContent = `${kept.length} of ${rows.length}` + unknown.map((name) => `; no column ${name}`).join("");
  const drawn = kept.map((line) => Number(line.dataset.run)).filter((run) => run >= 0);
  const chosen = kept.length === rows.length ? [] : drawn.length ? drawn : [-1]; // to Bokeh an empty selection is none: all are lit
  for (const name of ["parameters", "flops", "seconds", "parallel"]) if (plots(name)) plots(name).renderers[0].data_source.selected.indices = chosen;
  if (!source) return;
  plots("brushes").data_source.data = {
    left: brushes.map(([axis]) => axis - 0.15), right: brushes.map(([axis]) => axis + 0.15), bottom: brushes.map(([, low]) => low), top: brushes.map(([, , high]) => high),
  };
  element("brushed").textContent = brushes.length ? `${kept.length} of ${rows.length} runs pass` : "";
}

const parseBrushes = () => view.brush.split(";").filter(Boolean).map((text) => text.split(",").map(Number));

function brush(geometry, number) { // a box replaces the earlier one on each axis that it covers
  const axes = [...Array(number).keys()].filter((axis) => axis >= geometry.x0 && axis <= geometry.x1);
  const [low, high] = [geometry.y0, geometry.y1].map((end) => Number(end.toFixed(3)));
  const others = parseBrushes().filter(([axis]) => !axes.includes(axis));
  keep("brush", [...others, ...axes.map((axis) => [axis, low, high])].map((parts) => parts.join(",")).join(";"));
}

function sort() {
  const [column, direction] = view.sort.split(" ");
  [...table.tHead.rows[0].cells].forEach((cell, index) => cell.setAttribute("aria-sort", view.sort && index === Number(column) ? direction : "none"));
  if (!view.sort) return;
  const values = new Map(rows.map((line) => [line, line.cells[column].dataset.value]));
  const areNumbers = [...values.values()].every((value) => !isNaN(value));
  const sign = direction === "descending" ? -1 : 1;
  const order = (a, b) => (values.get(a) === "") - (values.get(b) === "") || sign * (areNumbers ? values.get(a) - values.get(b) : values.get(a).localeCompare(values.get(b)));
  table.tBodies[0].append(...[...rows].sort(order));
}

// Copying

// The rules are those of resnet/plain.py: control characters as they are written, no formulas, Markdown and LaTeX escaped whole.
const shownPlainly = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (sign) => {
  const code = sign.codePointAt(0).toString(16);
  return { "\t": "\\t", "\n": "\\n", "\r": "\\r" }[sign] ?? (code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`);
});
const isNumber = (text) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
const isFormula = (text) => /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(text) && !isNumber(text);
const latexNames = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", '"': "{\\char34}" };
const inCsv = (text) => { const plainly = shownPlainly(text), safe = isFormula(plainly) ? `'${plainly}` : plainly; return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe; };
const inMarkdown = (text) => shownPlainly(text).replace(/[\\`*_[\]<>|&~$]/g, "\\$&");
const inLatex = (text) => {
  const escaped = shownPlainly(text).replace(/[\\~^{}<>|"%_&#$]/g, (sign) => latexNames[sign] ?? `\\${sign}`);
  return /^[[*]/.test(escaped) ? `{${escaped}}` : escaped; // it would be an option of the line break before it
};

const formats = {
  CSV: (lines) => lines.map((cells) => cells.map(inCsv).join(",")).join("\n"),
  Markdown: (lines) => [lines[0].map(inMarkdown), lines[0].map(() => "---"), ...lines.slice(1).map((cells) => cells.map(inMarkdown))].map((cells) => `| ${cells.join(" | ")} |`).join("\n"),
  LaTeX: ([head, ...lines]) => {
    const line = (cells) => cells.map(inLatex).join(" & ") + " \\\\";
    return [`\\begin{tabular}{${"l".repeat(head.length)}}`, "\\toprule", line(head), "\\midrule", ...lines.map(line), "\\bottomrule", "\\end{tabular}"].join("\n");
  },
};

async function copy(button) {
  const lines = [...element(button.dataset.table).rows].filter((line) => !line.hidden);
  const plain = (text) => (/^\d{1,3}(,\d{3})+$/.test(text) ? text.replaceAll(",", "") : text); // 1,000 is text to a spreadsheet
  const text = formats[button.dataset.copy](lines.map((line) => [...line.cells].map((cell) => plain(cell.textContent.trim())))) + "\n";
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else copyOldWay(text); // a page from a plain http server has no clipboard
  button.after(Object.assign(document.createElement("span"), { textContent: " copied", role: "status" }));
  setTimeout(() => button.nextSibling?.remove(), 1500);
}

function copyOldWay(text) {
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

async function start() {
  const plots = (name) => Bokeh.documents.map((document) => document.get_model_by_name(name)).find(Boolean);
  const draw = async (name) => {
    if (!data.places[name]) return;
    await Bokeh.embed.embed_items({ [name]: data.documents[name] }, [data.places[name]]);
    ink();
  };
  const ink = () => { // the text among the glyphs, which the style sheet cannot reach
    const texts = ["intervals", "parallel"].flatMap((name) => plots(name)?.renderers ?? []).filter((renderer) => renderer.name === "ink");
    const style = getComputedStyle(document.documentElement);
    const [color, ground] = ["--ink", "--ground"].map((name) => ({ value: style.getPropertyValue(name).trim() }));
    for (const { glyph } of texts) Object.assign(glyph, { text_color: color, background_fill_color: ground, background_fill_alpha: { value: 0.6 } });
  };
  await draw("first");
  for (const select of ["one", "other"]) element(select)?.append(...data.groups.map((group, index) => new Option(`${index + 1}. ${group.name}`, index)));
  for (const name of ["metric", "shown", "smooth"]) control(name, () => drawCurves(plots));
  for (const name of ["one", "other"]) control(name, drawDifference);
  control("filter", () => drawRuns(plots));
  [...table.tHead.rows[0].cells].forEach((cell, index) => cell.addEventListener("click", () => {
    keep("sort", `${index} ${cell.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending"}`);
    sort();
  }));
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
  element("clear")?.addEventListener("click", () => { keep("brush", ""); keep("filter", ""); element("filter").value = ""; drawRuns(plots); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload()); // the charts take their colours when they are drawn
  if (element("metric")) drawCurves(plots);
  if (element("one")) drawDifference();
  sort();
  drawRuns(plots);
  await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)));
  await draw("later");
  const parallel = plots("parallel");
  parallel?.on_event("selectiongeometry", (event) => {
    if (!event.final) return;
    brush(event.geometry, parallel.renderers[0].data_source.data.xs[0].length);
    drawRuns(plots);
  });
  drawRuns(plots);
  document.body.dataset.drawn = "all";
}

start();

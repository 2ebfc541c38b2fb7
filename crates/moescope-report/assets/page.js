"use strict";
// Brings the page to life: tables that sort, files to download, charts in place of the still pictures.
// Texts reach the page as text nodes only. On <html> it leaves a record for tests: data-ready holds the number of
// charts drawn, data-problems what went wrong.

const root = document.documentElement;
const problems = [];
const report = (what) => {
  problems.push(String(what));
  root.dataset.problems = JSON.stringify(problems);
};
root.dataset.problems = "[]";
addEventListener("error", (event) => report(event.message || `failed to load ${event.target.src || event.target.href}`), true);
addEventListener("unhandledrejection", (event) => report(event.reason));
addEventListener("securitypolicyviolation", (event) => report(`blocked ${event.violatedDirective} ${event.blockedURI}`));

// A page opened as report.html?theme=dark keeps that theme whatever the system says.
const asked = new URLSearchParams(location.search).get("theme");
if (asked === "dark" || asked === "light") root.dataset.theme = asked;

const element = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// ---- Tables ----

function bringGridToLife(grid, content) {
  const body = grid.querySelector("tbody");
  const heads = [...grid.querySelectorAll("th")];
  const tools = grid.querySelector(".tools");
  const state = { order: content.rows.map((_, i) => i), shown: content.shown, column: -1, down: false };

  const fill = () => {
    const rows = state.order.slice(0, state.shown).map((i) => rowOf(content.rows[i], content.numeric));
    body.replaceChildren(...rows);
    heads.forEach((head, i) => {
      head.setAttribute("aria-sort", i !== state.column ? "none" : state.down ? "descending" : "ascending");
    });
  };
  heads.forEach((head, i) => {
    head.setAttribute("aria-sort", "none");
    head.querySelector("button").addEventListener("click", () => {
      state.down = state.column === i && !state.down;
      state.column = i;
      state.order = sorted(content, i, state.down);
      fill();
    });
  });
  if (content.rows.length > state.shown) {
    const all = element("button", { type: "button", textContent: `Show all ${content.rows.length} rows` });
    all.addEventListener("click", () => {
      state.shown = content.rows.length;
      tools.querySelector(".rest").textContent = "";
      all.remove();
      fill();
    });
    tools.append(all);
  }
  const download = element("button", { type: "button", textContent: "Download CSV" });
  download.setAttribute("aria-label", `Download ${content.file}.csv`);
  download.addEventListener("click", () => save(`${content.file}.csv`, csv(content)));
  tools.append(download);
  hintAtScrolling(grid);
}

// A table that does not fit says so, and can be reached and moved by keyboard; one that fits is no stop on the way.
function hintAtScrolling(grid) {
  const scroll = grid.querySelector(".scroll");
  const hint = element("span", { className: "hint", textContent: "More columns: scroll the table sideways →" });
  scroll.before(hint);
  new ResizeObserver(() => {
    const hides = scroll.scrollWidth > scroll.clientWidth + 1;
    hint.hidden = !hides;
    scroll.classList.toggle("hides", hides);
    if (hides) scroll.tabIndex = 0;
    else scroll.removeAttribute("tabindex");
  }).observe(scroll);
}

function rowOf(cells, numeric) {
  const row = document.createElement("tr");
  cells.forEach(([main, aside], i) => {
    const cell = element("td", { className: numeric[i] ? "number" : "" }, main);
    if (aside) cell.append(" ", element("span", { className: "aside", textContent: aside }));
    row.append(cell);
  });
  return row;
}

// Missing numbers stand last in both directions; equal entries keep the order of the table.
function sorted(content, column, down) {
  const values = content.columns[content.keys[column]];
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  return content.rows.map((_, i) => i).sort((i, j) => {
    const [a, b] = [values[i], values[j]];
    if (a === null || b === null) return (a === null) - (b === null) || i - j;
    return (down ? compare(b, a) : compare(a, b)) || i - j;
  });
}

function csv(content) {
  const quoted = (value) => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [content.names.map(quoted)];
  content.rows.forEach((_, i) => lines.push(content.columns.map((column) => quoted(column[i]))));
  return lines.map((line) => line.join(",")).join("\r\n") + "\r\n";
}

function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// ---- Charts ----

// Colours as the style sheet has them now; a probe resolves light-dark().
function themeColors() {
  const probe = document.body.appendChild(element("span", { hidden: true }));
  const known = new Map();
  const color = (name) => {
    if (!known.has(name)) {
      probe.style.color = `var(--${name})`;
      known.set(name, getComputedStyle(probe).color);
    }
    return known.get(name);
  };
  return { color, dark: luminance(color("page")) < 0.5, close: () => probe.remove() };
}

function luminance(color) {
  const hex = /^#(..)(..)(..)/.exec(color);
  const [r, g, b] = hex ? hex.slice(1).map((x) => parseInt(x, 16)) : color.match(/[\d.]+/g).map(Number);
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
}

const shortNumber = (x) => {
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e6 || size < 1e-4 ? x.toExponential(1).replace(".0e", "e") : String(+x.toPrecision(6));
  return text.replace("-", "−");
};

const formatters = {
  number: shortNumber,
  power: (x) => shortNumber(2 ** x),
  short: (datum) => datum.data.short,
  words: (datum) => {
    const words = datum.data && datum.data.words;
    if (!words) return "";
    return element("div", { className: "words" }, ...words.map((text) => element("div", { textContent: text })));
  },
};

// Puts functions and colours in the place of their stand-ins; see src/charts.rs.
function resolve(node, theme) {
  if (Array.isArray(node)) return node.map((item) => resolve(item, theme));
  if (node === null || typeof node !== "object") return node;
  const copy = {};
  for (const [key, value] of Object.entries(node)) {
    const name = typeof value === "string" && value[0] === "@" ? value.slice(1) : null;
    if (name && (key === "color" || key === "borderColor")) copy[key] = theme.color(name);
    else if (name && key === "formatter") copy[key] = formatters[name];
    else if (name && key === "renderItem") copy[key] = renderers[name];
    else if (key === "color" && value.light) copy[key] = theme.dark ? value.dark : value.light;
    else copy[key] = key === "data" && node.type !== undefined ? value : resolve(value, theme);
  }
  return copy;
}

function optionFor(chart, width, theme) {
  const option = resolve(chart, theme);
  const rows = narrowRows(option, width);
  // Functions that draw need what their series is like, which ECharts does not hand to them.
  for (const series of option.series) {
    if (series.renderItem) series.renderItem = series.renderItem.bind(null, { ...series.draw, shift: rows ? rows.above / 2 : 0, color: series.color, ink: theme.color("ink"), page: theme.color("page"), rows: series.data });
    if (series.markLine) series.markLine = resolve(chart.series[option.series.indexOf(series)].markLine, theme);
  }
  option.tooltip = {
    ...option.tooltip,
    backgroundColor: theme.color("card"),
    borderColor: theme.color("rule"),
    textStyle: { color: theme.color("ink"), fontSize: 13 },
  };
  option.textStyle = { ...option.textStyle, fontFamily: getComputedStyle(document.body).getPropertyValue("font-family") };
  if (option.visualMap) colorLabels(option, theme);
  const lines = legendLines(option, width);
  if (lines > 1) option.grid.top += (lines - 1) * LEGEND_LINE;
  thinLabels(option.xAxis, width);
  if (option.hints.kind === "lines" || option.hints.kind === "scatter") {
    option.yAxis.name = wrapped(option.yAxis.name, 250, 2).join("\n");
    option.yAxis.nameTextStyle.lineHeight = 16;
  }
  if (option.hints.kind === "rows" && !rows) wrapNames(option);
  if (width < NARROW) makeNarrow(option, rows);
  return option;
}

// Text on a coloured cell is dark on light colours and light on dark ones.
function colorLabels(option) {
  const { min, max, inRange } = option.visualMap;
  const stops = inRange.color;
  const series = option.series[0];
  series.data = series.data.map((datum) => {
    const stop = Math.round(((datum.value[2] - min) / (max - min)) * (stops.length - 1));
    return { ...datum, label: { color: luminance(stops[stop]) > 0.45 ? "#15181d" : "#ffffff" } };
  });
}

// Width of a text of a chart in pixels.
const measure = (() => {
  const pen = document.createElement("canvas").getContext("2d");
  return (text) => {
    pen.font = `12px ${getComputedStyle(document.body).getPropertyValue("font-family")}`;
    return pen.measureText(text).width;
  };
})();

// A text in lines of at most that width, broken between words; a longer word is cut, and so is what exceeds the lines.
function wrapped(text, width, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (measure(longer) <= width || !lines.at(-1)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  const kept = lines.slice(0, most);
  if (lines.length > most) kept[most - 1] += " …";
  return kept.map((line) => {
    while (measure(line) > width && line.length > 2) line = `${line.replace(/…$/, "").slice(0, -1)}…`;
    return line;
  });
}

// How many lines the legend breaks into, and room above the plot for all of them.
const LEGEND_LINE = 22;
function legendLines(chart, width) {
  if (!chart.legend) return 0;
  let [lines, used] = [1, 0];
  for (const entry of chart.legend.data) {
    const needed = chart.legend.itemWidth + 5 + measure(entry.name ?? entry) + chart.legend.itemGap;
    if (used && used + needed > width - 10) [lines, used] = [lines + 1, 0];
    used += needed;
  }
  return lines;
}

// Names of rows on a wide page, in up to two lines beside their marks.
function wrapNames(option) {
  const names = option.yAxis.data.map((name) => wrapped(name, option.yAxis.axisLabel.width, 2).join("\n"));
  Object.assign(option.yAxis.axisLabel, { width: null, overflow: "none", lineHeight: 13, interval: 0, formatter: (_, i) => names[i] });
}

// Of ticks at the data every first, second, third … has a label, as many as fit.
function thinLabels(axis, width) {
  const ticks = axis.axisLabel?.customValues;
  if (!ticks) return;
  const perUnit = (width - 90) / (axis.max - axis.min);
  const room = Math.max(...ticks.map((tick) => measure(axis.axisLabel.formatter(tick)))) + 8;
  const kept = (every) => ticks.filter((_, i) => i % every === 0);
  const fits = (some) => some.every((tick, i) => i === 0 || (tick - some[i - 1]) * perUnit >= room);
  let every = 1;
  while (every < ticks.length && !fits(kept(every))) every += 1;
  axis.axisLabel.customValues = kept(every);
}

// What a narrow chart of rows needs: names in lines above the marks, and rows high enough for both.
function narrowRows(chart, width) {
  if (chart.hints.kind !== "rows" || width >= NARROW) return null;
  const names = chart.yAxis.data.map((name) => wrapped(name, width - 40, 3));
  const above = 14 * Math.max(...names.map((lines) => lines.length));
  const marks = 14 * chart.series.length;
  return { names, above, marks, pitch: above + marks + 12 };
}

// Names of rows of cells, in as many lines as a row has room for.
function wrapCells(option) {
  const names = option.yAxis.data;
  const pitch = Math.min(34, Math.max(11, 560 / names.length));
  const lines = Math.max(1, Math.floor(pitch / 11));
  const cut = names.map((name) => wrapped(name, 118, lines).join("\n"));
  Object.assign(option.yAxis.axisLabel, { width: null, overflow: "none", fontSize: 10.5, lineHeight: 11, formatter: (_, i) => cut[i] });
}

// On a phone names of rows stand above their marks, and those of cells break into lines.
const NARROW = 560;
function makeNarrow(option, rows) {
  if (rows) {
    Object.assign(option.yAxis.axisLabel, {
      inside: true,
      interval: 0,
      verticalAlign: "bottom",
      lineHeight: 14,
      padding: [0, 0, (rows.marks - rows.above) / 2, -6],
      width: null,
      overflow: "none",
      margin: 0,
      formatter: (_, i) => rows.names[i].join("\n"),
      textBorderColor: option.tooltip.backgroundColor,
      textBorderWidth: 4,
    });
    option.yAxis.z = 9;
    option.xAxis.splitNumber = 4;
  }
  if (option.hints.kind === "matrix") {
    wrapCells(option);
    option.xAxis.axisLabel.width = 64;
    option.series[0].label.show = false;
    option.visualMap.itemHeight = 90;
    const [most, least] = option.visualMap.text;
    if (least.length > 28) option.visualMap.text = [most, least.split(/ {3}/).pop()];
  }
}

const line = (x1, y1, x2, y2, stroke, lineWidth = 1.5) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke, lineWidth } });

function marker(name, x, y, color, page) {
  const hollow = name.startsWith("empty");
  const style = hollow ? { fill: page, stroke: color, lineWidth: 2 } : { fill: color };
  const polygon = (points) => ({ type: "polygon", shape: { points }, style });
  switch (name) {
    case "circle":
    case "emptyCircle":
      return { type: "circle", shape: { cx: x, cy: y, r: 4.5 }, style };
    case "triangle":
      return polygon([[x, y - 5], [x + 5, y + 4], [x - 5, y + 4]]);
    case "diamond":
      return polygon([[x, y - 5.5], [x + 5.5, y], [x, y + 5.5], [x - 5.5, y]]);
    default:
      return { type: "rect", shape: { x: x - 4, y: y - 4, width: 8, height: 8 }, style };
  }
}

const renderers = {
  // One estimate: a bar if wanted, its interval, a tick for its null, a marker.
  mark(draw, params, api) {
    const [value, row, low, high, none] = [0, 1, 2, 3, 4].map((i) => api.value(i));
    const slots = draw.slots;
    const at = (x) => api.coord([x, row]);
    const [, middle] = api.coord([0, row]);
    const pitch = draw.shift ? 14 : Math.min(14, (api.size([0, 1])[1] * 0.86) / slots);
    const y = middle + (draw.shift ?? 0) + pitch * (draw.slot - (slots - 1) / 2);
    const children = [];
    if (Number.isFinite(value) && draw.style === "bar") {
      const [zero, tip] = [at(0)[0], at(value)[0]];
      const height = Math.max(2, pitch - 3);
      children.push({ type: "rect", shape: { x: Math.min(zero, tip), y: y - height / 2, width: Math.abs(tip - zero), height }, style: { fill: draw.color, opacity: 0.35 } });
    }
    if (Number.isFinite(low) && Number.isFinite(high)) {
      const [left, right] = [at(low)[0], at(high)[0]];
      children.push(line(left, y, right, y, draw.color, 2), line(left, y - 3.5, left, y + 3.5, draw.color), line(right, y - 3.5, right, y + 3.5, draw.color));
    }
    if (Number.isFinite(none)) {
      const x = at(none)[0];
      children.push({ ...line(x, y - 7, x, y + 7, draw.ink, 2) });
    }
    if (Number.isFinite(value)) children.push(marker(draw.marker, at(value)[0], y, draw.color, draw.page));
    return { type: "group", children };
  },

  // All runs of intervals of one line, drawn with its first point.
  band(draw, params, api) {
    if (params.dataIndexInside !== 0) return null;
    const runs = [[]];
    for (const [x, low, high] of draw.rows) {
      if (Number.isFinite(low) && Number.isFinite(high)) runs.at(-1).push([api.coord([x, low]), api.coord([x, high])]);
      else runs.push([]);
    }
    const children = runs.filter((run) => run.length).map((run) => {
      if (run.length === 1) return line(...run[0][0], ...run[0][1], draw.color);
      const points = [...run.map((ends) => ends[0]), ...run.map((ends) => ends[1]).reverse()];
      return { type: "polygon", shape: { points }, style: { fill: draw.color, opacity: draw.opacity } };
    });
    return { type: "group", children };
  },

  // Intervals of a point in both directions.
  cross(draw, params, api) {
    const [x, y, left, right, low, high] = [0, 1, 2, 3, 4, 5].map((i) => api.value(i));
    const children = [];
    if (Number.isFinite(left) && Number.isFinite(right)) children.push(line(...api.coord([left, y]), ...api.coord([right, y]), draw.color, 1));
    if (Number.isFinite(low) && Number.isFinite(high)) children.push(line(...api.coord([x, low]), ...api.coord([x, high]), draw.color, 1));
    return { type: "group", children };
  },
};

function drawChart(id, chart, engine) {
  const figure = document.getElementById(id);
  const place = figure.querySelector(".chart");
  place.hidden = false;
  figure.classList.add("drawn");
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", figure.querySelector("h3").textContent);
  const wide = place.style.height;
  const instance = engine.init(place, null, { renderer: "svg" });
  let width = 0;
  const draw = () => {
    width = place.clientWidth;
    const rows = narrowRows(chart, width);
    const legend = Math.max(0, legendLines(chart, width) - 1) * LEGEND_LINE;
    const height = rows ? 90 + rows.pitch * chart.hints.rows : parseFloat(wide);
    place.style.height = `${height + legend}px`;
    instance.resize();
    const theme = themeColors();
    instance.setOption(optionFor(chart, width, theme), { notMerge: true });
    theme.close();
  };
  place.style.height = wide;
  draw();
  new ResizeObserver(() => {
    if (place.clientWidth && place.clientWidth !== width) draw();
  }).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    place.style.height = wide;
    draw();
  });
}

const pause = () => new Promise((resume) => setTimeout(resume, 0));

async function drawCharts(charts) {
  let drawn = 0;
  const ids = Object.keys(charts);
  if (ids.length) {
    // The library runs as an inline script, which the page's policy allows; it is not evaluated from a string.
    document.head.append(element("script", { textContent: await unpack("page-engine") }));
  }
  for (const id of ids) {
    try {
      drawChart(id, charts[id], globalThis.echarts);
      drawn += 1;
    } catch (problem) {
      // The still picture stays.
      document.getElementById(id).classList.remove("drawn");
      report(`${id}: ${problem.stack || problem}`);
    }
    await pause();
  }
  return drawn;
}

// ---- Contents ----

function followReading() {
  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const [id, a] of links) id === entry.target.id ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((section) => seen.observe(section));
}

async function start() {
  if (typeof DecompressionStream === "undefined") return; // The still pictures and plain tables stay.
  const { charts, grids } = JSON.parse(await unpack("page-data"));
  for (const [id, content] of Object.entries(grids)) bringGridToLife(document.getElementById(id), content);
  root.classList.add("live");
  followReading();
  const drawn = await drawCharts(charts);
  const loads = performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !name.startsWith("data:"));
  if (loads.length) report(`loaded ${loads.join(", ")}`);
  root.dataset.ready = String(drawn);
}

start().catch(report);

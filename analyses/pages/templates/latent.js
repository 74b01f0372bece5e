
// One latent: its numbers from the table at once, the rest when it has been unpacked.

const SVG = "http://www.w3.org/2000/svg";
const panel = document.getElementById("detail");
let turn = 0; // counts openings, so that a slow one doesn't overwrite a later one

function part(title, see, ...content) {
  return element("div", {}, element("h3", {}, title), see ? element("p", { class: "see note" }, see) : null, ...content);
}

function tableOf(head, rows) {
  const line = (cells, tag) => element("tr", {}, ...cells.map((cell, i) => element(i && tag === "td" ? "td" : "th", { class: i ? "number" : null, scope: tag === "th" ? "col" : i ? null : "row" }, ...[cell].flat())));
  return element("table", { class: "numbers" }, element("thead", {}, line(head, "th")), element("tbody", {}, ...rows.map((row) => line(row, "td"))));
}

function numbersOf(row) {
  const models = tableOf(
    ["model", "mean activation", "active on"],
    table.models.map((name) => [words(name), number(columns.mean[name][row]), percent(columns.frequency[name][row])]),
  );
  const contrasts = table.contrasts.map((name) => {
    const { estimate, low, high, q } = columns.contrast[name];
    return [words(name), [number(estimate[row]), element("span", { class: "interval" }, `${number(low[row])} to ${number(high[row])}`)], number(q[row])];
  });
  const labels = columns.labels[row].map((label) => [labelText(label), label[2].toFixed(3)]);
  return [
    part("In each model", "", models),
    contrasts.length ? part("Differences of mean activation", "", tableOf(["difference", "estimate, 95 % interval", "q"], contrasts)) : null,
    labels.length ? part("Known states it tells apart", "", tableOf(["state", "AUROC"], labels)) : null,
  ];
}

function histogramOf({ edges, counts }) {
  const svg = document.createElementNS(SVG, "svg");
  const tallest = Math.log1p(Math.max(...counts));
  for (const [name, value] of [["viewBox", `0 0 ${counts.length} 1`], ["preserveAspectRatio", "none"], ["class", "histogram"], ["role", "img"], ["aria-label", `activations from ${number(edges[0])} to ${number(edges.at(-1))}`]]) svg.setAttribute(name, value);
  counts.forEach((count, i) => {
    const height = tallest ? Math.log1p(count) / tallest : 0;
    const bar = document.createElementNS(SVG, "rect");
    for (const [name, value] of [["x", i + 0.05], ["width", 0.9], ["y", 1 - height], ["height", height]]) bar.setAttribute(name, value);
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${number(edges[i])} to ${number(edges[i + 1])}: ${count} tokens`;
    bar.append(title);
    svg.append(bar);
  });
  const ends = element("div", { class: "ends" }, element("span", {}, number(edges[0])), element("span", {}, number(edges.at(-1))));
  return part("How strongly it is active", "Tokens by activation, from the least bin to the largest; heights are logarithms.", svg, ends);
}

function effects(title, pairs) {
  return part(title, "", element("ul", {}, ...pairs.map(([token, value]) => element("li", {}, chip(token), element("span", {}, number(value))))));
}

function coactiveOf(pairs) {
  const items = pairs.map(([latent, value]) => {
    const label = labelOf(rowOf.get(latent));
    return element("li", {}, element("a", { href: `#latent=${latent}` }, String(latent)), ` ${number(value)}${label ? ` · ${labelText(label)}` : ""}`);
  });
  return part("Active together with", visible(table.coactive), element("ul", { class: "wrap" }, ...items));
}

function exampleOf({ tokens, active, source }, largest, said) {
  const values = new Map();
  for (let i = 0; i < active.length; i += 2) values.set(active[i], active[i + 1]);
  const peak = Math.max(0, ...values.values());
  const text = element("span", { class: "text", dir: "auto" });
  tokens.forEach((token, i) => {
    const value = values.get(i) ?? 0;
    const shown = visible(token);
    const span = element("span", { class: value > 0 && value === peak ? "token peak" : "token", title: `${shown} · ${number(value)}`, "data-active": value > 0 }, shown);
    if (value > 0) span.style.setProperty("--heat", (value / largest).toFixed(3));
    text.append(span);
  });
  text.addEventListener("pointerover", (event) => { if (event.target.title) said.textContent = event.target.title; });
  return element("div", { class: "example" }, text, element("p", { class: "about" }, `largest ${number(peak)}${source ? ` · ${visible(source)}` : ""}`));
}

function examplesOf(examples) {
  const largest = examples.reduce((most, { active }) => active.reduce((m, v, i) => (i % 2 ? Math.max(m, v) : m), most), 0) || 1;
  const said = element("output", {});
  const legend = element("div", { class: "legend" }, "0", element("span", { class: "bar", role: "img", "aria-label": "colour scale of activations" }), number(largest), said);
  return part("Where it is most active", "Point at a token for its activation; the line marks the largest.", legend, ...examples.map((example) => exampleOf(example, largest, said)));
}

function detailParts(detail) {
  const lists = [
    detail.promoted.length ? effects("Tokens it promotes", detail.promoted) : null,
    detail.suppressed.length ? effects("Tokens it suppresses", detail.suppressed) : null,
  ];
  return [
    detail.examples.length ? examplesOf(detail.examples) : null,
    lists.some(Boolean) ? element("div", { class: "pairs" }, ...lists) : null,
    detail.coactive.length ? coactiveOf(detail.coactive) : null,
    detail.histogram ? histogramOf(detail.histogram) : null,
  ];
}

function headOf(row) {
  const group = table.groups[columns.group[row]];
  const label = labelOf(row);
  return [
    element("h2", {}, `Latent ${columns.latent[row]}`, group ? element("span", { class: "badge" }, words(group)) : null),
    label ? element("p", { class: "see" }, labelText(label), ` · AUROC ${label[2].toFixed(3)}`) : null,
    described && columns.description[row]
      ? element("p", { class: "see" }, element("bdi", {}, visible(columns.description[row])), element("span", { class: "badge" }, `guess by ${visible(table.describer)}`))
      : null,
  ];
}

async function showLatent(row) {
  const mine = ++turn;
  const waiting = element("div", { "aria-live": "polite" });
  panel.replaceChildren(...[...headOf(row), waiting, ...numbersOf(row)].filter(Boolean));
  panel.scrollTop = 0;
  panel.dataset.state = "reading";
  let parts;
  try {
    const detail = await detailOf(row);
    parts = detail ? detailParts(detail) : [element("p", { class: "note" }, "The page has no examples of this latent.")];
  } catch (error) {
    parts = [element("p", { class: "note", role: "alert" }, `The rest of this latent can't be shown: ${error.message}.`)];
  }
  if (mine !== turn) return;
  waiting.replaceChildren(...parts.filter(Boolean));
  panel.dataset.state = "shown";
}

function showNothing(text) {
  turn++;
  panel.replaceChildren(element("p", { class: "note", role: "alert" }, text));
  panel.dataset.state = "shown";
}

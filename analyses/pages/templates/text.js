"use strict";

// Every text of the data is untrusted. It reaches the document through `element`, as text nodes and as values of
// attributes that can't run, and its invisible characters are named: they could reorder or hide what stands beside them.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const NAMED = { "\n": "↵", "\t": "⇥", "\r": "␍" };

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// A text without invisible characters: U+202E becomes ⟨U+202E⟩, a line break ↵.
function visible(text) {
  if (!HIDDEN.test(text)) return text;
  return Array.from(text, (c) => {
    if (!HIDDEN.test(c)) return c;
    return c in NAMED ? NAMED[c] : `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  }).join("");
}

// A token by itself, its outer spaces shown.
function chip(token) {
  const text = visible(token).replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
  return element("span", { class: "chip", title: text }, text === "" ? "(empty)" : text);
}

function words(name) {
  return visible(name.replaceAll("_", " "));
}

function number(value, digits = 3) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(digits)));
  return text.replaceAll("-", "−");
}

function percent(share) {
  return share === 0 ? "0" : share < 1e-4 ? "<0.01 %" : `${Number((100 * share).toPrecision(2))} %`;
}

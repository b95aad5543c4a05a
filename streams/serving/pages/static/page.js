// What makes a page live: it is complete without this.
"use strict";

const LATEST = 12; // changes in the feed
const POLL = 10_000; // ms between two looks at the page without changes
const LEAST = 1_500; // ms between two looks with changes
const FLUSH = 200; // ms for which changes are collected before they are shown
const AGAIN = 4_000; // ms after which a lost stream is opened again

const main = document.querySelector("main");
const banner = document.querySelector("#banner");

// Theme

const toggle = document.querySelector("#theme");
const dark = () =>
  (document.documentElement.dataset.theme ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const name = () => (toggle.textContent = dark() ? "Light" : "Dark");
toggle.hidden = false;
toggle.setAttribute("aria-label", "Switch between light and dark");
toggle.addEventListener("click", () => {
  const theme = dark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  name();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
name();

// Search: straight to the customer

document.querySelector("[data-search]").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = event.target.elements.id.value.trim();
  if (id) location.href = "/customers/" + encodeURIComponent(id);
});

// Tables that sort the rows they show

let sorted = null; // column and direction of the table `sorted.label`

function makeSortable(root) {
  for (const table of root.querySelectorAll("table[data-sortable]")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      if (head.querySelector("button, .hidden")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        sorted = { column, down, label: label(table) };
        sort(table);
      });
    });
    if (sorted?.label === label(table)) sort(table);
  }
}

const label = (table) => table.closest("[role=region]")?.getAttribute("aria-label");

function sort(table) {
  const { column, down } = sorted;
  const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  const compare = (left, right) => {
    const [a, b] = [key(left), key(right)];
    const [x, y] = [Number(a), Number(b)];
    return a !== "" && b !== "" && !isNaN(x) && !isNaN(y) ? x - y : a.localeCompare(b);
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
  table.querySelectorAll("thead th").forEach((head, number) => {
    if (number === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

makeSortable(document);

// Looking again: the parts of the page that have changed are replaced

let looked = Date.now();
let shown = new Date();
let planned = null;
let looking = false;
let paused = false;

async function look() {
  planned = null;
  if (looking || paused || document.hidden) return;
  looking = true;
  looked = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) return location.assign(answer.url);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const outage = page.querySelector("#outage");
    if (answer.ok) {
      if (document.querySelector("#outage")) return location.reload();
      replace(page);
      shown = new Date();
      banner.hidden = true;
    } else if (outage) say(outage.textContent);
    else location.reload();
  } catch {
    say("The server of this page does not answer; it is tried again.");
  } finally {
    looking = false;
  }
}

function say(text) {
  if (document.querySelector("#outage")) return;
  const time = shown.toLocaleTimeString("en-GB");
  banner.textContent = `Not current: what is shown is from ${time}. ${text}`;
  banner.hidden = false;
}

function replace(page) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = page.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!fresh || part.contains(document.activeElement)) continue;
    const open = [...part.querySelectorAll("details")].map((each) => each.open);
    fresh.querySelectorAll("details").forEach((each, number) => (each.open = open[number] ?? false));
    makeSortable(fresh);
    if (part.outerHTML !== fresh.outerHTML) part.replaceWith(fresh);
  }
}

function plan(milliseconds) {
  planned ??= setTimeout(look, milliseconds);
}

// Changes as they come

const feed = document.querySelector("#feed");
const waiting = [];

function open() {
  const customer = main.dataset.customer;
  const which = customer === undefined ? "" : "?customer_id=" + encodeURIComponent(customer);
  const stream = new EventSource("/v1/changes" + which);
  stream.addEventListener("clv.segment-changed", (event) => changed(JSON.parse(event.data).data));
  stream.addEventListener("clv.customer-removed", soon);
  stream.addEventListener("gap", soon);
  stream.addEventListener("error", () => {
    // The browser opens it again by itself, but not after an answer such as 503.
    if (stream.readyState === EventSource.CLOSED) setTimeout(open, AGAIN);
    soon();
  });
  addEventListener("pagehide", () => stream.close(), { once: true });
}

const soon = () => plan(Math.max(0, LEAST - (Date.now() - looked)));

function changed(change) {
  soon();
  if (!feed) return;
  if (!waiting.length) setTimeout(flush, paused ? 0 : FLUSH);
  waiting.push(change);
  if (waiting.length > LATEST) waiting.shift();
}

function flush() {
  if (!paused) feed.prepend(...waiting.map(item).reverse());
  waiting.length = 0;
  while (feed.children.length > LATEST) feed.lastElementChild.remove();
}

const money = (amount) =>
  amount
    .toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })
    .replace("-", "−");

function item(change) {
  const line = document.createElement("li");
  const link = document.createElement("a");
  link.href = "/customers/" + encodeURIComponent(change.customer_id);
  link.textContent = change.customer_id;
  const way = text("span", "way", `${change.dimension}: ${change.previous ?? "–"} → `);
  way.append(text("strong", "", change.current ?? "none"));
  const before = change.clv_before === null ? "" : money(change.clv_before) + " → ";
  const worth = `${before}${money(change.clv_after)} ${feed.dataset.currency}`;
  const time = text("time", "", change.as_of.slice(0, 10));
  time.dateTime = change.as_of;
  line.className = "fresh";
  line.append(link, " ", way, " ", text("span", "worth", worth), " ");
  line.append(text("span", "why", change.reason.text), " ", time);
  return line;
}

function text(tag, style, content) {
  const element = document.createElement(tag);
  if (style) element.className = style;
  element.textContent = content;
  return element;
}

const pause = document.querySelector("#pause");
if (pause) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) look();
  });
}

if (main.dataset.live !== undefined || document.querySelector("#outage")) {
  setInterval(() => plan(0), POLL);
  if (document.querySelector(".waiting")) plan(LEAST);
  document.addEventListener("visibilitychange", () => document.hidden || plan(0));
}
if (main.dataset.live !== undefined && (feed || main.dataset.customer !== undefined)) open();

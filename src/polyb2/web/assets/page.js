// The live parts of the page: renews them every two seconds, and says what the pointer is on. Without it all else works.
"use strict";
const EVERY_MS = 2000;
document.documentElement.classList.add("scripted");

function renew(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const next of fresh.querySelectorAll(".live[id]")) {
    const old = document.getElementById(next.id);
    if (!old || old.outerHTML === next.outerHTML) continue;
    if (next.id === "state") { // a live region: announced only when its words change
      if (old.textContent !== next.textContent) old.replaceChildren(...next.childNodes);
      continue;
    }
    if (old.contains(document.getSelection()?.anchorNode) && !document.getSelection().isCollapsed) continue;
    const focused = old.contains(document.activeElement) ? nth(old, document.activeElement) : -1;
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    old.replaceWith(next);
    next.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = scrolled[i] ?? 0; });
    if (focused >= 0) next.querySelectorAll("a, [tabindex]")[focused]?.focus({ preventScroll: true });
  }
}

const nth = (box, element) => [...box.querySelectorAll("a, [tabindex]")].indexOf(element);

let lastAnswer = "";
async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/live", { signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(answer.status === 503 ? "the ledger cannot be read" : `status ${answer.status}`);
      renew(await answer.text());
      document.body.classList.remove("stale");
      lastAnswer = document.getElementById("as-of").textContent;
    } catch (error) {
      document.body.classList.add("stale");
      const said = error.message.startsWith("the ledger") ? error.message : "polyb2 does not answer";
      document.getElementById("as-of").textContent = `${said}; what is shown is ${lastAnswer}`;
    }
  }
  setTimeout(look, EVERY_MS);
}
if (document.body.dataset.live !== undefined) {
  lastAnswer = document.getElementById("as-of").textContent;
  setTimeout(look, EVERY_MS);
}

function size(bytes) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (bytes < 999.95) return `${bytes.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    bytes /= 1000;
  }
  return `${bytes.toFixed(1)} TB`;
}

function ago(seconds) {
  const whole = Math.round(seconds);
  return whole >= 60 ? `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, "0")}s` : `${whole}s`;
}

document.addEventListener("pointermove", (event) => {
  const drawing = event.target.closest?.(".chart svg");
  for (const chart of document.querySelectorAll(".chart")) {
    const [cursor, caption] = [chart.querySelector(".cursor"), chart.querySelector("figcaption")];
    if (!drawing || !chart.contains(drawing)) {
      if (cursor.getAttribute("d")) { cursor.setAttribute("d", ""); caption.textContent = caption.dataset.rest; }
      continue;
    }
    const { left, width } = drawing.getBoundingClientRect();
    const x = 1000 * (event.clientX - left) / width;
    const points = chart.querySelector(".line").getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number));
    const near = points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
    cursor.setAttribute("d", `M${near[0]} 0V100`);
    const rate = Number(chart.dataset.top) * (1 - near[1] / 100);
    caption.textContent = `${size(rate)}/s, ${ago(Number(chart.dataset.span) * (1 - near[0] / 1000))} ago`;
  }
});

const pointed = document.getElementById("pointed");
for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const day = event.target.closest?.("#coverage td > [title]");
    if (day && pointed) {
      const date = day.href?.match(/\d{4}-\d\d-\d\d/)?.[0];
      pointed.textContent = date ? `${date}: ${day.title}` : day.title;
    }
  });
}

const choice = document.querySelector("#coverage form");
choice?.addEventListener("change", (event) => {
  if (event.target.name === "dataset") choice.elements.year.disabled = true; // its years may be others
  choice.requestSubmit();
});

// Put pushed fragments in their places, keep opened details open, ask before a halt, say when the dashboard is gone
// or silent. A dashboard that was started again has another token: the forms of this page take it over.
"use strict";

const offline = document.getElementById("offline");
const source = new EventSource("/events");
const silenceMs = Number(offline.dataset.silenceMs);
let lastHeard = Date.now();

function heard() {
  lastHeard = Date.now();
  offline.hidden = true;
}

for (const name of ["header", "equity", "markets", "allocation", "decisions", "orders", "services"]) {
  source.addEventListener(name, (event) => {
    heard();
    const place = document.getElementById(name);
    const opened = new Set([...place.querySelectorAll("details[open] > summary")].map((s) => s.textContent));
    const touched = place.dataset.touched === "yes";
    place.innerHTML = event.data;
    if (touched) {
      for (const details of place.querySelectorAll("details")) {
        details.open = opened.has(details.querySelector("summary").textContent);
      }
    }
  });
}
document.addEventListener("toggle", (event) => {
  const place = event.target.closest("section");
  if (place && event.target.matches("details") && document.activeElement === event.target.querySelector("summary")) {
    place.dataset.touched = "yes";
  }
}, true);
source.addEventListener("beat", heard);
source.addEventListener("token", (event) => {
  for (const input of document.querySelectorAll("input[name=token]")) input.value = event.data;
});
source.onopen = heard;
source.onerror = () => { offline.hidden = false; };
setInterval(() => { if (Date.now() - lastHeard > silenceMs) offline.hidden = false; }, 1000);
for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.confirm)) event.preventDefault();
  });
}
if (location.search || location.pathname !== "/") history.replaceState(null, "", "/");

// Put pushed fragments in their places, keep opened details open, ask before a halt, say when the dashboard is gone.
"use strict";

const offline = document.getElementById("offline");
const source = new EventSource("/events");
let lastHeard = Date.now();

for (const name of ["header", "equity", "markets", "allocation", "decisions", "orders", "services"]) {
  source.addEventListener(name, (event) => {
    lastHeard = Date.now();
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
source.onopen = () => { lastHeard = Date.now(); offline.hidden = true; };
source.onerror = () => { offline.hidden = false; };
for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.confirm)) event.preventDefault();
  });
}
if (location.search) history.replaceState(null, "", location.pathname);

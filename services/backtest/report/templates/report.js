// Read values off the charts under the pointer, open the rebalance that a mark leads to, unfold all for a printer.
"use strict";

const points = JSON.parse(document.getElementById("points").textContent);
const readout = document.getElementById("readout");
const cursors = document.querySelectorAll(".cursor");
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function nearest(x) {
  let low = 0, high = points.x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points.x[middle] <= x) low = middle; else high = middle;
  }
  return x - points.x[low] <= points.x[high] - x ? low : high;
}

function show(index) {
  readout.textContent = "";
  readout.append(`${points.time[index]}  `);
  points.names.forEach((name, line) => {
    const value = points.values[line][index];
    if (value === null) return;
    const bold = document.createElement("b");
    bold.textContent = number.format(value);
    readout.append(`· ${name} `, bold, " ");
  });
  const fall = points.fall[index];
  if (fall !== null) readout.append(`· ${(fall * 100).toFixed(1)} %`);
  for (const cursor of cursors) {
    cursor.setAttribute("x1", points.x[index]);
    cursor.setAttribute("x2", points.x[index]);
    cursor.classList.add("on");
  }
}

for (const place of document.querySelectorAll(".pointer")) {
  place.addEventListener("pointermove", (event) => {
    const box = place.querySelector("svg").getBoundingClientRect();
    show(nearest((event.clientX - box.left) / box.width * 800));
  });
  place.addEventListener("pointerleave", () => {
    readout.textContent = "";
    for (const cursor of cursors) cursor.classList.remove("on");
  });
}

function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.matches("details")) { target.open = true; target.scrollIntoView({ block: "start" }); }
}
window.addEventListener("hashchange", openTarget);
openTarget();

const unfold = document.getElementById("unfold");
if (unfold) {
  unfold.hidden = false;
  unfold.addEventListener("click", () => {
    const plans = [...document.querySelectorAll(".plan")];
    const open = plans.some((plan) => !plan.open);
    for (const plan of plans) plan.open = open;
    unfold.textContent = open ? "Fold all" : "Unfold all";
  });
}
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});

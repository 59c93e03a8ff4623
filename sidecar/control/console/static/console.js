/* Pages work without this: it adds rows as calls are recorded, draws the write pressure, and looks
   again at what waits. Rows come from the server as text that is escaped already. */
"use strict";

(function followCalls() {
  const live = document.getElementById("live"), rows = document.getElementById("calls");
  if (!live || !rows || !window.EventSource) return;
  const word = document.getElementById("live-word");
  const query = live.dataset.here.split("?")[1];
  const source = new EventSource("/console/live/calls" + (query ? "?" + query : ""));
  live.hidden = false;
  source.addEventListener("calls", (event) => {
    const made = document.createElement("template");
    made.innerHTML = event.data;
    for (const row of made.content.querySelectorAll("tr")) row.classList.add("new");
    rows.prepend(made.content);
    while (rows.children.length > 200) rows.lastElementChild.remove();
    const empty = document.querySelector(".empty");
    if (empty) empty.remove();
  });
  source.addEventListener("missed", (event) => { word.textContent = event.data; });
  source.addEventListener("over", () => {
    source.close();
    live.classList.add("off");
    word.textContent = "You are not signed in any more.";
  });
  source.onerror = () => { live.classList.add("off"); };
  source.onopen = () => { live.classList.remove("off"); };
})();

(function followInbox() {
  const inbox = document.getElementById("inbox");
  if (!inbox) return;
  setInterval(async () => {
    if (document.hidden || inbox.contains(document.activeElement)) return;
    const answer = await fetch(inbox.dataset.follow, { redirect: "error" }).catch(() => null);
    if (!answer || !answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("inbox");
    if (fresh && fresh.innerHTML !== inbox.innerHTML) inbox.replaceChildren(...fresh.childNodes);
  }, 2000);
})();

(function drawPressure() {
  const place = document.getElementById("pressure");
  if (!place || !window.uPlot) return;
  place.hidden = false;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const data = [[], [], []];
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } };
  const plot = new uPlot({
    width: place.clientWidth, height: 190, legend: { show: true },
    // Not what uPlot takes of a single point, which is years: a minute, then all there is.
    scales: { x: { range: () => { const last = data[0].at(-1) ?? Date.now() / 1000; return [Math.min(data[0][0] ?? last, last - 60), last]; } }, depth: { range: (_, low, high) => [0, Math.max(4, high)] }, y: { range: (_, low, high) => [0, Math.max(1, high)] } },
    axes: [axis, { ...axis, size: 50 }, { ...axis, scale: "depth", side: 1, grid: { show: false } }],
    series: [{}, { label: "calls/s", stroke: colour("--accent"), width: 2 },
      { label: "waiting", stroke: colour("--ask"), fill: colour("--ask-ground"), scale: "depth", paths: uPlot.paths.bars({ size: [0.7] }) }],
  }, data, place);
  const look = async () => {
    if (document.hidden) return;
    const answer = await fetch(place.dataset.from, { redirect: "error" }).catch(() => null);
    if (!answer || !answer.ok) return;
    const now = await answer.json();
    data[0].push(Date.now() / 1000); data[1].push(now.calls_per_s); data[2].push(now.depth);
    for (const one of data) while (one.length > 300) one.shift();
    plot.setData(data);
  };
  look();
  setInterval(look, 2000);
  window.addEventListener("resize", () => plot.setSize({ width: place.clientWidth, height: 190 }));
})();

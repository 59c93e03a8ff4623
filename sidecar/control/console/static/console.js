/* Pages work without this, and without htmx, which does what the attributes of a page say. Here is
   what those cannot: when not to look again, what becomes of errors, and the drawing. */
"use strict";

(function besideHtmx() {
  // The one thing that htmx keeps, whatever it is told: the address, with all that it asks for.
  try { sessionStorage.removeItem("htmx-current-path-for-history"); } catch { /* kept nowhere */ }
  const named = (id) => document.getElementById(id);
  const on = (name, act) => document.addEventListener(`htmx:${name}`, act);
  const problem = named("problem");
  const inboxIn = (page) => page.getElementById("inbox")?.innerHTML;
  let inbox = inboxIn(document);
  // A list does not move under a hand, while somebody writes in it, or an answer is on its way.
  let movedAt = 0;
  document.addEventListener("pointermove", () => { movedAt = Date.now(); });
  const isInUse = () => named("inbox").querySelector(":focus, .htmx-request"
    + (Date.now() - movedAt < 5000 ? ", form:hover" : ""));

  on("beforeRequest", (event) => {
    if (event.target.id === "look-again" && (document.hidden || isInUse())) event.preventDefault();
  });
  on("beforeSwap", ({ detail }) => {
    const by = detail.requestConfig.elt.id;
    if (detail.isError) { problem.dataset.by = by; problem.replaceChildren(); return; }
    if (by !== "look-again" || problem.dataset.by === by) problem.replaceChildren();
    if (!["inbox", "page"].includes(detail.target.id)) return;
    const fresh = inboxIn(new DOMParser().parseFromString(detail.serverResponse, "text/html"));
    if (by === "look-again" && (fresh === inbox || isInUse())) { detail.shouldSwap = false; return; }
    inbox = fresh;
  });
  const tell = ({ detail }) => {
    if (problem.hasChildNodes()) return;
    const said = document.createElement("p"), status = detail.xhr && detail.xhr.status;
    problem.dataset.by = detail.requestConfig.elt.id;
    said.className = "wrong";
    said.textContent = status ? `It was not done: the sidecar answered ${status}.`
      : "The sidecar cannot be reached. It is not known whether it heard; look again before you repeat it.";
    problem.append(said);
  };
  for (const name of ["responseError", "sendError", "timeout", "onLoadError"]) on(name, tell);
  on("afterSwap", (event) => {
    if (event.target.id === "page" && document.activeElement === document.body) named("main").focus({ preventScroll: true });
  });

  on("sseOpen", () => { named("live").hidden = false; named("live").classList.remove("off"); });
  on("sseError", () => { named("live").classList.add("off"); });
  on("sseClose", () => {
    named("live").classList.add("off");
    named("live-word").textContent = "You are not signed in any more.";
  });
  on("sseMessage", ({ target: rows }) => {
    if (rows.id !== "calls") return;
    while (rows.children.length > 200) rows.lastElementChild.remove();
    document.querySelector(".empty")?.remove();
  });
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

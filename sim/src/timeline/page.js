"use strict";
// Draws the data of the page. Time runs down, each task has a lane; everything is text content
// or an attribute, never markup, so nothing in the data can become part of the page.
(() => {
  // What is hidden has no width.
  document.querySelector("main").hidden = false;
  const data = JSON.parse(document.getElementById("data").textContent);
  const timed = data.events.some((event) => event.at);
  const GUTTER = timed ? 96 : 46, ROW = 26, HEAD = 30, BANNER = 26, CHAR = 7.3, AXIS = 34, SMALL = 2000;
  const find = (id) => document.getElementById(id);
  const view = find("view"), picture = find("picture"), heads = find("heads"), about = find("about");

  const put = (parent, name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const add = (parent, name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    parent.append(node);
    return node;
  };
  const hue = (object) => (object * 137.5 + 210) % 360;
  const cut = (text, most) => ([...text].length <= most ? text : [...text].slice(0, most - 1).join("") + "\u2026");

  // Where everything is, before any zoom.
  const lanes = data.lanes.map((name) => ({ name, most: name.length + 1 }));
  for (const event of data.events) {
    const label = event.say + (event.stale ? "  " + event.stale : "");
    lanes[event.lane].most = Math.max(lanes[event.lane].most, [...label].length);
  }
  for (const stuck of data.stuck) {
    lanes[stuck.lane].most = Math.max(lanes[stuck.lane].most, [...stuck.short].length + 1);
  }
  let across = GUTTER;
  for (const lane of lanes) {
    lane.chars = Math.min(lane.most, 44);
    lane.left = across;
    lane.axis = across + AXIS;
    lane.width = Math.max(AXIS + 18 + lane.chars * CHAR, 96);
    across += lane.width;
  }
  // What room there is goes to the lanes, up to a measure.
  const spare = Math.max(0, Math.min((view.clientWidth - 2 - across) / Math.max(lanes.length, 1), 80));
  lanes.forEach((lane, place) => { lane.left += place * spare; lane.axis += place * spare; lane.width += spare; });
  const width = Math.max(across + lanes.length * spare, 200);
  const rows = [];
  let down = 10 + ROW / 2;
  for (const event of data.events) {
    if (event.turn && event.turn.critical) down += BANNER;
    rows.push(down);
    down += ROW;
  }
  if (data.last && data.last.critical) down += BANNER;
  rows.push(down);
  const height = down + ROW * (data.stuck.length ? 1 : 0) + 4;
  const small = data.events.length <= SMALL;
  let scale = 1;
  let chosen = null;

  const marks = put(picture, "defs");
  const hatch = put(marks, "pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  put(hatch, "line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 6 });
  const tip = (id, name) => {
    const marker = put(marks, "marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" });
    put(marker, "path", { class: name, d: "M0 0 8 4 0 8Z" });
  };
  tip("tip", "tip");
  tip("cycle-tip", "cycle-tip");
  const ground = put(picture, "g");
  const moving = put(picture, "g");

  function drawLanes() {
    for (const lane of lanes) {
      const group = put(ground, "g", { class: "lane", "data-task": lane.name });
      put(group, "rect", { x: lane.left, y: 0, width: lane.width, height });
      put(group, "line", { x1: lane.axis, x2: lane.axis, y1: 0, y2: height });
      const most = Math.max(3, Math.floor((lane.width - 20) / 8));
      put(heads, "text", { class: "head", x: lane.left + 10, y: 20 }, cut(lane.name, most));
    }
  }

  // Lock bars of one lane that overlap stand side by side.
  function places() {
    const busy = lanes.map(() => []);
    for (const span of data.spans) {
      if (span.kind === "waiting") continue;
      const used = busy[span.lane];
      let place = used.findIndex((until) => until <= span.from);
      if (place < 0) place = used.push(0) - 1;
      used[place] = span.open ? Infinity : span.to;
      span.place = place;
    }
  }

  function drawSpans(parent, from, to) {
    for (const span of data.spans) {
      if (span.to < from || span.from > to) continue;
      const lane = lanes[span.lane];
      const waits = span.kind === "waiting";
      const top = waits ? rows[span.from] - ROW / 2 : rows[span.from];
      const bottom = span.open ? height - (waits ? ROW * 0.6 : 0) : rows[span.to];
      const bar = put(parent, "rect", {
        class: "bar " + span.kind + (span.open ? " open" : ""),
        x: waits ? lane.axis - 4 : lane.axis - 13 - Math.min(span.place, 2) * 7,
        y: top, width: waits ? 8 : 5, height: Math.max(bottom - top, 3), rx: 2,
      });
      if (span.object !== null) bar.style.setProperty("--hue", hue(span.object));
      put(bar, "title", {}, data.lanes[span.lane] + " " + span.say);
    }
  }

  function drawArrows(parent, from, to) {
    for (const arrow of data.arrows) {
      if (arrow.to < from || arrow.from > to) continue;
      const a = lanes[data.events[arrow.from].lane].axis, b = lanes[data.events[arrow.to].lane].axis;
      const y = rows[arrow.from], z = rows[arrow.to];
      if (a === b) continue;
      const side = b > a ? -1 : 1;
      const bend = Math.min(30, (z - y) / 2);
      const path = put(parent, "path", {
        class: "arrow " + arrow.kind, "marker-end": "url(#tip)",
        // From the left it comes in on the line, from the right from above: there is a label.
        d: side < 0
          ? `M${a} ${y + 5} C${a} ${y + 5 + bend} ${b - 24} ${z - bend} ${b - 6} ${z}`
          : `M${a} ${y + 5} C${a} ${y + 5 + bend} ${b + 16} ${z - bend - 8} ${b + 4} ${z - 6}`,
      });
      put(path, "title", {}, arrow.kind);
    }
  }

  function drawTurn(parent, turn, y) {
    const name = "turn" + (turn.preemption ? " preemption" : "") + (turn.critical ? " critical" : "");
    const middle = y - ROW / 2;
    if (turn.critical) {
      const group = put(parent, "g", { class: "banner" });
      const wide = Math.min(width - 8, view.clientWidth / scale - 8 || width);
      put(group, "rect", { x: 4, y: middle - BANNER + 3, width: Math.max(wide, 120), height: BANNER - 7, rx: 3 });
      put(group, "text", { x: 12, y: middle - 8 }, cut("CRITICAL: " + turn.say, Math.floor((wide - 16) / 7.6)));
      put(group, "title", {}, turn.say + "; without it the failure vanishes");
    }
    if (turn.from === null || turn.to === null || turn.from === turn.to) return;
    const a = lanes[turn.from].axis, b = lanes[turn.to].axis;
    const path = put(parent, "path", { class: name, d: `M${a} ${middle - (turn.critical ? BANNER : 6)}V${middle}H${b}V${y - 5}` });
    put(path, "title", {}, turn.say);
  }

  function drawEvent(parent, event, place) {
    const lane = lanes[event.lane], y = rows[place];
    const name = ["event", event.quiet ? "quiet" : "", event.stale ? "stale" : "", event.missed ? "missed" : "", event.failing ? "failing" : ""];
    const group = put(parent, "g", {
      class: name.filter(Boolean).join(" "), tabindex: -1, role: "button", "data-event": place,
      "aria-label": `${place + 1}: ${data.lanes[event.lane]} ${event.say} ${event.stale || ""}`,
    });
    put(group, "rect", { class: "hit", x: lane.left + 1, y: y - ROW / 2, width: lane.width - 2, height: ROW, rx: 4 });
    put(group, "circle", { cx: lane.axis, cy: y, r: event.quiet ? 3.5 : 5 });
    const label = event.say + (event.stale ? "  " + event.stale : "");
    put(group, "text", { x: lane.axis + 11, y: y + 4 }, cut(label, lane.chars));
    const mark = event.turn ? (event.turn.critical ? "*" : event.turn.preemption ? "!" : "") : "";
    put(group, "text", { class: "number", x: GUTTER - 8, y: y + 4, "text-anchor": "end" }, mark + (event.at || place + 1));
  }

  function drawStuck(parent) {
    data.stuck.forEach((stuck, place) => {
      const lane = lanes[stuck.lane], y = height - ROW * 0.6;
      const group = put(parent, "g", {
        class: "stuck", tabindex: -1, role: "button", "data-stuck": place,
        "aria-label": `${data.lanes[stuck.lane]} ${stuck.say}`,
      });
      put(group, "rect", { class: "hit", x: lane.left + 1, y: y - ROW / 2, width: lane.width - 2, height: ROW, rx: 4 });
      put(group, "path", { d: `M${lane.axis - 5} ${y - 5}l10 10m0-10l-10 10` });
      put(group, "text", { x: lane.axis + 11, y: y + 4 }, cut(stuck.short, lane.chars + 1));
    });
  }

  // Short executions are drawn whole; of long ones only what can be seen.
  function draw() {
    let from = 0, to = data.events.length;
    if (!small) {
      const top = view.scrollTop / scale - 800, bottom = (view.scrollTop + view.clientHeight) / scale + 800;
      const reach = (y) => { let a = 0, b = rows.length; while (a < b) { const m = (a + b) >> 1; if (rows[m] < y) a = m + 1; else b = m; } return a; };
      from = reach(top);
      to = reach(bottom);
    }
    moving.replaceChildren();
    drawSpans(moving, from, to);
    for (let place = from; place < Math.min(to + 1, data.events.length); place += 1) {
      if (data.events[place].turn) drawTurn(moving, data.events[place].turn, rows[place]);
    }
    if (data.last && to >= data.events.length) drawTurn(moving, data.last, rows[data.events.length]);
    drawArrows(moving, from, to);
    for (let place = from; place < Math.min(to + 1, data.events.length); place += 1) drawEvent(moving, data.events[place], place);
    if (to >= data.events.length) drawStuck(moving);
    mark();
  }

  const selector = (at) => (at.stuck === undefined ? `[data-event="${at.event}"]` : `[data-stuck="${at.stuck}"]`);
  function mark() {
    for (const old of moving.querySelectorAll(".chosen")) { old.classList.remove("chosen"); old.setAttribute("tabindex", -1); }
    const node = chosen && moving.querySelector(selector(chosen));
    if (node) { node.classList.add("chosen"); node.setAttribute("tabindex", 0); }
    return node;
  }

  function tell(at) {
    const it = at.stuck === undefined ? data.events[at.event] : data.stuck[at.stuck];
    about.replaceChildren();
    const number = at.stuck === undefined ? `#${at.event + 1} ` : "";
    add(about, "h3", `${number}${data.lanes[it.lane]}: ${it.say}`, "mono");
    const list = add(about, "dl");
    const fact = (name, value, loud) => { add(list, "dt", name); add(list, "dd", value, loud ? "loud" : ""); };
    if (it.stale) fact("stale", it.stale, true);
    for (const [name, value] of it.facts) fact(name, value);
    if (it.turn) {
      const kind = it.turn.critical ? "critical: without it the failure vanishes" : it.turn.preemption ? "preemption" : "";
      fact(timed ? "fault" : "switch", it.turn.say + (kind ? " (" + kind + ")" : ""), it.turn.critical);
    }
    const site = it.site === null ? null : data.sites[it.site];
    if (site) {
      fact("source", site.at);
      if (site.lines.length) {
        const code = add(about, "pre");
        for (const [number, text] of site.lines) {
          const line = add(code, "span", undefined, number === site.line ? "here" : "");
          add(line, "i", String(number).padStart(4) + "  ");
          line.append(text || " ");
        }
      }
    }
  }

  function choose(at, focus) {
    chosen = at;
    tell(at);
    if (!small && focus && at.stuck === undefined) {
      const y = rows[at.event] * scale;
      if (y < view.scrollTop + 40 || y > view.scrollTop + view.clientHeight - 60) { view.scrollTop = y - view.clientHeight / 2; draw(); }
    }
    const node = mark();
    if (node && focus) { node.focus({ preventScroll: true }); reveal(node); }
  }

  // The lanes' names stick to the top and would hide what is scrolled just below the edge.
  function reveal(node) {
    const box = node.getBoundingClientRect(), frame = view.getBoundingClientRect(), head = HEAD * scale + 30;
    if (box.top < frame.top + head) view.scrollTop -= frame.top + head - box.top;
    if (box.bottom > frame.bottom - 10) view.scrollTop += box.bottom - frame.bottom + 10;
    if (box.left < frame.left) view.scrollLeft -= frame.left - box.left + 10;
    else if (box.right > frame.right) view.scrollLeft += Math.min(box.right - frame.right + 10, box.left - frame.left);
  }

  function zoom(next, x, y) {
    next = Math.min(4, Math.max(0.1, next));
    const atX = x === undefined ? view.clientWidth / 2 : x, atY = y === undefined ? view.clientHeight / 2 : y;
    const left = (view.scrollLeft + atX) / scale, top = (view.scrollTop + atY) / scale;
    scale = next;
    for (const [svg, tall] of [[picture, height], [heads, HEAD]]) {
      svg.setAttribute("preserveAspectRatio", "xMinYMin meet");
      svg.setAttribute("viewBox", `0 0 ${width} ${tall}`);
      svg.setAttribute("width", Math.round(width * scale));
      svg.setAttribute("height", Math.round(tall * scale));
    }
    find("scale").textContent = Math.round(scale * 100) + "%";
    view.scrollLeft = left * scale - atX;
    view.scrollTop = top * scale - atY;
    draw();
  }
  const fit = () => zoom(Math.min((view.clientWidth - 2) / width, (view.clientHeight - 4) / (height + HEAD), 1));

  const targetOf = (node) => {
    const group = node instanceof Element && node.closest("[data-event], [data-stuck]");
    if (!group) return null;
    return group.dataset.event === undefined ? { stuck: Number(group.dataset.stuck) } : { event: Number(group.dataset.event) };
  };
  const same = (a, b) => a && b && a.event === b.event && a.stuck === b.stuck;
  function step(by, own) {
    if (!data.events.length) return;
    const at = chosen && chosen.stuck === undefined ? chosen.event : by > 0 ? -1 : data.events.length;
    const lane = own && data.events[at] ? data.events[at].lane : null;
    let next = at + by;
    while (lane !== null && data.events[next] && data.events[next].lane !== lane) next += by;
    if (data.events[next]) choose({ event: next }, true);
  }
  const criticals = data.events.map((event, place) => (event.turn && event.turn.critical ? place : -1)).filter((place) => place >= 0);
  function nextCritical() {
    if (!criticals.length) return;
    const at = chosen && chosen.stuck === undefined ? chosen.event : -1;
    const next = criticals.find((place) => place > at);
    choose({ event: next === undefined ? criticals[0] : next }, true);
  }

  function listen() {
    let drag = null;
    view.addEventListener("pointerover", (e) => { const at = targetOf(e.target); if (at && !drag) tell(at); });
    view.addEventListener("pointerleave", () => { if (chosen) tell(chosen); });
    view.addEventListener("focusin", (e) => { const at = targetOf(e.target); if (at && !same(at, chosen)) choose(at, false); });
    view.addEventListener("click", (e) => { const at = targetOf(e.target); if (at) choose(at, false); });
    view.addEventListener("wheel", (e) => {
      if (!e.ctrlKey && !e.metaKey && !e.altKey) return;
      e.preventDefault();
      const box = view.getBoundingClientRect();
      zoom(scale * Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0022)), e.clientX - box.left, e.clientY - box.top);
    }, { passive: false });
    view.addEventListener("pointerdown", (e) => {
      if (e.pointerType !== "mouse" || e.button !== 0) return;
      drag = { x: e.clientX, y: e.clientY, left: view.scrollLeft, top: view.scrollTop };
    });
    window.addEventListener("pointermove", (e) => {
      if (!drag) return;
      view.classList.add("moving");
      view.scrollLeft = drag.left - (e.clientX - drag.x);
      view.scrollTop = drag.top - (e.clientY - drag.y);
    });
    for (const name of ["pointerup", "pointercancel", "blur"]) window.addEventListener(name, () => { drag = null; view.classList.remove("moving"); });
    let asked = false;
    view.addEventListener("scroll", () => {
      if (small || asked) return;
      asked = true;
      requestAnimationFrame(() => { asked = false; draw(); });
    });
    find("in").onclick = () => zoom(scale * 1.25);
    find("out").onclick = () => zoom(scale / 1.25);
    find("whole").onclick = () => zoom(1);
    find("fit").onclick = fit;
    find("critical").onclick = nextCritical;
    const keys = {
      "+": () => zoom(scale * 1.25), "=": () => zoom(scale * 1.25), "-": () => zoom(scale / 1.25), "0": () => zoom(1),
      f: fit, c: nextCritical, j: () => step(1), k: () => step(-1),
      ArrowDown: () => step(1), ArrowUp: () => step(-1), ArrowRight: () => step(1, true), ArrowLeft: () => step(-1, true),
      Home: () => data.events.length && choose({ event: 0 }, true),
      End: () => data.events.length && choose({ event: data.events.length - 1 }, true),
    };
    document.addEventListener("keydown", (e) => {
      if (e.ctrlKey || e.metaKey || e.altKey || !keys[e.key]) return;
      // Elsewhere on the page arrows scroll, as everywhere.
      if (e.key.length > 1 && !view.contains(e.target)) return;
      e.preventDefault();
      keys[e.key]();
    });
  }

  function drawFailure() {
    const failure = data.failure;
    if (!failure) return;
    const box = find("failure");
    box.hidden = false;
    add(box, "strong", failure.signature);
    if (failure.kind !== failure.signature) box.append(" \u00b7 " + failure.kind);
    if (failure.detail) add(box, "pre", failure.detail);
    if (failure.location) add(box, "div", failure.location, "where mono");
  }

  function drawCycle() {
    const nodes = data.cycle, count = nodes.length;
    if (!count) return;
    find("cycle").hidden = false;
    const big = Math.max(...nodes.map((node) => data.lanes[node.lane].length)) * 4.2 + 14;
    const radius = Math.max(24, Math.min(big, 60)), ring = count === 1 ? 0 : Math.max(80, (count * (radius * 2 + 60)) / (2 * Math.PI));
    const pad = 130, half = ring + radius + 20;
    const svg = put(find("cycle"), "svg", {
      role: "img", width: 2 * (half + pad), height: 2 * half + 30, viewBox: `${-half - pad} ${-half - 15} ${2 * (half + pad)} ${2 * half + 30}`,
      "aria-label": "Wait-for cycle: " + nodes.map((node) => data.lanes[node.lane] + " " + node.say).join("; "),
    });
    const at = (place) => { const turn = (place / count) * 2 * Math.PI - Math.PI / 2; return [ring * Math.cos(turn), ring * Math.sin(turn), turn]; };
    nodes.forEach((node, place) => {
      const [x, y, turn] = at(place), [u, v] = at((place + 1) % count);
      const edge = put(svg, "path", { class: "cycle-edge", "marker-end": "url(#cycle-tip)" });
      let sayX, sayY;
      if (count === 1) {
        edge.setAttribute("d", `M${radius * 0.7} ${-radius * 0.7} C${radius * 2.6} ${-radius * 1.8} ${radius * 2.6} ${radius * 1.8} ${radius * 0.8} ${radius * 0.75}`);
        [sayX, sayY] = [radius * 2.2 + 6, 0];
      } else {
        // An arc of the ring, from the rim of one node to the rim of the next.
        const gap = (radius + 5) / ring, whole = (2 * Math.PI) / count;
        const [a, b] = [turn + gap, turn + whole - gap];
        edge.setAttribute("d", `M${ring * Math.cos(a)} ${ring * Math.sin(a)} A${ring} ${ring} 0 ${b - a > Math.PI ? 1 : 0} 1 ${ring * Math.cos(b)} ${ring * Math.sin(b)}`);
        const middle = turn + whole / 2;
        [sayX, sayY] = [(ring + 12) * Math.cos(middle), (ring + 12) * Math.sin(middle)];
      }
      const anchor = Math.abs(sayX) < 8 ? "middle" : sayX > 0 ? "start" : "end";
      put(svg, "text", { class: "cycle-say", x: sayX, y: sayY + (anchor === "middle" && sayY > 0 ? 12 : 4), "text-anchor": anchor }, cut(node.edge, 17));
      const group = put(svg, "g", { class: "cycle-node", transform: `translate(${x} ${y})` });
      put(group, "circle", { r: radius });
      put(group, "text", { "text-anchor": "middle", y: 4 }, cut(data.lanes[node.lane], 13));
      put(group, "title", {}, data.lanes[node.lane] + " " + node.say);
    });
  }

  function drawRest() {
    find("summary").textContent = data.summary;
    find("ending").hidden = !data.stuck.length;
    for (const stuck of data.stuck) {
      const item = add(find("waits"), "li");
      add(item, "code", data.lanes[stuck.lane]);
      item.append(" " + stuck.say + (stuck.site === null ? "" : ", at " + data.sites[stuck.site].at));
    }
    find("objects").hidden = !data.objects.length;
    const body = find("objects").querySelector("tbody");
    for (const [place, object] of data.objects.entries()) {
      const row = add(body, "tr");
      const name = add(row, "td", undefined, "mono");
      if (object.lock) add(name, "span", undefined, "swatch").style.setProperty("--hue", hue(place));
      name.append(object.name);
      for (const text of [object.kind, object.maker, object.at, String(object.events)]) add(row, "td", text, "mono");
    }
    const legend = (there, name, text) => {
      if (!there) return;
      const item = add(find("legend"), "li");
      const svg = put(item, "svg", { width: 26, height: 12 });
      const [tag, attributes] = {
        held: ["rect", { class: "sample bar held", y: 1, x: 8, width: 6, height: 10, style: "--hue: 210" }],
        shared: ["rect", { class: "sample bar shared", y: 1, x: 8, width: 6, height: 10, style: "--hue: 210" }],
        waiting: ["rect", { class: "sample bar waiting", y: 1, x: 7, width: 10, height: 10 }],
        life: ["rect", { class: "sample bar life", y: 1, x: 8, width: 6, height: 10 }],
        stopped: ["rect", { class: "sample bar stopped", y: 1, x: 8, width: 6, height: 10 }],
        fault: ["rect", { class: "sample bar fault", y: 1, x: 8, width: 6, height: 10 }],
        arrow: ["path", { class: "arrow", d: "M1 6H22", "marker-end": "url(#tip)" }],
        stale: ["circle", { cx: 12, cy: 6, r: 5, style: "fill: var(--warn)" }],
      }[name] || ["path", { class: "turn " + name, d: "M1 6H25" }];
      put(svg, tag, attributes);
      item.append(text);
    };
    const any = (kind) => data.spans.some((span) => span.kind === kind);
    const turns = data.events.map((event) => event.turn).concat(data.last).filter(Boolean);
    legend(any("held"), "held", "lock held");
    legend(any("shared"), "shared", "lock held as a reader");
    legend(any("waiting"), "waiting", "waiting");
    legend(any("life"), "life", "a process lives");
    legend(any("stopped"), "stopped", "it is stopped");
    legend(any("fault"), "fault", "a fault has its effect");
    legend(data.arrows.length, "arrow", "spawn, join, unpark, notify");
    legend(!timed && turns.some((turn) => !turn.preemption && !turn.critical), "plain", "another task goes on");
    legend(turns.some((turn) => turn.preemption), "preemption", "preemption");
    legend(turns.some((turn) => turn.critical), "critical", "critical: without it the failure vanishes");
    legend(data.events.some((event) => event.stale), "stale", "stale read");
    find("critical").hidden = !criticals.length;
  }

  drawFailure();
  drawRest();
  drawCycle();
  places();
  drawLanes();
  zoom(Math.max(0.7, Math.min(1, (view.clientWidth - 2) / width)));
  listen();
  const failing = data.events.findIndex((event) => event.failing);
  if (failing >= 0) choose({ event: failing }, false);
  else if (data.stuck.length) choose({ stuck: 0 }, false);
  else if (data.events.length) choose({ event: 0 }, false);
  document.documentElement.dataset.ready = "true";
})();

// The graph in the DOM: boxes that are buttons, edges, and what is known at a step.
import { called, isSource } from "page/graph";
import { BAR, BARS, curve } from "page/layout";
import { inline, isFinite_, short } from "page/numbers";
import { localNumber } from "page/rules";

const NAMESPACE = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Draws a view; its boxes and edges get their elements. */
export function drawn(view, graph, title) {
  const { x, y, width, height } = view.frame;
  const svg = element("svg", { viewBox: `${x} ${y} ${width} ${height}`, role: "group", "aria-label": `Graph of ${title}` });
  svg.append(...view.clusters.map(cluster));
  for (const edge of view.edges) svg.append((edge.element = drawEdge(edge, view.down)));
  for (const box of view.boxes) svg.append((box.element = drawBox(box)));
  for (const edge of view.edges) if (edge.label) svg.append((edge.words = drawLabel(edge, graph, view.down)));
  return svg;
}

function cluster({ group, x, y, width, height, name, head }) {
  const button = element("g", { class: "unfolded", role: "button", tabindex: "0", "data-fold": group.id, "aria-label": `Fold ${group.name}` });
  button.append(
    element("rect", { x: x + 4, y: y + 4, width: head, height: 22, rx: 5, class: "target" }),
    element("path", { d: `M${x + 10},${y + 12}h10l-5,7z`, class: "mark" }),
    element("text", { x: x + 26, y: y + 19, class: "name" }, name),
  );
  return element("g", { class: "cluster" }, element("rect", { x, y, width, height, rx: 10 }), button);
}

function drawBox(box) {
  const kind = box.group ? "group" : isSource(box.node) ? box.node.op : "op";
  const left = -box.width / 2;
  const top = -box.height / 2;
  const group = element("g", { class: `box ${kind}`, role: "button", tabindex: "-1", "data-key": box.key, transform: `translate(${box.x},${box.y})` });
  if (box.group) for (const shift of [8, 4]) group.append(element("rect", { x: left + shift, y: top - shift, width: box.width, height: box.height, rx: 9, class: "behind" }));
  const round = { op: 7, group: 7, input: 20, parameter: 0, constant: 7 }[kind];
  group.append(element("rect", { x: left, y: top, width: box.width, height: box.height, rx: round, class: "frame" }));
  let y = top + 19;
  for (const row of box.rows) {
    group.append(row.shown ? drawTensor(row.shown, 0, y, row.kind, row.kind === "gradient" ? "∂" : "") : words(row.parts, y));
    y += 21;
  }
  group.classList.toggle("bad", box.bad);
  return group;
}

function words(parts, y) {
  const line = element("text", { x: 0, y, "text-anchor": "middle" });
  parts.forEach(([kind, text], i) => line.append(element("tspan", { class: kind, ...(i ? { dx: 8 } : {}) }, text)));
  return line;
}

/** A tensor around x, on the line y: bars, up for positive and down for negative, and text. */
function drawTensor(shown, x, y, kind, sign = "") {
  const finite = !shown.tensor || isFinite_(shown.tensor);
  const group = element("g", { class: `${kind}${finite ? "" : " bad"}` });
  const text = sign ? `${sign} ${shown.text}` : shown.text;
  if (!shown.bars) {
    group.append(element("text", { x, y, "text-anchor": "middle" }, text));
    return group;
  }
  const left = x - (shown.width + (sign ? 16 : 0)) / 2;
  const start = left + (sign ? 16 : 0);
  if (sign) group.append(element("text", { x: left, y }, sign));
  group.append(element("path", { d: bars(shown.tensor.bars, start, y - 5), class: "bars" }));
  group.append(element("line", { x1: start, x2: start + BARS.width, y1: y - 5, y2: y - 5, class: "zero" }));
  group.append(element("text", { x: start + BARS.width + 7, y }, shown.text));
  return group;
}

/** Bars as one path: at most as many as have room, the largest of each part. */
export function bars(numbers, left, middle) {
  const room = BARS.width / BAR;
  const count = Math.min(room, numbers.length);
  const picked = Array.from({ length: count }, (_, i) => extreme(numbers.slice(Math.floor((i * numbers.length) / count), Math.floor(((i + 1) * numbers.length) / count))));
  const largest = Math.max(...picked.filter(Number.isFinite).map(Math.abs), Number.MIN_VALUE);
  const step = BARS.width / count;
  return picked
    .map((value, i) => {
      const share = Number.isFinite(value) ? value / largest : Math.sign(value) || 1;
      const height = (share * BARS.height) / 2;
      return `M${(left + i * step).toFixed(1)},${middle}h${(step - Math.min(1, step / 4)).toFixed(1)}v${(-height).toFixed(1)}h${(-(step - Math.min(1, step / 4))).toFixed(1)}z`;
    })
    .join("");
}

function extreme(part) {
  return part.reduce((one, other) => (Math.abs(other) > Math.abs(one) || Number.isNaN(other) ? other : one));
}

function drawEdge(edge, down) {
  const end = edge.points.at(-1);
  const tip = down ? `M${end.x - 4.5},${end.y}h9l-4.5,7z` : `M${end.x},${end.y - 4.5}v9l7,-4.5z`;
  const group = element("g", { class: "edge", "data-edge": edge.key });
  group.append(element("path", { d: curve(edge.points, down), class: "line" }), element("path", { d: tip, class: "tip" }));
  return group;
}

/** The gradient on an edge, with a small arrow that points back, which is where it goes; on a path alone, the factor. */
function drawLabel({ label, parts, place: { x, y } }, graph, down) {
  const width = label.width + 16;
  const left = x - width / 2;
  const group = element("g", { class: "label" });
  group.append(element("rect", { x: left - 2, y: y - 10, width: width + 4, height: 20, rx: 5, class: "paper" }));
  group.append(element("path", { d: down ? `M${left},${y + 3}h9l-4.5,-7z` : `M${left + 7},${y - 4.5}v9l-7,-4.5z`, class: "mark" }));
  group.append(drawTensor(label, x + 7, y + 5, "gradient"));
  const local = parts.length === 1 ? localNumber(graph, graph.nodes[parts[0].node], parts[0].slot) : null;
  if (local !== null) group.append(element("text", { x, y: y + 5, class: "local", "text-anchor": "middle" }, `× ${short(local)}`));
  return group;
}

/** Shows what is known at a step, and what is lit: null for no choice, else keys of boxes and edges, alone or not. */
export function refresh(view, graph, { step, current, selected, lit, alone }) {
  for (const box of view.boxes) {
    const valued = step >= box.forwardAt;
    const graded = step >= box.gradientAt;
    const { classList } = box.element;
    classList.toggle("valued", valued || !graph.traced);
    classList.toggle("graded", graded);
    classList.toggle("current", box === current);
    classList.toggle("lit", lit !== null && lit.has(box.key));
    classList.toggle("dim", lit !== null && !lit.has(box.key));
    box.element.setAttribute("aria-pressed", String(box.key === selected));
    box.element.setAttribute("aria-label", spoken(box, valued, graded));
  }
  for (const edge of view.edges) {
    for (const part of [edge.element, edge.words].filter(Boolean)) {
      part.classList.toggle("graded", step >= edge.at);
      part.classList.toggle("current", edge.label !== null && edge.to === current && step === edge.at);
      part.classList.toggle("lit", lit !== null && lit.has(edge.key));
      part.classList.toggle("alone", alone && lit.has(edge.key));
      part.classList.toggle("dim", lit !== null && !lit.has(edge.key));
    }
  }
}

/** What a screen reader says of a box. */
function spoken(box, valued, graded) {
  if (box.group) return `Group ${box.group.name}, ${box.group.size} nodes, folded${box.bad ? ", not finite" : ""}`;
  const { node } = box;
  const parts = [isSource(node) ? `${node.op}${node.named ? ` ${node.name}` : ""}` : `${node.op}${node.named ? ` ${node.name}` : ""}`];
  if (node.value && valued) parts.push(`value ${inline(node.value)}`);
  if (node.gradient && graded && node.op !== "constant") parts.push(`gradient ${inline(node.gradient)}`);
  if (box.bad) parts.push("not finite from here");
  const from = box.into.map((edge) => (edge.from.node ? called(edge.from.node) : edge.from.group.name));
  if (from.length) parts.push(`of ${from.slice(0, 6).join(", ")}${from.length > 6 ? " and more" : ""}`);
  return parts.join(", ");
}

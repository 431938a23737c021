// What is in each box, how large it is, and where boxes and edges lie. dagre places them.
import { census, gradientNorm, nameInside, visible } from "page/folding";
import dagre from "dagre";
import { clipped, isSource, symbol } from "page/graph";
import { inline, shapeText, short, spelled } from "page/numbers";

const ROW = 21;
const PAD = 11;
/** Room between ranks from the top down, and that of a frame around its boxes: aside and below, and above for its name. */
const DOWN = 36;
const SIDE = 12;
const HEAD = 34;
export const BAR = 4;
export const BARS = { width: 24 * BAR, height: 18 };
const FONTS = { head: "600 16px Stix", name: "italic 16px Stix", number: "16px Stix", small: "14px Stix", badge: "600 14px Stix" };

const context = document.createElement("canvas").getContext("2d");

function width(text, font) {
  context.font = FONTS[font];
  return context.measureText(text).width;
}

/** A tensor as it is drawn: its text, with bars before it unless the text says all. */
function shown(t) {
  if (t === null) return null;
  const bars = !spelled(t);
  const text = bars ? `‖${short(t.norm, 3)}‖` : inline(t);
  return { tensor: t, bars, text, width: width(text, "number") + (bars ? BARS.width + 7 : 0) };
}

/** The rows of a box: words, and its value and gradient where there are any. */
function contents(box) {
  const rows = [];
  if (box.group) {
    rows.push({ kind: "name", parts: [["name", clipped(box.group.name)]] });
    rows.push({ kind: "small", parts: [["small", `${box.group.size.toLocaleString("en")} nodes`]] });
    const ops = census(box.group, 2);
    if (ops) rows.push({ kind: "small", parts: [["small", ops]] });
    const norm = gradientNorm(box.group);
    if (norm !== null) rows.push({ kind: "gradient", shown: text(`‖${short(norm, 3)}‖`) });
    return rows;
  }
  const { node } = box;
  const parts = [];
  if (!isSource(node)) parts.push(["head", symbol(node)]);
  if (node.named) parts.push(["name", clipped(nameInside(node))]);
  const shape = node.value?.shape ?? node.shape ?? [];
  if (shape.length && !(node.value && spelled(node.value))) parts.push(["small", shapeText(shape)]);
  if (parts.length) rows.push({ kind: "head", parts });
  if (node.value) rows.push({ kind: "value", shown: shown(node.value) });
  const branches = box.out.length > 1 || node.op === "parameter";
  if (branches && node.gradient && node.op !== "constant") rows.push({ kind: "gradient", shown: shown(node.gradient) });
  return rows;
}

/** Whether a box is a node, or has it inside. */
export function holds(box, index) {
  return box.node ? box.node.index === index : contains(box.group, index);
}

function contains(group, index) {
  return group.nodes.some((node) => node.index === index) || group.groups.some((inner) => contains(inner, index));
}

function sized(box, graph) {
  box.rows = contents(box);
  const { nonFinite } = graph;
  box.bad = nonFinite !== null && holds(box, nonFinite.node);
  if (box.bad) box.rows.push({ kind: "badge", parts: [["badge", nonFinite.phase === "value" ? "✕ not finite from here" : "✕ gradient not finite from here"]] });
  const widths = box.rows.map((row) => {
    if (row.shown) return row.shown.width + (row.kind === "gradient" ? 16 : 0);
    return row.parts.reduce((sum, [font, text]) => sum + width(text, font), (row.parts.length - 1) * 8);
  });
  box.width = Math.max(26, ...widths) + 2 * PAD;
  box.height = box.rows.length * ROW + 2 * PAD - 7;
}

/** What is written on an edge: the gradient that comes back along it. */
function label(edge) {
  const sent = edge.parts.map((part) => part.gradient).filter(Boolean);
  if (!sent.length) return null;
  if (sent.length === 1) return shown(sent[0]);
  const norm = Math.hypot(...sent.map((t) => t.norm));
  return text(`‖${short(norm, 3)}‖ · ${sent.length} edges`);
}

function text(words) {
  return { tensor: null, bars: false, text: words, width: width(words, "number") };
}

/** Boxes up to which it is tried whether a graph fits better from left to right or from the top down. */
const TRIED = 80;

/** The boxes that are to be seen, with places for them, for their edges and for open groups; as suits the room. */
export function arranged(graph, open, room) {
  const view = laid(graph, open, room.width < room.height);
  if (view.boxes.length > TRIED || room.narrow) return view;
  const other = laid(graph, open, !view.down);
  return scaleIn(other, room) > scaleIn(view, room) ? other : view;
}

/** How large a view may be drawn so that all of it is in sight. */
export function scaleIn({ frame }, room) {
  return Math.min(1, room.width / frame.width, room.height / frame.height);
}

function laid(graph, open, down) {
  const view = visible(graph, open);
  const network = new dagre.graphlib.Graph({ multigraph: true, compound: view.clusters.length > 0 });
  network.setGraph({ rankdir: down ? "TB" : "LR", nodesep: view.clusters.length ? 30 : 16, ranksep: down ? DOWN : 34, edgesep: 10, marginx: 14, marginy: 14 });
  for (const { id, parent } of view.clusters) {
    network.setNode(`c${id}`, {});
    if (parent.parent) network.setParent(`c${id}`, `c${parent.id}`);
  }
  for (const box of view.boxes) {
    sized(box, graph);
    network.setNode(box.key, { width: box.width, height: box.height });
    if (box.parent?.parent) network.setParent(box.key, `c${box.parent.id}`);
  }
  for (const edge of view.edges) {
    edge.label = label(edge);
    const size = edge.label ? { width: edge.label.width + 20, height: ROW } : { width: 0, height: 0 };
    network.setEdge(edge.from.key, edge.to.key, { ...size, labelpos: "c", minlen: down ? ranks(edge) : 1 }, edge.key);
  }
  dagre.layout(network);
  return placed(view, network, down);
}

/** Ranks that an edge goes down: more where it leaves and enters frames, which have names above what is in them. */
function ranks({ from, to }) {
  const left = ancestors(from).filter((group) => !ancestors(to).includes(group)).length;
  const entered = ancestors(to).filter((group) => !ancestors(from).includes(group)).length;
  return Math.max(1, Math.ceil((SIDE * left + HEAD * entered) / DOWN));
}

function ancestors({ parent }) {
  const found = [];
  for (let group = parent; group?.parent; group = group.parent) found.push(group);
  return found;
}

function placed(view, network, down) {
  for (const box of view.boxes) Object.assign(box, at(network.node(box.key)));
  const found = new Map(view.edges.map((edge) => [edge, network.edge(edge.from.key, edge.to.key, edge.key)]));
  for (const edge of view.edges) {
    const twins = edge.from.out.filter((other) => other.to === edge.to).sort((one, other) => across(found.get(one), down) - across(found.get(other), down));
    const { points, x, y } = found.get(edge);
    edge.points = ends(edge, points, twins.indexOf(edge) - (twins.length - 1) / 2, twins.length, down);
    edge.place = edge.label ? { x, y } : null;
  }
  const { width: right, height: low } = network.graph();
  const clusters = framed(view);
  const left = Math.min(0, ...clusters.map((one) => one.x - 8));
  const top = Math.min(0, ...clusters.map((one) => one.y - 8));
  const far = clusters.map((one) => [one.x + one.width + 8, one.y + one.height + 8]);
  const frame = { x: left, y: top, width: Math.max(right, ...far.map((p) => p[0])) - left, height: Math.max(low, ...far.map((p) => p[1])) - top };
  return { ...view, clusters, frame, down };
}

function at({ x, y }) {
  return { x, y };
}

/** Open groups with their frames, outer ones first: each around its boxes and the frames of the groups in it. */
function framed({ boxes, clusters }) {
  const frames = new Map();
  const frame = (group) => {
    if (!frames.has(group)) {
      const own = boxes.filter((box) => box.parent === group);
      const inner = clusters.filter(({ parent }) => parent === group).map(frame);
      frames.set(group, around([...own.map(bounds), ...inner], clipped(group.name)));
    }
    return frames.get(group);
  };
  return clusters.map((group) => ({ group, ...frame(group) }));
}

function bounds({ x, y, width, height }) {
  return { x: x - width / 2, y: y - height / 2, width, height };
}

/** A frame around others, with room for a name above them. */
function around(inner, name) {
  const left = Math.min(...inner.map((one) => one.x)) - SIDE;
  const top = Math.min(...inner.map((one) => one.y)) - HEAD;
  const right = Math.max(...inner.map((one) => one.x + one.width)) + SIDE;
  const low = Math.max(...inner.map((one) => one.y + one.height)) + SIDE;
  const head = width(name, "name") + 30;
  return { x: left, y: top, width: Math.max(right - left, head + 8), height: low - top, name, head };
}

function across({ x, y }, down) {
  return down ? x : y;
}

/** The points of an edge, which leaves its box in the middle of a side; edges between the same two boxes side by side. */
function ends({ from, to }, points, aside, twins, down) {
  const inner = points.slice(1, -1);
  if (down) {
    const x = aside * Math.min(16, to.width / twins);
    return [{ x: from.x + x, y: from.y + from.height / 2 }, ...inner, { x: to.x + x, y: to.y - to.height / 2 - 7 }];
  }
  const y = aside * Math.min(16, to.height / twins);
  return [{ x: from.x + from.width / 2, y: from.y + y }, ...inner, { x: to.x - to.width / 2 - 7, y: to.y + y }];
}

/** A smooth curve through points, level where it passes one. */
export function curve(points, down) {
  const parts = [`M${point(points[0])}`];
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    const middle = down ? (a.y + b.y) / 2 : (a.x + b.x) / 2;
    const [c, d] = down ? [{ x: a.x, y: middle }, { x: b.x, y: middle }] : [{ x: middle, y: a.y }, { x: middle, y: b.y }];
    parts.push(`C${point(c)} ${point(d)} ${point(b)}`);
  }
  return parts.join("");
}

function point({ x, y }) {
  return `${x.toFixed(1)},${y.toFixed(1)}`;
}

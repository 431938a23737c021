// Groups of nodes: by the prefixes of their names, and where a group is too large, by depth.
import { isSource, symbol } from "page/graph";

/** Boxes of one group beyond which it is divided. */
const MANY = 50;
/** Groups that such a group is divided into, at most. */
const PARTS = 10;
/** Nodes up to which a graph opens unfolded. */
export const SMALL = 24;
/** Boxes up to which all groups may be open at once. */
export const OPEN = 300;

/** The tree of groups; every node has its innermost one. */
export function folded(graph) {
  const root = { id: "", name: "", parent: null, groups: [], nodes: [] };
  const paths = prefixes(graph);
  const groups = new Map([["", root]]);
  for (const node of graph.nodes) groupOf(paths[node.index], groups).nodes.push(node);
  // A group of one box hides nothing.
  for (const group of [...groups.values()].reverse()) dissolve(group);
  const all = [];
  const visit = (group) => {
    divide(group);
    for (const node of group.nodes) node.group = group;
    group.groups.forEach(visit);
    group.size = group.nodes.length + group.groups.reduce((sum, inner) => sum + inner.size, 0);
    if (group !== root) all.push(group);
  };
  visit(root);
  return { root, groups: all };
}

function groupOf(path, groups) {
  const id = path.join("/");
  if (!groups.has(id)) {
    const parent = groupOf(path.slice(0, -1), groups);
    const group = { id, name: path.at(-1), parent, groups: [], nodes: [] };
    parent.groups.push(group);
    groups.set(id, group);
  }
  return groups.get(id);
}

function dissolve(group) {
  if (!group.parent || group.groups.length + group.nodes.length > 1) return;
  group.parent.groups.splice(group.parent.groups.indexOf(group), 1, ...group.groups);
  for (const inner of group.groups) inner.parent = group.parent;
  group.parent.nodes.push(...group.nodes);
}

/** The group of each node: its name's prefix, or that of the parameter or of the last result which it is computed from. */
function prefixes(graph) {
  const paths = graph.nodes.map((node) => (node.named ? node.name.split(/[./]/).slice(0, -1).filter(Boolean) : []));
  if (paths.every((path) => path.length === 0)) return paths;
  for (const node of graph.nodes) {
    if (node.named || isSource(node)) continue;
    const operands = node.operands.map(({ node: operand }) => graph.nodes[operand]);
    const own = operands.filter((operand) => operand.op === "parameter" && paths[operand.index].length);
    const from = (own.length ? own : operands).reduce((one, other) => (other.depth >= one.depth ? other : one));
    paths[node.index] = paths[from.index];
  }
  for (const node of graph.nodes) {
    if (node.op === "constant" && node.consumers.length) paths[node.index] = paths[node.consumers[0].node];
  }
  return paths;
}

/** The name of a node without that of its group, in whose frame it is drawn. */
export function nameInside({ name, group }) {
  const prefix = group.id.split("#")[0];
  const inside = prefix && name.slice(0, prefix.length).replaceAll(".", "/") === prefix && /[./]/.test(name.charAt(prefix.length));
  return inside ? name.slice(prefix.length + 1) : name;
}

/** A group of too many boxes is divided into groups of about equal size, in the order of the pass. */
function divide(group) {
  const boxes = [...group.groups, ...group.nodes];
  if (boxes.length <= MANY) return;
  const rank = new Map(boxes.map((box) => [box, first(box)]));
  boxes.sort((one, other) => rank.get(one).depth - rank.get(other).depth || rank.get(one).index - rank.get(other).index);
  const size = Math.ceil(boxes.length / Math.min(PARTS, Math.ceil(boxes.length / PARTS)));
  group.groups = [];
  group.nodes = [];
  for (let start = 0; start < boxes.length; start += size) {
    const part = boxes.slice(start, start + size);
    const inner = { id: `${group.id}#${start}`, name: range(part, start), parent: group, groups: [], nodes: [] };
    for (const box of part) {
      if (!box.groups) inner.nodes.push(box);
      else inner.groups.push(Object.assign(box, { parent: inner }));
    }
    group.groups.push(inner);
  }
}

function range(boxes, start) {
  const groups = boxes.filter((box) => box.groups);
  if (groups.length) return `${groups[0].name} to ${groups.at(-1).name}`;
  return `nodes ${start + 1} to ${start + boxes.length}`;
}

/** The node of a box that comes first in the pass, apart from sources. */
function first(box) {
  if (!box.groups) return box;
  const inside = [...box.nodes, ...box.groups.map(first)];
  const ops = inside.filter((node) => !isSource(node));
  return (ops.length ? ops : inside).reduce((one, other) => (other.depth < one.depth ? other : one));
}

/** The ops of a group, the most frequent first. */
export function census(group, most = 3) {
  const found = new Map();
  const visit = (one) => {
    for (const node of one.nodes) {
      if (!isSource(node)) found.set(symbol(node), (found.get(symbol(node)) ?? 0) + 1);
    }
    one.groups.forEach(visit);
  };
  visit(group);
  const sorted = [...found].sort((one, other) => other[1] - one[1]);
  return sorted.slice(0, most).map(([sign, count]) => (count === 1 ? sign : `${count} ${sign}`)).join(", ") + (sorted.length > most ? ", …" : "");
}

/** The norm of the gradient in all parameters of a group; null if it has none. */
export function gradientNorm(group) {
  const norms = group.nodes.filter((node) => node.op === "parameter" && node.gradient).map((node) => node.gradient.norm);
  for (const inner of group.groups) norms.push(gradientNorm(inner) ?? []);
  const found = norms.flat();
  return found.length ? Math.hypot(...found) : null;
}

/** What is to be seen: boxes of nodes and of folded groups, open groups, and the edges between boxes. */
export function visible(graph, open) {
  const boxes = new Map();
  const edges = new Map();
  const clusters = new Map();
  const keyOf = (node) => {
    const group = outermostFolded(node, open);
    return group ? `g${group.id}` : `n${node.index}`;
  };
  const add = (node, key = keyOf(node)) => {
    if (!boxes.has(key)) {
      const group = key.startsWith("g") ? outermostFolded(node, open) : null;
      boxes.set(key, { key, node: group ? null : node, group, parent: group ? group.parent : node.group, into: [], out: [] });
    }
    return boxes.get(key);
  };
  for (const node of graph.nodes) {
    if (node.op === "constant" && node.consumers.length && node.index !== graph.loss) continue;
    const box = add(node);
    node.operands.forEach(({ node: index, gradient }, slot) => {
      const operand = graph.nodes[index];
      const constant = operand.op === "constant" && index !== graph.loss;
      if (constant && box.group) return;
      const from = constant ? add(operand, `n${index}@${node.index}.${slot}`) : add(operand);
      if (constant) from.parent = node.group;
      if (from === box) return;
      join(edges, from, box, { node: node.index, slot, gradient: constant ? null : gradient });
    });
  }
  for (const { parent } of boxes.values()) {
    for (let group = parent; group?.parent; group = group.parent) clusters.set(group.id, group);
  }
  return { boxes: [...boxes.values()], edges: [...edges.values()], clusters: [...clusters.values()] };
}

function join(edges, from, to, part) {
  const alone = from.node && to.node;
  const key = alone ? `${from.key}>${to.key}.${part.slot}` : `${from.key}>${to.key}`;
  if (!edges.has(key)) {
    const edge = { key, from, to, parts: [] };
    edges.set(key, edge);
    from.out.push(edge);
    to.into.push(edge);
  }
  edges.get(key).parts.push(part);
}

function outermostFolded(node, open) {
  let outermost = null;
  for (let group = node.group; group.parent; group = group.parent) if (!open.has(group.id)) outermost = group;
  return outermost;
}

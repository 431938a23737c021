// Paths from the loss to a node: how many there are, which are the largest, and what goes along each.
import { isScalar, scaled } from "page/numbers";
import { localNumber } from "page/rules";

export const SHOWN = 20;

/** How many paths lead from each node to the loss. */
export function counts(graph) {
  const found = new Array(graph.nodes.length).fill(0);
  for (let index = graph.nodes.length - 1; index >= 0; index -= 1) {
    const above = graph.nodes[index].consumers.filter(({ node, slot }) => graph.nodes[node].operands[slot].gradient);
    found[index] = above.reduce((sum, { node }) => sum + found[node], index === graph.loss ? 1 : 0);
  }
  return found;
}

/**
 * By how much an edge changes the size of a gradient: the magnitude of the local derivative between scalars, the ratio
 * of norms between tensors.
 */
function gain(graph, { node: index, slot }) {
  const node = graph.nodes[index];
  const local = localNumber(graph, node, slot);
  if (local !== null) return Math.abs(local);
  const { gradient } = node.operands[slot];
  return gradient.norm === 0 ? 0 : gradient.norm / node.gradient.norm;
}

/** The largest paths of every node, as linked lists of edges that end at the loss. */
export function largest(graph, count) {
  const best = graph.nodes.map(() => []);
  best[graph.loss] = [{ weight: 1, edge: null, rest: null }];
  for (let index = graph.nodes.length - 1; index >= 0; index -= 1) {
    for (const edge of graph.nodes[index].consumers) {
      if (!count[edge.node] || !graph.nodes[edge.node].operands[edge.slot].gradient) continue;
      const factor = gain(graph, edge);
      best[index].push(...best[edge.node].map((rest) => ({ weight: rest.weight && factor && rest.weight * factor, edge, rest })));
    }
    // Not-a-number first: it is what one looks for.
    best[index].sort((one, other) => size(other.weight) - size(one.weight));
    best[index].length = Math.min(best[index].length, SHOWN);
  }
  return best;
}

function size(weight) {
  return Number.isNaN(weight) ? Number.MAX_VALUE : Math.min(weight, Number.MAX_VALUE);
}

/** The edges of a path, from the loss down. */
export function edgesOf(path) {
  const edges = [];
  for (let step = path; step.edge; step = step.rest) edges.unshift(step.edge);
  return edges;
}

/**
 * What goes along a path: its local derivatives (null where a tensor is involved) and what arrives at its end. The
 * latter is null where several paths meet at a tensor on the way, because their sum flows on, not each by itself; `met`
 * is the index of that node.
 */
export function along(graph, edges, count) {
  const factors = [];
  // The path's share of the gradient at the node reached: a tensor, and whether the share is the whole.
  let arrived = graph.nodes[graph.loss].gradient;
  let ratio = 1;
  let met = null;
  for (const { node: index, slot } of edges) {
    const node = graph.nodes[index];
    const { node: operand, gradient } = node.operands[slot];
    const local = localNumber(graph, node, slot);
    factors.push(local);
    arrived = onward(graph, node, gradient, local, arrived, ratio);
    ratio = arrived && ratioAt(graph.nodes[operand], arrived, count[operand] === count[index] ? ratio : null);
    if (ratio === null) met ??= operand;
  }
  return { factors, arrived, met };
}

/** What goes along an edge: by its local derivative if that is a number, else a share of what the engine sent. */
function onward(graph, node, gradient, local, arrived, ratio) {
  if (local !== null && arrived && isScalar(arrived)) return scaled(arrived, arrived.values[0] === 0 ? 0 : local);
  return ratio === null ? null : scaled(gradient, ratio);
}

/** Which share of a node's gradient has arrived; null if that is no number. */
function ratioAt(node, arrived, only) {
  if (only !== null) return only;
  if (!isScalar(arrived)) return null;
  const whole = node.gradient.values[0];
  return arrived.values[0] === 0 ? 0 : whole === 0 ? null : arrived.values[0] / whole;
}

// The graph as the page uses it: nodes that know their operands and consumers.
import { tensor } from "page/numbers";

export const SOURCES = new Set(["parameter", "input", "constant"]);

export function read(data) {
  const nodes = data.nodes.map((node, index) => ({
    ...node,
    index,
    value: tensor(node.value),
    gradient: tensor(node.gradient),
    operands: node.operands.map((operand, slot) => ({ node: operand, gradient: tensor(node.edges?.[slot]) })),
    consumers: [],
    depth: 0,
  }));
  for (const node of nodes) {
    node.operands.forEach(({ node: operand }, slot) => {
      nodes[operand].consumers.push({ node: node.index, slot });
      node.depth = Math.max(node.depth, nodes[operand].depth + 1);
    });
  }
  return { ...data, nodes };
}

export function isSource(node) {
  return SOURCES.has(node.op);
}

const SYMBOLS = {
  add: "+",
  mul: "×",
  sigmoid: "σ",
  sum: "Σ",
  matmul: "@",
  transpose: "aᵀ",
  reduce_max: "max over axes",
  logsumexp: "log Σ exp",
  less: "a < b",
  equal: "a = b",
  cumsum: "Σ up to each",
  scatter_add: "scatter, add",
  stop_gradient: "stop gradient",
};
const POWERS = { "2": "a²", "3": "a³", "-1": "1 ∕ a", "0.5": "√a", "-0.5": "1 ∕ √a" };

/** What stands in the box of an op. */
export function symbol(node) {
  if (node.op === "power") return POWERS[String(node.exponent)] ?? `a ^ ${String(node.exponent).replace("-", "−")}`;
  if (node.op === "scalars") return `${node.count.toLocaleString("en")} operations`;
  return SYMBOLS[node.op] ?? node.op;
}

/** A text of at most 24 characters. What is left out is in the middle: long names differ at their ends. */
export function clipped(text) {
  return text.length <= 24 ? text : `${text.slice(0, 8)}…${text.slice(-15)}`;
}

/** A node in a sentence: its name, or its symbol. */
export function called(node) {
  return node.named ? clipped(node.name) : isSource(node) ? "constant" : symbol(node);
}

export function escaped(text) {
  return String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

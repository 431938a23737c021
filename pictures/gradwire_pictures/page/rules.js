// What each op computes, and its local derivatives: once as a template that takes letters as well as numbers, and once
// as a number where operand and result are scalars.
import { isScalar } from "page/numbers";

const others = (a, i) => a.filter((_, j) => j !== i);
const same = () => "1";
const one = () => 1;
const NO_GRADIENT = "none: it is an index";

/** value(operands, node) and local(operands, slot, result, node) give HTML; number(operands, slot, result, node, split) a number. */
const RULES = {
  add: { value: (a) => a.join(" + "), local: same, number: one },
  mul: {
    value: (a) => a.join(" × "),
    local: (a, i) => others(a, i).join(" × ") || "1",
    number: (x, i) => others(x, i).reduce((product, y) => product * y, 1),
  },
  max: {
    value: (a) => `max(${a.join(", ")})`,
    local: (a, i, v, node, split) => (a.length === 1 ? "1" : `I[${a[i]} &gt; ${bracketed("max", others(a, i))}]${split ? ", shared at a tie" : ""}`),
    number: share,
  },
  sigmoid: {
    value: ([a]) => `1 ∕ (1 + e<sup>−${a}</sup>)`,
    local: (a, i, s) => `${s} (1 − ${s})`,
    number: (x, i, s) => s * (1 - s),
    result: "s",
  },
  exp: { value: ([a]) => `e<sup>${a}</sup>`, local: ([a]) => `e<sup>${a}</sup>`, number: (x, i, v) => v },
  log: { value: ([a]) => `log ${a}`, local: ([a]) => `1 ∕ ${a}`, number: ([x]) => 1 / x },
  tanh: {
    value: ([a]) => `tanh ${a}`,
    local: (a, i, t) => `1 − ${t}<sup>2</sup>`,
    number: (x, i, t) => 1 - t * t,
    result: "t",
  },
  softplus: {
    value: ([a]) => `log(1 + e<sup>${a}</sup>)`,
    local: ([a]) => `σ(${a})`,
    number: ([x]) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))),
  },
  power: {
    value: ([a], node) => `${a}<sup>${node.exponent}</sup>`.replace("-", "−"),
    local: ([a], i, v, node) => powerRule(a, node.exponent),
    number: ([x], i, v, { exponent: p }) => (p === 0 ? 0 : p === 1 ? 1 : p * x ** (p - 1)),
  },
  sin: { value: ([a]) => `sin ${a}`, local: ([a]) => `cos ${a}`, number: ([x]) => Math.cos(x) },
  cos: { value: ([a]) => `cos ${a}`, local: ([a]) => `−sin ${a}`, number: ([x]) => -Math.sin(x) },
  log1p: { value: ([a]) => `log(1 + ${a})`, local: ([a]) => `1 ∕ (1 + ${a})`, number: ([x]) => 1 / (1 + x) },
  expm1: { value: ([a]) => `e<sup>${a}</sup> − 1`, local: ([a]) => `e<sup>${a}</sup>`, number: ([x]) => Math.exp(x) },
  erf: {
    value: ([a]) => `erf ${a}`,
    local: ([a]) => `2 ∕ √π e<sup>−${a}<sup>2</sup></sup>`,
    number: ([x]) => (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x),
  },
  less: { value: ([a, b]) => `I[${a} &lt; ${b}]`, local: () => "0", number: () => 0 },
  equal: { value: ([a, b]) => `I[${a} = ${b}]`, local: () => "0", number: () => 0 },
  select: {
    value: ([c, a, b]) => `${a} where ${c} is not 0, else ${b}`,
    local: ([c], i) => (i === 0 ? "0" : `I[${c} ${i === 1 ? "≠" : "="} 0]`),
    number: ([c], i) => (i === 0 ? 0 : Number((c !== 0) === (i === 1))),
  },
  sum: { value: ([a], node) => `Σ ${a}${along(node)}`, local: () => "1 for each element", number: one },
  reduce_max: {
    value: ([a], node) => `max of ${a}${along(node)}`,
    local: (a, i, v, node, split) => `1 for the largest element; at a tie ${split ? "equal shares" : "0"}`,
    number: one,
  },
  logsumexp: {
    value: ([a], node) => `log Σ e<sup>${a}</sup>${along(node)}`,
    local: ([a], i, l) => `e<sup>${a} − ${l}</sup>`,
    number: one,
    result: "l",
  },
  matmul: { value: ([a, b]) => `${a} ${b}`, local: productRule },
  reshape: { value: ([a]) => `${a}, in another shape`, local: () => "1 for each element", number: one },
  transpose: { value: ([a]) => `${a}<sup>⊤</sup>`, local: () => "1 for each element", number: one },
  take: {
    value: ([a, i], node) => `${a}[${i}]${along(node)}`,
    local: (a, i) => (i ? NO_GRADIENT : "1 for each element taken; repeated entries add up"),
  },
  scatter_add: {
    value: ([a, i], node) => `entries of ${a}, added up at ${i}${along(node)}`,
    local: (a, i) => (i ? NO_GRADIENT : "1 for each element"),
  },
  concatenate: { value: (a, node) => `${a.join(", ")}, one after another${along(node)}`, local: () => "1 for each element" },
  slice: { value: ([a]) => `a slice of ${a}`, local: () => "1 for each element of the slice" },
  cumsum: { value: ([a], node) => `sums of ${a} up to each${along(node)}`, local: () => "1 for each element of a sum" },
  stop_gradient: { value: ([a]) => `${a}, with no gradient`, local: () => "0", number: () => 0 },
  scalars: { value: (a, node) => `${node.count.toLocaleString("en")} operations on scalars`, local: () => "by the operations inside" },
};

/** The rule of a node's op; that of an op which this page does not know says so. */
export function rule(node) {
  return RULES[node.op] ?? { value: (a) => `${node.op}(${a.join(", ")})`, local: () => "by the rule of the op" };
}

function bracketed(name, a) {
  return a.length === 1 ? a[0] : `${name}(${a.join(", ")})`;
}

function along(node) {
  if (node.axis !== undefined) return ` along axis ${node.axis}`;
  return node.axes ? ` over axis ${node.axes.join(", ")}` : "";
}

function powerRule(a, p) {
  if (p === 0 || p === 1) return String(p);
  const left = String(p).replace("-", "−");
  const rest = p - 1;
  return rest === 1 ? `${left} ${a}` : `${left} ${a}<sup>${String(rest).replace("-", "−")}</sup>`;
}

/** Shares of the gradient of a maximum: all to the largest operand; at a tie none, or equal ones. */
function share(x, i, v, node, split) {
  const tied = x.filter((y) => y === v).length;
  if (x[i] !== v) return 0;
  return tied === 1 || x.length === 1 ? 1 : split ? 1 / tied : 0;
}

function productRule(a, i, c, node, split, ranks) {
  const [x, y] = a;
  const [p, q] = ranks ?? [2, 2];
  if (p === 1 && q === 1) return i ? `<i>G</i> ${x}` : `<i>G</i> ${y}`;
  if (i === 0) return p === 1 ? `${y} <i>G</i>` : `<i>G</i> ${y}<sup>⊤</sup>`;
  return p === 1 ? `${x} <i>G</i><sup>⊤</sup>` : `${x}<sup>⊤</sup> <i>G</i>`;
}

/** The local derivative along an edge, where operand and result are scalars; null elsewhere. */
export function localNumber(graph, node, slot) {
  const operands = node.operands.map(({ node: operand }) => graph.nodes[operand].value);
  const compute = rule(node).number;
  if (!compute || !isScalar(node.value) || !operands.every(isScalar)) return null;
  return compute(operands.map((t) => t.values[0]), slot, node.value.values[0], node, graph.split);
}

// The panel beside the graph: the rule of a box with its numbers, the sum of what comes back, the paths of a parameter.
import { census } from "page/folding";
import { BARS } from "page/layout";
import { bars } from "page/drawing";
import { called, clipped, escaped, isSource, symbol } from "page/graph";
import { exact, inline, isScalar, shapeText, short, spelled, term } from "page/numbers";
import { SHOWN, along, edgesOf } from "page/paths";
import { localNumber, rule } from "page/rules";

const LISTED = 20;
const LONG = 20;
const LETTERS = "abcdefh";
const DIGITS = 6;

const v = (text) => `<span class="v">${text}</span>`;
const g = (text) => `<span class="g">${text}</span>`;

/** A tensor in the panel, in the colour of values or gradients; its title has the exact numbers. */
function coloured(t, kind, digits = DIGITS) {
  return `<span class="${kind}" title="${exact(t)}">${escaped(inline(t, digits))}</span>`;
}

function link(node) {
  return `<button type="button" class="link" data-node="${node.index}">${node.named ? `<i>${escaped(called(node))}</i>` : escaped(called(node))}</button>`;
}

/** The panel when nothing is selected: the parameters, which are what a gradient is for. */
export function overview(graph) {
  const use = (node) => graph.nodes[node.consumers[0]?.node]?.depth ?? 0;
  const parameters = graph.nodes.filter((node) => node.op === "parameter").sort((one, other) => use(one) - use(other));
  const rows = parameters.slice(0, LISTED * 2).map((node) => `<tr><th scope="row">${link(node)}</th>${cell(node.value, "v", node.shape)}${cell(node.gradient, "g")}</tr>`);
  const more = parameters.length > rows.length ? `<p>… and ${(parameters.length - rows.length).toLocaleString("en")} more parameters.</p>` : "";
  return `<h2>Parameters</h2><p class="hint">Select a box for its rule, a parameter for its paths to the loss.</p>
    <table class="numbers"><thead><tr><th scope="col">parameter</th><th scope="col">value</th><th scope="col">gradient</th></tr></thead><tbody>${rows.join("")}</tbody></table>${more}`;
}

function cell(t, kind, shape) {
  return `<td>${t ? coloured(t, kind, 4) : shape ? shapeText(shape) : ""}</td>`;
}

/** The panel of a folded group. */
export function groupPanel(group) {
  return `<h2>${escaped(group.name)}</h2><p>A group of ${group.size.toLocaleString("en")} nodes: ${escaped(census(group, 6)) || "sources"}.</p>
    <p><button type="button" data-unfold="${escaped(group.id)}">Open the group</button></p>`;
}

/** The panel of a node. */
export function nodePanel(graph, node, paths) {
  const parts = [`<h2>${escaped(node.name)} <small>${isSource(node) ? node.op : escaped(symbol(node))}</small></h2>`];
  if (graph.nonFinite?.node === node.index) parts.push(`<p class="alarm">${blame(graph)}</p>`);
  if (node.value) parts.push(facts(node, graph));
  if (!isSource(node)) parts.push(ruleOf(graph, node));
  if (node.gradient && node.op !== "constant") parts.push(sumOf(graph, node));
  if (node.op === "parameter" && node.gradient) parts.push(pathsOf(graph, node, paths));
  return parts.join("");
}

function facts(node, graph) {
  const rows = [`<dt>value</dt><dd>${coloured(node.value, "v")}${strip(node.value, "v")}</dd>`];
  if (node.gradient && node.op !== "constant") rows.push(`<dt>gradient</dt><dd>${coloured(node.gradient, "g")}${strip(node.gradient, "g")}</dd>`);
  if (!spelled(node.value) && node.value.whole && node.value.values.length <= 16) rows.push(`<dt>elements</dt><dd>${v(node.value.values.map((x) => short(x)).join(", "))}</dd>`);
  return `<dl>${rows.join("")}</dl>`;
}

/** The elements of a large tensor as bars. */
function strip(t, kind) {
  if (spelled(t)) return "";
  const { width, height } = BARS;
  return `<svg class="strip ${kind}" viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" aria-hidden="true"><path class="bars" d="${bars(t.bars, 0, height / 2)}"/><path class="zero" d="M0,${height / 2}h${width}"/></svg>`;
}

/** What is to be said of a number that is not finite, at the node where it began. */
export function blame(graph) {
  const { phase, node: index, position, value, operands } = graph.nonFinite;
  const node = graph.nodes[index];
  const where = position.length ? ` at [${position.join(", ")}]` : "";
  const from = operands.map((one) => `<i>${escaped(one.name)}</i> = ${short(Number(one.value))}`).join(", ");
  const what = phase === "value" ? "The first value that is not finite" : "All values are finite; the first gradient that is not";
  return `${what} is <b>${short(Number(value))}</b>${where}, made by <b>${escaped(node.name)}</b> (${escaped(isSource(node) ? node.op : symbol(node))})${from ? ` from ${from}` : ""}.`;
}

function letter(i, count) {
  return `<i>${count > LETTERS.length ? `a<sub>${i + 1}</sub>` : LETTERS[i]}</i>`;
}

function ruleOf(graph, node) {
  const operands = node.operands.map(({ node: index }) => graph.nodes[index]);
  const { value, local, result } = rule(node);
  const letters = operands.map((_, i) => letter(i, operands.length));
  const few = operands.length <= 6;
  const values = operands.map((one) => one.value);
  const scalars = graph.traced && values.every(isScalar) && isScalar(node.value);
  const many = `${letters[0]}, …, ${letters.at(-1)}`;
  const lines = [`<p class="formula">${result ? `<i>${result}</i> = ` : ""}${few ? value(letters, node) : `${node.op}(${many})`}</p>`];
  if (few && graph.traced) lines.push(`<p class="formula">${value(operands.map((one) => numberIn(one.value, one)), node)} = ${coloured(node.value, "v")}</p>`);
  const rows = operands.slice(0, LISTED).map((one, slot) => edgeRow(graph, node, one, slot, letters, scalars, local, result));
  const head = graph.traced ? `<th scope="col">local derivative</th><th scope="col">sent back</th>` : `<th scope="col">local derivative</th>`;
  const more = operands.length > LISTED ? `<p>… and ${(operands.length - LISTED).toLocaleString("en")} more operands.</p>` : "";
  return `<h3>Rule</h3>${lines.join("")}<table class="numbers"><thead><tr><th scope="col">operand</th>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>${more}`;
}

/** A value within a formula; a large tensor is called by its name. */
function numberIn(t, node) {
  if (!spelled(t)) return `<i class="v">${escaped(clipped(node.name))}</i>`;
  return `<span class="v" title="${exact(t)}">${isScalar(t) ? term(t.values[0], 4) : escaped(inline(t))}</span>`;
}

function edgeRow(graph, node, operand, slot, letters, scalars, local, result) {
  const ranks = node.operands.map(({ node: index }) => (graph.nodes[index].value?.shape ?? graph.nodes[index].shape ?? []).length);
  const letterOf = result ? `<i>${result}</i>` : "<i>v</i>";
  const symbolic = local(letters, slot, letterOf, node, graph.split, ranks);
  let derivative = symbolic;
  if (scalars) {
    const numbers = node.operands.map(({ node: index }) => numberIn(graph.nodes[index].value));
    const put = local(numbers, slot, numberIn(node.value), node, graph.split, ranks);
    const found = localNumber(graph, node, slot);
    const number = found === null ? null : short(found, DIGITS);
    const steps = bare(put) === number ? [symbolic, v(number)] : [symbolic, put, number];
    derivative = steps.filter((one, i) => one !== null && bare(one) !== bare(steps[i - 1] ?? "")).join(" = ");
  }
  const { gradient } = node.operands[slot];
  const sent = gradient && operand.op !== "constant" ? `${node.op === "matmul" ? "" : `× ${coloured(node.gradient, "g")} `}= ${coloured(gradient, "g")}` : "";
  return `<tr><th scope="row">${letters[slot]} · ${link(operand)}</th><td>${derivative}</td>${graph.traced ? `<td>${sent}</td>` : ""}</tr>`;
}

/** A formula without its colours and the parentheses around it. */
function bare(formula) {
  return formula.replace(/<[^>]*>/g, "").replace(/^\((.*)\)$/, "$1");
}

/** Where the gradient of a node comes from: one consumer, or several whose gradients add up. */
function sumOf(graph, node) {
  if (node.index === graph.loss && !node.consumers.length) return `<p class="note">It is the loss: its gradient in itself is ${g("1")}.</p>`;
  const sent = node.consumers.map(({ node: index, slot }) => ({ from: graph.nodes[index], gradient: graph.nodes[index].operands[slot].gradient }));
  if (sent.length < 2 || !sent.every((one) => one.gradient)) return "";
  const listed = sent.slice(0, LISTED).map(({ from, gradient }) => `<li>${coloured(gradient, "g")} from ${link(from)}</li>`);
  if (sent.length > LISTED) listed.push(`<li>… and ${(sent.length - LISTED).toLocaleString("en")} more</li>`);
  return `<h3>It branches</h3><p>${sent.length.toLocaleString("en")} edges leave it, and what they send back adds up:</p><ul class="sum">${listed.join("")}</ul><p class="total">= ${coloured(node.gradient, "g")}</p>`;
}

/** Every path from the loss to a parameter, what is multiplied along it, and the sum. */
function pathsOf(graph, node, { count, best }) {
  const all = count[node.index];
  if (!all) return `<h3>Paths to the loss</h3><p>There is none, so the gradient is exactly 0.</p>`;
  const listed = best[node.index].map((path, i) => pathRow(graph, edgesOf(path), count, i));
  const title = all === 1 ? "One path to the loss" : `${all > 1e6 ? short(all, 3) : all.toLocaleString("en")} paths to the loss`;
  const rest = all > SHOWN ? `<p>These are the ${SHOWN} largest; the other ${all > 1e6 ? short(all, 3) : (all - SHOWN).toLocaleString("en")} are in the sum as well.</p>` : "";
  const sum = `<p class="total">${all === 1 ? "Gradient" : "The sum of all is the gradient"}: ${coloured(node.gradient, "g")}</p>`;
  return `<h3>${title}</h3><p class="hint">The local derivatives along a path are multiplied, from the loss back. Select a path to see it alone.</p><ol class="paths">${listed.join("")}</ol>${rest}${sum}`;
}

function pathRow(graph, edges, count, number) {
  const { factors, arrived, met } = along(graph, edges, count);
  const stops = [graph.nodes[graph.loss], ...edges.map(({ node, slot }) => graph.nodes[graph.nodes[node].operands[slot].node])];
  const names = stops.map((one) => (one.named ? `<i>${escaped(called(one))}</i>` : escaped(called(one))));
  const product = factors.map((factor, i) => (factor === null ? jacobian(names[i], names[i + 1]) : term(factor, 4)));
  const result = arrived === null ? `its part of the sum at ${names[stops.indexOf(graph.nodes[met])]}` : coloured(arrived, "g");
  return `<li><button type="button" class="path" data-path="${number}" aria-pressed="false"><span class="stops">${shortened(names).join(" ← ")}</span><span class="product">${shortened(product).join(" · ") || "1"} = ${result}</span></button></li>`;
}

/** The beginning and the end of a long path. */
function shortened(parts) {
  return parts.length <= LONG ? parts : [...parts.slice(0, LONG / 2), `… ${parts.length - LONG} more …`, ...parts.slice(-LONG / 2)];
}

/** A derivative that is no number, written as a quotient. */
function jacobian(of, by) {
  return `<span class="jacobian">∂${of}<span class="over"> ∕ </span>∂${by}</span>`;
}

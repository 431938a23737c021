// The pass: forward through the boxes, then backward, one step for each.
import { called, escaped, isSource } from "page/graph";
import { inline, isScalar, term } from "page/numbers";
import { localNumber, rule } from "page/rules";

/** Boxes of ops in the order of the pass, and at which step each number of a box and an edge is known. */
export function schedule({ boxes, edges }, graph) {
  const all = sorted(boxes);
  const order = all.filter((box) => !given(box));
  const count = order.length;
  for (const box of boxes) box.forwardAt = 1;
  order.forEach((box, i) => {
    box.forwardAt = 2 + i;
    box.backwardAt = 2 + count + (count - i);
  });
  const seed = count + 2;
  for (const edge of edges) edge.at = edge.to.backwardAt;
  for (const box of boxes) {
    box.gradientAt = Math.max(seed, ...box.out.map((edge) => edge.at));
    box.isLoss = box.node ? box.node.index === graph.loss : inside(graph.nodes[graph.loss], box.group);
  }
  return { boxes: all, order, seed, count, total: count * 2 + 2 };
}

function given(box) {
  return box.node !== null && isSource(box.node);
}

function inside(node, group) {
  for (let at = node.group; at; at = at.parent) if (at === group) return true;
  return false;
}

/** Operands before their consumers; where groups need each other, as the graph has them. */
function sorted(boxes) {
  const waits = new Map(boxes.map((box) => [box, new Set(box.into.map((edge) => edge.from))]));
  const rank = new Map(boxes.map((box, i) => [box, i]));
  const done = [];
  const ready = boxes.filter((box) => waits.get(box).size === 0);
  const take = (box) => {
    waits.delete(box);
    done.push(box);
    for (const { to } of box.out) {
      const left = waits.get(to);
      if (left?.delete(box) && left.size === 0) ready.push(to);
    }
  };
  while (waits.size) {
    if (!ready.length) ready.push(waits.keys().next().value);
    ready.sort((one, other) => rank.get(one) - rank.get(other));
    const box = ready.shift();
    if (waits.has(box)) take(box);
  }
  return done;
}

/** Which box a step is about, and what it says of it, in HTML. */
export function stepAt(plan, graph, step) {
  const { order, seed, count, total } = plan;
  if (step === 0) return { box: null, phase: "start", text: "Nothing is known yet. Step forward to put the numbers in." };
  if (step === 1) return { box: null, phase: "value", text: "The numbers that are <b>given</b>: parameters, inputs and constants." };
  if (step < seed) {
    const box = order[step - 2];
    return { box, phase: "value", text: `<b>Forward, ${step - 1} of ${count}.</b> ${forward(box, graph)}` };
  }
  if (step === seed) return { box: null, phase: "gradient", text: `<b>The loss in itself</b> has the gradient ${g("1")}. From here it goes back.` };
  const box = order[total - step];
  return { box, phase: "gradient", text: `<b>Backward, ${step - seed} of ${count}.</b> ${backward(box, graph)}` };
}

const v = (text) => `<span class="v">${text}</span>`;
const g = (text) => `<span class="g">${text}</span>`;

function forward(box, graph) {
  if (box.group) return `The ${box.group.size.toLocaleString("en")} nodes of <i>${escaped(box.group.name)}</i> compute their values.`;
  const { node } = box;
  const operands = node.operands.map(({ node: index }) => graph.nodes[index]);
  if (operands.length > 6 || !operands.every((one) => isScalar(one.value))) {
    return `${name(node)} = ${v(inline(node.value))}.`;
  }
  return `${name(node)} = ${rule(node).value(operands.map((one) => v(term(one.value.values[0], 4))), node)} = ${v(inline(node.value))}.`;
}

function backward(box, graph) {
  if (box.group) return `The ${box.group.size.toLocaleString("en")} nodes of <i>${escaped(box.group.name)}</i> pass their gradients on.`;
  const { node } = box;
  const sent = node.operands.filter(({ gradient, node: index }) => gradient && graph.nodes[index].op !== "constant");
  const parts = sent.slice(0, 4).map((edge) => `${times(graph, node, edge)}${g(inline(edge.gradient))} to ${name(graph.nodes[edge.node])}`);
  if (sent.length > 4) parts.push(`so on to ${sent.length - 4} more`);
  const sends = parts.length ? ` It sends ${parts.join(" and ")}.` : "";
  return `${name(node)} has the gradient ${g(inline(node.gradient))}.${sends}`;
}

/** Gradient times local derivative, where they are numbers. */
function times(graph, node, edge) {
  const local = localNumber(graph, node, node.operands.indexOf(edge));
  return local === null ? "" : `${g(inline(node.gradient))} × ${term(local, 4)} = `;
}

function name(node) {
  return node.named ? `<i>${escaped(called(node))}</i>` : `“${escaped(called(node))}”`;
}

// The page's state, and what buttons, keys and clicks do to it.
import { drawn, refresh } from "page/drawing";
import { OPEN, SMALL, folded } from "page/folding";
import { read } from "page/graph";
import { arranged, holds, scaleIn } from "page/layout";
import { short, isScalar } from "page/numbers";
import { blame, groupPanel, nodePanel, overview } from "page/panel";
import { counts, edgesOf, largest } from "page/paths";
import { schedule, stepAt } from "page/steps";
import { fillTable } from "page/table";

const NARROW = 720;
const $ = (id) => document.getElementById(id);

const graph = read(JSON.parse($("data").textContent));
const { groups } = folded(graph);
const open = new Set(graph.nodes.length <= SMALL ? groups.map((group) => group.id) : []);

let view;
let plan;
let step;
let scale = 1;
let selected = null;
let path = null;
let known = null;

/** Counts and largest paths of all nodes, made when they are first needed. */
function paths() {
  if (!known) {
    const count = counts(graph);
    known = { count, best: largest(graph, count) };
  }
  return known;
}

function boxOf(index) {
  return view.boxes.find((box) => (box.node ? box.node.index === index : holds(box, index)));
}

/** Lays the visible boxes out anew; the pass stays at its end if it was there. */
function rebuild() {
  const ended = !plan || step === plan.total;
  const share = plan ? step / plan.total : 1;
  view = arranged(graph, open, room());
  plan = schedule(view, graph);
  view.boxes = plan.boxes; // in the order of the pass, also for whoever reads them one after another
  step = ended ? plan.total : Math.round(share * plan.total);
  $("canvas").replaceChildren(drawn(view, graph, graph.title));
  $("slider").max = plan.total;
  $("fold").hidden = !groups.length;
  $("unfold").hidden = !groups.length || graph.nodes.length > OPEN;
  $("fold").disabled = open.size === 0;
  $("unfold").disabled = open.size === groups.length;
  const first = view.boxes.find((box) => box.key === selected) ?? boxOf(graph.loss);
  first.element.setAttribute("tabindex", "0");
  if (!view.boxes.some((box) => box.key === selected)) selected = null;
  if (selected) showPanel();
  show();
}

/** The room that a graph has. */
function room() {
  const narrow = innerWidth < NARROW;
  return { width: $("canvas").clientWidth, height: narrow ? Infinity : parseFloat(getComputedStyle($("canvas")).maxHeight), narrow };
}

function fit(least) {
  zoom(Math.max(least, scaleIn(view, room())));
}

function zoom(to) {
  scale = Math.min(3, Math.max(0.05, to));
  const svg = $("canvas").firstElementChild;
  svg.setAttribute("width", view.frame.width * scale);
  svg.setAttribute("height", view.frame.height * scale);
}

function show() {
  const now = graph.traced ? stepAt(plan, graph, step) : { box: null, text: "The graph alone: it was drawn without numbers." };
  const current = step === plan.total ? null : now.box;
  refresh(view, graph, { step, current, selected, lit: lit(), alone: path !== null });
  if (!selected) showPanel(current);
  const slider = $("slider");
  slider.value = step;
  $("told").innerHTML = step === plan.total && graph.traced ? ended() : now.text;
  slider.setAttribute("aria-valuetext", `${step} of ${plan.total}`);
  // A button that is disabled would lose the focus.
  for (const [id, off] of [["first", step === 0], ["back", step === 0], ["forward", step === plan.total], ["last", step === plan.total]]) $(id).setAttribute("aria-disabled", String(off));
  if (current) reveal(current);
}

function ended() {
  return `<b>The whole pass.</b> Values are in the boxes, <span class="g">gradients</span> on the edges; step back to see where they come from.`;
}

/** Keys of what is lit: the paths of a selected parameter, or the chosen one of them. */
function lit() {
  const box = view.boxes.find((one) => one.key === selected);
  if (box?.node?.op !== "parameter" || !graph.traced || !paths().count[box.node.index]) return null;
  const keys = new Set([selected]);
  const edges = path === null ? upwards(box.node.index) : edgesOf(paths().best[box.node.index][path]);
  const wanted = new Set(edges.map(({ node, slot }) => `${node}.${slot}`));
  for (const edge of view.edges) {
    if (!edge.parts.some(({ node, slot }) => wanted.has(`${node}.${slot}`))) continue;
    for (const key of [edge.key, edge.from.key, edge.to.key]) keys.add(key);
  }
  for (const { node } of edges) keys.add(boxOf(node)?.key);
  return keys;
}

/** All edges on paths from a node to the loss. */
function upwards(index) {
  const { count } = paths();
  const edges = [];
  const seen = new Set([index]);
  for (const at of seen) {
    for (const edge of graph.nodes[at].consumers) {
      if (!count[edge.node] || !graph.nodes[edge.node].operands[edge.slot].gradient) continue;
      edges.push(edge);
      seen.add(edge.node);
    }
  }
  return edges;
}

/** The panel of the selected box, or else of the one that a step is about. */
function showPanel(current = null) {
  const box = view.boxes.find((one) => one.key === selected) ?? current;
  $("panel").innerHTML = !box ? overview(graph) : box.group ? groupPanel(box.group) : nodePanel(graph, box.node, box.node.op === "parameter" && graph.traced ? paths() : null);
}

function select(key) {
  selected = selected === key ? null : key;
  path = null;
  if (selected) showPanel();
  show();
}

/** Selects a node, and opens the groups that it is in. */
function goTo(index) {
  const node = graph.nodes[index];
  const hidden = [];
  for (let group = node.group; group.parent; group = group.parent) if (!open.has(group.id)) hidden.push(group.id);
  if (hidden.length) {
    for (const id of hidden) open.add(id);
    rebuild();
    fit(0.75);
  }
  const box = boxOf(index) ?? view.boxes.find((one) => one.node?.index === index);
  if (!box) return;
  selected = null;
  select(box.key);
  focus(box);
}

function focus(box) {
  for (const other of view.boxes) other.element.setAttribute("tabindex", "-1");
  box.element.setAttribute("tabindex", "0");
  box.element.focus({ preventScroll: true });
  reveal(box);
}

/** Scrolls the graph, and not the page, so that a box is in sight. */
function reveal(box) {
  const canvas = $("canvas");
  const x = (box.x - view.frame.x) * scale;
  const y = (box.y - view.frame.y) * scale;
  const [wide, high] = [(box.width / 2) * scale + 20, (box.height / 2) * scale + 20];
  canvas.scrollLeft = Math.min(Math.max(canvas.scrollLeft, x + wide - canvas.clientWidth), x - wide);
  canvas.scrollTop = Math.min(Math.max(canvas.scrollTop, y + high - canvas.clientHeight), y - high);
}

function toggle(id, opened) {
  if (opened) open.add(id);
  else for (const one of [...open]) if (one === id || one.startsWith(`${id}/`) || one.startsWith(`${id}#`)) open.delete(one);
  rebuild();
  zoom(scale);
  const box = view.boxes.find((one) => (opened ? within(one, id) : one.group?.id === id));
  if (box) focus(box);
}

function within(box, id) {
  for (let group = box.parent; group; group = group.parent) if (group.id === id) return true;
  return false;
}

function activate(box) {
  if (box.group) toggle(box.group.id, true);
  else select(box.key);
}

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The nearest box in a direction. */
function neighbour(box, [dx, dy]) {
  let nearest = null;
  for (const other of view.boxes) {
    const ahead = (other.x - box.x) * dx + (other.y - box.y) * dy;
    const aside = Math.abs((other.x - box.x) * dy) + Math.abs((other.y - box.y) * dx);
    const distance = ahead + 2 * aside;
    if (other !== box && ahead > 1 && aside < 2 * ahead + 1 && (!nearest || distance < nearest.distance)) nearest = { box: other, distance };
  }
  return nearest?.box;
}

function onKey(event) {
  const target = event.target.closest("[role=button]");
  if (!target) return;
  const box = view.boxes.find((one) => one.element === target);
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  } else if (box && DIRECTIONS[event.key]) {
    event.preventDefault();
    const next = neighbour(box, DIRECTIONS[event.key]);
    if (next) focus(next);
  }
}

function onCanvas(event) {
  const fold = event.target.closest("[data-fold]");
  const target = event.target.closest(".box");
  if (fold) toggle(fold.dataset.fold, false);
  else if (target) {
    const box = view.boxes.find((one) => one.element === target);
    for (const other of view.boxes) other.element.setAttribute("tabindex", other === box ? "0" : "-1");
    activate(box);
  } else if (selected) select(selected);
}

function onPanel(event) {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.node) goTo(Number(button.dataset.node));
  if (button.dataset.unfold !== undefined) toggle(button.dataset.unfold, true);
  if (button.dataset.path) {
    path = path === Number(button.dataset.path) ? null : Number(button.dataset.path);
    for (const one of $("panel").querySelectorAll("[data-path]")) one.setAttribute("aria-pressed", String(Number(one.dataset.path) === path));
    show();
  }
}

function moveTo(to) {
  step = Math.min(plan.total, Math.max(0, to));
  show();
}

function openAll(all) {
  open.clear();
  if (all) for (const group of groups) open.add(group.id);
  rebuild();
  fit(0.75);
}

function listen() {
  $("first").onclick = () => moveTo(0);
  $("back").onclick = () => moveTo(step - 1);
  $("forward").onclick = () => moveTo(step + 1);
  $("last").onclick = () => moveTo(plan.total);
  $("slider").oninput = (event) => moveTo(Number(event.target.value));
  $("smaller").onclick = () => zoom(scale / 1.25);
  $("larger").onclick = () => zoom(scale * 1.25);
  $("fit").onclick = () => fit(0.05);
  $("fold").onclick = () => openAll(false);
  $("unfold").onclick = () => openAll(true);
  $("canvas").onclick = onCanvas;
  $("canvas").onkeydown = onKey;
  $("panel").onclick = onPanel;
  $("alarm").onclick = onPanel;
  $("list").ontoggle = () => {
    if (!$("list").querySelector("table")) fillTable(graph, $("list").lastElementChild);
  };
  $("list").onclick = (event) => {
    if (!event.target.closest("[data-node]")) return;
    onPanel(event);
    $("picture").scrollIntoView({ block: "nearest" });
  };
  document.onkeydown = (event) => {
    if (event.key === "Escape" && selected) select(selected);
  };
  let narrow = innerWidth < NARROW;
  onresize = () => {
    if (narrow === innerWidth < NARROW) return;
    narrow = !narrow;
    rebuild();
    fit(0.75);
  };
}

function introduce() {
  const loss = graph.nodes[graph.loss];
  const count = `${graph.nodes.length.toLocaleString("en")} node${graph.nodes.length === 1 ? "" : "s"}`;
  const result = loss.value && isScalar(loss.value) ? `loss = <b class="v" title="${loss.value.values[0]}">${short(loss.value.values[0], 6)}</b> · ` : "";
  $("summary").innerHTML = `${result}${count}${graph.traced ? " · one example" : ""}`;
  $("key").innerHTML = `<span class="key parameter">parameter</span><span class="key input">input</span><span class="key op">op</span>${groups.length ? `<span class="key group">folded group</span>` : ""}${graph.traced ? `<span class="v">value</span><span class="g">◂ gradient</span>` : ""}`;
  if (graph.nonFinite) {
    $("alarm").hidden = false;
    $("alarm").innerHTML = `<p><b aria-hidden="true">✕</b> ${blame(graph)}</p><button type="button" data-node="${graph.nonFinite.node}">Show where it began</button>`;
  }
  $("pass").hidden = !graph.traced;
}

// Boxes are as wide as their texts, so the fonts come first.
await Promise.all([...document.fonts].map((font) => font.load()));
introduce();
listen();
rebuild();
fit(0.75);
document.documentElement.dataset.ready = "true";

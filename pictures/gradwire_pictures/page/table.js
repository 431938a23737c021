// All nodes in a table, for whoever would rather read than look; made when it is opened.
import { clipped, escaped } from "page/graph";
import { exact, inline } from "page/numbers";

const PAGE = 500;

/** Rows of the table from a node on. */
export function rowsFrom(graph, start) {
  return graph.nodes.slice(start, start + PAGE).map((node) => {
    const operands = node.operands.slice(0, 8).map(({ node: index }) => escaped(clipped(graph.nodes[index].name)));
    if (node.operands.length > 8) operands.push("…");
    return `<tr><th scope="row"><button type="button" class="link" data-node="${node.index}">${escaped(clipped(node.name))}</button></th><td>${node.op}</td><td>${operands.join(", ")}</td>${cell(node.value, "v")}${cell(node.op === "constant" ? null : node.gradient, "g")}</tr>`;
  });
}

function cell(t, kind) {
  return t ? `<td class="${kind}" title="${exact(t)}">${escaped(inline(t, 6))}</td>` : "<td></td>";
}

/** The table, which goes on as far as one asks. */
export function fillTable(graph, place) {
  const head = ["node", "op", "operands", "value", "gradient"].map((name) => `<th scope="col">${name}</th>`).join("");
  place.innerHTML = `<div class="wide" tabindex="0" role="region" aria-label="All nodes"><table class="numbers"><thead><tr>${head}</tr></thead><tbody></tbody></table></div><p></p>`;
  const [body, foot] = [place.querySelector("tbody"), place.querySelector("p")];
  const more = () => {
    body.insertAdjacentHTML("beforeend", rowsFrom(graph, body.rows.length).join(""));
    const left = graph.nodes.length - body.rows.length;
    foot.innerHTML = left ? `<button type="button">Show ${Math.min(left, PAGE)} of ${left.toLocaleString("en")} more</button>` : "";
    foot.querySelector("button")?.addEventListener("click", more);
  };
  more();
}

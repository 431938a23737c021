// Numbers and tensors as text.

/** A number in a few digits, with a true minus. */
export function short(x, digits = 4) {
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const rounded = Number(x.toPrecision(digits));
  const size = Math.abs(rounded);
  const plain = size === 0 ? "0" : size >= 1e6 || size < 1e-4 ? rounded.toExponential() : String(rounded);
  return plain.replace("e+", "e").replaceAll("-", "−");
}

/** A number within a formula: a negative one in parentheses. */
export function term(x, digits = 6) {
  return x < 0 ? `(${short(x, digits)})` : short(x, digits);
}

/** The tensor that the data holds: its shape, the elements that are there, and bars for all of them. */
export function tensor(data) {
  if (data === null || data === undefined) return null;
  if (typeof data !== "object") return { shape: [], values: [Number(data)], whole: true, norm: Math.abs(Number(data)) };
  const values = data.values.map(Number);
  return {
    shape: data.shape,
    values,
    whole: !data.bars,
    bars: (data.bars ?? data.values).map(Number),
    norm: Number(data.norm),
  };
}

export function isScalar(t) {
  return t !== null && t.shape.length === 0;
}

export function shapeText(shape) {
  return `(${shape.join(" × ")})`;
}

/** Whether a tensor is small enough to be written out. */
export function spelled(t) {
  return isScalar(t) || (t.whole && t.values.length <= 4);
}

/** A tensor in a line: a scalar's number, the elements of a small one, the shape and norm of a larger one. */
export function inline(t, digits = 4) {
  if (spelled(t)) return nested(t.values, t.shape, digits);
  return `${shapeText(t.shape)} ‖${short(t.norm, digits)}‖`;
}

/** The elements in NumPy's brackets. */
export function nested(values, shape, digits) {
  if (shape.length === 0) return short(values[0], digits);
  const size = values.length / shape[0];
  const rows = Array.from({ length: shape[0] }, (_, i) => values.slice(i * size, (i + 1) * size));
  return `[${rows.map((row) => nested(row, shape.slice(1), digits)).join(", ")}]`;
}

/** All that is there of a tensor, with all digits. */
export function exact(t) {
  return isScalar(t) ? String(t.values[0]) : `${t.values.join(", ")}${t.whole ? "" : ", …"}`;
}

/** Whether all that is there is finite. */
export function isFinite_(t) {
  return t === null || (Number.isFinite(t.norm) && t.values.every(Number.isFinite));
}

/** A tensor times a number. */
export function scaled(t, factor) {
  const times = (x) => (factor === 0 ? 0 : x * factor);
  return { ...t, values: t.values.map(times), bars: t.bars?.map(times), norm: Math.abs(times(t.norm)) };
}

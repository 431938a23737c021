// Trains a classifier with the hinge loss: the gradients come from a gradwire server, by stream, and the steps are made here.
//
//     node train.js localhost:50051 breast-cancer.csv

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const BATCH = 32;
const EPOCHS = 20;
const RATE = 0.1;

const protos = protoLoader.loadSync("gradwire/v1/gradient_service.proto", {
  includeDirs: [fileURLToPath(new URL("../../protos", import.meta.url))],
});
const { GradientService } = grpc.loadPackageDefinition(protos).gradwire.v1;

// The two messages of google.rpc that errors come in: RequestError has the fields of google.rpc.Status.
const Status = protos["gradwire.v1.RequestError"];
const string = (id) => ({ type: "string", id });
const ErrorInfo = protoLoader.fromJSON({
  nested: { ErrorInfo: { fields: { reason: string(1), domain: string(2) } } },
}).ErrorInfo;

// max(0, 1 - (w . phi) y) of one example. A node is named by its index; those before it are its operands.
function hinge(size) {
  const constant = (value) => ({ constant: { value: { values: [value] } } });
  const nodes = [
    { name: "w", parameter: { shape: [size] } },
    { name: "phi", input: { shape: [size], perExample: true } },
    { name: "y", input: { perExample: true } },
    constant(-1),
    constant(1),
    constant(0),
    { name: "score", matmul: { operands: [0, 1] } },
    { mul: { operands: [6, 2, 3] } },
    { add: { operands: [4, 7] } },
    { name: "loss", max: { operands: [5, 8] } },
  ];
  return { nodes, loss: nodes.length - 1 };
}

function tensor(values, ...shape) {
  const raw = Buffer.alloc(8 * values.length);
  values.forEach((value, i) => raw.writeDoubleLE(value, 8 * i));
  return { shape, raw };
}

function floats({ raw }) {
  return Array.from({ length: raw.length / 8 }, (_, i) => raw.readDoubleLE(8 * i));
}

// A registered loss on a stream, one request at a time: the mean over rows of features and a label, and its gradient in w.
function streamed(stream, graphId) {
  const answers = stream[Symbol.asyncIterator]();
  return async (w, rows) => {
    const tensors = {
      w: tensor(w, w.length),
      phi: tensor(rows.flatMap((row) => row.slice(0, -1)), rows.length, w.length),
      y: tensor(rows.map((row) => row.at(-1)), rows.length),
    };
    stream.write({ head: { request: { graphId, tensors, rejectNonFinite: true } } });
    const { value: answer } = await answers.next();
    if (answer.error) throw new Refused(answer.error);
    // Only tensors beyond 256 KiB would follow in frames of their own.
    const { loss, gradients } = answer.head.response;
    return [floats(loss)[0], floats(gradients.w)];
  };
}

// An answer of the service that is an error: its code, message and reason.
class Refused extends Error {
  constructor({ code, message, details }) {
    const info = details.find((any) => any.type_url.endsWith("/google.rpc.ErrorInfo"));
    const reason = info ? ` (${ErrorInfo.deserialize(info.value).reason})` : "";
    super(`${grpc.status[code]}: ${message}${reason}`);
  }

  // A call that failed has the status in its metadata; what gRPC itself says has none.
  static from(error) {
    const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
    return details ? new Refused(Status.deserialize(details)) : error;
  }
}

async function main(address, file) {
  const data = readFileSync(file, "utf8").trim().split("\n").map((line) => line.split(",").map(Number));
  // In plaintext; over networks that others share, grpc.credentials.createSsl.
  const service = new GradientService(address, grpc.credentials.createInsecure());
  try {
    const size = data[0].length - 1;
    const { graphId } = await new Promise((resolve, reject) => {
      service.registerGraph({ graph: hinge(size) }, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
    const stream = service.streamGradients();
    const lossAt = streamed(stream, graphId);

    const w = new Array(size).fill(0);
    for (let epoch = 0; epoch < EPOCHS; epoch++) {
      for (let first = 0; first < data.length; first += BATCH) {
        const [, gradient] = await lossAt(w, data.slice(first, first + BATCH));
        gradient.forEach((g, i) => (w[i] -= RATE * g));
      }
    }
    const [loss] = await lossAt(w, data);
    console.log("graph", graphId);
    console.log("loss", loss);
    console.log("w", w.join(" "));
    stream.end();
  } finally {
    service.close();
  }
}

try {
  await main(...process.argv.slice(2));
} catch (error) {
  console.error(Refused.from(error).message);
  process.exit(1); // The stream is still open.
}

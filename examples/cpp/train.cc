// Trains a classifier with the hinge loss: the gradients come from a gradwire server, by stream, and the steps are made
// here.
//
//     train localhost:50051 breast-cancer.csv

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <iomanip>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "google/rpc/code.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gradwire/v1/gradient_service.grpc.pb.h"

namespace pb = gradwire::v1;

static_assert(std::numeric_limits<double>::is_iec559);

namespace {

constexpr std::size_t kBatch = 32;
constexpr int kEpochs = 20;
constexpr double kRate = 0.1;

using Numbers = std::vector<double>;

// An answer of the service that is an error: its code, message and reason.
std::runtime_error Refused(const google::rpc::Status& status) {
  std::string text = google::rpc::Code_Name(static_cast<google::rpc::Code>(status.code())) + ": " + status.message();
  for (const auto& detail : status.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) text += " (" + info.reason() + ")";
  }
  return std::runtime_error(text);
}

// Throws what the service, or gRPC, says of a call that failed.
void Check(const grpc::Status& status) {
  if (status.ok()) return;
  google::rpc::Status found;
  // Errors of gRPC itself, such as of a server that cannot be reached, have no details.
  if (!found.ParseFromString(status.error_details()) || status.error_details().empty()) {
    found.set_code(status.error_code());
    found.set_message(status.error_message());
  }
  throw Refused(found);
}

// Rows of features, one after another, and their labels.
struct Examples {
  Numbers phi, y;
  std::size_t columns = 0;

  Examples Slice(std::size_t first, std::size_t end) const {
    end = std::min(end, y.size());
    return {Numbers(phi.begin() + first * columns, phi.begin() + end * columns),
            Numbers(y.begin() + first, y.begin() + end), columns};
  }
};

// Reads rows of numbers, the last of which is the label.
Examples Load(const std::string& file) {
  std::ifstream lines(file);
  if (!lines) throw std::runtime_error(file + " cannot be read");
  Examples data;
  for (std::string line, text; std::getline(lines, line);) {
    Numbers row;
    for (std::istringstream fields(line); std::getline(fields, text, ',');) row.push_back(std::stod(text));
    data.columns = row.size() - 1;
    data.phi.insert(data.phi.end(), row.begin(), row.end() - 1);
    data.y.push_back(row.back());
  }
  return data;
}

// Tensors are little-endian, as the memory of all machines that this is compiled for.
pb::Tensor Tensor(const Numbers& values, std::initializer_list<std::size_t> shape) {
  pb::Tensor tensor;
  for (auto size : shape) tensor.add_shape(size);
  tensor.set_raw(values.data(), values.size() * sizeof(double));
  return tensor;
}

Numbers Floats(const pb::Tensor& tensor) {
  Numbers values(tensor.raw().size() / sizeof(double));
  std::memcpy(values.data(), tensor.raw().data(), tensor.raw().size());
  return values;
}

// max(0, 1 - (w . phi) y) of one example. A node is named by its index; those before it are its operands.
pb::Graph Hinge(std::size_t size) {
  pb::Graph graph;
  const auto constant = [&graph](double value) {
    graph.add_nodes()->mutable_constant()->mutable_value()->add_values(value);
  };
  const auto operands = [](auto* op, std::initializer_list<int> nodes) {
    for (int node : nodes) op->add_operands(node);
  };
  auto* w = graph.add_nodes();
  w->set_name("w");
  w->mutable_parameter()->add_shape(size);
  auto* phi = graph.add_nodes();
  phi->set_name("phi");
  phi->mutable_input()->add_shape(size);
  phi->mutable_input()->set_per_example(true);
  auto* y = graph.add_nodes();
  y->set_name("y");
  y->mutable_input()->set_per_example(true);
  constant(-1);
  constant(1);
  constant(0);
  auto* score = graph.add_nodes();
  score->set_name("score");
  operands(score->mutable_matmul(), {0, 1});
  operands(graph.add_nodes()->mutable_mul(), {6, 2, 3});
  operands(graph.add_nodes()->mutable_add(), {4, 7});
  auto* loss = graph.add_nodes();
  loss->set_name("loss");
  operands(loss->mutable_max(), {5, 8});
  graph.set_loss(graph.nodes_size() - 1);
  return graph;
}

// A registered loss on a stream, one request at a time.
class Streamed {
 public:
  Streamed(pb::GradientService::Stub& service, std::string graph)
      : graph_(std::move(graph)), stream_(service.StreamGradients(&context_)) {}

  // The mean loss of the examples, and its gradient in w.
  std::pair<double, Numbers> At(const Numbers& w, const Examples& data) {
    pb::StreamGradientsRequest frame;
    auto& request = *frame.mutable_head()->mutable_request();
    request.set_graph_id(graph_);
    request.set_reject_non_finite(true);
    auto& tensors = *request.mutable_tensors();
    tensors["w"] = Tensor(w, {w.size()});
    tensors["phi"] = Tensor(data.phi, {data.y.size(), data.columns});
    tensors["y"] = Tensor(data.y, {data.y.size()});
    pb::StreamGradientsResponse answer;
    if (!stream_->Write(frame) || !stream_->Read(&answer)) Check(stream_->Finish());
    if (answer.has_error()) {
      google::rpc::Status status;  // It has the fields of RequestError.
      status.ParseFromString(answer.error().SerializeAsString());
      throw Refused(status);
    }
    // Only tensors beyond 256 KiB would follow in frames of their own.
    const auto& response = answer.head().response();
    return {Floats(response.loss()).at(0), Floats(response.gradients().at("w"))};
  }

  // Says that no more requests come.
  void Close() {
    stream_->WritesDone();
    Check(stream_->Finish());
  }

 private:
  std::string graph_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::StreamGradientsRequest, pb::StreamGradientsResponse>> stream_;
};

void Run(const std::string& address, const std::string& file) {
  const Examples data = Load(file);
  // In plaintext; over networks that others share, grpc::SslCredentials.
  pb::GradientService::Stub service(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  pb::RegisterGraphRequest request;
  *request.mutable_graph() = Hinge(data.columns);
  pb::RegisterGraphResponse registered;
  {
    grpc::ClientContext context;
    Check(service.RegisterGraph(&context, request, &registered));
  }
  Streamed loss(service, registered.graph_id());

  Numbers w(data.columns);
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    for (std::size_t first = 0; first < data.y.size(); first += kBatch) {
      const Numbers gradient = loss.At(w, data.Slice(first, first + kBatch)).second;
      for (std::size_t i = 0; i < w.size(); ++i) w[i] -= kRate * gradient[i];
    }
  }
  const double value = loss.At(w, data).first;
  loss.Close();
  std::cout << std::setprecision(std::numeric_limits<double>::max_digits10) << "graph " << registered.graph_id()
            << "\nloss " << value << "\nw";
  for (double each : w) std::cout << ' ' << each;
  std::cout << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: train HOST:PORT FILE.csv\n";
    return 2;
  }
  try {
    Run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

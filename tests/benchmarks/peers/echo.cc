// A bare gRPC server in C++ that looks at no bytes, for 127.0.0.1: it answers every call with the bytes on its standard
// input. With the asynchronous API and one thread, as grpc.aio has one.

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <iostream>
#include <iterator>
#include <string>

struct Call {
  enum { BEGIN, READ, ANSWERED } state = BEGIN;
  grpc::GenericServerContext context;
  grpc::GenericServerAsyncReaderWriter stream{&context};
  grpc::ByteBuffer message;
};

int main() {
  std::string reply((std::istreambuf_iterator<char>(std::cin)), {});
  grpc::Slice slice(reply);
  const grpc::ByteBuffer answer(&slice, 1);
  grpc::AsyncGenericService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterAsyncGenericService(&service);
  auto queue = builder.AddCompletionQueue();
  auto server = builder.BuildAndStart();
  std::cout << "serving on 127.0.0.1:" << port << std::endl;
  auto begin = [&] {
    auto* call = new Call;
    service.RequestCall(&call->context, &call->stream, queue.get(), queue.get(), call);
  };
  begin();
  void* tag;
  bool ok;
  while (queue->Next(&tag, &ok)) {
    auto* call = static_cast<Call*>(tag);
    if (!ok || call->state == Call::ANSWERED) {
      delete call;
    } else if (call->state == Call::BEGIN) {
      begin();
      call->state = Call::READ;
      call->stream.Read(&call->message, call);
    } else {
      call->state = Call::ANSWERED;
      call->stream.WriteAndFinish(answer, grpc::WriteOptions(), grpc::Status::OK, call);
    }
  }
}

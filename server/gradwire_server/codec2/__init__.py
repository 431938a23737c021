"""The codec's part that reads graphs: protobuf messages -> columns."""

"""The service: a request's logic, and around it the gRPC skin. It knows no mathematics."""

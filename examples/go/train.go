// Trains a classifier with the hinge loss: the gradients come from a gradwire server, by stream, and the steps are made here.
//
//	go run . localhost:50051 breast-cancer.csv
package main

import (
	"context"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/local"
	"google.golang.org/grpc/status"

	pb "example.com/train/gradwirev1"
)

//go:generate buf generate

const (
	batch  = 32
	epochs = 20
	rate   = 0.1
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: train HOST:PORT FILE.csv")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, describe(err))
		os.Exit(1)
	}
}

func run(address, file string) error {
	data, err := load(file)
	if err != nil {
		return err
	}
	// In plaintext, to this machine only; to another one, credentials.NewClientTLSFromFile.
	conn, err := grpc.Dial(address, grpc.WithTransportCredentials(local.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	service := pb.NewGradientServiceClient(conn)

	registered, err := service.RegisterGraph(ctx, &pb.RegisterGraphRequest{Graph: hinge(int64(data.columns))})
	if err != nil {
		return err
	}
	stream, err := service.StreamGradients(ctx)
	if err != nil {
		return err
	}
	loss := streamed{stream, registered.GraphId}

	w := make([]float64, data.columns)
	for epoch := 0; epoch < epochs; epoch++ {
		for first := 0; first < data.rows(); first += batch {
			_, gradient, err := loss.at(w, data.slice(first, first+batch))
			if err != nil {
				return err
			}
			for i, g := range gradient {
				w[i] -= float64(rate * g) // The conversion keeps compilers from fusing the two operations.
			}
		}
	}
	value, _, err := loss.at(w, data)
	if err != nil {
		return err
	}
	fmt.Println("graph", registered.GraphId)
	fmt.Println("loss", value)
	fmt.Println("w", w)
	return stream.CloseSend()
}

// hinge is max(0, 1 - (w . phi) y) of one example. A node is named by its index; those before it are its operands.
func hinge(size int64) *pb.Graph {
	nodes := []*pb.Node{
		{Name: "w", Kind: &pb.Node_Parameter{Parameter: &pb.Parameter{Shape: []int64{size}}}},
		{Name: "phi", Kind: &pb.Node_Input{Input: &pb.Input{Shape: []int64{size}, PerExample: true}}},
		{Name: "y", Kind: &pb.Node_Input{Input: &pb.Input{PerExample: true}}},
		constant(-1),
		constant(1),
		constant(0),
		{Name: "score", Kind: &pb.Node_Matmul{Matmul: &pb.Matmul{Operands: []uint32{0, 1}}}},
		{Kind: &pb.Node_Mul{Mul: &pb.Mul{Operands: []uint32{6, 2, 3}}}},
		{Kind: &pb.Node_Add{Add: &pb.Add{Operands: []uint32{4, 7}}}},
		{Name: "loss", Kind: &pb.Node_Max{Max: &pb.Max{Operands: []uint32{5, 8}}}},
	}
	return &pb.Graph{Nodes: nodes, Loss: uint32(len(nodes) - 1)}
}

func constant(value float64) *pb.Node {
	return &pb.Node{Kind: &pb.Node_Constant{Constant: &pb.Constant{Value: &pb.Tensor{Values: []float64{value}}}}}
}

// streamed is a registered loss on a stream, one request at a time.
type streamed struct {
	stream pb.GradientService_StreamGradientsClient
	graph  string
}

// at is the mean loss of the examples, and its gradient in w.
func (s streamed) at(w []float64, data examples) (float64, []float64, error) {
	head := &pb.StreamRequestHead{Request: &pb.ComputeGradientsRequest{
		Program: &pb.ComputeGradientsRequest_GraphId{GraphId: s.graph},
		Tensors: map[string]*pb.Tensor{
			"w":   tensor(w, len(w)),
			"phi": tensor(data.phi, data.rows(), data.columns),
			"y":   tensor(data.y, data.rows()),
		},
		RejectNonFinite: true,
	}}
	frame := &pb.StreamGradientsRequest{Frame: &pb.StreamGradientsRequest_Head{Head: head}}
	// Where the stream has ended, sending says io.EOF, and receiving says why.
	if err := s.stream.Send(frame); err != nil && err != io.EOF {
		return 0, nil, err
	}
	answer, err := s.stream.Recv()
	if err != nil {
		return 0, nil, err
	}
	if refused := answer.GetError(); refused != nil {
		return 0, nil, status.ErrorProto(&spb.Status{Code: refused.Code, Message: refused.Message, Details: refused.Details})
	}
	// Only tensors beyond 256 KiB would follow in frames of their own.
	response := answer.GetHead().GetResponse()
	return floats(response.Loss)[0], floats(response.Gradients["w"]), nil
}

func tensor(values []float64, shape ...int) *pb.Tensor {
	found := &pb.Tensor{Raw: make([]byte, 8*len(values))}
	for _, size := range shape {
		found.Shape = append(found.Shape, int64(size))
	}
	for i, value := range values {
		binary.LittleEndian.PutUint64(found.Raw[8*i:], math.Float64bits(value))
	}
	return found
}

func floats(from *pb.Tensor) []float64 {
	found := make([]float64, len(from.Raw)/8)
	for i := range found {
		found[i] = math.Float64frombits(binary.LittleEndian.Uint64(from.Raw[8*i:]))
	}
	return found
}

// examples are rows of features, one after another, and their labels.
type examples struct {
	phi, y  []float64
	columns int
}

func (e examples) rows() int { return len(e.y) }

func (e examples) slice(first, end int) examples {
	if end > e.rows() {
		end = e.rows()
	}
	return examples{e.phi[first*e.columns : end*e.columns], e.y[first:end], e.columns}
}

// load reads rows of numbers, the last of which is the label.
func load(file string) (examples, error) {
	opened, err := os.Open(file)
	if err != nil {
		return examples{}, err
	}
	defer opened.Close()
	rows, err := csv.NewReader(opened).ReadAll()
	if err != nil {
		return examples{}, err
	}
	var data examples
	for _, row := range rows {
		data.columns = len(row) - 1
		for column, text := range row {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return examples{}, err
			}
			if column < data.columns {
				data.phi = append(data.phi, value)
			} else {
				data.y = append(data.y, value)
			}
		}
	}
	return data, nil
}

// describe is an error as a person reads it: of the service, its code, message and reason.
func describe(err error) string {
	found, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	for _, detail := range found.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return fmt.Sprintf("%v: %s (%s)", found.Code(), found.Message(), info.Reason)
		}
	}
	return fmt.Sprintf("%v: %s", found.Code(), found.Message())
}

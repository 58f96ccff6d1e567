// The client of grpc-go, as clients/README.md describes it.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o go go.go
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Messages are bytes already.
type codec struct{}

func (codec) Marshal(message interface{}) ([]byte, error) { return *message.(*[]byte), nil }
func (codec) Unmarshal(data []byte, message interface{}) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (codec) Name() string { return "proto" }

var printing sync.Mutex

func say(words ...string) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Println(strings.Join(words, " "))
}

func toHex(data []byte) string {
	if len(data) == 0 {
		return "-"
	}
	return hex.EncodeToString(data)
}

func fromHex(text string) []byte {
	data, _ := hex.DecodeString(strings.TrimPrefix(text, "-"))
	return data
}

func sayStatus(number string, err error) {
	ended := status.Convert(err)
	say("status", number, strconv.Itoa(int(ended.Code())), toHex([]byte(ended.Message())))
}

// What a call is to send: nil for its end.
type call struct {
	requests chan []byte
	cancel   context.CancelFunc
}

func (each call) unary(ctx context.Context, conn *grpc.ClientConn, number, path string) {
	request, reply := <-each.requests, []byte(nil)
	err := conn.Invoke(ctx, path, &request, &reply)
	if err == nil {
		say("message", number, toHex(reply))
	}
	sayStatus(number, err)
}

func (each call) stream(ctx context.Context, conn *grpc.ClientConn, number, path string) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, path)
	if err != nil {
		sayStatus(number, err)
		return
	}
	go func() {
		for request := range each.requests {
			if request == nil {
				stream.CloseSend()
				return
			}
			if stream.SendMsg(&request) != nil {
				return // what is received says why
			}
		}
	}()
	for {
		reply := []byte(nil)
		if err := stream.RecvMsg(&reply); err != nil {
			if err.Error() == "EOF" {
				err = nil
			}
			sayStatus(number, err)
			return
		}
		say("message", number, toHex(reply))
	}
}

func begin(conn *grpc.ClientConn, number, kind, path, seconds, pairs string) call {
	ctx, cancel := context.WithCancel(context.Background())
	if seconds != "-" {
		value, _ := strconv.ParseFloat(seconds, 64)
		ctx, cancel = context.WithTimeout(ctx, time.Duration(value*float64(time.Second)))
	}
	if pairs != "-" {
		for _, pair := range strings.Split(pairs, ",") {
			equals := strings.Index(pair, "=")
			ctx = metadata.AppendToOutgoingContext(ctx, pair[:equals], string(fromHex(pair[equals+1:])))
		}
	}
	each := call{make(chan []byte, 1<<16), cancel}
	if kind == "unary" {
		go each.unary(ctx, conn, number, path)
	} else {
		go each.stream(ctx, conn, number, path)
	}
	return each
}

func main() {
	options := []grpc.CallOption{grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)}
	if os.Args[2] == "gzip" {
		options = append(options, grpc.UseCompressor("gzip"))
	}
	conn, err := grpc.Dial(os.Args[1], grpc.WithInsecure(), grpc.WithDefaultCallOptions(options...))
	if err != nil {
		panic(err)
	}
	calls := map[string]call{}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		switch number := words[1]; words[0] {
		case "call":
			calls[number] = begin(conn, number, words[2], words[3], words[4], words[5])
		case "send":
			calls[number].requests <- append([]byte{}, fromHex(words[2])...)
		case "end":
			calls[number].requests <- nil
		default:
			calls[number].cancel()
		}
	}
}

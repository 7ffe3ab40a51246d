package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
)

// What test_events.py wants: a stream of signed events, each answered before the next; `forged` changes the second one on its way.
func events(how string) error {
	ctx := context.Background()
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	if how == "forged" {
		settings.HTTPClient = forger{settings.HTTPClient}
	}
	called, err := bedrockruntime.NewFromConfig(settings).InvokeModelWithBidirectionalStream(ctx,
		&bedrockruntime.InvokeModelWithBidirectionalStreamInput{ModelId: aws.String("amazon.nova-sonic-v1:0")})
	if err != nil {
		return err
	}
	stream := called.GetStream()
	defer stream.Close()
	for _, word := range []string{"first", "second", "third"} {
		part := types.BidirectionalInputPayloadPart{Bytes: []byte(word)}
		if err := stream.Send(ctx, &types.InvokeModelWithBidirectionalStreamInputMemberChunk{Value: part}); err != nil {
			return err
		}
		answer, open := <-stream.Events()
		if !open {
			return errors.Join(errors.New("the stream broke off"), stream.Err())
		}
		chunk, ok := answer.(*types.InvokeModelWithBidirectionalStreamOutputMemberChunk)
		if !ok || string(chunk.Value.Bytes) != word {
			return fmt.Errorf("not `%s`: %v", word, answer)
		}
		fmt.Println("heard", word)
	}
	// The last word of ours, then of theirs: closing at once would break it off.
	if err := stream.Writer.Close(); err != nil {
		return err
	}
	for range stream.Events() {
	}
	return stream.Close()
}

// Sends what the SDK signed, and of its second event one bit otherwise.
type forger struct{ inner aws.HTTPClient }

func (f forger) Do(request *http.Request) (*http.Response, error) {
	request.Body = &forged{ReadCloser: request.Body}
	return f.inner.Do(request)
}

type forged struct {
	io.ReadCloser
	ready []byte
	count int
}

func (f *forged) Read(into []byte) (int, error) {
	if len(f.ready) == 0 {
		var length [4]byte
		if _, err := io.ReadFull(f.ReadCloser, length[:]); err != nil {
			return 0, err
		}
		size := binary.BigEndian.Uint32(length[:])
		f.ready = append(length[:], make([]byte, size-4)...)
		if _, err := io.ReadFull(f.ReadCloser, f.ready[4:]); err != nil {
			return 0, err
		}
		if f.count++; f.count == 2 {
			// Within the payload, and with the checksum that it then has: only the signature tells.
			end := size - 4
			f.ready[end-20] ^= 1
			binary.BigEndian.PutUint32(f.ready[end:], crc32.ChecksumIEEE(f.ready[:end]))
		}
	}
	n := copy(into, f.ready)
	f.ready = f.ready[n:]
	return n, nil
}

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"sync/atomic"
	"time"
)

// Frame types, flags and codes of RFC 9113.
const (
	data, headers, priority, reset, settings, ping, goaway, windowUpdate, continuation = 0, 1, 2, 3, 4, 6, 7, 8, 9

	endStream, endHeaders = 1, 4

	calm = 11 // ENHANCE_YOUR_CALM
)

// frame is one frame's bytes.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	out := make([]byte, 9, 9+len(payload))
	binary.BigEndian.PutUint32(out, uint32(len(payload))<<8|uint32(kind))
	out[4] = flags
	binary.BigEndian.PutUint32(out[5:], stream)
	return append(out, payload...)
}

// literal is a header field that is not indexed; names and values are shorter than 127 bytes.
func literal(name, value string) []byte {
	out := append([]byte{0, byte(len(name))}, name...)
	return append(append(out, byte(len(value))), value...)
}

// head is the header block of a request.
func head(method, path string) []byte {
	return bytes.Join([][]byte{
		literal(":method", method), literal(":scheme", "https"), literal(":authority", "localhost"), literal(":path", path),
	}, nil)
}

// h2 is a connection that sends whatever it wants and counts what comes back.
type h2 struct {
	conn *tls.Conn
	// Complete replies, and streams that were reset.
	replies, resets atomic.Int64
	// The code of the GOAWAY that came, or -1.
	goaway atomic.Int64
	// Closed when the server has ended the connection.
	ended chan struct{}
}

// h2 opens a connection of the attacker with these settings (identifier and value in turn) and begins to read.
func (s *server) h2(values ...uint32) (*h2, error) { return s.h2As(s.attacker, values...) }

func (s *server) h2As(who *tls.Config, values ...uint32) (*h2, error) {
	conn, err := s.dialTLS(who, "h2")
	if err != nil {
		return nil, err
	}
	var payload []byte
	for i := 0; i < len(values); i += 2 {
		payload = binary.BigEndian.AppendUint16(payload, uint16(values[i]))
		payload = binary.BigEndian.AppendUint32(payload, values[i+1])
	}
	c := &h2{conn: conn, ended: make(chan struct{})}
	c.goaway.Store(-1)
	if !c.send([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(settings, 0, 0, payload)) {
		conn.Close()
		return nil, io.ErrClosedPipe
	}
	go c.read()
	return c, nil
}

func (c *h2) read() {
	defer close(c.ended)
	prefix := make([]byte, 9)
	for {
		if _, err := io.ReadFull(c.conn, prefix); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(prefix)>>8)
		if _, err := io.ReadFull(c.conn, payload); err != nil {
			return
		}
		switch prefix[3] {
		case data, headers:
			if prefix[4]&endStream != 0 {
				c.replies.Add(1)
			}
		case reset:
			c.resets.Add(1)
		case goaway:
			c.goaway.Store(int64(binary.BigEndian.Uint32(payload[4:])))
		}
	}
}

// send writes all of it at once; false if the connection has ended.
func (c *h2) send(frames ...[]byte) bool {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.conn.Write(bytes.Join(frames, nil))
	return err == nil
}

// wait waits until the server has ended the connection; false if it does not.
func (c *h2) wait(ctx context.Context) bool {
	select {
	case <-c.ended:
		return true
	case <-ctx.Done():
		return false
	}
}

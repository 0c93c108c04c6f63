package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Each attack may take this many MiB unless it says otherwise.
const usual = 48

var attacks = []attack{
	{"handshake flood", usual, handshakeFlood},
	{"half a ClientHello", usual, halfHello},
	{"oversized and broken records", usual, brokenRecords},
	{"slow head", usual, slowHead},
	{"slow body", usual, slowBody},
	// The replies wait in the server where the system has no room for them.
	{"slow reader of big replies", 256, slowReader},
	{"header bombs over HTTP/1.1", usual, headerBombs},
	{"rapid reset", usual, flood(rapidReset)},
	{"settings flood", usual, flood(func(uint32) []byte { return frame(settings, 0, 0, nil) })},
	{"ping flood", usual, flood(func(uint32) []byte { return frame(ping, 0, 0, make([]byte, 8)) })},
	{"priority flood", usual, flood(func(n uint32) []byte { return frame(priority, 0, 2*n+1, make([]byte, 5)) })},
	{"window update flood", usual, flood(func(uint32) []byte { return frame(windowUpdate, 0, 0, []byte{0, 0, 0, 1}) })},
	{"empty data flood", usual, emptyData},
	{"continuation flood", usual, continuationFlood},
	{"HPACK bomb", usual, hpackBomb},
	{"big heads without an end", usual, unfinished(false, func(named []byte) []byte {
		return append(head("GET", "/version"), bytes.Repeat(named, 4)...)
	})},
	{"long refusals without an end", usual, unfinished(false, func(named []byte) []byte {
		return bytes.Join([][]byte{named, literal(":scheme", "https"), literal(":authority", "localhost"), literal(":path", "/version")}, nil)
	})},
	{"a stranger's requests without an end", usual, unfinished(true, func([]byte) []byte {
		return head("POST", "//"+strings.Repeat("a", 120))
	})},
	{"zero windows", 2 * usual, zeroWindows},
	{"10,000 streams open at once", 2 * usual, manyStreams},
	{"10,000 streams one after the other", usual, manyRequests},
	{"ceiling", usual, ceiling},
}

// crowd runs n attackers that go on until ctx ends. Each call is one attempt.
func crowd(ctx context.Context, n int, attempt func(ctx context.Context)) {
	var wg sync.WaitGroup
	for range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for ctx.Err() == nil {
				attempt(ctx)
			}
		}()
	}
	wg.Wait()
}

// longer is ctx with more time, for what the server does only after a timeout of its own.
func longer(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

// isCut waits until the server has ended a connection that sends nothing more.
func isCut(ctx context.Context, conn net.Conn) bool {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetReadDeadline(deadline)
	}
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	return !(errors.As(err, &timeout) && timeout.Timeout())
}

func handshakeFlood(ctx context.Context, s *server) (string, error) {
	var done atomic.Int64
	crowd(ctx, 32, func(context.Context) {
		if conn, err := s.dialTLS(s.attacker, "h2"); err == nil {
			done.Add(1)
			conn.Close()
		}
	})
	return fmt.Sprintf("%d full handshakes", done.Load()), nil
}

// The server must give up on those who begin a handshake and do not go on.
func halfHello(ctx context.Context, s *server) (string, error) {
	hello := append([]byte{22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3}, make([]byte, 60)...)
	return heldAndCut(ctx, s, 400, func() (net.Conn, error) {
		conn, err := s.dial()
		if err == nil {
			_, err = conn.Write(hello)
		}
		return conn, err
	}, nil)
}

// heldAndCut opens n connections and feeds each with a byte now and then, if there are any to feed, until the server has
// cut all of them.
func heldAndCut(ctx context.Context, s *server, n int, open func() (net.Conn, error), next func(conn net.Conn) error) (string, error) {
	long, cancel := longer(ctx)
	defer cancel()
	var opened, cut atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32) // handshakes at a time
	start := time.Now()
	for range n {
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			conn, err := open()
			<-slots
			if err != nil {
				return
			}
			defer conn.Close()
			opened.Add(1)
			gone := make(chan struct{})
			go func() {
				if isCut(long, conn) {
					cut.Add(1)
				}
				close(gone)
			}()
			for {
				select {
				case <-gone:
					return
				case <-time.After(250 * time.Millisecond):
				}
				if next != nil && next(conn) != nil {
					<-gone
					return
				}
			}
		}()
	}
	wg.Wait()
	said := fmt.Sprintf("%d connections, all cut after %.1f s", opened.Load(), time.Since(start).Seconds())
	if opened.Load() == 0 || cut.Load() < opened.Load() {
		return said, fmt.Errorf("%d of %d connections were cut", cut.Load(), opened.Load())
	}
	return said, nil
}

func brokenRecords(ctx context.Context, s *server) (string, error) {
	long, cancel := longer(ctx)
	defer cancel()
	huge := append([]byte{22, 3, 1, 0xff, 0xff}, make([]byte, 0xffff)...)
	endless := bytes.Repeat(append([]byte{22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}, make([]byte, 0x3ffc)...), 64)
	empty := bytes.Repeat([]byte{22, 3, 1, 0, 0}, 10_000)
	alerts := bytes.Repeat([]byte{21, 3, 1, 0, 2, 1, 90}, 10_000)
	application := append([]byte{23, 3, 3, 0x48, 0}, make([]byte, 0x4800)...)
	for i, bytes := range [][]byte{huge, endless, empty, alerts, application, make([]byte, 1<<16), []byte("GET / HTTP/1.1\r\n\r\n")} {
		conn, err := s.dial()
		if err != nil {
			return "", err
		}
		conn.Write(bytes)
		cut := isCut(long, conn)
		conn.Close()
		if !cut {
			return "", fmt.Errorf("broken record %d is not refused", i)
		}
	}
	// Inside of a connection: a record that is too long, and one that was not encrypted with its keys.
	for _, record := range [][]byte{append([]byte{23, 3, 3, 0x48, 0}, make([]byte, 0x4800)...), append([]byte{23, 3, 3, 0, 64}, make([]byte, 64)...)} {
		conn, err := s.dialTLS(s.attacker, "http/1.1")
		if err != nil {
			return "", err
		}
		conn.NetConn().Write(record)
		cut := isCut(long, conn.NetConn())
		conn.Close()
		if !cut {
			return "", fmt.Errorf("a broken record inside of a connection is not refused")
		}
	}
	return "each refused", nil
}

func slowHead(ctx context.Context, s *server) (string, error) {
	return heldAndCut(ctx, s, 200, func() (net.Conn, error) {
		conn, err := s.dialTLS(s.attacker, "http/1.1")
		if err == nil {
			_, err = io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		}
		return conn, err
	}, func(conn net.Conn) error { _, err := conn.Write([]byte{'a'}); return err })
}

// The server answers when the route's time of 15 s is over; in a short run that is not waited for.
func slowBody(ctx context.Context, s *server) (string, error) {
	open := func() (net.Conn, error) {
		conn, err := s.dialTLS(s.attacker, "http/1.1")
		if err == nil {
			_, err = io.WriteString(conn, "PUT /v1/key/generate/"+s.key+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n")
		}
		return conn, err
	}
	next := func(conn net.Conn) error { _, err := conn.Write([]byte{' '}); return err }
	if deadline, _ := ctx.Deadline(); time.Until(deadline) >= 5*time.Second {
		return heldAndCut(ctx, s, 200, open, next)
	}
	crowd(ctx, 200, func(ctx context.Context) {
		conn, err := open()
		if err != nil {
			return
		}
		defer conn.Close()
		for ctx.Err() == nil && next(conn) == nil {
			time.Sleep(100 * time.Millisecond)
		}
	})
	return "200 connections", nil
}

// Replies of 900 kB that nobody reads, over both protocols.
func slowReader(ctx context.Context, s *server) (string, error) {
	body := `{"plaintext":"` + base64.StdEncoding.EncodeToString(make([]byte, 690_000)) + `"}`
	var asked, refused atomic.Int64
	one := func(conn net.Conn) {
		defer conn.Close()
		conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn).SetReadBuffer(4096)
		conn.SetDeadline(time.Now().Add(patience))
		wire := request("PUT", "/v1/key/encrypt/"+s.key, body)
		for range 4 {
			if _, err := io.WriteString(conn, wire); err != nil {
				refused.Add(1)
				return
			}
			asked.Add(1)
			conn.SetDeadline(time.Now().Add(time.Second))
		}
		<-ctx.Done()
	}
	crowd(ctx, 80, func(context.Context) {
		if conn, err := s.dialTLS(s.attacker, "http/1.1"); err == nil {
			one(conn)
		}
	})
	return fmt.Sprintf("%d replies asked for and not read", asked.Load()), nil
}

// Heads that are too long or have too many fields are answered 431 or 400 and cost a bounded amount.
func headerBombs(ctx context.Context, s *server) (string, error) {
	bombs := []string{
		"GET /version HTTP/1.1\r\nHost: localhost\r\nX-Bomb: " + strings.Repeat("a", 1<<20),
		"GET /version HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 100_000),
		"GET /" + strings.Repeat("a", 1<<20),
		strings.Repeat("\r\n", 1<<18),
	}
	var sent, turn atomic.Int64
	var wrong atomic.Value
	crowd(ctx, 16, func(context.Context) {
		conn, err := s.dialTLS(s.attacker, "http/1.1")
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		go io.WriteString(conn, bombs[turn.Add(1)%int64(len(bombs))])
		reply, err := io.ReadAll(conn)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() || bytes.HasPrefix(reply, []byte("HTTP/1.1 2")) {
			wrong.Store(fmt.Sprintf("%.40q, %v", reply, err))
		}
		sent.Add(1)
	})
	if text := wrong.Load(); text != nil {
		return "", fmt.Errorf("a header bomb was answered %s", text)
	}
	return fmt.Sprintf("%d bombs", sent.Load()), nil
}

func rapidReset(n uint32) []byte {
	stream := 2*n + 1
	return append(frame(headers, endHeaders|endStream, stream, head("GET", "/version")), frame(reset, 0, stream, make([]byte, 4))...)
}

// flood sends the n-th frame for ever, on 8 connections that are opened again when the server has ended them. It must do
// so, and say why.
func flood(next func(n uint32) []byte) func(context.Context, *server) (string, error) {
	return func(ctx context.Context, s *server) (string, error) {
		return calmed(ctx, s, func(c *h2) {
			for n := uint32(0); ; {
				var burst []byte
				for range 100 {
					burst = append(burst, next(n)...)
					n++
				}
				if !c.send(burst) {
					return
				}
			}
		})
	}
}

// calmed runs an attack on 8 connections until ctx ends, and on until the server has ended one of them with a reason.
func calmed(ctx context.Context, s *server, attack func(c *h2)) (string, error) {
	long, cancel := longer(ctx)
	defer cancel()
	var opened, told atomic.Int64
	crowd(long, 8, func(long context.Context) {
		if ctx.Err() != nil && told.Load() > 0 {
			cancel()
			return
		}
		c, err := s.h2()
		if err != nil {
			return
		}
		defer c.conn.Close()
		opened.Add(1)
		attack(c)
		if c.wait(long) && c.goaway.Load() > 0 {
			told.Add(1)
		}
	})
	said := fmt.Sprintf("%d connections, %d ended with a reason", opened.Load(), told.Load())
	if told.Load() == 0 {
		return said, errors.New("the server never ends a connection with a reason")
	}
	return said, nil
}

// A request whose body never gets anywhere.
func emptyData(ctx context.Context, s *server) (string, error) {
	return calmed(ctx, s, func(c *h2) {
		c.send(frame(headers, endHeaders, 1, head("PUT", "/v1/key/generate/"+s.key)))
		for burst := bytes.Repeat(frame(data, 0, 1, nil), 100); c.send(burst); {
		}
	})
}

func continuationFlood(ctx context.Context, s *server) (string, error) {
	return calmed(ctx, s, func(c *h2) {
		c.send(frame(headers, 0, 1, head("GET", "/version")))
		for burst := bytes.Repeat(frame(continuation, 0, 1, literal("x", "y")), 10); c.send(burst); {
		}
	})
}

// A field of 4,000 bytes that is put into the table and then named 15,000 times in each block.
func hpackBomb(ctx context.Context, s *server) (string, error) {
	field := append([]byte{0x40, 1, 'x', 0x7f}, binary.AppendUvarint(nil, 3900-127)...)
	field = append(field, bytes.Repeat([]byte{'a'}, 3900)...)
	first := append(head("GET", "/version"), field...)
	bomb := append(head("GET", "/version"), bytes.Repeat([]byte{0x80 | 62}, 15_000)...)
	var sent, answered atomic.Int64
	crowd(ctx, 8, func(ctx context.Context) {
		c, err := s.h2()
		if err != nil {
			return
		}
		defer c.conn.Close()
		ok := c.send(frame(headers, endHeaders|endStream, 1, first))
		for stream := uint32(3); ok && ctx.Err() == nil; stream += 2 {
			ok = c.send(frame(headers, endHeaders|endStream, stream, bomb))
			sent.Add(1)
		}
		answered.Add(c.replies.Load())
	})
	return fmt.Sprintf("%d bombs, %d replies", sent.Load(), answered.Load()), nil
}

// Connections with 250 requests each that go on, of which all but the first name a field of 3,900 bytes out of the
// table. It is the method, which is refused, or stands four times in a good head.
func unfinished(isStranger bool, block func(named []byte) []byte) func(context.Context, *server) (string, error) {
	return func(ctx context.Context, s *server) (string, error) {
		var opened atomic.Int64
		// Literal with incremental indexing; the name is `:method`, or new.
		value := append(binary.AppendUvarint([]byte{0x7f}, 3900-127), bytes.Repeat([]byte{'&'}, 3900)...)
		define := append([]byte{0x42}, value...)
		if bytes.Contains(block(nil), []byte(":method")) {
			define = append([]byte{0x40, 1, 'x'}, value...)
		}
		n, who := 40, s.attacker
		if isStranger {
			n, who = 60, s.stranger
		}
		crowd(ctx, n, func(ctx context.Context) {
			c, err := s.h2As(who)
			if err != nil {
				return
			}
			defer c.conn.Close()
			ok := c.send(frame(headers, endHeaders, 1, append(define, block(nil)...)))
			for stream := uint32(3); ok && stream < 500; stream += 2 {
				ok = c.send(frame(headers, endHeaders, stream, block([]byte{0x80 | 62})))
				opened.Add(1)
			}
			if c.wait(ctx) {
				// Cut for holding too much: this is no flood of handshakes.
				time.Sleep(200 * time.Millisecond)
			}
		})
		return fmt.Sprintf("%d requests", opened.Load()), nil
	}
}

// Requests whose replies the client gives no room to be sent.
func zeroWindows(ctx context.Context, s *server) (string, error) {
	body := []byte(generateBody)
	var asked atomic.Int64
	crowd(ctx, 40, func(ctx context.Context) {
		c, err := s.h2(4, 0) // SETTINGS_INITIAL_WINDOW_SIZE
		if err != nil {
			return
		}
		defer c.conn.Close()
		for stream := uint32(1); stream < 500; stream += 2 {
			if !c.send(frame(headers, endHeaders, stream, head("PUT", "/v1/key/generate/"+s.key)), frame(data, endStream, stream, body)) {
				break
			}
			asked.Add(1)
		}
		c.wait(ctx)
	})
	return fmt.Sprintf("%d requests", asked.Load()), nil
}

// 40 connections with 250 unfinished requests each; more are refused one by one.
func manyStreams(ctx context.Context, s *server) (string, error) {
	var opened, refused atomic.Int64
	crowd(ctx, 40, func(ctx context.Context) {
		c, err := s.h2()
		if err != nil {
			return
		}
		defer c.conn.Close()
		for stream := uint32(1); stream < 2*260; stream += 2 {
			if !c.send(frame(headers, endHeaders, stream, head("PUT", "/v1/key/generate/"+s.key)), frame(data, 0, stream, []byte{'{'})) {
				break
			}
			opened.Add(1)
		}
		c.wait(ctx)
		refused.Add(c.resets.Load())
	})
	return fmt.Sprintf("%d streams, %d refused", opened.Load(), refused.Load()), nil
}

// One connection, 10,000 requests, 100 at a time: every one is answered.
func manyRequests(ctx context.Context, s *server) (string, error) {
	c, err := s.h2()
	if err != nil {
		return "", err
	}
	defer c.conn.Close()
	long, cancel := longer(ctx)
	defer cancel()
	for n := range int64(10_000) {
		stream := uint32(2*n + 1)
		if !c.send(frame(headers, endHeaders, stream, head("PUT", "/v1/key/generate/"+s.key)),
			frame(data, endStream, stream, []byte(generateBody)),
			frame(windowUpdate, 0, 0, []byte{0, 0, 4, 0})) {
			break
		}
		for n-c.replies.Load() >= 100 && long.Err() == nil {
			select {
			case <-c.ended:
				return "", fmt.Errorf("the connection ended after %d replies, GOAWAY %d", c.replies.Load(), c.goaway.Load())
			case <-time.After(time.Millisecond):
			}
		}
	}
	for c.replies.Load() < 10_000 && long.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if got := c.replies.Load(); got != 10_000 || c.resets.Load() != 0 {
		return "", fmt.Errorf("%d replies, %d resets", got, c.resets.Load())
	}
	return "all answered", nil
}

// Far more silent connections than the server has room for, opened again when they are cut. New clients get their turn
// all the same. To be run against a server with few descriptors.
func ceiling(ctx context.Context, s *server) (string, error) {
	var opened atomic.Int64
	long, cancel := longer(ctx)
	silent, end := context.WithCancel(long)
	defer cancel()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		crowd(silent, 600, func(ctx context.Context) {
			conn, err := s.dial()
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				return
			}
			opened.Add(1)
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			io.Copy(io.Discard, conn)
			conn.Close()
		})
	}()
	var slowest time.Duration
	served := 0
	for ; served < 5 || ctx.Err() == nil; served++ {
		start := time.Now()
		c, err := s.connect(s.attacker)
		if err == nil {
			_, err = c.generate(s.key)
			c.conn.Close()
		}
		if err != nil {
			end()
			wg.Wait()
			return "", fmt.Errorf("a new client is not served: %w", err)
		}
		slowest = max(slowest, time.Since(start))
	}
	end()
	wg.Wait()
	return fmt.Sprintf("%d silent connections; %d new clients served, the slowest after %.1f s", opened.Load(), served, slowest.Seconds()), nil
}

// Hostile attacks a KES server in many ways, one after the other, while normal clients go on using it, and says for each
// attack how the normal clients fared and how much memory the server took.
//
// An attack fails if a normal client gets anything but its answer, if the server takes more memory than it may, or if the
// server does not do what it must against that attack. Times are reported and judged by nobody: they are the machine's.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// patience is more than anything takes that a test waits for.
const patience = 180 * time.Second

// server is what is attacked.
type server struct {
	addr, pid string
	normal    *tls.Config // a client that wants nothing but its answers
	attacker  *tls.Config // a client that a policy knows as well, so that no door is closed to him
	stranger  *tls.Config // a client that no policy knows
	key       string
}

// attack is one way to hurt the server.
type attack struct {
	name string
	// memory is how many MiB the server may take more than before it: what an attack leaves in the heap is not charged
	// to the next one.
	memory int64
	// run attacks until ctx ends and says what came of it, or what the server should have done and did not.
	run func(ctx context.Context, s *server) (string, error)
}

func main() {
	var (
		addr     = flag.String("addr", "127.0.0.1:7373", "server address (loopback)")
		pid      = flag.String("pid", "", "process id of the server")
		ca       = flag.String("ca", "server.crt", "the server's certificate")
		name     = flag.String("name", "hostile", "a key that exists")
		duration = flag.Duration("d", 2*time.Second, "length of each attack")
		only     = flag.String("only", "", "only the attacks whose name contains this; `ceiling` runs only if asked for")
	)
	flag.Parse()
	s := &server{addr: *addr, pid: *pid, key: *name, normal: config(*ca, "client"), attacker: config(*ca, "attacker"), stranger: config(*ca, "stranger")}
	_, alone, err := s.measure(context.Background(), *duration, func(context.Context) (string, error) { return "", nil })
	fail(err)
	base := s.memory("VmRSS:")
	fmt.Printf("%-34s %9s %9s %9s  %s\n", "attack", "p99 us", "requests", "peak kB", "what came of it")
	fmt.Printf("%-34s %9d %9d %9d\n", "none", alone.p99, alone.requests, base)
	failed := 0
	for _, a := range attacks {
		if !strings.Contains(a.name, *only) || (*only == "" && a.name == "ceiling") {
			continue
		}
		before := s.memory("VmRSS:")
		said, got, err := s.measure(context.Background(), *duration, func(ctx context.Context) (string, error) { return a.run(ctx, s) })
		if limit := before + a.memory<<10; err == nil && got.peak > limit {
			err = fmt.Errorf("%d kB of memory, %d kB are allowed", got.peak, limit)
		}
		fmt.Printf("%-34s %9d %9d %9d  %s\n", a.name, got.p99, got.requests, got.peak, said)
		if err != nil {
			failed++
			fmt.Printf("FAILED %s: %v\n", a.name, err)
		} else {
			fmt.Printf("ok     %s\n", a.name)
		}
	}
	fmt.Printf("after all attacks: %d kB\n", s.memory("VmRSS:"))
	if failed > 0 {
		os.Exit(1)
	}
}

// figures are what the normal clients and the server's memory were like.
type figures struct{ p99, requests, peak int64 }

// measure runs act for d, longer if act needs it, and normal clients all the while.
func (s *server) measure(ctx context.Context, d time.Duration, act func(context.Context) (string, error)) (string, figures, error) {
	var (
		got  figures
		mu   sync.Mutex
		wg   sync.WaitGroup
		took []time.Duration
		bad  error
		over atomic.Bool
	)
	watch := func(every time.Duration, step func() error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !over.Load() {
				if err := step(); err != nil {
					mu.Lock()
					bad = err
					mu.Unlock()
					return
				}
				time.Sleep(every)
			}
		}()
	}
	watch(20*time.Millisecond, func() error {
		now := s.memory("VmRSS:")
		if now == 0 {
			return fmt.Errorf("the server is gone")
		}
		got.peak = max(got.peak, now)
		return nil
	})
	for range 2 {
		var c *client
		served := false // over this connection
		var trouble time.Time
		watch(time.Millisecond, func() (err error) {
			start := time.Now()
			status := 0
			if c == nil {
				served = false
				c, err = s.connect(s.normal)
			}
			if c != nil {
				status, err = c.generate(s.key)
			}
			if err != nil && !served {
				// A server that is short of time may end a new connection, whose client tries again.
				if c != nil {
					c.conn.Close()
					c = nil
				}
				if trouble.IsZero() {
					trouble = start
				}
				if time.Since(trouble) < patience {
					return nil
				}
			}
			if err != nil || status != 200 {
				return fmt.Errorf("a normal client got status %d, %v", status, err)
			}
			served, trouble = true, time.Time{}
			mu.Lock()
			took = append(took, time.Since(start))
			mu.Unlock()
			return nil
		})
	}
	limited, cancel := context.WithTimeout(ctx, d)
	said, err := act(limited)
	<-limited.Done()
	cancel()
	// However slow the machine: a normal client gets an answer while the attack goes on, or at its end.
	for start := time.Now(); time.Since(start) < patience; time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		enough := len(took) >= 5 || bad != nil
		mu.Unlock()
		if enough {
			break
		}
	}
	over.Store(true)
	wg.Wait()
	slices.Sort(took)
	got.requests = int64(len(took))
	if len(took) > 0 {
		got.p99 = took[len(took)*99/100].Microseconds()
	}
	switch {
	case bad != nil:
		return said, got, bad
	case err == nil && len(took) < 5:
		err = fmt.Errorf("the normal clients got %d answers", len(took))
	}
	return said, got, err
}

// memory is a figure of the server's in kB, 0 if it does not run.
func (s *server) memory(field string) int64 {
	text, _ := os.ReadFile("/proc/" + s.pid + "/status")
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb
		}
	}
	return 0
}

// client is a connection that speaks HTTP/1.1.
type client struct {
	conn *tls.Conn
	r    *bufio.Reader
}

func (s *server) connect(config *tls.Config) (*client, error) {
	conn, err := s.dialTLS(config, "http/1.1")
	if err != nil {
		return nil, err
	}
	return &client{conn, bufio.NewReader(conn)}, nil
}

const generateBody = `{"context":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`

func (c *client) generate(key string) (int, error) {
	return c.call("PUT", "/v1/key/generate/"+key, generateBody)
}

func (c *client) call(method, path, body string) (int, error) {
	c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, request(method, path, body)); err != nil {
		return 0, err
	}
	reply, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	_, err = io.Copy(io.Discard, reply.Body)
	return reply.StatusCode, err
}

func request(method, path, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
}

// dial opens a connection and says nothing.
func (s *server) dial() (net.Conn, error) { return net.DialTimeout("tcp", s.addr, patience) }

func (s *server) dialTLS(config *tls.Config, protocol string) (*tls.Conn, error) {
	raw, err := s.dial()
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.NextProtos = []string{protocol}
	conn := tls.Client(raw, config)
	raw.SetDeadline(time.Now().Add(patience))
	if err := conn.Handshake(); err != nil {
		raw.Close()
		return nil, err
	}
	raw.SetDeadline(time.Time{})
	return conn, nil
}

func config(ca, name string) *tls.Config {
	pem, err := os.ReadFile(ca)
	fail(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(name+".crt", name+".key")
	fail(err)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: "127.0.0.1"}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(2)
	}
}

// Package sdk runs the public Go client of the KES protocol, and the test vectors, against a real server.
package sdk

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/kms-go/kes"
)

const patience = 20 * time.Second

// program is the binary under test.
func program(t testing.TB) string {
	bin := os.Getenv("KES_BIN")
	if bin == "" {
		bin = "../../target/release/kes"
	}
	bin, err := filepath.Abs(bin)
	must(t, err)
	return bin
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// server is a running server in a directory of its own.
type server struct {
	t       testing.TB
	dir     string
	cmd     *exec.Cmd
	addr    string
	mu      sync.Mutex
	log     bytes.Buffer
	stopped bool
}

// kesIn runs the program in dir to its end.
func kesIn(t testing.TB, dir string, args ...string) (string, string, int) {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// newDir makes a directory with the server's key pair.
func newDir(t testing.TB) string {
	dir := t.TempDir()
	if _, errs, code := kesIn(t, dir, "identity", "new", "--ip", "127.0.0.1", "localhost"); code != 0 {
		t.Fatal(errs)
	}
	return dir
}

// config writes config.yml: the fixed sections and what is given.
func config(t testing.TB, dir, admin, more string) {
	text := fmt.Sprintf("address: 127.0.0.1:0\nadmin: { identity: %s }\ntls: { key: private.key, cert: public.crt }\n"+
		"keystore: { fs: { path: ./keys } }\n%s", admin, more)
	must(t, os.WriteFile(filepath.Join(dir, "config.yml"), []byte(text), 0o600))
}

// start starts a server with the config.yml of dir.
func start(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: dir}
	s.cmd = exec.Command(program(t), append([]string{"server", "--config", "config.yml"}, args...)...)
	s.cmd.Dir = dir
	out, err := s.cmd.StdoutPipe()
	must(t, err)
	s.cmd.Stderr = writer{s}
	must(t, s.cmd.Start())
	t.Cleanup(s.kill)
	up := make(chan string, 1)
	go func() {
		addr := ""
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "https://127.0.0.1:"); ok && addr == "" {
				addr = "127.0.0.1:" + strings.TrimSpace(rest)
			}
			if strings.Contains(lines.Text(), "up and running") {
				up <- addr
			}
			writer{s}.Write(append(lines.Bytes(), '\n'))
		}
	}()
	select {
	case s.addr = <-up:
	case <-time.After(patience):
		t.Fatalf("the server does not start:\n%s", s.logged())
	}
	return s
}

type writer struct{ s *server }

func (w writer) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.log.Write(p)
}

func (s *server) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// waitFor waits until the log contains text.
func (s *server) waitFor(text string) {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(s.logged(), text) {
			return
		}
	}
	s.t.Fatalf("no %q in the log:\n%s", text, s.logged())
}

func (s *server) kill() {
	if !s.stopped {
		s.stopped = true
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// stop ends the server with SIGTERM and demands exit status 0.
func (s *server) stop() {
	s.t.Helper()
	s.stopped = true
	must(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	if err := s.cmd.Wait(); err != nil {
		s.t.Fatalf("%v:\n%s", err, s.logged())
	}
}

// identity is an API key with its identity.
type identity struct {
	key kes.APIKey
	id  string
}

func newIdentity(t testing.TB) identity {
	key, err := kes.GenerateAPIKey(nil)
	must(t, err)
	return identity{key, key.Identity().String()}
}

// protocols names the two protocols that every test is run with.
var protocols = []string{"h2", "http/1.1"}

func (s *server) tls(certs ...tls.Certificate) *tls.Config {
	pem, err := os.ReadFile(filepath.Join(s.dir, "public.crt"))
	must(s.t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, Certificates: certs, ClientSessionCache: tls.NewLRUClientSessionCache(100)}
}

// transport is Go's own transport, held to one protocol.
func (s *server) transport(who identity, protocol string) *http.Transport {
	cert, err := kes.GenerateCertificate(who.key)
	must(s.t, err)
	transport := &http.Transport{TLSClientConfig: s.tls(cert), ForceAttemptHTTP2: protocol == "h2", MaxIdleConnsPerHost: 64}
	if protocol != "h2" {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// client is the SDK's client.
func (s *server) client(who identity, protocol string) *kes.Client {
	client := kes.NewClientWithConfig("https://"+s.addr, s.tls())
	client.HTTPClient.Transport = s.transport(who, protocol)
	return client
}

// raw sends one request that is built by hand, and returns the reply and its body. Redirects are not followed.
func (s *server) raw(client *http.Client, method, path, body string) (*http.Response, string) {
	s.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "https://"+s.addr+path, reader)
	must(s.t, err)
	resp, err := client.Do(req)
	must(s.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(s.t, err)
	return resp, string(text)
}

func noRedirects(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

package compat

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// row is one line of a table: what is asked, and what must be answered. {u} stands for something new in each run.
type row struct {
	name    string
	as      string // whose certificate; "" is the client that may do everything, "-" is nobody
	method  string // "" is GET
	path    string
	body    string
	send    map[string]string // headers
	chunked bool              // the length of the body is not told
	only    string            // the one protocol that it is about
	status  int
	text    string            // the whole body, unless it is ""
	message string            // the message of a JSON error
	like    []string          // parts of the body
	header  map[string]string // headers; "" for one that must be missing
	check   func(t *testing.T, a *answer)
	to      string // another server than the usual one
}

type answer struct {
	*http.Response
	body string
}

var rowCount atomic.Int64

func counted() int64 { return rowCount.Load() }

// count notes a row that is a test of its own.
func count(t *testing.T) {
	t.Helper()
	rowCount.Add(1)
}

var protocols = []string{"http1", "http2"}

func both(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		rowCount.Add(1)
		for _, protocol := range protocols {
			if r.only == "" || r.only == protocol {
				t.Run(strings.ReplaceAll(r.name, "/", "|")+"|"+protocol, func(t *testing.T) { r.run(t, protocol) })
			}
		}
	}
}

var (
	clientsLock sync.Mutex
	clients     = map[string]*http.Client{}
)

// client is one that stays connected.
func client(name, protocol string) *http.Client {
	clientsLock.Lock()
	defer clientsLock.Unlock()
	id := name + " " + protocol
	if clients[id] == nil {
		transport := &http.Transport{TLSClientConfig: tlsConfig(name), ForceAttemptHTTP2: protocol == "http2", DisableCompression: true}
		if protocol != "http2" {
			transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		clients[id] = &http.Client{Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return clients[id]
}

var unique = fmt.Sprintf("%x", time.Now().UnixNano())

func fill(text, protocol string) string {
	return strings.ReplaceAll(text, "{u}", unique+protocol)
}

// ask sends a request as the row says and reads the whole answer.
func (r row) ask(protocol string) (*answer, error) {
	who, method, to := r.as, r.method, r.to
	if who == "" {
		who = "app"
	}
	if method == "" {
		method = "GET"
	}
	if to == "" {
		to = address
	}
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(fill(r.body, protocol))
	}
	if r.chunked {
		body = struct{ io.Reader }{strings.NewReader(fill(r.body, protocol))}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "https://"+to, body)
	if err != nil {
		return nil, err
	}
	// As it stands: nothing is cleaned or escaped on the way.
	req.URL = &url.URL{Scheme: "https", Host: to, Opaque: fill(r.path, protocol)}
	if strings.HasPrefix(r.path, "//") {
		req.URL.Opaque = "//" + to + fill(r.path, protocol)
	}
	for name, value := range r.send {
		req.Header.Set(name, value)
	}
	resp, err := client(who, protocol).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return &answer{resp, string(text)}, err
}

func (r row) run(t *testing.T, protocol string) {
	a, err := r.ask(protocol)
	must(t, err)
	if a.StatusCode != r.status {
		t.Fatalf("%s %s: status %d, want %d: %s", r.method, r.path, a.StatusCode, r.status, a.body)
	}
	if a.Header.Get("Date") == "" || a.Header.Get("Server") != "" {
		t.Errorf("headers: %v", a.Header)
	}
	text := fill(r.text, protocol)
	if r.message != "" {
		text = fmt.Sprintf("{\"message\":\"%s\"\n}", fill(r.message, protocol))
		if a.Header.Get("Content-Type") != "application/json" || r.method != "HEAD" && a.ContentLength != int64(len(text)) {
			t.Errorf("headers of an error: %v, %d", a.Header, a.ContentLength)
		}
	}
	if text != "" && a.body != text && r.method != "HEAD" {
		t.Errorf("body %q, want %q", a.body, text)
	}
	for _, part := range r.like {
		if !strings.Contains(a.body, fill(part, protocol)) {
			t.Errorf("no %q in %q", part, a.body)
		}
	}
	for name, value := range r.header {
		if got := a.Header.Get(name); got != fill(value, protocol) {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if r.check != nil {
		r.check(t, a)
	}
}

// empty demands a reply without body and content type.
func empty(t *testing.T, a *answer) {
	if a.body != "" || a.Header.Get("Content-Type") != "" || a.ContentLength != 0 {
		t.Errorf("not empty: %q %v %d", a.body, a.Header, a.ContentLength)
	}
}

// wire is a TLS connection that speaks HTTP/1.1 by hand.
func wire(t *testing.T, who string) *tls.Conn {
	t.Helper()
	config := tlsConfig(who)
	conn, err := tls.Dial("tcp", address, config)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// exchange sends text over a connection of its own and returns all that comes until the server closes it.
func exchange(t *testing.T, text string) string {
	t.Helper()
	conn := wire(t, "app")
	_, err := conn.Write([]byte(text))
	must(t, err)
	var got bytes.Buffer
	io.Copy(&got, conn)
	return got.String()
}

// reply reads one HTTP/1.1 reply to a request of the given method.
func reply(t *testing.T, reader *bufio.Reader, method string) *answer {
	t.Helper()
	resp, err := http.ReadResponse(reader, &http.Request{Method: method})
	must(t, err)
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return &answer{resp, string(text)}
}

package compat

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// checkConfig lets the program look at a configuration and nothing else.
func checkConfig(t *testing.T, text string) (string, int) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"server.key", "server.crt"} {
		data, err := os.ReadFile(filepath.Join(folder, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "config.yml"), []byte(text), 0o600))
	cmd := exec.Command(program(), "server", "--check", "--config", "config.yml")
	cmd.Dir = dir
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func expectCheck(t *testing.T, said string, code int, problem string) {
	t.Helper()
	if problem == "" && code != 0 || problem != "" && (code != 1 || !strings.Contains(said, problem)) {
		t.Errorf("exit %d: %s", code, said)
	}
}

func TestSection1Handshakes(t *testing.T) {
	shake := func(change func(*tls.Config)) (tls.ConnectionState, error) {
		config := tlsConfig("app")
		if change != nil {
			change(config)
		}
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		_, err = conn.Read(make([]byte, 1))
		return conn.ConnectionState(), err
	}
	only := func(suite uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite} }
	}
	group := func(group tls.CurveID) func(*tls.Config) {
		return func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{group} }
	}
	protocols := func(want string, protocols ...string) func(*tls.Config) {
		return func(c *tls.Config) { c.NextProtos = protocols }
	}
	for _, c := range []struct {
		name   string
		change func(*tls.Config)
		error  string
		is     func(tls.ConnectionState) bool
	}{
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "protocol version", nil},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "", func(s tls.ConnectionState) bool { return s.Version == tls.VersionTLS12 }},
		{"TLS 1.3", nil, "", func(s tls.ConnectionState) bool { return s.Version == tls.VersionTLS13 }},
		{"ECDHE-ECDSA-AES128-GCM-SHA256", only(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), "", nil},
		{"ECDHE-ECDSA-AES256-GCM-SHA384", only(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384), "", nil},
		{"ECDHE-ECDSA-CHACHA20-POLY1305", only(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), "", nil},
		{"static RSA", only(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), "handshake failure", nil},
		{"X25519", group(tls.X25519), "", nil},
		{"P-256", group(tls.CurveP256), "", nil},
		{"P-384", group(tls.CurveP384), "", nil},
		{"P-521 (difference 9)", group(tls.CurveP521), "handshake failure", nil},
		{"X25519MLKEM768 (difference 9)", group(tls.X25519MLKEM768), "handshake failure", nil},
		{"a suite with CBC (difference 9)", only(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA), "handshake failure", nil},
		{"no protocol", nil, "", func(s tls.ConnectionState) bool { return s.NegotiatedProtocol == "" }},
		{"HTTP/1.1", protocols("", "http/1.1"), "", func(s tls.ConnectionState) bool { return s.NegotiatedProtocol == "http/1.1" }},
		{"HTTP/2 preferred", protocols("", "http/1.1", "h2"), "", func(s tls.ConnectionState) bool { return s.NegotiatedProtocol == "h2" }},
		{"an unknown protocol", protocols("", "spdy/3"), "no application protocol", nil},
		{"another server name", func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "elsewhere.example", true }, "", nil},
		{"no certificate, TLS 1.2", func(c *tls.Config) { c.MaxVersion, c.Certificates = tls.VersionTLS12, nil }, "handshake failure", nil},
		{"no certificate, TLS 1.3", func(c *tls.Config) { c.Certificates = nil }, "certificate required", nil},
	} {
		count(t)
		t.Run(strings.ReplaceAll(c.name, "/", "|"), func(t *testing.T) {
			state, err := shake(c.change)
			if c.error == "" && err != nil || c.error != "" && (err == nil || !strings.Contains(err.Error(), c.error)) {
				t.Errorf("%v", err)
			}
			if c.is != nil && !c.is(state) {
				t.Errorf("%+v", state)
			}
		})
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		count(t)
		t.Run(fmt.Sprintf("a resumed session keeps its identity, %s", tls.VersionName(version)), func(t *testing.T) {
			config := tlsConfig("app")
			config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(4)
			for i := range 2 {
				conn, err := tls.Dial("tcp", address, config)
				must(t, err)
				conn.SetDeadline(time.Now().Add(patience))
				fmt.Fprint(conn, "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				a := reply(t, bufio.NewReader(conn), "GET")
				if a.StatusCode != 200 || conn.ConnectionState().DidResume != (i == 1) {
					t.Errorf("%d: %d, resumed: %v", i, a.StatusCode, conn.ConnectionState().DidResume)
				}
				conn.Close()
			}
		})
	}
}

func TestSection1Identities(t *testing.T) {
	ready := func(name string) row { return row{name: name, as: name, path: "/v1/ready", status: 200, check: empty} }
	both(t, []row{ready("with-ca"), ready("expired"), ready("no-constraints"), ready("with-ec"), ready("with-rsa"), ready("app")})
}

func TestSection1OptionalCertificates(t *testing.T) {
	p, _ := another(t, func(config string) string { return config + "api: { /v1/status: { skip_auth: true } }\n" })
	both(t, []row{
		{name: "the open route", to: p.address, as: "-", path: "/v1/status", status: 200},
		{name: "/version", to: p.address, as: "-", path: "/version", status: 200},
		{name: "any other", to: p.address, as: "-", path: "/v1/ready", status: 400, message: "tls: client certificate is required"},
		{name: "self", to: p.address, as: "-", path: "/v1/identity/self/describe", status: 404, message: "identity does not exist"},
	})
}

func TestSection2Timeouts(t *testing.T) {
	p, _ := another(t, func(config string) string {
		return config + "api: { /v1/status: { timeout: 1500ms }, /v1/ready: { timeout: 0s }, /v1/key/generate/: { timeout: 1s } }\n"
	})
	both(t, []row{{name: "timeouts are told in seconds", to: p.address, path: "/v1/api", status: 200, like: []string{
		`"path":"/v1/status","max_body":0,"timeout":1}`, `"path":"/v1/ready","max_body":0,"timeout":15}`}}})
	count(t)
	said, code := checkConfig(t, "admin: { identity: x }\ntls: { key: server.key, cert: server.crt }\nkeystore: { fs: { path: ./keys } }\napi: { /v1/ready: { timeout: -1s } }\n")
	expectCheck(t, said, code, "timeout")
}

func TestSection6StoreDown(t *testing.T) {
	p, dir := another(t, func(config string) string { return config })
	both(t, []row{{name: "before", to: p.address, method: "PUT", path: "/v1/key/create/{u}", status: 200},
		{name: "cached", to: p.address, method: "PUT", path: "/v1/key/generate/{u}", status: 200}})
	must(t, os.Rename(filepath.Join(dir, "keys"), filepath.Join(dir, "away")))
	both(t, []row{
		{name: "ready", to: p.address, path: "/v1/ready", status: 504, message: "key store is not reachable"},
		{name: "status", to: p.address, path: "/v1/status", status: 200, like: []string{`"keystore_unreachable":true`}, check: func(t *testing.T, a *answer) {
			if strings.Contains(a.body, "keystore_latency") || strings.Contains(a.body, "keystore_unavailable") {
				t.Error(a.body)
			}
		}},
		{name: "a cached key", to: p.address, method: "PUT", path: "/v1/key/generate/{u}", status: 200},
		{name: "an uncached key (difference 4)", to: p.address, path: describe + "none", status: 502, message: "failed to read key"},
		{name: "create", to: p.address, method: "PUT", path: "/v1/key/create/new", status: 502, message: "failed to create key"},
		{name: "list", to: p.address, path: "/v1/key/list/", status: 502, message: "failed to list keys"},
		{name: "delete (difference 4)", to: p.address, method: "DELETE", path: "/v1/key/delete/none", status: 502, message: "failed to delete key"},
		{name: "version", to: p.address, path: "/version", status: 200},
		{name: "policies", to: p.address, path: "/v1/policy/list/", status: 200},
		{name: "metrics", to: p.address, path: "/v1/metrics", status: 200, like: []string{`kes_http_request_failure{code="502"}`}},
	})
}

func TestSection7StatusAndMetrics(t *testing.T) {
	status := regexp.MustCompile(`^\{"version":"[^"]+","os":"linux","arch":"[a-z0-9]+","uptime":\d+,"num_cpu":\d+,"num_cpu_used":\d+,"mem_heap_used":\d+,"mem_stack_used":\d+,"keystore_latency":[1-9]\d*\}` + "\n$")
	rows := []row{{name: "status", path: "/v1/status", status: 200, header: map[string]string{"Content-Type": "application/json"}, check: func(t *testing.T, a *answer) {
		if !status.MatchString(a.body) {
			t.Error(a.body)
		}
	}}, {name: "one success first", method: "PUT", path: "/v1/key/create/metric{u}", status: 200},
		{name: "the type of the metrics", path: "/v1/metrics", status: 200, header: map[string]string{"Content-Type": "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"}}}
	for _, metric := range []struct{ kind, name, help string }{
		{"gauge", "http_request_active", "Number of active requests that are not finished, yet."},
		{"counter", "http_request_success", "Number of requests that have been served successfully."},
		{"histogram", "http_response_time", "Histogram of request response times spawning from 10ms to 10s."},
		{"counter", "log_audit_events", "Number of audit log events written to the audit log targets."},
		{"counter", "log_error_events", "Number of error log events written to the error log targets."},
		{"gauge", "system_mem_heap_objects", "The number of objects that are currently allocated on the heap memory."},
		{"gauge", "system_mem_heap_used", "The number of bytes that are currently allocated on the heap memory."},
		{"gauge", "system_mem_stack_used", "The bytes of stack memory obtained from the OS."},
		{"gauge", "system_num_cpu", "The number of logical CPUs available on the system. It may be larger than the number of usable CPUs."},
		{"gauge", "system_num_cpu_used", "The number of logical CPUs usable by the server. It may be smaller than the number of available CPUs."},
		{"gauge", "system_num_threads", "The number of concurrent co-routines/threads that currently exists."},
		{"gauge", "system_up_time", "The time the server has been up and running in seconds."},
	} {
		rows = append(rows, row{name: "metric " + metric.name, path: "/v1/metrics", status: 200,
			like: []string{fmt.Sprintf("# HELP kes_%s %s\n# TYPE kes_%s %s\nkes_%s", metric.name, metric.help, metric.name, metric.kind, metric.name)}})
	}
	for _, bound := range []string{"0.01", "0.05", "0.1", "0.25", "0.5", "1", "1.5", "3", "5", "10", "+Inf"} {
		rows = append(rows, row{name: "bucket " + bound, path: "/v1/metrics", status: 200, like: []string{fmt.Sprintf("\nkes_http_response_time_bucket{le=%q} ", bound)}})
	}
	both(t, rows)
}

func TestSection7WhatIsCounted(t *testing.T) {
	p, _ := another(t, func(config string) string { return config })
	both(t, []row{
		{name: "refused", to: p.address, as: "stranger", path: "/v1/key/list/", status: 403},
		{name: "wrong method", to: p.address, method: "PUT", path: "/v1/status", status: 405},
		{name: "unknown path", to: p.address, path: "/v1/none", status: 404},
		{name: "version", to: p.address, path: "/version", status: 200},
		{name: "none of these is counted", to: p.address, path: "/v1/metrics", status: 200, check: func(t *testing.T, a *answer) {
			for _, family := range []string{"kes_http_request_success", "kes_http_request_error", "kes_http_request_failure"} {
				if strings.Contains(a.body, family) {
					t.Errorf("%s is there", family)
				}
			}
			if !strings.Contains(a.body, "\nkes_http_response_time_count 0\n") {
				t.Error(a.body)
			}
		}},
	})
	both(t, []row{
		{name: "a bad name", to: p.address, path: describe + "a.b", status: 400},
		{name: "is counted", to: p.address, path: "/v1/metrics", status: 200, like: []string{`kes_http_request_error{code="400"} `}},
	})
}

func TestSection7LogStreams(t *testing.T) {
	for _, protocol := range protocols {
		count(t)
		t.Run("audit (difference 5) over "+protocol, func(t *testing.T) {
			lines := follow(t, "/v1/log/audit", protocol)
			name := "audit" + unique + protocol
			r := row{method: "PUT", path: "/v1/key/create/" + name, status: 200}
			r.run(t, protocol)
			want := regexp.MustCompile(`^\{"time":"[^"]+","request":\{"ip":"[0-9.]+","path":"/v1/key/create/` + name + `","identity":"` + ids()["app"] + `"\},"response":\{"code":200,"time":\d+\}\}$`)
			for line := range lines {
				if strings.Contains(line, name) {
					if !want.MatchString(line) {
						t.Error(line)
					}
					return
				}
			}
			t.Error("the stream ends")
		})
		count(t)
		t.Run("error (difference 5) over "+protocol, func(t *testing.T) {
			lines := follow(t, "/v1/log/error", protocol)
			name := "error" + unique + protocol
			r := row{method: "PUT", path: "/v1/key/encrypt/" + name, body: "junk", status: 400}
			r.run(t, protocol)
			want := regexp.MustCompile(`^\{"message":"time=\S+ level=ERROR msg=.+ req.method=PUT req.path=/v1/key/encrypt/` + name + ` req.ip=[0-9.]+ req.identity=` + ids()["app"] + `"\}$`)
			for line := range lines {
				if strings.Contains(line, name) {
					if !want.MatchString(line) {
						t.Error(line)
					}
					return
				}
			}
			t.Error("the stream ends")
		})
	}
}

// follow reads the lines of a log stream, whose head must come at once.
func follow(t *testing.T, path, protocol string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+address+path, nil)
	must(t, err)
	resp, err := client("app", protocol).Do(req)
	must(t, err)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatal(resp.StatusCode, resp.Header)
	}
	lines := make(chan string)
	go func() {
		defer resp.Body.Close()
		defer close(lines)
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	return lines
}

func TestSection8HTTP1(t *testing.T) {
	for _, c := range []struct{ name, request, want string }{
		{"HTTP/1.0 closes", "GET /version HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		{"HTTP/2.0 as text", "GET /version HTTP/2.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n"},
		{"no host", "GET /version HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"two hosts", "GET /version HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"conflicting lengths", "PUT /v1/key/encrypt/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 400 Bad Request\r\n"},
		{"two equal lengths (difference 12)", "PUT /v1/key/encrypt/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 400 Bad Request\r\n"},
		{"a head of 17 KiB (difference 12)", "GET /version HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 17<<10) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
		{"a negative length", "PUT /v1/key/encrypt/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"a length that is no number", "PUT /v1/key/encrypt/a HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"another transfer encoding", "PUT /v1/key/encrypt/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 Not Implemented\r\n"},
		{"a bad header name", "GET /version HTTP/1.1\r\nHost: x\r\nbad name: x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"another expectation", "PUT /v1/key/encrypt/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: x\r\n\r\n", "HTTP/1.1 417 Expectation Failed\r\n"},
		{"a head that is too long", "GET /version HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<21) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
		{"no request at all", "nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
	} {
		count(t)
		t.Run(strings.ReplaceAll(c.name, "/", "|"), func(t *testing.T) {
			conn := wire(t, "app")
			// The server may answer and close before it has read all.
			go conn.Write([]byte(c.request))
			a := make([]byte, len(c.want))
			n := 0
			for n < len(a) {
				more, err := conn.Read(a[n:])
				if n += more; err != nil {
					break
				}
			}
			if string(a[:n]) != c.want {
				t.Errorf("%q", a[:n])
			}
		})
	}
	count(t)
	t.Run("pipelined requests are answered in order", func(t *testing.T) {
		conn := wire(t, "app")
		fmt.Fprint(conn, "GET /v1/key/list/none HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
		reader := bufio.NewReader(conn)
		for _, want := range []int{200, 200, 404} {
			if a := reply(t, reader, "GET"); a.StatusCode != want {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		}
	})
	count(t)
	t.Run("continue comes before the body is sent", func(t *testing.T) {
		makeKeys(t)
		conn := wire(t, "app")
		fmt.Fprint(conn, "PUT /v1/key/encrypt/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
		reader := bufio.NewReader(conn)
		line, err := reader.ReadString('\n')
		must(t, err)
		if line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q", line)
		}
		reader.ReadString('\n')
		fmt.Fprint(conn, "{}")
		if a := reply(t, reader, "PUT"); a.StatusCode != 200 {
			t.Error(a.StatusCode, a.body)
		}
	})
	count(t)
	t.Run("no continue for who is refused", func(t *testing.T) {
		conn := wire(t, "stranger")
		fmt.Fprint(conn, "PUT /v1/key/encrypt/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
		if a := reply(t, bufio.NewReader(conn), "PUT"); a.StatusCode != 403 {
			t.Error(a.StatusCode, a.body)
		}
	})
	count(t)
	t.Run("plain HTTP", func(t *testing.T) {
		conn, err := net.Dial("tcp", address)
		must(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		text := make([]byte, 200)
		n, _ := conn.Read(text)
		if string(text[:n]) != "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n" {
			t.Errorf("%q", text[:n])
		}
	})
}

func TestSection8ReloadAndStop(t *testing.T) {
	p, dir := another(t, func(config string) string { return config })
	file := filepath.Join(dir, "config.yml")
	good, err := os.ReadFile(file)
	must(t, err)
	both(t, []row{{name: "allowed at first", to: p.address, as: "guest", path: "/v1/ready", status: 200}})
	count(t)
	t.Run("a broken file", func(t *testing.T) {
		must(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(good), "allow: ['/v1/ready']", "allow: [")), 0o600))
		p.signal(t, syscall.SIGHUP)
		p.waitFor(t, "SIGHUP signal received. Reloading configuration...", 1)
		p.waitFor(t, "Failed to reload server config: ", 1)
	})
	both(t, []row{{name: "still allowed", to: p.address, as: "guest", path: "/v1/ready", status: 200}})
	count(t)
	t.Run("a good one", func(t *testing.T) {
		must(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(good), "allow: ['/v1/ready']", "allow: ['/v1/api']")), 0o600))
		newPair("server", ec(), nil, nil).save(dir, "server")
		p.signal(t, syscall.SIGHUP)
		p.waitFor(t, "=> Reloading configuration after SIGHUP signal completed.", 1)
		if _, err := tls.Dial("tcp", p.address, tlsConfig("guest")); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("the old certificate is still used: %v", err)
		}
	})
	// Open connections go on, under the new policies.
	both(t, []row{
		{name: "not allowed any more", to: p.address, as: "guest", path: "/v1/ready", status: 403},
		{name: "allowed now", to: p.address, as: "guest", path: "/v1/api", status: 200},
	})
	count(t)
	t.Run("a stop", func(t *testing.T) {
		start := time.Now()
		p.signal(t, syscall.SIGTERM)
		if code := p.ends(t); code != 0 {
			t.Errorf("exit %d: %s", code, p.printed())
		}
		if !strings.HasSuffix(p.printed(), "\n\n=> Stopping server... Goodbye.\n") {
			t.Errorf("%q", p.printed())
		}
		if _, err := net.Dial("tcp", p.address); err == nil {
			t.Error("somebody still listens")
		}
		t.Logf("stopped after %v", time.Since(start))
	})
}

func TestDifferences(t *testing.T) {
	needsOwn(t)
	all := ids()
	p, dir := another(t, func(config string) string {
		config = strings.Replace(config, "cert: server.crt }", "cert: server.crt, proxy: { identities: ["+all["stranger"]+"], header: { cert: X-Tls-Client-Cert } } }", 1)
		return config + "log: { error: debug }\napi: { /v1/key/generate/: { timeout: 1s } }\n"
	})
	text, err := os.ReadFile(filepath.Join(folder, "app.crt"))
	must(t, err)
	forwarded := map[string]string{"X-Tls-Client-Cert": url.QueryEscape(string(text))}
	both(t, []row{
		{name: "a proxy speaks for its client (difference 14)", to: p.address, as: "stranger", path: "/v1/status", send: forwarded, status: 200},
		{name: "who is no proxy does not", to: p.address, as: "guest2", path: "/v1/status", send: forwarded, status: 403},
		{name: "a body where none is taken (difference 11)", to: p.address, method: "PUT", path: "/v1/key/create/{u}", body: "junk", status: 200, check: func(t *testing.T, a *answer) {
			if a.Close {
				t.Error("the connection ends")
			}
		}},
	})
	count(t)
	t.Run("what the log says of a denial (difference 13)", func(t *testing.T) {
		p.waitFor(t, "req.identity="+all["guest2"], 2)
		for _, line := range strings.Split(p.printed(), "\n") {
			if strings.Contains(line, all["guest2"]) && (!strings.Contains(line, `msg="access denied: identity not found" req.method=GET req.path=/v1/status req.ip=127.0.0.1`) || strings.Contains(line, "CERTIFICATE")) {
				t.Error(line)
			}
		}
	})
	count(t)
	t.Run("a slow request ends in order (difference 10)", func(t *testing.T) {
		conn, err := tls.Dial("tcp", p.address, tlsConfig("app"))
		must(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, "PUT /v1/key/generate/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%v", err)
		}
	})
	count(t)
	t.Run("only keys are listed, and sealed (difference 7)", func(t *testing.T) {
		keys := filepath.Join(dir, "keys")
		must(t, os.Mkdir(filepath.Join(keys, "folder.d"), 0o700))
		for _, name := range []string{".hidden", "a.b"} {
			must(t, os.WriteFile(filepath.Join(keys, name), nil, 0o600))
		}
		name := unique + "http1"
		a, err := row{to: p.address, path: "/v1/key/list/"}.ask("http1")
		must(t, err)
		if want := fmt.Sprintf("{\"names\":[\"%s\",\"%s\"]}\n", name, unique+"http2"); a.body != want {
			t.Errorf("%q, want %q", a.body, want)
		}
		stored, err := os.ReadFile(filepath.Join(keys, name))
		must(t, err)
		if !strings.HasPrefix(string(stored), "kes-sealed v1 ") {
			t.Errorf("%q", stored[:20])
		}
	})
}

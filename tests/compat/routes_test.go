package compat

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"
	"testing"
)

// route is a row of the table of §2.1.
type route struct {
	Method  string `json:"method"`
	Path    string `json:"path"`
	MaxBody int    `json:"max_body"`
	Timeout int    `json:"timeout"`
}

var routes = []route{
	{"GET", "/v1/api", 0, 10},
	{"GET", "/v1/identity/describe/", 0, 15},
	{"GET", "/v1/identity/list/", 0, 15},
	{"GET", "/v1/identity/self/describe", 0, 15},
	{"PUT", "/v1/key/create/", 0, 15},
	{"PUT", "/v1/key/decrypt/", 1000000, 15},
	{"DELETE", "/v1/key/delete/", 0, 15},
	{"GET", "/v1/key/describe/", 0, 15},
	{"PUT", "/v1/key/encrypt/", 1000000, 15},
	{"PUT", "/v1/key/generate/", 1000000, 15},
	{"PUT", "/v1/key/hmac/", 1000000, 15},
	{"PUT", "/v1/key/import/", 1000000, 15},
	{"GET", "/v1/key/list/", 0, 15},
	{"GET", "/v1/log/audit", 0, 0},
	{"GET", "/v1/log/error", 0, 0},
	{"GET", "/v1/metrics", 0, 15},
	{"GET", "/v1/policy/describe/", 0, 15},
	{"GET", "/v1/policy/list/", 0, 15},
	{"GET", "/v1/policy/read/", 0, 15},
	{"GET", "/v1/ready", 0, 15},
	{"GET", "/v1/status", 0, 15},
	{"GET", "/version", 0, 10},
}

func TestSection2Routes(t *testing.T) {
	var rows []row
	for _, r := range routes {
		wrong := "PATCH"
		rows = append(rows, row{
			name: r.Path, as: "stranger", method: wrong, path: r.Path, status: 405,
			message: fmt.Sprintf("received method '%s' expected '%s'", wrong, r.Method), header: map[string]string{"Accept": r.Method},
		})
	}
	rows = append(rows, row{name: "the list", path: "/v1/api", status: 200, check: func(t *testing.T, a *answer) {
		var got []route
		must(t, json.Unmarshal([]byte(a.body), &got))
		sort.Slice(got, func(i, j int) bool { return got[i].Path < got[j].Path })
		if !reflect.DeepEqual(got, routes) || len(a.body) != 1525 || !strings.HasSuffix(a.body, "]\n") {
			t.Errorf("%d bytes: %s", len(a.body), a.body)
		}
	}})
	both(t, rows)
}

func TestSection2Methods(t *testing.T) {
	var rows []row
	for _, method := range []string{"HEAD", "OPTIONS", "TRACE", "PURGE", "POST"} {
		rows = append(rows, row{name: method, method: method, path: "/version", status: 405, header: map[string]string{"Accept": "GET"},
			message: fmt.Sprintf("received method '%s' expected 'GET'", method)})
	}
	for _, method := range []string{"PUT", "POST"} {
		rows = append(rows,
			row{name: "create by " + method, method: method, path: "/v1/key/create/m" + method + "{u}", status: 200, check: empty},
			row{name: "import by " + method, method: method, path: "/v1/key/import/i" + method + "{u}", body: `{"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","cipher":"AES256"}`, status: 200, check: empty},
			row{name: "generate by " + method, method: method, path: "/v1/key/generate/m" + method + "{u}", status: 200, like: []string{`"plaintext":"`}},
			row{name: "encrypt by " + method, method: method, path: "/v1/key/encrypt/m" + method + "{u}", body: "{}", status: 200, like: []string{`"ciphertext":"`}},
			row{name: "decrypt by " + method, method: method, path: "/v1/key/decrypt/m" + method + "{u}", body: "{}", status: 400, message: "decryption failed: ciphertext is not authentic"},
			row{name: "hmac by " + method, method: method, path: "/v1/key/hmac/m" + method + "{u}", body: "{}", status: 200, like: []string{`"hmac":"`}},
		)
	}
	rows = append(rows, row{name: "delete by POST", method: "POST", path: "/v1/key/delete/a", status: 405, message: "received method 'POST' expected 'DELETE'"})
	both(t, rows)
}

func TestSection2Paths(t *testing.T) {
	makeKeys(t)
	var rows []row
	for _, path := range []string{"/", "/v1", "/v1/", "/V1/status", "/v1/key", "/version/", "/v1/status/", "/v1/identity/self/describe/", "/v1/identity/self", "/v1/log",
		"/v1/key/bulk/decrypt/a", "/v1/policy/write/a", "/v1/enclave/create/a", "/v1/log/audit/trace", "/v1%2fstatus"} {
		for _, method := range []string{"GET", "PUT"} {
			rows = append(rows, row{name: method + " " + path, as: "stranger", method: method, path: path, status: 404, text: "404 page not found\n",
				header: map[string]string{"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}})
		}
	}
	invalid := func(name string) string {
		return "key name '" + name + "' is empty, too long or contains invalid characters"
	}
	redirect := func(from, to string) row {
		return row{name: "redirect " + from, as: "stranger", path: from, check: func(t *testing.T, a *answer) {
			if a.StatusCode == 307 && a.body != fmt.Sprintf("<a href=\"%s\">Temporary Redirect</a>.\n\n", strings.ReplaceAll(to, "&", "&amp;")) {
				t.Errorf("%q", a.body)
			}
		}, status: 307, header: map[string]string{"Location": to, "Content-Type": "text/html; charset=utf-8"}}
	}
	rows = append(rows,
		redirect("/v1/key/list", "/v1/key/list/"),
		redirect("/v1/key/list?x=1", "/v1/key/list/?x=1"),
		redirect("/v1/policy/list", "/v1/policy/list/"),
		redirect("/v1//status", "/v1/status"),
		redirect("//v1/status", "/v1/status"),
		redirect("/v1/./status", "/v1/status"),
		redirect("/v1/key/../status", "/v1/status"),
		redirect("/v1/key/describe/..", "/v1/key"),
		redirect("/v1/key//list/", "/v1/key/list/"),
		row{name: "a redirect of a PUT", method: "PUT", path: "/v1//key/create/x", status: 307, header: map[string]string{"Location": "/v1/key/create/x", "Content-Type": ""}},
		row{name: "an escaped slash in the resource", path: describe + "a%2Fb", status: 400, message: invalid("a/b")},
		row{name: "escaped dots in the resource", path: describe + "%2e%2e", status: 400, message: invalid("..")},
		row{name: "an escaped space", path: describe + "a%20b", status: 400, message: invalid("a b")},
		row{name: "escaped letters", path: "/v1/%6bey/list/my-key", status: 200, text: "{\"names\":[\"my-key\"]}\n"},
		row{name: "more segments", path: describe + "a/b", status: 400, message: invalid("a/b")},
		row{name: "a slash at the end", path: describe + "a/", status: 400, message: invalid("a/")},
		row{name: "a query is ignored", path: describe + "a?name=b", status: 200, like: []string{`"name":"a"`}},
		row{name: "a semicolon is a character", path: describe + "a;b", status: 400, message: invalid("a;b")},
		row{name: "an enclave header is ignored", path: describe + "a", send: map[string]string{"Kes-Enclave": "x"}, status: 200},
	)
	both(t, rows)
}

func TestSection2RawTargets(t *testing.T) {
	for _, c := range []struct{ name, request, want string }{
		{"a bad escape", "GET /v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"no leading slash", "GET version HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"the absolute form", "GET https://x/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		{"GET *", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"CONNECT to a route", "CONNECT /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n"},
	} {
		count(t)
		t.Run(c.name, func(t *testing.T) {
			if got := exchange(t, c.request); !strings.HasPrefix(got, c.want) {
				t.Errorf("%q", got)
			}
		})
	}
	count(t)
	t.Run("a bad escape over HTTP|2", func(t *testing.T) {
		// A body that cannot be sent a second time keeps the client from trying again.
		_, err := row{method: "PUT", path: "/v1/%zz", body: "x", chunked: true}.ask("http2")
		if err == nil || !strings.Contains(err.Error(), "PROTOCOL_ERROR") {
			t.Error(err)
		}
	})
}

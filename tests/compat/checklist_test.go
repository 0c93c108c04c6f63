package compat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The twenty rows of the checklist in §10, by their numbers.
var checklist = map[int]func(*testing.T){
	1: func(t *testing.T) {
		for version, alert := range map[string]string{"1.3": "116", "1.2": "40"} {
			out, _ := openssl(t, "-tls"+strings.ReplaceAll(version, ".", "_"))
			if !strings.Contains(out, "SSL alert number "+alert) {
				t.Errorf("TLS %s: %s", version, out)
			}
		}
	},
	2: func(t *testing.T) {
		rows(t, row{as: "ca", path: "/v1/ready", status: 400}, row{as: "two-leaves", path: "/v1/ready", status: 400},
			row{as: "with-ca", path: "/v1/ready", status: 200}, row{as: "expired", path: "/v1/ready", status: 200})
	},
	3: func(t *testing.T) {
		rows(t, row{as: "stranger", path: "/v1/key/list", status: 307, header: map[string]string{"Location": "/v1/key/list/"}})
	},
	4: func(t *testing.T) {
		rows(t, row{as: "stranger", path: "/v1/key/create/x", status: 405, header: map[string]string{"Accept": "PUT"}})
	},
	5: func(t *testing.T) {
		rows(t, row{method: "HEAD", path: "/version", status: 405, header: map[string]string{"Accept": "GET"}})
	},
	6: func(t *testing.T) {
		rows(t, row{path: "/nothing", status: 404, text: "404 page not found\n"}, row{path: describe + "none", status: 404, text: "{\"message\":\"key does not exist\"\n}"})
		if len("{\"message\":\"key does not exist\"\n}") != 33 {
			t.Error("33 bytes")
		}
	},
	7: func(t *testing.T) {
		key := `{"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","cipher":"AES256"}`
		for _, method := range []string{"POST", "PUT"} {
			name := "check7" + method + "{u}"
			rows(t, row{method: method, path: "/v1/key/create/" + name, status: 200}, row{method: method, path: "/v1/key/import/i" + name, body: key, status: 200},
				row{method: method, path: "/v1/key/encrypt/" + name, body: "{}", status: 200}, row{method: method, path: "/v1/key/generate/" + name, body: "{}", status: 200},
				row{method: method, path: "/v1/key/hmac/" + name, body: "{}", status: 200}, row{method: method, path: "/v1/key/decrypt/" + name, body: "{}", status: 400})
		}
	},
	8: func(t *testing.T) {
		rows(t, row{method: "POST", path: "/v1/key/generate/a", status: 200}, row{method: "POST", path: "/v1/key/encrypt/a", status: 400, message: "invalid request body"})
	},
	9: func(t *testing.T) {
		rows(t, row{method: "PUT", path: "/v1/key/encrypt/a", body: "{" + strings.Repeat(" ", 999_998) + "}", status: 200},
			row{method: "PUT", path: "/v1/key/encrypt/a", body: "{" + strings.Repeat(" ", 999_999) + "}", status: 400})
	},
	10: func(t *testing.T) {
		rows(t, row{path: "/v1/key/list/my-key", status: 200, text: "{\"names\":[\"my-key\"]}\n"},
			row{path: "/v1/policy/list/guest", status: 200, text: "{\"names\":[\"guest\"],\"continue_at\":\"\"}\n"},
			row{path: "/v1/identity/list/" + ids()["app"], status: 200, text: "{\"identities\":[\"" + ids()["app"] + "\"],\"continue_at\":\"\"}\n"})
	},
	11: func(t *testing.T) {
		if len(rules) != 57 {
			t.Errorf("%d rows", len(rules))
		}
		for i, rule := range rules {
			if rule.number != i+1 {
				t.Errorf("row %d is numbered %d", i+1, rule.number)
			}
		}
	},
	12: func(t *testing.T) {
		rows(t, row{path: "/v1/identity/describe/" + ids()["admin"], status: 200, check: func(t *testing.T, a *answer) {
			if !regexp.MustCompile(`^\{"admin":true,"created_at":"[^"]+"\}` + "\n$").MatchString(a.body) {
				t.Error(a.body)
			}
		}})
	},
	13: func(t *testing.T) {
		rows(t, row{method: "PUT", path: "/v1/key/hmac/json-plain", body: "{}", status: 409, message: "key does not support HMAC"},
			row{path: describe + "json-plain", status: 200, like: []string{`"created_at":"0001-01-01T00:00:00Z"`}})
	},
	14: func(t *testing.T) {
		p, _ := another(t, func(config string) string { return config })
		rows(t, row{to: p.address, as: "stranger", path: "/v1/key/list/", status: 403}, row{to: p.address, method: "PUT", path: "/v1/key/create/{u}", status: 200},
			row{to: p.address, path: "/v1/metrics", status: 200, check: func(t *testing.T, a *answer) {
				if strings.Contains(a.body, "request_failure") || strings.Contains(a.body, `"403"`) {
					t.Error(a.body)
				}
			}})
	},
	15: func(t *testing.T) {
		p, dir := another(t, func(config string) string { return config })
		must(t, os.Rename(filepath.Join(dir, "keys"), filepath.Join(dir, "away")))
		rows(t, row{to: p.address, path: "/v1/ready", status: 504}, row{to: p.address, path: "/v1/status", status: 200, like: []string{`"keystore_unreachable":true`}})
	},
	16: func(t *testing.T) {
		p, dir := another(t, func(config string) string { return config })
		file := filepath.Join(dir, "config.yml")
		good, err := os.ReadFile(file)
		must(t, err)
		must(t, os.WriteFile(file, []byte("policy: ["), 0o600))
		p.signal(t, syscall.SIGHUP)
		p.waitFor(t, "Failed to reload server config: ", 1)
		rows(t, row{to: p.address, as: "guest", path: "/v1/ready", status: 200})
		must(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(good), "allow: ['/v1/ready']", "allow: []")), 0o600))
		p.signal(t, syscall.SIGHUP)
		p.waitFor(t, "=> Reloading configuration after SIGHUP signal completed.", 1)
		rows(t, row{to: p.address, as: "guest", path: "/v1/ready", status: 403})
	},
	17: func(t *testing.T) {
		p, _ := another(t, func(config string) string { return config })
		p.signal(t, syscall.SIGTERM)
		if code := p.ends(t); code != 0 {
			t.Errorf("exit %d: %s", code, p.printed())
		}
		if conn, err := net.DialTimeout("tcp", p.address, 5*time.Second); err == nil {
			conn.Close()
			t.Error("somebody still listens")
		}
	},
	18: func(t *testing.T) {
		for i, cipher := range []string{"AES256", "AES256-GCM_SHA256", "ChaCha20", "XCHACHA20-POLY1305"} {
			rows(t, row{method: "PUT", path: fmt.Sprintf("/v1/key/import/check18-%d-{u}", i), body: `{"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","cipher":"` + cipher + `"}`, status: 200})
		}
		rows(t, row{method: "PUT", path: "/v1/key/import/x", body: `{"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","cipher":"aes256"}`, status: 406},
			row{method: "PUT", path: "/v1/key/import/x", body: `{"key":"AAECAwQFBgcICQoLDA0ODw==","cipher":"AES256"}`, status: 406})
	},
	19: func(t *testing.T) {
		rows(t, row{path: describe + "%3C%3E%26", status: 400, message: `key name '\u003c\u003e\u0026' is empty, too long or contains invalid characters`})
	},
	20: func(t *testing.T) {
		var file struct {
			Vectors []struct {
				ID, Kind, Key, Ciphertext string
				Context                   *string
				Expect                    struct {
					Status    int
					Plaintext *string
				}
			}
		}
		vectors("ciphertexts.json", &file)
		asked := map[string]int{}
		for _, v := range file.Vectors {
			kind := v.Kind
			if first := []byte(decoded(v.Ciphertext)); kind == "native" && !bytes.HasPrefix(first, []byte{0x95}) && !bytes.HasPrefix(first, []byte("{")) {
				continue
			}
			if kind != "native" && !strings.HasPrefix(kind, "legacy-") || v.Expect.Plaintext == nil {
				continue
			}
			asked[kind]++
			request := map[string]string{"ciphertext": v.Ciphertext}
			if v.Context != nil {
				request["context"] = *v.Context
			}
			body, err := json.Marshal(request)
			must(t, err)
			rows(t, row{method: "PUT", path: "/v1/key/decrypt/" + v.Key, body: string(body), status: 200, text: fmt.Sprintf("{\"plaintext\":%q}\n", *v.Expect.Plaintext)})
		}
		if asked["legacy-json"] == 0 || asked["legacy-msgp"] == 0 {
			t.Error(asked)
		}
	},
}

func TestSection10Checklist(t *testing.T) {
	makeKeys(t)
	for number := 1; number <= 20; number++ {
		count(t)
		t.Run(fmt.Sprintf("row %d", number), checklist[number])
	}
	t.Logf("%d rows of §10", len(checklist))
}

// rows asks all of them over both protocols, as a part of one row of the checklist.
func rows(t *testing.T, all ...row) {
	t.Helper()
	for _, protocol := range protocols {
		for _, r := range all {
			r.run(t, protocol)
		}
	}
}

// openssl shakes hands without a certificate.
func openssl(t *testing.T, options ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"s_client", "-connect", address, "-CAfile", filepath.Join(folder, "server.crt"), "-ign_eof", "-quiet"}, options...)...)
	cmd.Stdin = strings.NewReader("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The written list of deliberate differences is complete: each one is named by a row or a test here, and none is named
// that is not written down.
func TestDifferencesAreWrittenDown(t *testing.T) {
	text, err := os.ReadFile("README.md")
	must(t, err)
	written := regexp.MustCompile(`(?m)^(\d+)\. `).FindAllStringSubmatch(string(text), -1)
	files, err := filepath.Glob("*_test.go")
	must(t, err)
	var source strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		source.Write(text)
	}
	named := map[string]bool{}
	for _, match := range regexp.MustCompile(`\(difference (\d+)\)`).FindAllStringSubmatch(source.String(), -1) {
		named[match[1]] = true
	}
	for i, match := range written {
		if number := fmt.Sprint(i + 1); match[1] != number {
			t.Errorf("%s. stands where %s. should", match[1], number)
		}
		if !named[match[1]] {
			t.Errorf("no row shows difference %s", match[1])
		}
		delete(named, match[1])
	}
	if len(named) > 0 {
		t.Errorf("not written down: %v", named)
	}
}

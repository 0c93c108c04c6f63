package compat

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestSection3Errors(t *testing.T) {
	makeKeys(t)
	name := func(kind, name string) string {
		return kind + " '" + name + "' is empty, too long or contains invalid characters"
	}
	missing, good := strings.Repeat("f", 64), `"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="`
	rows := []row{
		{name: "only a CA's certificate", as: "ca", path: "/v1/status", status: 400, message: "tls: client certificate is required"},
		{name: "two certificates", as: "two-leaves", path: "/v1/status", status: 400, message: "tls: received more than one client certificate"},
		{name: "not allowed", as: "stranger", path: "/v1/status", status: 403, message: "not authorized: insufficient permissions"},
		{name: "wrong method", method: "GET", path: "/v1/key/create/a", status: 405, message: "received method 'GET' expected 'PUT'"},
		{name: "a policy's name", path: "/v1/policy/describe/a.b", status: 400, message: name("policy name", "a.b")},
		{name: "a policy's name, read", path: "/v1/policy/read/", status: 400, message: name("policy name", "")},
		{name: "an identity's name", path: "/v1/identity/describe/a.b", status: 400, message: name("identity", "a.b")},
		{name: "a pattern of keys", path: "/v1/key/list/*a", status: 400, message: "listing pattern '*a' is empty, too long or is invalid"},
		{name: "a pattern of policies", path: "/v1/policy/list/_", status: 400, message: "listing pattern '_' is empty, too long or is invalid"},
		{name: "a pattern of identities", path: "/v1/identity/list/-", status: 400, message: "listing pattern '-' is empty, too long or is invalid"},
		{name: "a bad import", method: "PUT", path: "/v1/key/import/x", body: "junk", status: 400, message: "invalid import key request body"},
		{name: "create twice", method: "PUT", path: "/v1/key/create/a", status: 400, message: "key already exists"},
		{name: "import over a key", method: "PUT", path: "/v1/key/import/a", body: `{"key":` + good + `,"cipher":"AES256"}`, status: 400, message: "key already exists"},
		{name: "describe no key", path: describe + "none", status: 404, message: "key does not exist", check: func(t *testing.T, a *answer) {
			if len(a.body) != 33 {
				t.Error(len(a.body))
			}
		}},
		{name: "delete no key", method: "DELETE", path: "/v1/key/delete/none", status: 404, message: "key does not exist"},
		{name: "no policy", path: "/v1/policy/describe/none", status: 404, message: "policy does not exist"},
		{name: "no policy to read", path: "/v1/policy/read/none", status: 404, message: "policy does not exist"},
		{name: "no identity", path: "/v1/identity/describe/" + missing, status: 404, message: "identity does not exist"},
		{name: "self of nobody", as: "stranger", path: "/v1/identity/self/describe", status: 404, message: "identity does not exist"},
		{name: "no cipher", method: "PUT", path: "/v1/key/import/x", body: `{"key":` + good + `}`, status: 406, message: "algorithm '' is not supported"},
		{name: "another cipher", method: "PUT", path: "/v1/key/import/x", body: `{"key":` + good + `,"cipher":"aes256"}`, status: 406, message: "algorithm 'aes256' is not supported"},
		{name: "a short key", method: "PUT", path: "/v1/key/import/x", body: `{"key":"AAEC","cipher":"ChaCha20"}`, status: 406, message: "invalid key size for 'ChaCha20'"},
		{name: "no hmac key", method: "PUT", path: "/v1/key/hmac/json-plain", body: `{}`, status: 409, message: "key does not support HMAC"},
		{name: "escapes in messages", path: describe + "%3C%3E%26%22%5C", status: 400, message: name("key name", `\u003c\u003e\u0026\"\\`)},
		{name: "bytes that are no text", path: describe + "%ff", status: 400, message: name("key name", `\ufffd`)},
		{name: "other letters stay", path: describe + "%E2%98%B0", status: 400, message: name("key name", "☰")},
		{name: "a line feed", path: describe + "a%0Ab", status: 400, message: name("key name", `a\nb`)},
	}
	for _, route := range []string{"create", "import", "encrypt", "generate", "decrypt", "hmac"} {
		rows = append(rows, row{name: "a key's name: " + route, method: "PUT", path: "/v1/key/" + route + "/a.b", body: "{}", status: 400, message: name("key name", "a.b")})
	}
	for _, route := range []string{"encrypt", "generate", "decrypt", "hmac"} {
		rows = append(rows,
			row{name: "a bad body: " + route, method: "PUT", path: "/v1/key/" + route + "/a", body: "junk", status: 400, message: "invalid request body"},
			row{name: "no key: " + route, method: "PUT", path: "/v1/key/" + route + "/none", body: "{}", status: 404, message: "key does not exist"})
	}
	both(t, rows)
}

func TestSection3Bodies(t *testing.T) {
	makeKeys(t)
	encrypt := func(name, body string, status int) row {
		r := row{name: name, method: "PUT", path: "/v1/key/encrypt/a", body: body, status: status}
		if status == 400 {
			r.message = "invalid request body"
		}
		return r
	}
	rows := []row{
		encrypt("empty", "", 400),
		encrypt("an empty object", "{}", 200),
		encrypt("null", "null", 200),
		encrypt("a null value", `{"plaintext":null}`, 200),
		encrypt("an empty value", `{"plaintext":""}`, 200),
		encrypt("an empty array", `{"plaintext":[]}`, 200),
		encrypt("an array", "[]", 400),
		encrypt("a string", `"x"`, 400),
		encrypt("a number", "123", 400),
		encrypt("truncated", `{"plaintext":"`, 400),
		encrypt("a byte order mark", "\ufeff{}", 400),
		encrypt("single quotes", "{'plaintext':''}", 400),
		encrypt("unknown fields", `{"x":{"y":[1]}}`, 200),
		encrypt("upper case", `{"PLAINTEXT":5}`, 400),
		encrypt("an earlier one of another type (difference 15)", `{"plaintext":5,"plaintext":""}`, 200),
		encrypt("base64", `{"plaintext":"SGVsbG8="}`, 200),
		encrypt("base64 without padding", `{"plaintext":"SGVsbG8"}`, 400),
		encrypt("url-safe base64", `{"plaintext":"-_-_"}`, 400),
		encrypt("line feeds in base64", `{"plaintext":"SGVs\r\nbG8="}`, 200),
		encrypt("numbers as bytes", `{"plaintext":[1,2,3]}`, 200),
		encrypt("numbers that are no bytes", `{"plaintext":[256]}`, 400),
		encrypt("a number for bytes", `{"plaintext":1}`, 400),
		encrypt("a bool for bytes", `{"plaintext":true}`, 400),
		encrypt("a number for text", `{"version":5}`, 400),
		encrypt("a version", `{"version":"v1"}`, 200),
		encrypt("space before", " \n\t{}", 200),
		encrypt("something behind", "{} trailing", 200),
		encrypt("another value behind", "{}{}", 200),
		encrypt("a million bytes", "{"+strings.Repeat(" ", 999_998)+"}", 200),
		encrypt("one more", "{"+strings.Repeat(" ", 999_999)+"}", 400),
		encrypt("complete within the limit", "{}"+strings.Repeat(" ", 1_000_100), 200),
	}
	for _, r := range []row{encrypt("chunked", `{"plaintext":"SGVsbG8="}`, 200), encrypt("chunked, a million bytes", "{"+strings.Repeat(" ", 999_998)+"}", 200),
		encrypt("chunked, one more", "{"+strings.Repeat(" ", 999_999)+"}", 400)} {
		r.chunked = true
		rows = append(rows, r)
	}
	last := encrypt("the last one wins", `{"plaintext":"SGVsbG8=","plaintext":""}`, 200)
	last.check = size("ciphertext", 44)
	rows = append(rows, last,
		row{name: "generate without a body", method: "PUT", path: "/v1/key/generate/a", status: 200},
		row{name: "generate with an empty chunked body", method: "PUT", path: "/v1/key/generate/a", chunked: true, only: "http1", status: 400, message: "invalid request body"},
		row{name: "a body where none is wanted", method: "PUT", path: "/v1/key/create/nobody{u}", body: "junk", status: 200, check: empty},
		row{name: "a body of a GET", path: "/version", body: "junk", status: 200},
	)
	both(t, rows)
}

func TestSection3Routes(t *testing.T) {
	all := ids()
	started := `"created_at":"`
	created := func(t *testing.T, a *answer) {
		var d struct {
			Algorithm, Created_At, Created_By, Name string
		}
		must(t, json.Unmarshal([]byte(a.body), &d))
		want := fmt.Sprintf("{\"name\":\"%s\",\"algorithm\":\"%s\",\"created_at\":\"%s\",\"created_by\":\"%s\"}\n", d.Name, d.Algorithm, d.Created_At, all["app"])
		if a.body != want || !strings.HasSuffix(d.Created_At, "Z") || d.Algorithm != "AES256" && d.Algorithm != "ChaCha20" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%q", a.body)
		}
	}
	cipher := func(name string) row {
		return row{name: "import " + name, method: "PUT", path: "/v1/key/import/c" + name + "{u}", body: `{"cipher":"` + name + `","key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`, status: 200, check: empty}
	}
	algorithm := func(name, algorithm string) row {
		return row{name: "describe " + name, path: describe + "c" + name + "{u}", status: 200, like: []string{`"algorithm":"` + algorithm + `"`}}
	}
	both(t, []row{
		{name: "create", method: "PUT", path: "/v1/key/create/r{u}", status: 200, check: empty},
		{name: "describe", path: describe + "r{u}", status: 200, check: created},
		cipher("AES256"), cipher("AES256-GCM_SHA256"), cipher("ChaCha20"), cipher("XCHACHA20-POLY1305"),
		algorithm("AES256", "AES256"), algorithm("AES256-GCM_SHA256", "AES256"), algorithm("ChaCha20", "ChaCha20"), algorithm("XCHACHA20-POLY1305", "ChaCha20"),
		{name: "list", path: "/v1/key/list/r{u}", status: 200, text: "{\"names\":[\"r{u}\"]}\n"},
		{name: "encrypt", method: "PUT", path: "/v1/key/encrypt/r{u}", body: `{"plaintext":"SGVsbG8="}`, status: 200, check: size("ciphertext", 5+44)},
		{name: "encrypt nothing", method: "PUT", path: "/v1/key/encrypt/r{u}", body: `{}`, status: 200, check: size("ciphertext", 44)},
		{name: "generate", method: "PUT", path: "/v1/key/generate/r{u}", status: 200, check: func(t *testing.T, a *answer) {
			size("plaintext", 32)(t, a)
			size("ciphertext", 76)(t, a)
		}},
		{name: "hmac", method: "PUT", path: "/v1/key/hmac/r{u}", body: `{"message":"SGVsbG8="}`, status: 200, check: size("hmac", 32)},
		{name: "hmac of nothing", method: "PUT", path: "/v1/key/hmac/r{u}", body: `{}`, status: 200, check: size("hmac", 32)},
		{name: "delete", method: "DELETE", path: "/v1/key/delete/r{u}", status: 200, check: empty},
		{name: "delete again", method: "DELETE", path: "/v1/key/delete/r{u}", status: 404, message: "key does not exist"},
		{name: "policy describe", path: "/v1/policy/describe/guest", status: 200, like: []string{`{"name":"guest",` + started, `","created_by":"` + all["admin"] + "\"}\n"}},
		{name: "policy read", path: "/v1/policy/read/guest", status: 200, like: []string{`{"name":"guest","allow":{"/v1/ready":{}},"deny":{"/v1/status":{}},` + started, `","created_by":"` + all["admin"] + "\"}\n"}},
		{name: "policy read of an empty one", path: "/v1/policy/read/nobody", status: 200, like: []string{`{"name":"nobody",` + started}},
		{name: "policy list", path: "/v1/policy/list/guest", status: 200, text: "{\"names\":[\"guest\"],\"continue_at\":\"\"}\n"},
		{name: "policy list with a star", path: "/v1/policy/list/gue*", status: 200, text: "{\"names\":[\"guest\"],\"continue_at\":\"\"}\n"},
		{name: "identity describe", path: "/v1/identity/describe/" + all["guest"], status: 200, like: []string{`{"policy":"guest",` + started, `","created_by":"` + all["admin"] + "\"}\n"}},
		{name: "identity describe of the admin", path: "/v1/identity/describe/" + all["admin"], status: 200, like: []string{`{"admin":true,` + started}, check: func(t *testing.T, a *answer) {
			if strings.Contains(a.body, "policy") || strings.Contains(a.body, "created_by") {
				t.Error(a.body)
			}
		}},
		{name: "identity list", path: "/v1/identity/list/" + all["guest"], status: 200, text: "{\"identities\":[\"" + all["guest"] + "\"],\"continue_at\":\"\"}\n"},
		{name: "self of the admin", as: "admin", path: "/v1/identity/self/describe", status: 200, like: []string{`{"identity":"` + all["admin"] + `","admin":true,` + started}},
		{name: "self (difference 1)", as: "guest", path: "/v1/identity/self/describe", status: 200, like: []string{`{"identity":"` + all["guest"] + `",` + started, `"policy":"guest","allow":{"/v1/ready":{}},"deny":{"/v1/status":{}}}`}},
		{name: "version", path: "/version", status: 200, like: []string{`{"version":"`, `","commit":"`}},
		{name: "ready", path: "/v1/ready", status: 200, check: empty},
	})
}

// size demands that a member of the answer is so many bytes in base64.
func size(name string, bytes int) func(*testing.T, *answer) {
	return func(t *testing.T, a *answer) {
		var members map[string]string
		must(t, json.Unmarshal([]byte(a.body), &members))
		if value, err := base64.StdEncoding.DecodeString(members[name]); err != nil || len(value) != bytes {
			t.Errorf("%s has %d bytes, want %d (%v): %s", name, len(value), bytes, err, a.body)
		}
	}
}

func TestSection3StoredKeysAndCiphertexts(t *testing.T) {
	rows := []row{
		{name: "a key without time", path: describe + "json-plain", status: 200, like: []string{`"created_at":"0001-01-01T00:00:00Z"`}},
		{name: "an empty value (difference 6)", path: describe + "bad-empty", status: 502, message: "failed to read key"},
		{name: "a value without a key (difference 6)", method: "PUT", path: "/v1/key/generate/bad-length", status: 502, message: "failed to read key"},
	}
	var file struct {
		Vectors []struct {
			ID, Kind, Key, Ciphertext string
			Context                   *string
			Expect                    struct {
				Status    int
				Plaintext *string
				Message   string
			}
		}
	}
	vectors("ciphertexts.json", &file)
	kinds := map[string]int{}
	for _, v := range file.Vectors {
		// A few of each kind; tests/sdk asks all of them.
		if v.Ciphertext == "" || v.Expect.Status == 0 || kinds[v.Kind] >= 6 || !strings.HasPrefix(v.Kind, "legacy-") && v.Kind != "native" && v.Kind != "tampered" {
			continue
		}
		kinds[v.Kind]++
		request := map[string]string{"ciphertext": v.Ciphertext}
		if v.Context != nil {
			request["context"] = *v.Context
		}
		body, err := json.Marshal(request)
		must(t, err)
		r := row{name: v.ID, method: "PUT", path: "/v1/key/decrypt/" + v.Key, body: string(body), status: v.Expect.Status, message: v.Expect.Message}
		if v.Expect.Plaintext != nil {
			r.text = fmt.Sprintf("{\"plaintext\":%q}\n", *v.Expect.Plaintext)
		}
		rows = append(rows, r)
	}
	if len(rows) < 20 {
		t.Fatalf("only %d rows", len(rows))
	}
	both(t, rows)
}

// decoded is what base64 text means; empty if it is none.
func decoded(text string) string {
	value, _ := base64.StdEncoding.DecodeString(text)
	return string(value)
}

package compat

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestSection4Names(t *testing.T) {
	var rows []row
	for _, name := range []string{"my-key", "abc123", "0", "123ABC321", "_0", "__", "0-Z", "my_key-0", "a--b", "_-___---_", strings.Repeat("a", 80)} {
		// A valid name gets as far as the key store.
		rows = append(rows, row{name: "good " + name, method: "DELETE", path: "/v1/key/delete/" + name, status: 404, message: "key does not exist"})
		rows = append(rows, row{name: "good policy " + name, path: "/v1/policy/read/" + name, status: 404, message: "policy does not exist"})
	}
	rows = rows[2:] // my-key exists, for others
	for _, name := range []string{"", "_", "-", "--", "-a", "a-", "my.key", "a b", "a/b", "a/", "..", "a*", "a:b", "a+b", "a~b", "a@b", "hel<lo", "☰", "Εmacs", "a\n", "a\x00", strings.Repeat("a", 81)} {
		shown := strings.NewReplacer("<", `\u003c`, "\n", `\n`, "\x00", `\u0000`).Replace(name)
		path := strings.NewReplacer("+", "%20", ".", "%2E").Replace(url.QueryEscape(name))
		rows = append(rows, row{name: fmt.Sprintf("bad %q", name), path: describe + path, status: 400, message: "key name '" + shown + "' is empty, too long or contains invalid characters"})
		rows = append(rows, row{name: fmt.Sprintf("bad identity %q", name), path: "/v1/identity/describe/" + path, status: 400, message: "identity '" + shown + "' is empty, too long or contains invalid characters"})
	}
	both(t, rows)
}

func TestSection4Patterns(t *testing.T) {
	var rows []row
	for _, kind := range []string{"key", "policy", "identity"} {
		for _, pattern := range []string{"", "*", "a", "my-key", "my*", "_*", "_-*", "a-*", "_x", strings.Repeat("a", 79) + "*", strings.Repeat("a", 80)} {
			rows = append(rows, row{name: kind + " good " + pattern, path: "/v1/" + kind + "/list/" + pattern, status: 200, like: []string{`":[`}})
		}
		for _, pattern := range []string{"_", "-", "-x", "x-", "-*", "*a", "**", "a**", "a*b", "*-*", "a.b", "a b", "a/b", ".h", strings.Repeat("a", 80) + "*"} {
			rows = append(rows, row{name: kind + " bad " + pattern, path: "/v1/" + kind + "/list/" + strings.ReplaceAll(pattern, " ", "%20"), status: 400,
				message: "listing pattern '" + pattern + "' is empty, too long or is invalid"})
		}
	}
	both(t, rows)
}

func TestSection4Listings(t *testing.T) {
	var rows []row
	for _, name := range []string{"B", "_", "a", "0"} {
		rows = append(rows, row{name: "make " + name, method: "PUT", path: "/v1/key/create/z{u}" + name + "x", status: 200})
	}
	sorted := "{\"names\":[\"z{u}0x\",\"z{u}Bx\",\"z{u}_x\",\"z{u}ax\"]}\n"
	rows = append(rows,
		row{name: "a prefix, in the order of bytes", path: "/v1/key/list/z{u}", status: 200, text: sorted},
		row{name: "a star at the end (difference 2)", path: "/v1/key/list/z{u}*", status: 200, text: sorted},
		row{name: "an escaped star", path: "/v1/key/list/z{u}%2A", status: 200, text: sorted},
		row{name: "a whole name", path: "/v1/key/list/z{u}ax", status: 200, text: "{\"names\":[\"z{u}ax\"]}\n"},
		row{name: "nothing", path: "/v1/key/list/nothing-{u}", status: 200, text: "{\"names\":[]}\n"},
		row{name: "everything", path: "/v1/key/list/*", status: 200, like: []string{`"z{u}_x"`, `"json-plain"`}},
		row{name: "no policies", path: "/v1/policy/list/nothing", status: 200, text: "{\"names\":[],\"continue_at\":\"\"}\n"},
		row{name: "no identities", path: "/v1/identity/list/nothing", status: 200, text: "{\"identities\":[],\"continue_at\":\"\"}\n"},
		row{name: "all identities, with the admin", path: "/v1/identity/list/", status: 200, like: []string{`"` + ids()["admin"] + `"`, `"` + ids()["app"] + `"`}},
		row{name: "all policies", path: "/v1/policy/list/*", status: 200, like: []string{`{"names":["app","guest","nobody","rule-1","rule-10"`}},
	)
	both(t, rows)
}

func TestSection4ManyKeys(t *testing.T) {
	needsOwn(t)
	count(t)
	// More than the 1,024 of the original's page.
	jobs, failed := make(chan int), make(chan error, 1)
	done := make(chan struct{})
	for range 8 {
		go func() {
			for i := range jobs {
				a, err := row{method: "PUT", path: fmt.Sprintf("/v1/key/create/many-%s-%04d", unique, i)}.ask("http2")
				if err == nil && a.StatusCode != 200 {
					err = fmt.Errorf("%d %s", a.StatusCode, a.body)
				}
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
			done <- struct{}{}
		}()
	}
	for i := range 1030 {
		jobs <- i
	}
	close(jobs)
	for range 8 {
		<-done
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	both(t, []row{{name: "all in one page (difference 3)", path: "/v1/key/list/many-" + unique, status: 200, check: func(t *testing.T, a *answer) {
		if strings.Count(a.body, "many-") != 1030 || strings.Contains(a.body, "continue_at") {
			t.Errorf("%d names", strings.Count(a.body, "many-"))
		}
	}}})
}

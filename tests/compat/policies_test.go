package compat

import (
	"fmt"
	"testing"
)

// rule is a row of the table of §5: what a policy says and what becomes of a request.
type rule struct {
	number      int
	allow, deny []string
	method      string
	path        string
	status      int // 403: refused; 307: sent elsewhere before anybody is asked who he is; anything else: let in
}

func (r rule) who() string { return fmt.Sprintf("rule-%d", r.number) }

func allow(patterns ...string) []string { return patterns }

const describe = "/v1/key/describe/"

// The keys a, ab and my-key exist.
var rules = []rule{
	{1, allow("/v1/status"), nil, "", "/v1/status", 200},
	{2, allow("/v1/status"), nil, "", "/v1/ready", 403},
	{3, allow("/v1/status/"), nil, "", "/v1/status", 403},
	{4, allow("/v1/status*"), nil, "", "/v1/status", 200},
	{5, allow("/v1/*"), nil, "", "/v1/status", 200},
	{6, allow("/v1/*"), nil, "", describe + "a", 200},
	{7, allow("*"), nil, "", describe + "a", 200},
	{8, allow("/*"), nil, "", describe + "a", 200},
	{9, allow("v1/*"), nil, "", "/v1/status", 403},
	{10, allow("/v1/*/a"), nil, "", describe + "a", 403},
	{11, allow("/v1/key/*/a"), nil, "", describe + "a", 403},
	{12, allow(describe + "*"), nil, "", describe + "a", 200},
	{13, allow(describe + "*"), nil, "", describe, 400},
	{14, allow(describe), nil, "", describe, 400},
	{15, allow(describe), nil, "", describe + "a", 403},
	{16, allow("/v1/key/describe"), nil, "", describe + "a", 403},
	{17, allow("/v1/key/describe*"), nil, "", describe + "a", 200},
	{18, allow(describe + "my-*"), nil, "", describe + "my-key", 200},
	{19, allow(describe + "my-*"), nil, "", describe + "my-", 400},
	{20, allow(describe + "my-*"), nil, "", describe + "my", 403},
	{21, allow(describe + "my-*"), nil, "", describe + "My-key", 403},
	{22, allow(describe + "my-*"), nil, "", describe + "my-a%2Fb", 400},
	{23, allow(describe + "my-*"), nil, "", describe + "my-a/b", 400},
	{24, allow(describe + "my-?"), nil, "", describe + "my-a", 403},
	{25, allow(describe + "my-?"), nil, "", describe + "my-%3F", 400},
	{26, allow(describe + "[a-z]"), nil, "", describe + "a", 403},
	{27, allow(describe + "[a-z]*"), nil, "", describe + "a", 403},
	{28, allow(describe + "[a-z]*"), nil, "", describe + "[a-z]x", 400},
	{29, allow(describe + "a**"), nil, "", describe + "ab", 403},
	{30, allow(describe + "a**"), nil, "", describe + "a*b", 400},
	{31, allow(describe + `a\*`), nil, "", describe + "a*", 403},
	{32, allow(describe + `a\*`), nil, "", describe + "a%5Cz", 400},
	{33, allow(describe + "a"), nil, "", describe + "%61", 200},
	{34, allow(describe + "%61"), nil, "", describe + "a", 403},
	{35, allow(describe + "a"), nil, "", describe + "a?x=1", 200},
	{36, allow(describe + "a?x=1"), nil, "", describe + "a?x=1", 403},
	{37, allow(describe + "a"), nil, "", "/v1/key/describe//a", 307},
	{38, allow("/v1/key/*"), allow("/v1/key/delete/*"), "DELETE", "/v1/key/delete/a", 403},
	{39, allow("/v1/key/*"), allow("/v1/key/delete/*"), "", describe + "a", 200},
	{40, allow(describe + "a"), allow("/v1/key/*"), "", describe + "a", 403},
	{41, allow(describe + "a"), allow("*"), "", describe + "a", 403},
	{42, nil, allow("/v1/key/delete/*"), "", describe + "a", 403},
	{43, nil, nil, "", "/v1/status", 403},
	{44, allow(""), nil, "", "/v1/status", 403},
	{45, allow("/v1/status"), allow(""), "", "/v1/status", 200},
	{46, allow(" /v1/status"), nil, "", "/v1/status", 403},
	{47, allow("/v1/status "), nil, "", "/v1/status", 403},
	{48, allow("/V1/STATUS"), nil, "", "/v1/status", 403},
	{49, allow("/v1/key/create/*"), nil, "POST", "/v1/key/create/pa{u}", 200},
	{50, allow("/v1/key/list/*"), nil, "", "/v1/key/list/", 200},
	{51, allow("/v1/key/list/"), nil, "", "/v1/key/list/abc", 403},
	{52, allow("/v1/key/list/my*"), nil, "", "/v1/key/list/", 403},
	{53, allow("/v1/key/list/my*"), nil, "", "/v1/key/list/m", 403},
	{54, allow("/v1/key/list/my*"), nil, "", "/v1/key/list/my", 200},
	{55, nil, nil, "", "/version", 200},
	{56, allow("/v1/status"), nil, "", "/v1/nothing", 404},
	{57, allow("*"), allow("/v1/identity/self/describe"), "", "/v1/identity/self/describe", 200},
}

func TestSection5PolicyRules(t *testing.T) {
	makeKeys(t)
	var rows []row
	for _, rule := range rules {
		r := row{name: fmt.Sprintf("row %d", rule.number), as: rule.who(), method: rule.method, path: rule.path, status: rule.status}
		if rule.status == 403 {
			r.message = "not authorized: insufficient permissions"
		}
		rows = append(rows, r)
	}
	both(t, rows)
	t.Logf("%d rows of §5", len(rules))
}

// makeKeys makes the keys that rows ask for, once.
func makeKeys(t *testing.T) {
	for _, name := range []string{"a", "ab", "my-key", "other"} {
		a, err := row{method: "PUT", path: "/v1/key/create/" + name}.ask("http2")
		must(t, err)
		if a.StatusCode != 200 && a.body != "{\"message\":\"key already exists\"\n}" {
			t.Fatal(a.StatusCode, a.body)
		}
	}
}

func TestSection5WhoDecides(t *testing.T) {
	makeKeys(t)
	denied := "not authorized: insufficient permissions"
	both(t, []row{
		{name: "the admin is never asked", as: "admin", path: "/v1/status", status: 200},
		{name: "an identity without policy", as: "stranger", path: "/v1/status", status: 403, message: denied},
		{name: "deny wins", as: "guest", path: "/v1/status", status: 403, message: denied},
		{name: "what is allowed", as: "guest", path: "/v1/ready", status: 200},
		{name: "what is not mentioned", as: "guest", path: "/v1/api", status: 403, message: denied},
		{name: "the method does not matter", as: "rule-49", method: "PUT", path: "/v1/key/create/put{u}", status: 200},
		{name: "the wrong method comes first", as: "stranger", method: "PUT", path: "/v1/status", status: 405, message: "received method 'PUT' expected 'GET'"},
		{name: "the name comes after", as: "stranger", path: describe + "a.b", status: 403, message: denied},
	})
}

func TestSection5ConfigurationRules(t *testing.T) {
	needsOwn(t)
	all := ids()
	for _, c := range []struct{ name, config, error string }{
		{"no admin", "admin: {}\n", "no admin identity"},
		{"the admin in a policy", fmt.Sprintf("admin: { identity: %s }\npolicy: { p: { identities: [%s] } }\n", all["app"], all["app"]), "is already admin"},
		{"an identity in two policies", fmt.Sprintf("admin: { identity: x }\npolicy: { p: { identities: [%s] }, q: { identities: [%s] } }\n", all["app"], all["app"]), "already has"},
		{"an identity twice in one", fmt.Sprintf("admin: { identity: x }\npolicy: { p: { identities: [%s, %s] } }\n", all["app"], all["app"]), "already has"},
		{"a bad policy name", "admin: { identity: x }\npolicy: { 'a.b': {} }\n", "policy name"},
		{"a bad identity", "admin: { identity: x }\npolicy: { p: { identities: ['a b'] } }\n", "is empty, too long or contains"},
		{"a route that must not be opened (difference 8)", "admin: { identity: x }\napi: { /v1/key/create/: { skip_auth: true } }\n", "config.yml:4: "},
		{"any string is an admin", "admin: { identity: a.b/c }\n", ""},
		{"a policy without anything", "admin: { identity: x }\npolicy: { p: {} }\n", ""},
		{"an identity that is no fingerprint", "admin: { identity: x }\npolicy: { p: { identities: [foo] } }\n", ""},
		{"duplicate and odd patterns", "admin: { identity: x }\npolicy: { p: { allow: ['a', 'a', '[', '*x'] } }\n", ""},
	} {
		count(t)
		t.Run(c.name, func(t *testing.T) {
			said, code := checkConfig(t, "tls: { key: server.key, cert: server.crt }\nkeystore: { fs: { path: ./keys } }\n"+c.config)
			expectCheck(t, said, code, c.error)
		})
	}
}

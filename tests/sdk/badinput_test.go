package sdk

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each of these stops the start with exit status 1 and an error that names the file and the line or field; nothing is
// printed as if the server ran, and nothing is created.
func TestBadInputStopsTheStart(t *testing.T) {
	write := func(dir, name, text string) { must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)) }
	good := "address: 127.0.0.1:0\nadmin: { identity: disabled }\ntls: { key: private.key, cert: public.crt }\nkeystore: { fs: { path: ./keys } }\n"
	for _, c := range []struct {
		what    string
		prepare func(dir string)
		args    []string
		want    []string
		creates bool // the failure comes after the store was opened
	}{
		{what: "no configuration", want: []string{"config.yml"}},
		{what: "missing certificate", prepare: func(dir string) { write(dir, "config.yml", good); os.Remove(filepath.Join(dir, "public.crt")) }, want: []string{"public.crt", "no such file"}},
		{what: "missing key", prepare: func(dir string) { write(dir, "config.yml", good); os.Remove(filepath.Join(dir, "private.key")) }, want: []string{"private.key", "no such file"}},
		{what: "garbage instead of a key", prepare: func(dir string) { write(dir, "config.yml", good); write(dir, "private.key", "nonsense\n") }, want: []string{"private.key"}},
		{what: "garbage instead of a certificate", prepare: func(dir string) { write(dir, "config.yml", good); write(dir, "public.crt", "nonsense\n") }, want: []string{"public.crt"}},
		{what: "key of another certificate", prepare: func(dir string) {
			write(dir, "config.yml", good)
			kesIn(t, dir, "identity", "new", "--key", "private.key", "--cert", "other.crt", "-f", "--ip", "127.0.0.1", "x")
		}, want: []string{"private key does not match"}},
		{what: "certificate without a name", prepare: func(dir string) {
			write(dir, "config.yml", good)
			kesIn(t, dir, "identity", "new", "--key", "private.key", "--cert", "public.crt", "-f", "NoName")
		}, want: []string{"SAN"}},
		{what: "unknown version", prepare: func(dir string) { write(dir, "config.yml", "version: v2\n"+good) }, want: []string{"config.yml:1", "v2"}},
		{what: "root of an old release", prepare: func(dir string) { write(dir, "config.yml", good+"root: abc\n") }, want: []string{"config.yml:5", "admin.identity"}},
		{what: "paths of an old release", prepare: func(dir string) { write(dir, "config.yml", good+"policy:\n  a:\n    paths: [ /v1/* ]\n") }, want: []string{"config.yml:7", "allow"}},
		{what: "proxy of an old release", prepare: func(dir string) { write(dir, "config.yml", good+"proxy: {}\n") }, want: []string{"config.yml:5", "tls.proxy"}},
		{what: "keys of an old release", prepare: func(dir string) { write(dir, "config.yml", good+"keys: { fs: { path: x } }\n") }, want: []string{"config.yml:5", "keystore"}},
		{what: "a section twice", prepare: func(dir string) { write(dir, "config.yml", good+"admin: { identity: x }\n") }, want: []string{"config.yml:5", "admin"}},
		{what: "no YAML", prepare: func(dir string) { write(dir, "config.yml", "address: [\n") }, want: []string{"config.yml:"}},
		{what: "a key store that is not built", prepare: func(dir string) {
			write(dir, "config.yml", strings.Replace(good, "fs: { path: ./keys }", "vault: { endpoint: x }", 1))
		}, want: []string{"config.yml:4", "vault", "not supported"}},
		{what: "an identity in two policies", prepare: func(dir string) {
			write(dir, "config.yml", good+"policy:\n  a: { identities: [ x ] }\n  b: { identities: [ x ] }\n")
		}, want: []string{"config.yml:7", "already has the policy"}},
		{what: "a bad flag", prepare: func(dir string) { write(dir, "config.yml", good) }, args: []string{"--auth", "maybe"}, want: []string{"--auth", "maybe"}},
		{what: "key path is a file", prepare: func(dir string) { write(dir, "config.yml", good); write(dir, "keys", "x") }, want: []string{"keys", "not a directory"}, creates: true},
		{what: "key directory that cannot be made", prepare: func(dir string) { write(dir, "config.yml", strings.Replace(good, "./keys", "/proc/kes-keys", 1)) }, want: []string{"/proc/kes-keys"}},
		{what: "seal file missing beside sealed keys", prepare: func(dir string) {
			write(dir, "config.yml", good+"keys: [ { name: a } ]\n")
			start(t, dir).stop()
			must(t, os.Remove(filepath.Join(dir, "keys.seal")))
		}, want: []string{"keys.seal"}, creates: true},
		{what: "seal file that others can read", prepare: func(dir string) {
			write(dir, "config.yml", good)
			start(t, dir).stop()
			must(t, os.Chmod(filepath.Join(dir, "keys.seal"), 0o644))
		}, want: []string{"keys.seal", "chmod 600"}, creates: true},
		{what: "seal file that was edited", prepare: func(dir string) {
			write(dir, "config.yml", good)
			start(t, dir).stop()
			text, err := os.ReadFile(filepath.Join(dir, "keys.seal"))
			must(t, err)
			text[len(text)/2] ^= 1
			write(dir, "keys.seal", string(text))
		}, want: []string{"keys.seal"}, creates: true},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := newDir(t)
			if c.prepare != nil {
				c.prepare(dir)
			}
			args := append([]string{"server", "--config", "config.yml"}, c.args...)
			out, errs, code := kesIn(t, dir, args...)
			if code != 1 || out != "" || !strings.HasPrefix(errs, "Error: ") && !strings.Contains(errs, "\nError: ") {
				t.Fatalf("exit status %d, stdout %q, stderr %q", code, out, errs)
			}
			for _, want := range c.want {
				if !strings.Contains(errs, want) {
					t.Errorf("%q does not name %q", errs, want)
				}
			}
			for _, name := range []string{"keys", "keys.seal"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err == nil && !c.creates {
					t.Errorf("%s was created", name)
				}
			}
		})
	}
}

func TestABusyPortIsToldBeforeAnythingElse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	dir := newDir(t)
	config(t, dir, "disabled", "")
	out, errs, code := kesIn(t, dir, "server", "--config", "config.yml", "--addr", listener.Addr().String())
	if code != 1 || out != "" || !strings.Contains(errs, "Error: listen tcp "+listener.Addr().String()+": bind: ") {
		t.Fatalf("exit status %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestDamagedKeyFilesAreRefusedByName(t *testing.T) {
	dir, app := newDir(t), newIdentity(t)
	config(t, dir, "disabled", fmt.Sprintf("policy: { app: { allow: ['*'], identities: [%s] } }\n"+
		"keys: [ { name: good }, { name: cut }, { name: edited }, { name: moved }, { name: empty } ]\n", app.id))
	start(t, dir).stop()
	file := func(name string) string { return filepath.Join(dir, "keys", name) }
	text, err := os.ReadFile(file("cut"))
	must(t, err)
	must(t, os.WriteFile(file("cut"), text[:len(text)/2], 0o600))
	text, err = os.ReadFile(file("edited"))
	must(t, err)
	text[len(text)-10] ^= 1
	must(t, os.WriteFile(file("edited"), text, 0o600))
	must(t, os.Rename(file("moved"), file("renamed")))
	must(t, os.WriteFile(file("empty"), nil, 0o600))
	must(t, os.WriteFile(file("planted"), []byte("CiQKIAAA"), 0o600))
	config(t, dir, "disabled", fmt.Sprintf("policy: { app: { allow: ['*'], identities: [%s] } }\n", app.id))
	s := start(t, dir)
	client := noRedirects(s.transport(app, "h2"))
	for _, name := range []string{"cut", "edited", "renamed", "empty", "planted"} {
		resp, body := s.raw(client, "PUT", "/v1/key/generate/"+name, "")
		if resp.StatusCode != 502 || body != "{\"message\":\"failed to read key\"\n}" {
			t.Errorf("%s: %d %q", name, resp.StatusCode, body)
		}
		s.waitFor("req.path=/v1/key/generate/" + name)
		lines := 0
		for _, line := range strings.Split(s.logged(), "\n") {
			if strings.Contains(line, "level=ERROR") && strings.Contains(line, "keys/"+name) {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("%s: %d log lines name its file:\n%s", name, lines, s.logged())
		}
	}
	if resp, _ := s.raw(client, "PUT", "/v1/key/generate/good", ""); resp.StatusCode != 200 {
		t.Errorf("the good key: %d", resp.StatusCode)
	}
	s.stop()
}

func TestMemoryIsLockedOnDemand(t *testing.T) {
	dir := newDir(t)
	config(t, dir, "disabled", "")
	if os.Geteuid() != 0 {
		_, errs, code := kesIn(t, dir, "server", "--config", "config.yml", "--mlock")
		if code != 1 || !strings.Contains(errs, "CAP_IPC_LOCK") || !strings.Contains(errs, "RLIMIT_MEMLOCK") {
			t.Skipf("this user may lock memory: %d %q", code, errs)
		}
		return
	}
	s := start(t, dir, "--mlock")
	s.waitFor("MLock       enabled")
	s.stop()
}

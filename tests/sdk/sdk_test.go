package sdk

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/minio/kms-go/kes"
)

// house is a server with an admin, a client that may do everything, and one that may do little.
func house(t *testing.T) (s *server, admin, app, guest identity) {
	dir := newDir(t)
	admin, app, guest = newIdentity(t), newIdentity(t), newIdentity(t)
	config(t, dir, admin.id, policies(app, guest, "/v1/key/generate/minio-*"))
	return start(t, dir), admin, app, guest
}

func policies(app, guest identity, allowed string) string {
	return fmt.Sprintf("policy:\n  app: { allow: ['/v1/*'], deny: ['/v1/key/create/denied-*'], identities: [%s] }\n"+
		"  guest: { allow: ['%s'], identities: [%s] }\n", app.id, allowed, guest.id)
}

func both(t *testing.T, run func(t *testing.T, protocol string)) {
	for _, protocol := range protocols {
		t.Run(strings.ReplaceAll(protocol, "/", ""), func(t *testing.T) { run(t, protocol) })
	}
}

func TestKeysThroughTheSDK(t *testing.T) {
	both(t, func(t *testing.T, protocol string) {
		s, _, app, guest := house(t)
		ctx, client := context.Background(), s.client(app, protocol)

		must(t, client.CreateKey(ctx, "minio-a"))
		if err := client.CreateKey(ctx, "minio-a"); !errors.Is(err, kes.ErrKeyExists) {
			t.Fatalf("creating a key twice: %v", err)
		}
		must(t, client.ImportKey(ctx, "imported", &kes.ImportKeyRequest{Key: bytes.Repeat([]byte{7}, 32), Cipher: kes.ChaCha20}))
		info, err := client.DescribeKey(ctx, "imported")
		must(t, err)
		if info.Name != "imported" || info.Algorithm != kes.ChaCha20 || info.CreatedBy.String() != app.id || info.CreatedAt.IsZero() {
			t.Fatalf("%+v", info)
		}
		dek, err := client.GenerateKey(ctx, "minio-a", []byte("context"))
		must(t, err)
		plain, err := client.Decrypt(ctx, "minio-a", dek.Ciphertext, []byte("context"))
		must(t, err)
		if !bytes.Equal(plain, dek.Plaintext) || len(plain) != 32 {
			t.Fatal("the data key does not come back")
		}
		if _, err = client.Decrypt(ctx, "minio-a", dek.Ciphertext, []byte("other")); !errors.Is(err, kes.ErrDecrypt) {
			t.Fatalf("a wrong context: %v", err)
		}
		if _, err = client.Decrypt(ctx, "imported", dek.Ciphertext, []byte("context")); !errors.Is(err, kes.ErrDecrypt) {
			t.Fatalf("another key: %v", err)
		}
		if _, err = client.GenerateKey(ctx, "minio-none", nil); !errors.Is(err, kes.ErrKeyNotFound) {
			t.Fatalf("an unknown key: %v", err)
		}
		big := bytes.Repeat([]byte("0123456789"), 74_000)
		sealed, err := client.Encrypt(ctx, "imported", big, nil)
		must(t, err)
		if len(sealed) != len(big)+44 {
			t.Fatalf("%d bytes became %d", len(big), len(sealed))
		}
		if plain, err = client.Decrypt(ctx, "imported", sealed[:500_000], nil); !errors.Is(err, kes.ErrDecrypt) {
			t.Fatalf("half a ciphertext: %d bytes, %v", len(plain), err)
		}
		small, err := client.Encrypt(ctx, "imported", big[:400_000], []byte("x"))
		must(t, err)
		plain, err = client.Decrypt(ctx, "imported", small, []byte("x"))
		must(t, err)
		if !bytes.Equal(plain, big[:400_000]) {
			t.Fatal("400,000 bytes do not come back")
		}
		first, err := client.HMAC(ctx, "minio-a", []byte("message"))
		must(t, err)
		second, err := client.HMAC(ctx, "minio-a", []byte("message"))
		must(t, err)
		if len(first) != 32 || !bytes.Equal(first, second) {
			t.Fatal("HMACs differ")
		}
		if err = client.CreateKey(ctx, "denied-x"); !errors.Is(err, kes.ErrNotAllowed) {
			t.Fatalf("a denied path: %v", err)
		}
		limited := s.client(guest, protocol)
		if err = limited.CreateKey(ctx, "minio-b"); !errors.Is(err, kes.ErrNotAllowed) {
			t.Fatalf("a path that is not allowed: %v", err)
		}
		if _, err = limited.GenerateKey(ctx, "minio-a", nil); err != nil {
			t.Fatal(err)
		}
		if _, err = s.client(newIdentity(t), protocol).GenerateKey(ctx, "minio-a", nil); !errors.Is(err, kes.ErrNotAllowed) {
			t.Fatalf("a stranger: %v", err)
		}
		must(t, client.DeleteKey(ctx, "imported"))
		if err = client.DeleteKey(ctx, "imported"); !errors.Is(err, kes.ErrKeyNotFound) {
			t.Fatalf("deleting a key twice: %v", err)
		}
	})
}

func TestAllKeysAreListed(t *testing.T) {
	both(t, func(t *testing.T, protocol string) {
		s, _, app, _ := house(t)
		ctx, client := context.Background(), s.client(app, protocol)
		var want []string
		for i := range 1500 {
			want = append(want, fmt.Sprintf("list-%04d", i))
		}
		parallel(t, 16, want, func(name string) error { return client.CreateKey(ctx, name) })
		must(t, client.CreateKey(ctx, "other"))
		iter := &kes.ListIter[string]{NextFunc: client.ListKeys}
		var got []string
		for name, err := iter.Next(ctx); err == nil; name, err = iter.Next(ctx) {
			got = append(got, name)
		}
		if !slices.Equal(got, append(slices.Clone(want), "other")) {
			t.Fatalf("%d keys of %d are listed", len(got), len(want)+1)
		}
		for prefix, count := range map[string]int{"list-000": 10, "list-14*": 100, "o": 1, "none": 0, "*": 1501} {
			names, next, err := client.ListKeys(ctx, prefix, -1)
			must(t, err)
			if len(names) != count || next != "" {
				t.Fatalf("prefix %q: %d names, next %q", prefix, len(names), next)
			}
		}
	})
}

func parallel(t *testing.T, workers int, names []string, do func(string) error) {
	t.Helper()
	jobs := make(chan string)
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for name := range jobs {
				if err := do(name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}()
	}
	for _, name := range names {
		jobs <- name
	}
	close(jobs)
	wg.Wait()
}

func TestManyCallersShareOneClient(t *testing.T) {
	both(t, func(t *testing.T, protocol string) {
		s, _, app, _ := house(t)
		ctx, client := context.Background(), s.client(app, protocol)
		must(t, client.CreateKey(ctx, "minio-a"))
		parallel(t, 64, make([]string, 3000), func(string) error {
			dek, err := client.GenerateKey(ctx, "minio-a", []byte("c"))
			if err != nil {
				return err
			}
			plain, err := client.Decrypt(ctx, "minio-a", dek.Ciphertext, []byte("c"))
			if err == nil && !bytes.Equal(plain, dek.Plaintext) {
				err = errors.New("another data key came back")
			}
			return err
		})
	})
}

func TestTheServerDescribesItself(t *testing.T) {
	both(t, func(t *testing.T, protocol string) {
		s, admin, app, _ := house(t)
		ctx, client := context.Background(), s.client(app, protocol)
		version, err := client.Version(ctx)
		must(t, err)
		if version == "" {
			t.Fatal("no version")
		}
		if ready, err := client.IsReady(ctx); err != nil || !ready {
			t.Fatalf("not ready: %v", err)
		}
		state, err := client.Status(ctx)
		must(t, err)
		if state.OS != "linux" || state.CPUs < 1 || state.KeyStoreLatency <= 0 {
			t.Fatalf("%+v", state)
		}
		apis, err := client.APIs(ctx)
		must(t, err)
		if len(apis) < 20 {
			t.Fatalf("%d routes", len(apis))
		}
		metrics, err := client.Metrics(ctx)
		must(t, err)
		if metrics.UpTime < 0 || metrics.CPUs < 1 || metrics.Threads < 1 {
			t.Fatalf("%+v", metrics)
		}
		names, _, err := client.ListPolicies(ctx, "", -1)
		must(t, err)
		if !slices.Equal(names, []string{"app", "guest"}) {
			t.Fatalf("%v", names)
		}
		policy, err := client.GetPolicy(ctx, "app")
		must(t, err)
		if _, ok := policy.Allow["/v1/*"]; !ok || len(policy.Deny) != 1 || policy.CreatedBy.String() != admin.id {
			t.Fatalf("%+v", policy)
		}
		identities, _, err := client.ListIdentities(ctx, "", -1)
		must(t, err)
		if len(identities) != 3 {
			t.Fatalf("%v", identities)
		}
		described, err := client.DescribeIdentity(ctx, app.key.Identity())
		must(t, err)
		if described.Policy != "app" || described.IsAdmin {
			t.Fatalf("%+v", described)
		}
		self, own, err := client.DescribeSelf(ctx)
		must(t, err)
		if self.Identity.String() != app.id || self.Policy != "app" || self.IsAdmin || len(own.Allow) != 1 {
			t.Fatalf("%+v %+v", self, own)
		}
		self, _, err = s.client(admin, protocol).DescribeSelf(ctx)
		must(t, err)
		if !self.IsAdmin {
			t.Fatalf("%+v", self)
		}
	})
}

func TestRepliesByteForByte(t *testing.T) {
	both(t, func(t *testing.T, protocol string) {
		s, _, app, guest := house(t)
		client := noRedirects(s.transport(app, protocol))
		resp, body := s.raw(client, "GET", "/v1/key/describe/none", "")
		if resp.StatusCode != 404 || body != "{\"message\":\"key does not exist\"\n}" || resp.ContentLength != 33 || resp.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%v %q", resp, body)
		}
		if (protocol == "h2") != (resp.ProtoMajor == 2) {
			t.Fatal(resp.Proto)
		}
		resp, body = s.raw(client, "GET", "/v1/key/create/x", "")
		if resp.StatusCode != 405 || resp.Header.Get("Accept") != "PUT" || body != "{\"message\":\"received method 'GET' expected 'PUT'\"\n}" {
			t.Fatalf("%v %q", resp, body)
		}
		resp, body = s.raw(client, "GET", "/v1/nothing", "")
		if resp.StatusCode != 404 || body != "404 page not found\n" || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Fatalf("%v %q", resp, body)
		}
		resp, body = s.raw(client, "GET", "/v1/key/list", "")
		if resp.StatusCode != 307 || resp.Header.Get("Location") != "/v1/key/list/" || body != "<a href=\"/v1/key/list/\">Temporary Redirect</a>.\n\n" {
			t.Fatalf("%v %q", resp, body)
		}
		resp, body = s.raw(noRedirects(s.transport(guest, protocol)), "PUT", "/v1/key/create/a.b", "{}")
		if resp.StatusCode != 403 || body != "{\"message\":\"not authorized: insufficient permissions\"\n}" {
			t.Fatalf("%v %q", resp, body)
		}
		resp, body = s.raw(client, "HEAD", "/version", "")
		if resp.StatusCode != 405 || body != "" {
			t.Fatalf("%v %q", resp, body)
		}
		resp, body = s.raw(client, "POST", "/v1/key/create/made", "")
		if resp.StatusCode != 200 || body != "" || resp.Header.Get("Content-Type") != "" || resp.ContentLength != 0 {
			t.Fatalf("%v %q", resp, body)
		}
		million := strings.Repeat(" ", 999_998)
		if resp, _ = s.raw(client, "PUT", "/v1/key/encrypt/made", "{"+million+"}"); resp.StatusCode != 200 {
			t.Fatalf("a body of a million bytes: %v", resp)
		}
		if resp, body = s.raw(client, "PUT", "/v1/key/encrypt/made", "{"+million+" }"); resp.StatusCode != 400 || !strings.Contains(body, "invalid request body") {
			t.Fatalf("one byte more: %v %q", resp, body)
		}
	})
}

func TestKeysSurviveARestartAndAreSealedOnDisk(t *testing.T) {
	s, _, app, _ := house(t)
	ctx := context.Background()
	client := s.client(app, "h2")
	must(t, client.CreateKey(ctx, "minio-a"))
	dek, err := client.GenerateKey(ctx, "minio-a", nil)
	must(t, err)
	file, err := os.ReadFile(filepath.Join(s.dir, "keys", "minio-a"))
	must(t, err)
	if !bytes.HasPrefix(file, []byte("kes-sealed v1 ")) || bytes.Contains(file, []byte("CiQKI")) {
		t.Fatalf("not sealed: %q", file)
	}
	s.stop()
	s = start(t, s.dir)
	plain, err := s.client(app, "http/1.1").Decrypt(ctx, "minio-a", dek.Ciphertext, nil)
	must(t, err)
	if !bytes.Equal(plain, dek.Plaintext) {
		t.Fatal("another data key came back")
	}
	s.stop()
}

func TestReloadIsAllOrNothing(t *testing.T) {
	s, admin, app, guest := house(t)
	ctx := context.Background()
	must(t, s.client(app, "h2").CreateKey(ctx, "minio-a"))
	limited := s.client(guest, "h2")
	if _, err := limited.DescribeKey(ctx, "minio-a"); !errors.Is(err, kes.ErrNotAllowed) {
		t.Fatal(err)
	}
	config(t, s.dir, admin.id, policies(app, guest, "/v1/key/describe/*")+"keys: [ { name: predefined } ]\n")
	must(t, s.cmd.Process.Signal(syscall.SIGHUP))
	s.waitFor("=> Reloading configuration after SIGHUP signal completed.")
	if _, err := limited.DescribeKey(ctx, "predefined"); err != nil {
		t.Fatal(err)
	}
	if _, err := limited.GenerateKey(ctx, "minio-a", nil); !errors.Is(err, kes.ErrNotAllowed) {
		t.Fatal("the old policy is still in force")
	}
	config(t, s.dir, admin.id, "policy: { app: { allow: 7 } }\n")
	must(t, s.cmd.Process.Signal(syscall.SIGHUP))
	s.waitFor("Failed to reload server config: config.yml:")
	if _, err := limited.DescribeKey(ctx, "minio-a"); err != nil {
		t.Fatal(err)
	}
	s.stop()
}

func TestCertificateFilesAndAPIKeysIdentifyAClient(t *testing.T) {
	dir := newDir(t)
	if _, errs, code := kesIn(t, dir, "identity", "new", "--key=client.key", "--cert=client.crt", "MinIO"); code != 0 {
		t.Fatal(errs)
	}
	id, _, _ := kesIn(t, dir, "identity", "of", "client.crt")
	key, _, _ := kesIn(t, dir, "identity", "client.key")
	config(t, dir, "disabled", fmt.Sprintf("policy: { app: { allow: ['/v1/status'], identities: [%s] } }\n", strings.TrimSpace(id)))
	s := start(t, dir)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	must(t, err)
	if _, err = kes.NewClientWithConfig("https://"+s.addr, s.tls(pair)).Status(context.Background()); err != nil {
		t.Fatal(err)
	}
	parsed, err := kes.ParseAPIKey(strings.TrimSpace(key))
	must(t, err)
	if _, err = s.client(identity{parsed, ""}, "h2").Status(context.Background()); err != nil {
		t.Fatal(err)
	}
}

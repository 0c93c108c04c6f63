package sdk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/kms-go/kes"
)

func TestAuditAndErrorLogDeliverRealEvents(t *testing.T) {
	both(t, func(t *testing.T, protocol string) {
		s, _, app, guest := house(t)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		client := s.client(app, protocol)

		audit, err := client.AuditLog(ctx)
		must(t, err)
		errors, err := client.ErrorLog(ctx)
		must(t, err)
		if _, err = s.client(guest, protocol).AuditLog(ctx); err != kes.ErrNotAllowed {
			t.Fatalf("a guest reads the audit log: %v", err)
		}

		before := time.Now().Add(-time.Minute)
		must(t, client.CreateKey(ctx, "minio-a"))
		must(t, client.ImportKey(ctx, "minio-b", &kes.ImportKeyRequest{Key: make([]byte, 32), Cipher: kes.AES256}))
		must(t, client.DeleteKey(ctx, "minio-a"))
		for _, path := range []string{"/v1/key/create/minio-a", "/v1/key/import/minio-b", "/v1/key/delete/minio-a"} {
			if !audit.Next() {
				t.Fatalf("no event for %s: %v", path, audit.Close())
			}
			event := audit.Event()
			if event.APIPath != path || event.StatusCode != 200 || event.ClientIdentity.String() != app.id ||
				event.ClientIP.String() != "127.0.0.1" || event.Timestamp.Before(before) {
				t.Fatalf("%+v", event)
			}
		}

		raw := noRedirects(s.transport(app, protocol))
		if resp, _ := s.raw(raw, "PUT", "/v1/key/encrypt/minio-b", "junk"); resp.StatusCode != 400 {
			t.Fatal(resp.Status)
		}
		if !errors.Next() {
			t.Fatalf("no event: %v", errors.Close())
		}
		message := errors.Message()
		for _, part := range []string{"level=ERROR msg=", "req.method=PUT req.path=/v1/key/encrypt/minio-b req.ip=127.0.0.1 req.identity=" + app.id} {
			if !strings.Contains(message, part) {
				t.Fatalf("no %q in %q", part, message)
			}
		}

		metrics, err := client.Metrics(ctx)
		must(t, err)
		if metrics.AuditEvents != 3 || metrics.ErrorEvents != 1 {
			t.Fatalf("%+v", metrics)
		}
		// Many readers at once, of which some leave without a word.
		var readers []*kes.AuditStream
		for i := range 8 {
			reader, err := s.client(app, protocol).AuditLog(ctx)
			must(t, err)
			if i%2 == 1 {
				must(t, reader.Close())
				continue
			}
			readers = append(readers, reader)
		}
		must(t, client.CreateKey(ctx, "minio-c"))
		for _, reader := range readers {
			if !reader.Next() || reader.Event().APIPath != "/v1/key/create/minio-c" {
				t.Fatalf("%+v %v", reader.Event(), reader.Close())
			}
		}
		s.stop()
		if errors.Next() {
			t.Fatalf("an event after the end: %q", errors.Message())
		}
	})
}

func TestThousandsOfKeysAreListed(t *testing.T) {
	const count = 5000
	s, _, app, _ := house(t)
	ctx, client := context.Background(), s.client(app, "h2")
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("minio-key-%05d", i))
	}
	var wg sync.WaitGroup
	for part := range slices.Chunk(names, count/8) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for _, name := range part {
				if err := client.CreateKey(ctx, name); err != nil {
					t.Error(name, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	both(t, func(t *testing.T, protocol string) {
		client := s.client(app, protocol)
		listed, next, err := client.ListKeys(ctx, "", -1)
		must(t, err)
		if next != "" || !slices.Equal(listed, names) {
			t.Fatalf("%d of %d keys, then %q", len(listed), count, next)
		}
		// As the SDK's iterator reads: a page, and then from the name that it was told.
		iter := kes.ListIter[string]{NextFunc: client.ListKeys}
		for i := range count {
			name, err := iter.Next(ctx)
			if err != nil || name != names[i] {
				t.Fatalf("%d: %q, %v", i, name, err)
			}
		}
		listed, _, err = client.ListKeys(ctx, "minio-key-0123*", -1)
		must(t, err)
		if !slices.Equal(listed, names[1230:1240]) {
			t.Fatal(listed)
		}
	})
}

func TestStatusWhileTheStoreIsAway(t *testing.T) {
	both(t, func(t *testing.T, protocol string) {
		s, _, app, _ := house(t)
		ctx, client := context.Background(), s.client(app, protocol)
		must(t, client.CreateKey(ctx, "minio-a"))
		state, err := client.Status(ctx)
		must(t, err)
		if !state.KeyStoreReachable || !state.KeystoreAvailable || state.KeyStoreLatency <= 0 {
			t.Fatalf("%+v", state)
		}
		keys, away := filepath.Join(s.dir, "keys"), filepath.Join(s.dir, "away")
		must(t, os.Rename(keys, away))
		// MinIO takes this very error for an endpoint that is offline.
		if _, err = client.Status(ctx); err == nil || err.Error() != "kes: keystore is unreachable but not unavailable" {
			t.Fatal(err)
		}
		if _, err = client.IsReady(ctx); err == nil || err.Error() != "key store is not reachable" {
			t.Fatal(err)
		}
		must(t, os.Rename(away, keys))
		if _, err = client.Status(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// With an offline expiry the cache goes on serving while the store is away, and the server knows that it is.
func TestCachedKeysServeWhileTheStoreIsAway(t *testing.T) {
	dir := newDir(t)
	app, guest := newIdentity(t), newIdentity(t)
	config(t, dir, "disabled", policies(app, guest, "/v1/*")+"cache: { expiry: { any: 3s, unused: 2s, offline: 1h } }\n")
	s := start(t, dir)
	ctx, client := context.Background(), s.client(app, "h2")
	must(t, client.CreateKey(ctx, "minio-a"))
	_, err := client.GenerateKey(ctx, "minio-a", nil)
	must(t, err)
	must(t, os.Rename(filepath.Join(dir, "keys"), filepath.Join(dir, "away")))
	// Used all the time, the key stays until the server has found out, every ten seconds, that the store is away.
	offline := func() bool {
		_, text := s.raw(noRedirects(s.transport(app, "h2")), "GET", "/v1/metrics", "")
		return strings.Contains(text, "\nkes_keystore_offline 1\n")
	}
	served := func() bool {
		_, err := client.GenerateKey(ctx, "minio-a", nil)
		return err == nil
	}
	for end := time.Now().Add(patience); !offline(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server does not notice that the store is away")
		}
		served()
	}
	if !served() {
		// The sweep of all keys came first: they return with the store, and are kept from then on.
		must(t, os.Rename(filepath.Join(dir, "away"), filepath.Join(dir, "keys")))
		if !served() {
			t.Fatal("the key does not come back")
		}
		must(t, os.Rename(filepath.Join(dir, "keys"), filepath.Join(dir, "away")))
	}
	if resp, text := s.raw(noRedirects(s.transport(app, "h2")), "GET", "/v1/ready", ""); resp.StatusCode != 504 || !strings.Contains(text, "key store is not reachable") {
		t.Fatal(resp.Status, text)
	}
	// Longer than both expiries that count while the store is there.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if !served() {
			t.Fatal("a cached key is not served while the store is away")
		}
	}
}

func TestAReloadKeepsLogReadersAndConnections(t *testing.T) {
	s, _, app, guest := house(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := s.client(app, "h2")
	audit, err := client.AuditLog(ctx)
	must(t, err)
	config(t, s.dir, "disabled", policies(app, guest, "/v1/status"))
	must(t, s.cmd.Process.Signal(syscall.SIGHUP))
	s.waitFor("after SIGHUP signal completed")
	must(t, client.CreateKey(ctx, "minio-after"))
	if !audit.Next() || audit.Event().APIPath != "/v1/key/create/minio-after" {
		t.Fatalf("%+v %v", audit.Event(), audit.Close())
	}
	if _, err = s.client(guest, "h2").Status(ctx); err != nil {
		t.Fatal(err)
	}
}

package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/kms-go/kes"
)

// Clients create a thousand keys in parallel, and the server is killed ten times while they do. Each key that was
// acknowledged is there afterwards and opens, and nothing that does not open is listed.
func TestNoAcknowledgedKeyIsLostWhenTheServerIsKilled(t *testing.T) {
	const rounds, total, clients = 10, 1000, 8
	dir, app := newDir(t), newIdentity(t)
	config(t, dir, "disabled", fmt.Sprintf("policy: { app: { allow: ['*'], identities: [%s] } }\n", app.id))
	ctx := context.Background()
	acknowledged := map[string]kes.DEK{}
	next := 0
	for round := range rounds {
		s := start(t, dir)
		var mu sync.Mutex
		var wg sync.WaitGroup
		var created, number atomic.Int64
		number.Store(int64(next))
		limit := int64(total / rounds * (round + 1))
		for i := range clients {
			wg.Add(1)
			go func() {
				defer wg.Done()
				client := s.client(app, protocols[i%2])
				for n := number.Add(1); n <= limit; n = number.Add(1) {
					name := fmt.Sprintf("crash-%04d", n)
					err := client.CreateKey(ctx, name)
					if err != nil && !errors.Is(err, kes.ErrKeyExists) {
						return // killed
					}
					mu.Lock()
					if _, ok := acknowledged[name]; !ok {
						acknowledged[name] = kes.DEK{}
					}
					mu.Unlock()
					created.Add(1)
					if dek, err := client.GenerateKey(ctx, name, nil); err == nil {
						mu.Lock()
						acknowledged[name] = dek
						mu.Unlock()
					}
				}
			}()
		}
		// Somewhere in the round; the last few requests are surely under way.
		for created.Load() < int64(total/rounds*3/4) {
		}
		s.kill()
		wg.Wait()
		next = int(limit)
	}
	s := start(t, dir)
	client := s.client(app, "h2")
	for name, dek := range acknowledged {
		if _, err := client.DescribeKey(ctx, name); err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
		}
		if dek.Ciphertext == nil {
			continue
		}
		plain, err := client.Decrypt(ctx, name, dek.Ciphertext, nil)
		if err != nil || !bytes.Equal(plain, dek.Plaintext) {
			t.Errorf("%s does not decrypt what it has encrypted: %v", name, err)
		}
	}
	names, _, err := client.ListKeys(ctx, "", -1)
	must(t, err)
	for _, name := range names {
		if _, err := client.DescribeKey(ctx, name); err != nil {
			t.Errorf("%s is listed and does not open: %v", name, err)
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "keys"))
	must(t, err)
	for _, file := range files {
		if !strings.HasPrefix(file.Name(), "crash-") && !strings.HasPrefix(file.Name(), ".") {
			t.Errorf("%s lies in the key directory", file.Name())
		}
	}
	t.Logf("%d keys acknowledged, %d listed", len(acknowledged), len(names))
	if len(acknowledged) < total/2 {
		t.Fatal("too few keys were created for the test to mean anything")
	}
}

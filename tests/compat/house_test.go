// Package compat asks any server of the KES protocol what the protocol's description says, row by row, over HTTP/1.1 and
// HTTP/2. By default it starts the program that KES_BIN names; README.md tells how to point it at another server.
package compat

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Nothing that a test waits for takes this long.
const patience = 60 * time.Second

// The server that most rows ask: its address, the folder with everybody's certificates, and the process if it is ours.
var (
	address string
	folder  string
	own     *process
)

func TestMain(m *testing.M) {
	if prepared := os.Getenv("KES_COMPAT_PREPARE"); prepared != "" {
		prepare(prepared, "127.0.0.1:7373")
		fmt.Printf("prepared %s: start the server there with --config config.yml\n", prepared)
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	address, folder = os.Getenv("KES_COMPAT_ADDRESS"), os.Getenv("KES_COMPAT_DIR")
	if address == "" {
		var err error
		folder, err = os.MkdirTemp("", "kes-compat-")
		check(err)
		defer os.RemoveAll(folder)
		prepare(folder, "127.0.0.1:0")
		own = startIn(folder)
		defer own.kill()
		address = own.address
	}
	code := m.Run()
	fmt.Printf("compat: %d rows\n", counted())
	return code
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needsOwn skips what only works with a server that these tests start and stop themselves.
func needsOwn(t *testing.T) {
	if own == nil {
		t.Skip("needs a server of the tests' own")
	}
}

// pair is a key with a certificate.
type pair struct {
	der []byte
	key crypto.Signer
	id  string
}

var serial = int64(1000)

// newPair makes a certificate for key, signed by issuer or by itself.
func newPair(name string, key crypto.Signer, issuer *pair, change func(*x509.Certificate)) *pair {
	serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if issuer != nil {
		var err error
		parent, err = x509.ParseCertificate(issuer.der)
		check(err)
		signer = issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return &pair{der, key, hex.EncodeToString(sum[:])}
}

func ed() crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	return key
}

func ec() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	return key
}

// save writes NAME.key and NAME.crt, with further certificates behind the first.
func (p *pair) save(dir, name string, more ...*pair) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	check(err)
	check(os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	var chain bytes.Buffer
	for _, one := range append([]*pair{p}, more...) {
		check(pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: one.der}))
	}
	check(os.WriteFile(filepath.Join(dir, name+".crt"), chain.Bytes(), 0o600))
}

// ids are the identities by name, as prepare has written them down.
func ids() map[string]string {
	text, err := os.ReadFile(filepath.Join(folder, "identities.json"))
	check(err)
	var all map[string]string
	check(json.Unmarshal(text, &all))
	return all
}

// prepare writes all that a server needs for these tests: certificates, configuration, and keys that were stored long ago.
func prepare(dir, listen string) {
	check(os.MkdirAll(filepath.Join(dir, "keys"), 0o755))
	all := map[string]string{}
	newPair("server", ec(), nil, nil).save(dir, "server")
	ca := newPair("ca", ec(), nil, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	})
	ca.save(dir, "ca")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(err)
	simple := func(name string, key crypto.Signer) *pair {
		p := newPair(name, key, nil, nil)
		p.save(dir, name)
		all[name] = p.id
		return p
	}
	app := simple("app", ed())
	simple("admin", ed())
	simple("guest", ed())
	simple("stranger", ed())
	simple("with-ec", ec())
	simple("with-rsa", rsaKey)
	newPair("leaf", app.key, ca, nil).save(dir, "with-ca", ca)
	app.save(dir, "two-leaves", simple("guest2", ed()))
	newPair("old", app.key, nil, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Unix(1e9, 0), time.Unix(1.1e9, 0) }).save(dir, "expired")
	newPair("none", app.key, nil, func(c *x509.Certificate) { c.BasicConstraintsValid = false }).save(dir, "no-constraints")
	for _, rule := range rules {
		simple(rule.who(), ed())
	}
	text, err := json.Marshal(all)
	check(err)
	check(os.WriteFile(filepath.Join(dir, "identities.json"), text, 0o600))
	check(os.WriteFile(filepath.Join(dir, "config.yml"), []byte(configuration(listen, all, "")), 0o600))
	for name, value := range storedKeys() {
		check(os.WriteFile(filepath.Join(dir, "keys", name), []byte(value), 0o600))
	}
}

// configuration is what the server runs with; more is added at its end.
func configuration(listen string, all map[string]string, more string) string {
	var c strings.Builder
	fmt.Fprintf(&c, "address: %s\nadmin: { identity: %s }\ntls: { key: server.key, cert: server.crt }\nkeystore: { fs: { path: ./keys } }\n", listen, all["admin"])
	fmt.Fprintf(&c, "policy:\n  app: { allow: ['/v1/*'], identities: [%s, %s, %s] }\n", all["app"], all["with-ec"], all["with-rsa"])
	fmt.Fprintf(&c, "  guest: { allow: ['/v1/ready'], deny: ['/v1/status'], identities: [%s] }\n  nobody: {}\n", all["guest"])
	for _, rule := range rules {
		fmt.Fprintf(&c, "  %s: { allow: %s, deny: %s, identities: [%s] }\n", rule.who(), list(rule.allow), list(rule.deny), all[rule.who()])
	}
	return c.String() + more
}

// list is a list of strings in YAML's flow form, which is also JSON.
func list(patterns []string) string {
	if patterns == nil {
		patterns = []string{}
	}
	text, err := json.Marshal(patterns)
	check(err)
	return string(text)
}

// storedKeys are the files of the key store that the vectors name.
func storedKeys() map[string]string {
	var file struct {
		Keys []struct{ Name, Stored string }
	}
	vectors("keys.json", &file)
	stored := map[string]string{}
	for _, key := range file.Keys {
		stored[key.Name] = key.Stored
	}
	return stored
}

func vectors(name string, into any) {
	text, err := os.ReadFile(filepath.Join("../vectors", name))
	check(err)
	check(json.Unmarshal(text, into))
}

// process is a server that these tests have started.
type process struct {
	cmd     *exec.Cmd
	address string
	mu      sync.Mutex
	out     bytes.Buffer
	done    chan struct{}
}

func program() string {
	bin := os.Getenv("KES_BIN")
	if bin == "" {
		bin = "../../target/release/kes"
	}
	bin, err := filepath.Abs(bin)
	check(err)
	return bin
}

// startIn starts a server with the config.yml of dir and waits until it is up.
func startIn(dir string) *process {
	p := &process{cmd: exec.Command(program(), "server", "--config", "config.yml"), done: make(chan struct{})}
	p.cmd.Dir = dir
	out, err := p.cmd.StdoutPipe()
	check(err)
	p.cmd.Stderr = p.cmd.Stdout
	check(p.cmd.Start())
	up := make(chan string, 1)
	go func() {
		found := ""
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "https://127.0.0.1:"); ok && found == "" {
				found = "127.0.0.1:" + strings.TrimSpace(rest)
			}
			if strings.Contains(lines.Text(), "up and running") {
				up <- found
			}
			p.mu.Lock()
			p.out.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
		}
		p.cmd.Wait()
		close(p.done)
	}()
	select {
	case p.address = <-up:
	case <-p.done:
		panic("the server ends:\n" + p.printed())
	case <-time.After(patience):
		panic("the server does not start:\n" + p.printed())
	}
	return p
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// waitFor waits until the server has printed text at least count times.
func (p *process) waitFor(t *testing.T, text string, count int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if strings.Count(p.printed(), text) >= count {
			return
		}
	}
	t.Fatalf("no %q:\n%s", text, p.printed())
}

func (p *process) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	must(t, p.cmd.Process.Signal(signal))
}

// ends waits for the end of the process and returns its exit status.
func (p *process) ends(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatal("the server does not end")
		return -1
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// another starts a second server of its own, with a configuration that change makes of the usual one.
func another(t *testing.T, change func(string) string) (*process, string) {
	t.Helper()
	needsOwn(t)
	dir := t.TempDir()
	check(os.CopyFS(dir, os.DirFS(folder)))
	check(os.RemoveAll(filepath.Join(dir, "keys")))
	check(os.RemoveAll(filepath.Join(dir, "keys.seal")))
	check(os.WriteFile(filepath.Join(dir, "config.yml"), []byte(change(configuration("127.0.0.1:0", ids(), ""))), 0o600))
	p := startIn(dir)
	t.Cleanup(p.kill)
	return p, dir
}

// tlsConfig is that of a client that is name, or nobody.
func tlsConfig(name string) *tls.Config {
	text, err := os.ReadFile(filepath.Join(folder, "server.crt"))
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	config := &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if name != "-" {
		cert, err := tls.LoadX509KeyPair(filepath.Join(folder, name+".crt"), filepath.Join(folder, name+".key"))
		check(err)
		config.Certificates = []tls.Certificate{cert}
	}
	return config
}

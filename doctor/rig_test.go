package doctor_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/doctor"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// rig is a cluster, healthy at first, that cases break and mend.
type rig struct {
	*lab.Lab
	t   *testing.T
	dir string // of the lab
}

func newRig(t *testing.T) *rig {
	t.Helper()
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ovs-ofctl", "ip", "setpriv")
	name := fmt.Sprintf("doc%d", os.Getpid())
	l, err := lab.Up(t.Context(), lab.Options{Name: name, Switch: lab.SwitchOVS, Dispatchers: 1, Servers: 1, TLS: true, Binary: binary})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(t.Context()); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Error(err)
		}
		if _, err := lab.Remove(contextOf(t), name); err != nil {
			t.Error(err)
		}
	})
	return &rig{l, t, filepath.Join("/run/shunt/lab", name)}
}

// file is a host's configuration.
func (r *rig) file(host string) string { return filepath.Join(r.dir, host, "config.yaml") }

// in runs a command on a host.
func (r *rig) in(host, command string) {
	r.t.Helper()
	if out, err := r.Exec(r.t.Context(), host, "sh", "-ec", command); err != nil {
		r.t.Fatalf("%s: %s: %v\n%s", host, command, err, out)
	}
}

func (r *rig) vsctl(args ...string) {
	r.t.Helper()
	args = append([]string{"--timeout=10", "--db=unix:" + r.dir + "/ovs/db.sock"}, args...)
	if out, err := exec.CommandContext(r.t.Context(), "ovs-vsctl", args...).CombinedOutput(); err != nil {
		r.t.Fatalf("ovs-vsctl %v: %v\n%s", args, err, out)
	}
}

func (r *rig) ofctl(args ...string) {
	r.t.Helper()
	if out, err := exec.CommandContext(r.t.Context(), "ovs-ofctl", append([]string{"-O", "OpenFlow13"}, args...)...).CombinedOutput(); err != nil {
		r.t.Fatalf("ovs-ofctl %v: %v\n%s", args, err, out)
	}
}

func (r *rig) management() string { return "unix:" + r.dir + "/ovs/br0.mgmt" }

// examine runs the doctor on a host, with words before the program if need be.
// It checks that the exit status agrees with the report.
func (r *rig) examine(host string, wrapper []string, args ...string) doctor.Report {
	r.t.Helper()
	command := append(append(slices.Clone(wrapper), binary, "doctor", "-o", "json"), args...)
	out, err := r.Exec(r.t.Context(), host, command...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatalf("%v: %v\n%s", command, err, out)
	}
	var report doctor.Report
	if jerr := json.Unmarshal(out[max(0, bytes.IndexByte(out, '[')):], &report); jerr != nil {
		r.t.Fatalf("%v: %v (%v)\n%s", command, jerr, err, out)
	}
	want := 0
	if report.Failed() {
		want = 1
	}
	if got := status(err); got != want {
		r.t.Errorf("exit status %d of a report that failed: %v", got, report.Failed())
	}
	return report
}

func status(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// start starts a daemon of the lab again and waits until the cluster is whole.
func (r *rig) start(host, name string) {
	r.t.Helper()
	if err := r.Start(host, name); err != nil {
		r.t.Fatal(err)
	}
	r.whole()
}

func (r *rig) kill(host, name string) {
	r.t.Helper()
	if err := r.Signal(host, name, unix.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	if err := r.WaitExit(r.t.Context(), host, name); err != nil {
		r.t.Fatal(err)
	}
}

// whole waits until all nodes and the switch are connected.
func (r *rig) whole() {
	r.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; <-time.After(50 * time.Millisecond) {
		out, err := r.Exec(r.t.Context(), "controller", binary, "status")
		if err == nil && !strings.Contains(string(out), "down") && strings.Contains(string(out), " connected") && strings.Count(string(out), " up,") == 2 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the cluster is not whole again: %v\n%s", err, out)
		}
	}
}

// listen opens a listener on a host until close is called.
func (r *rig) listen(host, address string, mptcp bool) (end func()) {
	r.t.Helper()
	var l net.Listener
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		err := r.Do(host, func() (err error) {
			var lc net.ListenConfig
			lc.SetMultipathTCP(mptcp)
			l, err = lc.Listen(r.t.Context(), "tcp4", address)
			return err
		})
		if err == nil {
			return func() { l.Close() }
		}
		if time.Now().After(deadline) { // what a killed process had may take a moment to go
			r.t.Fatal(err)
		}
	}
}

// edited writes a configuration with a part replaced and returns its path.
func (r *rig) edited(host, old, with string) string {
	r.t.Helper()
	b, err := os.ReadFile(r.file(host))
	if err != nil {
		r.t.Fatal(err)
	}
	text := strings.Replace(string(b), old, with, 1)
	if text == string(b) {
		r.t.Fatalf("%q is not in\n%s", old, b)
	}
	path := filepath.Join(r.t.TempDir(), host+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// certificate makes an authority and a certificate of it, and returns the path
// of a configuration of the host that uses them.
func (r *rig) certificate(host string, change func(*x509.Certificate)) string {
	r.t.Helper()
	dir := r.t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: now.Add(-1000 * time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(900 * time.Hour),
		DNSNames: []string{host}, IPAddresses: []net.IP{net.ParseIP("10.99.0.11"), net.ParseIP("10.99.0.101")},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	change(leaf)
	write := func(name, kind string, der []byte, err error) string {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			r.t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	caFile := write("ca.pem", "CERTIFICATE", caDER, err)
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	cert := write("cert.pem", "CERTIFICATE", der, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	keyFile := write("key.pem", "EC PRIVATE KEY", keyDER, err)

	b, err := os.ReadFile(r.file(host))
	if err != nil {
		r.t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(b), "tls:")
	text += fmt.Sprintf("tls: {cert: %q, key: %q, ca: %q}\n", cert, keyFile, caFile)
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return path
}

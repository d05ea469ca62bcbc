package openflow_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	of "github.com/shunt-sdn/shunt/controller/openflow"
)

func TestHandshakesThatFailSayWhy(t *testing.T) {
	early := func(p *peer, m of.Message) {
		p.expect(of.TypeHello)
		p.send(m)
	}
	for name, tt := range map[string]struct {
		play func(p *peer)
		want string
	}{
		"only 1.0": {func(p *peer) {
			early(p, of.Message{1, 0, 0, 8, 0, 0, 0, 1})
			e, err := of.ParseErrorMessage(p.expect(of.TypeError))
			if err != nil || of.MakeCode(e.Type, e.Code) != of.HelloIncompatible || !strings.Contains(string(e.Data), "1.3 only") {
				p.t.Errorf("told %+v, %v", e, err)
			}
		}, "wire version 1 but not OpenFlow 1.3"},
		"1.4 and a bitmap without 1.3": {func(p *peer) {
			early(p, of.Message{5, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x20})
			p.expect(of.TypeError)
		}, "protocols=OpenFlow13"},
		"not a HELLO": {func(p *peer) {
			early(p, of.EncodeBarrierReply(6))
			p.expect(of.TypeError)
		}, "first message is BARRIER_REPLY"},
		"not OpenFlow": {func(p *peer) { early(p, of.Message("GET / HTTP/1.1\r\n")); p.expect(of.TypeError) }, "length 21536 exceeds"},
		"corrupt":      {func(p *peer) { early(p, of.Message("\x04\x00\x00\x01\x00\x00\x00\x01")); p.expect(of.TypeError) }, "length 1 is less"},
		"our version refused": {func(p *peer) { early(p, of.EncodeError(1, of.HelloIncompatible, []byte("1.5 only"))) },
			`rejects OpenFlow 1.3: OFPHFC_INCOMPATIBLE: "1.5 only"`},
		"gone": {func(p *peer) { p.expect(of.TypeHello); p.nc.Close() }, "EOF"},
		"silent": {func(p *peer) {
			p.expect(of.TypeHello)
			_, _ = p.r.Next()
		}, "deadline exceeded"},
		"features refused": {func(p *peer) {
			early(p, of.EncodeHello(1))
			p.send(of.EncodeError(p.expect(of.TypeFeaturesRequest).Xid(), of.BadRequestBadType, nil))
		}, "FEATURES_REQUEST: OFPBRC_BAD_TYPE"},
		"auxiliary": {func(p *peer) {
			early(p, of.EncodeHello(1))
			p.send(of.EncodeFeaturesReply(p.expect(of.TypeFeaturesRequest).Xid(), of.Features{AuxiliaryID: 1}))
		}, "auxiliary connection 1"},
		"version changed": {func(p *peer) {
			early(p, of.EncodeHello(1))
			p.expect(of.TypeFeaturesRequest)
			p.send(of.Message{5, 6, 0, 8, 0, 0, 0, 2})
		}, "version 5 after HELLO"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				p := &peer{t: t, nc: far, r: of.NewReader(far, 0)}
				played := make(chan struct{})
				go func() {
					defer close(played)
					tt.play(p)
					for { // whatever else it says
						if _, err := p.r.Next(); err != nil {
							return
						}
					}
				}()
				c, err := of.Handshake(t.Context(), near, of.Config{})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, %v", c, err)
				}
				<-played // the connection is closed
			})
		})
	}
}

func TestASwitchWithoutADescriptionIsFine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		p := &peer{t: t, nc: far, r: of.NewReader(far, 0)}
		go func() {
			p.send(of.EncodeHello(1)) // before it has read ours
			p.expect(of.TypeHello)
			p.send(of.EncodeFeaturesReply(p.expect(of.TypeFeaturesRequest).Xid(), of.Features{DatapathID: 1}))
			m := p.expect(of.TypeMultipartRequest)
			p.send(of.EncodeError(m.Xid(), of.BadRequestBadStat, m))
			m = p.expect(of.TypeSetConfig)
			p.send(of.EncodeEchoRequest(77, nil), of.EncodeError(m.Xid(), of.BadRequestEperm, m))
			p.send(of.EncodePortStatus(0, of.PortStatus{Port: of.Port{No: 9}}))
			m = p.expect(of.TypeMultipartRequest)
			p.expect(of.TypeEchoReply)
			p.send(of.EncodeMultipartReply(m.Xid(), of.MultipartPortDesc)...)
		}()
		c, err := of.Handshake(t.Context(), near, of.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Ports()) != 1 || c.Description() != (of.Desc{}) {
			t.Errorf("%v %v", c.Ports(), c.Description())
		}
		c.Close()
	})
}

func TestHandshakeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := of.Handshake(ctx, near, of.Config{}); err == nil || time.Since(start) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestDialAndListen(t *testing.T) {
	cert := certificate(t)
	server := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	client := &tls.Config{RootCAs: roots, ServerName: "switch", MinVersion: tls.VersionTLS13}

	unix := filepath.Join(t.TempDir(), "s")
	ul, err := net.Listen("unix", unix)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := of.Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	secure, err := of.Listen("[::1]:0", server)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{ul, plain, secure} {
		defer l.Close()
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = nc.Write([]byte("hi")); nc.Close() }()
			}
		}()
	}
	for target, want := range map[string]string{
		"unix:" + unix:                  "hi",
		"tcp:" + plain.Addr().String():  "hi",
		"ssl:" + secure.Addr().String(): "hi",
		"unix:" + unix + "-not":         "no such file",
		"tcp:127.0.0.1:1":               "refused",
		"ssl:" + plain.Addr().String():  "dial the OpenFlow switch",
		"ptcp:1":                        `unknown kind of target "ptcp"`,
		"tcp:":                          "want",
		"":                              "want",
		"127.0.0.1":                     "want",
	} {
		nc, err := of.Dial(t.Context(), target, client)
		got := ""
		if err == nil {
			b := make([]byte, 2)
			if _, err = nc.Read(b); err == nil {
				got = string(b)
			}
			nc.Close()
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
	if _, err := of.Dial(t.Context(), "ssl:127.0.0.1:1", nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("ssl without a configuration: %v", err)
	}
	if _, err := of.Listen("192.0.2.77:6653", nil); err == nil || !strings.Contains(err.Error(), "192.0.2.77") {
		t.Errorf("listen on another's address: %v", err)
	}
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"switch"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

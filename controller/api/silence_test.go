package api

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
)

const silence = 2 * time.Second

// silent is a connection that can be cut without a word, as by a power failure.
type silent struct {
	net.Conn
	cut <-chan struct{}
}

func (s silent) Write(p []byte) (int, error) {
	select {
	case <-s.cut:
		return len(p), nil
	default:
		return s.Conn.Write(p)
	}
}

func TestAnAgentThatHangsIsNoticedInSeconds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := recorder()
	run(t, New(nil, silence, r, ops{}, slog.New(slog.DiscardHandler)), l, nil)
	cut := make(chan struct{})
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			return silent{c, cut}, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	attach(t, conn, "a")
	begun := time.Now()
	close(cut)
	r.saw(t, "a leave") // its kernel is there
	if took := time.Since(begun); took > silence+2*time.Second {
		t.Errorf("noticed after %v", took)
	}
}

func TestAHostThatDiesIsSilent(t *testing.T) {
	ca := tlstest.NewCA(t)
	server, err := ca.Files(t, "controller", "10.9.0.1").Server()
	if err != nil {
		t.Fatal(err)
	}
	agent, err := ca.Files(t, "a").Client("10.9.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("in clear text", func(t *testing.T) { dies(t, nil, insecure.NewCredentials()) })
	t.Run("over TLS", func(t *testing.T) { dies(t, server, credentials.NewTLS(agent)) })
}

func dies(t *testing.T, conf *tls.Config, creds credentials.TransportCredentials) {
	t.Parallel()
	testnet.NeedRoot(t)
	here, there := testnet.NewNS(t), testnet.NewNS(t)
	testnet.Veth(here, "eth0", there, "eth0")
	here.Addr("eth0", "10.9.0.1/24")
	there.Addr("eth0", "10.9.0.2/24")
	var l net.Listener
	here.Do(func() (err error) {
		l, err = net.Listen("tcp", "10.9.0.1:0")
		return err
	})
	r := recorder()
	run(t, New(conf, silence, r, ops{}, slog.New(slog.DiscardHandler)), l, nil)
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (c net.Conn, err error) {
			err = there.Try(func() (err error) {
				c, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
				return err
			})
			return c, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	attach(t, conn, "a")
	link, err := there.Link.LinkByName("eth0")
	if err == nil {
		err = there.Link.LinkSetDown(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	r.saw(t, "a leave, silent")
	if took := time.Since(begun); took > silence+2*time.Second {
		t.Errorf("noticed after %v", took)
	}
}

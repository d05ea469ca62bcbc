package lab

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/shunt-sdn/shunt/lab/app"
)

// AppBuiltin is the web server that comes with the lab. Options.App may also be
// one of RealServers.
const AppBuiltin = "builtin"

// Sizes of the documents /bytes/N that real servers have, octets; their content
// is app.Content. /zero/1000000000 is a sparse file.
var documentSizes = []int64{100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000}

const zeroSize = 1_000_000_000

// A realServer is an unmodified program that answers a lab's service with
// libshunt.so loaded, or through a relay. It runs in the foreground.
type realServer struct {
	program, remedy string
	template        string // in lab/servers; empty: it has no configuration file
	env             []string
	ownLog          bool // it writes its requests to standard output or error
	args            func(s site) []string
}

//go:embed servers
var serverTemplates embed.FS

// site is what a server's configuration says, on one host.
type site struct {
	Node      string
	Listen    []netip.AddrPort // IPv4, and perhaps IPv6
	Root      string           // of the documents
	Dir       string           // for its own files; it is its working directory
	Config    string
	AccessLog string
	ErrorLog  string
	MPM       string // Apache's
}

// Wildcard is what a server binds that takes one address for everything.
func (s site) Wildcard() string {
	if len(s.Listen) > 1 {
		return "::"
	}
	return s.Listen[0].Addr().String()
}

func (s site) Port() string { return strconv.Itoa(int(s.Listen[0].Port())) }

const debian = "on Debian: apt-get install --no-install-recommends "

var realServers = map[string]realServer{
	"nginx": {
		program: "nginx", remedy: debian + "nginx", template: "nginx.conf",
		args: func(s site) []string { return []string{"-c", s.Config, "-e", s.ErrorLog} },
	},
	"mini_httpd": {
		program: "mini_httpd", remedy: debian + "mini-httpd",
		args: func(s site) []string {
			args := []string{"-D", "-p", s.Port(), "-d", s.Root, "-l", s.AccessLog, "-i", filepath.Join(s.Dir, "mini_httpd.pid"), "-u", "www-data"}
			if len(s.Listen) == 1 {
				args = append(args, "-h", s.Wildcard())
			}
			return args
		},
	},
	"apache-event":   {program: "apache2", remedy: debian + "apache2-bin", template: "apache.conf", args: apacheArgs},
	"apache-prefork": {program: "apache2", remedy: debian + "apache2-bin", template: "apache.conf", args: apacheArgs},
	"lighttpd": {
		program: "lighttpd", remedy: debian + "lighttpd", template: "lighttpd.conf",
		args: func(s site) []string { return []string{"-D", "-f", s.Config} },
	},
	"python": {
		program: "python3", remedy: debian + "python3", env: []string{"PYTHONUNBUFFERED=1"}, ownLog: true,
		args: func(s site) []string {
			anywhere := "0.0.0.0" // it looks up the name of any other address, and nobody answers
			if len(s.Listen) > 1 {
				anywhere = "::"
			}
			return []string{"-m", "http.server", s.Port(), "--bind", anywhere, "--directory", s.Root}
		},
	},
	"node": {
		program: "node", remedy: debian + "nodejs", template: "server.js", ownLog: true,
		args: func(s site) []string { return []string{s.Config} },
	},
}

func apacheArgs(s site) []string { return []string{"-D", "FOREGROUND", "-f", s.Config} }

// RealServers are the values of Options.App beside AppBuiltin.
func RealServers() []string {
	var names []string
	for name := range realServers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// AccessLog is the file in which a host's real server of FirstService notes its
// requests.
func (l *Lab) AccessLog(host string) string {
	return l.accessLog(host, applications(l.st.Options)[0])
}

// AccessLogOf is the same for any of the lab's services.
func (l *Lab) AccessLogOf(host, service string) (string, error) {
	a, err := l.of(service)
	return l.accessLog(host, a), err
}

func (l *Lab) accessLog(host string, a application) string {
	if realServers[a.App].ownLog {
		return l.Log(host, a.daemon())
	}
	return l.paths.join("log", a.named(host)+"-access.log")
}

// Root is the directory of the documents of a host's real servers. What is
// uploaded is in its directory upload.
func (l *Lab) Root(host string) string { return l.paths.join(host, "www") }

// serverDaemon makes a real server's documents and configuration on a host, and
// returns the server.
func (l *Lab) serverDaemon(h Host, a application) (*daemon, error) {
	r := realServers[a.App]
	path, err := program(r.program, r.remedy)
	if err != nil {
		return nil, err
	}
	dir := l.paths.join(h.Name, a.named("server"))
	s := site{
		Node: h.Name, Root: l.Root(h.Name), Dir: dir, Config: filepath.Join(dir, "server.conf"),
		AccessLog: l.accessLog(h.Name, a), ErrorLog: l.paths.join("log", a.named(h.Name)+"-error.log"), MPM: strings.TrimPrefix(a.App, "apache-"),
	}
	for _, addr := range h.Addresses {
		s.Listen = append(s.Listen, netip.AddrPortFrom(addr, a.service.Port))
	}
	if err := l.makeRoot(h.Name); err != nil {
		return nil, err
	}
	if err := s.write(r.template); err != nil {
		return nil, err
	}
	d := &daemon{Host: h.Name, Name: a.daemon(), Args: append([]string{path}, r.args(s)...), Env: append(l.share(h.Name), r.env...)}
	if a.Attach == AttachPreload {
		d.Env = append(d.Env, a.preloadEnv(l, h)...)
	}
	return d, nil
}

// write makes the server's directory and its configuration in it.
func (s site) write(name string) error {
	if err := writable(s.Dir); err != nil {
		return err
	}
	// Some open their logs when they have no privileges any more.
	for _, log := range []string{s.AccessLog, s.ErrorLog} {
		err := os.WriteFile(log, nil, 0o666)
		if err == nil {
			err = os.Chmod(log, 0o666)
		}
		if err != nil {
			return fmt.Errorf("make a server's log: %w", err)
		}
	}
	if name == "" {
		return nil
	}
	t, err := template.ParseFS(serverTemplates, "servers/"+name)
	if err != nil {
		return fmt.Errorf("read the template of %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return fmt.Errorf("write the configuration of %s's server: %w", s.Node, err)
	}
	if err := os.WriteFile(s.Config, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the configuration of %s's server: %w", s.Node, err)
	}
	return nil
}

// writable makes a directory in which also a server without privileges writes.
func writable(dir string) error {
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		return fmt.Errorf("make a server's directory: %w", err)
	}
	return nil
}

// makeRoot makes a host's documents, once for all of its servers. All hosts share
// those that are alike.
func (l *Lab) makeRoot(host string) error {
	shared, root := l.paths.join("www"), l.Root(host)
	files := map[string]int64{"zero/" + strconv.Itoa(zeroSize): -1}
	for _, n := range documentSizes {
		files["bytes/"+strconv.FormatInt(n, 10)] = n
	}
	for name, n := range files {
		original, link := filepath.Join(shared, name), filepath.Join(root, name)
		for _, dir := range []string{filepath.Dir(original), filepath.Dir(link)} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make a server's documents: %w", err)
			}
		}
		if _, err := os.Stat(original); err != nil {
			if err := makeDocument(original, n); err != nil {
				return fmt.Errorf("make a server's documents: %w", err)
			}
		}
		if err := os.Link(original, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make a server's documents: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "whoami"), []byte(host+"\n"), 0o644); err != nil {
		return fmt.Errorf("make a server's documents: %w", err)
	}
	return writable(filepath.Join(root, "upload"))
}

// makeDocument writes n octets of content, or a sparse file if n is negative.
func makeDocument(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if n < 0 {
		err = f.Truncate(zeroSize)
	} else {
		_, err = io.Copy(f, app.NewContent(n))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/pages"
)

// notRun are the commands in the pages' blocks that no test runs as they stand,
// each with the reason and what is run in its stead.
var notRun = map[string]string{
	"make test":         "it is the run that this test is part of",
	"make compose-test": "`make test` ends with it",
	"ip link add server1 netns SWITCH type veth peer name data0 address 02:53:48:00:03:01 netns SERVER": "the reader fills in processes; deploy/compose/wire does the same in every run of make compose-test",
	"SHUNT_EBPF_CAPABILITY=BPF docker compose up -d":                                                    "Debian's Docker does not know the capability; the compose test has Compose evaluate the file with it",
}

// notRunInText are commands in the text, between backquotes, that are no
// command of shunt's (those are looked at word by word) and are in no block that
// is run.
var notRunInText = map[string]string{
	"make bench":                                "it measures, for minutes, on a machine that does nothing else; bench has tests of its own",
	"systemctl edit nginx":                      "it opens an editor",
	"tcpdump -ni eth0 host CLIENT":              "it runs until it is told to stop",
	"docker compose restart panel switch":       "the compose test kills the panel and the switch, and restarts them in this order",
	"docker inspect -f '{{.State.Pid}}'":        "it lacks a container, which the reader knows",
	"ovs-vsctl add-port br0 server1":            "deploy/compose/wire does it in every run of the compose test",
	"ip netns exec":                             "the lab's tests do it, as `shunt lab exec`",
	"go run ./packaging/mkpackages -arch arm64": "it compiles everything for another processor; the same without -arch is `make package`",
	"go test -bench . ./preload":                "it measures",
	"go test ./policy -bench .":                 "it measures",
}

// Every command that a page shows is run by a test, or is in a list that says
// why not.
func TestEveryCommandOfTheDocumentationIsRun(t *testing.T) {
	listed := make(map[string]bool)
	var run [][]string // words
	all := documentation(t)
	for _, p := range all {
		for _, b := range p.Blocks {
			switch {
			case b.Language == "":
				t.Errorf("%s: the block has no language; text if it has none", b.At())
			case b.Language == "logrotate": // packaging's TestGuide runs what it has logrotate run
			case !b.HasCommands():
				if line := command(b.Text); line != "" {
					t.Errorf("%s: %q is a command; its place is in a block of sh or console", b.At(), line)
				}
			case len(b.Places) == 0:
				for _, c := range b.Commands() {
					if listed[c] = true; notRun[c] == "" {
						t.Errorf("%s: %q is run nowhere: say after sh where, or here why not", b.At(), c)
					}
				}
			default:
				for _, place := range b.Places {
					if pages.Places[place] == "" {
						t.Errorf("%s: no test runs commands at %q", b.At(), place)
					}
				}
				for _, c := range b.Commands() {
					run = append(run, strings.Fields(c))
				}
			}
		}
	}
	for c := range notRun {
		if !listed[c] {
			t.Errorf("%q is listed and in no page", c)
		}
	}
	// Text may leave out words of a command that is in a block.
	isRun := func(c string) bool {
		return slices.ContainsFunc(run, func(words []string) bool {
			for _, w := range strings.Fields(c) {
				i := slices.Index(words, w)
				if i < 0 {
					return false
				}
				words = words[i+1:]
			}
			return true
		})
	}
	used := make(map[string]bool)
	for _, p := range all {
		for _, s := range p.Spans() {
			c := s.Text
			switch {
			case !isCommand(c) || isRun(c) || notRun[c] != "":
			case notRunInText[c] != "":
				used[c] = true
			case isTest(t, c):
			default:
				t.Errorf("%s:%d: %q is run nowhere", p.Path, s.Line, c)
			}
		}
	}
	for c := range notRunInText {
		if !used[c] {
			t.Errorf("%q is listed and in no page's text", c)
		}
	}
}

// programs are those that pages tell readers to run, beside shunt.
var programs = []string{
	"apt", "apt-get", "bash", "chgrp", "chmod", "curl", "docker", "docker-compose", "dpkg", "go", "ip", "journalctl", "kill", "logrotate", "make", "nginx",
	"openssl", "ovs-appctl", "ovs-ofctl", "ovs-vsctl", "prometheus", "promtool", "ss", "sysctl", "systemctl", "tcpdump", "wget", "wrk",
}

var assignments = regexp.MustCompile(`^([A-Z_]+=\S+ +)+`)

// isCommand tells whether a line runs one of the programs with arguments.
func isCommand(line string) bool {
	words := strings.Fields(assignments.ReplaceAllString(strings.TrimPrefix(line, "# "), ""))
	return len(words) > 1 && slices.Contains(programs, words[0])
}

// command is the first line of a text that a shell would take for a command.
func command(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "$ ") || isCommand(line) || strings.HasPrefix(strings.TrimPrefix(line, "# "), "shunt ") {
			return line
		}
	}
	return ""
}

var testRun = regexp.MustCompile(`^go test (?:(\./\S+) )?-run '?([^' ]+)'?(?: (\./\S+))?(?: -v)?$`)

// isTest tells whether a command runs tests that exist, which the run of all
// tests does, too.
func isTest(t *testing.T, line string) bool {
	m := testRun.FindStringSubmatch(line)
	if m == nil {
		return strings.HasPrefix(line, "go test ./") && !strings.Contains(line, " -")
	}
	names := regexp.MustCompile(`(?m)^func (Test\w+)`)
	pattern := regexp.MustCompile(m[2])
	files, _ := filepath.Glob(filepath.Join("../..", m[1]+m[3], "*_test.go"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names.FindAllStringSubmatch(string(b), -1) {
			if pattern.MatchString(name[1]) {
				return true
			}
		}
	}
	return false
}

// The tests that run the commands of the pages are there.
func TestThePlacesOfCommandsHaveTests(t *testing.T) {
	for place, test := range pages.Places {
		dir, name, _ := strings.Cut(test, ":")
		files, _ := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
		if !slices.ContainsFunc(files, func(f string) bool {
			b, err := os.ReadFile(f)
			return err == nil && strings.Contains(string(b), "func "+name+"(t *testing.T)")
		}) {
			t.Errorf("commands at %s are run by %s of %s, which is not there", place, name, dir)
		}
	}
}

// The daemons' configurations that pages show are right.
func TestTheConfigurationsInTheDocumentationAreRight(t *testing.T) {
	checked := 0
	for _, p := range documentation(t) {
		for _, b := range p.Blocks {
			daemon, ok := strings.CutSuffix(b.File(), ".yaml")
			if !ok || daemon != "controller" && daemon != "agent" {
				continue
			}
			checked++
			file := filepath.Join(t.TempDir(), b.File())
			if err := os.WriteFile(file, []byte(b.Text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := newRootCommand()
			cmd.SetArgs([]string{daemon, "--check", "--config", file})
			if err := cmd.ExecuteContext(t.Context()); err != nil {
				t.Error(fmt.Errorf("%s: %w", b.At(), err))
			}
		}
	}
	if checked < 2 {
		t.Errorf("only %d were found", checked)
	}
}

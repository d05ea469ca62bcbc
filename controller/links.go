package controller

import (
	"sync"

	"github.com/shunt-sdn/shunt/controller/api"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// maxMail bounds the messages that wait for an agent that is not connected.
// What does not fit is lost: a diversion that nobody needs goes when its map
// is full or the client comes back.
const maxMail = 1 << 16

// links are the ways to the agents that are connected, and what waits for
// those that are not. The zero value is ready.
type links struct {
	mu   sync.Mutex // guards what follows
	open map[string]*api.Link
	mail map[string]map[registry.Key]*shuntv1.AttachResponse
}

// put makes l the way to the node and returns the one before.
func (l *links) put(node string, link *api.Link) (old *api.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = make(map[string]*api.Link)
		l.mail = make(map[string]map[registry.Key]*shuntv1.AttachResponse)
	}
	old = l.open[node]
	l.open[node] = link
	return old
}

// drop forgets the way to the node if it is still this one.
func (l *links) drop(node string, link *api.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[node] == link {
		delete(l.open, node)
	}
}

// send sends to the node, or reports that it is not connected.
func (l *links) send(node string, m *shuntv1.AttachResponse) bool {
	l.mu.Lock()
	link := l.open[node]
	l.mu.Unlock()
	if link == nil {
		return false
	}
	link.Send(m)
	return true
}

// post sends a message about a session to the node, at once or when it comes
// back.
func (l *links) post(node string, k registry.Key, m *shuntv1.AttachResponse) {
	if l.send(node, m) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mail == nil {
		return // no agent was ever here
	}
	box := l.mail[node]
	if box == nil {
		box = make(map[registry.Key]*shuntv1.AttachResponse)
		l.mail[node] = box
	}
	if len(box) < maxMail {
		box[k] = m
	}
}

// collect takes out what waited for the node.
func (l *links) collect(node string) map[registry.Key]*shuntv1.AttachResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	box := l.mail[node]
	delete(l.mail, node)
	return box
}

// each calls f for every connected agent.
func (l *links) each(f func(node string, link *api.Link)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for node, link := range l.open {
		f(node, link)
	}
}

// names returns the nodes that are connected.
func (l *links) names() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.open {
		names = append(names, n)
	}
	return names
}

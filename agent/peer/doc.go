// Package peer keeps one stream to every server's agent and sends hand-offs
// over it. A link is usable from its first answered ping on: from then the
// source knows the target's clock well enough to give a deadline in it.
package peer

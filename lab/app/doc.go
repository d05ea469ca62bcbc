// Package app is the web server of the lab's servers. Its answers can be
// checked octet for octet, and each names the node that gave it.
package app

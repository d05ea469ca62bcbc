// Package sockdiag reads and ends TCP sockets through the kernel's sock_diag
// netlink family: it lists or finds those on session addresses, announces when
// one is destroyed, and destroys one.
//
// The kernel is the truth about sessions: after a restart, and after the
// kernel says that announcements were lost, the caller lists again.
//
// Every function works in the network namespace of the thread that calls it;
// a caller that is not in the process's own namespace must have locked its
// goroutine to the thread. A Watcher stays in the namespace where it was
// opened.
//
// Layouts and numbers are those of linux/inet_diag.h and linux/sock_diag.h.
package sockdiag

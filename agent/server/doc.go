// Package server is an agent's receiving end: it imports the sessions that
// other agents hand off, attaches them to the local application, and reports
// their ends. Of two messages about one hand-off, an import and the question
// what became of it, whichever comes first decides: a session that was declared
// absent is never activated.
package server
